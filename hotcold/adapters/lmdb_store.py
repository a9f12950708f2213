"""The score store on a local disk: an LMDB file per table, and a pointer file per model.

A table's file is written under a hidden name, fsynced and renamed, and never changed again; so readers need no locks, and a
file that is deleted or replaced stays what it was for those that have it open.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import lmdb
import orjson

from hotcold.adapters.folder_sync import sync_folder
from hotcold.adapters.lmdb_lookup import HEADER_KEY, POINTER_FILE, SUFFIX, TableInUseError, open_table, parse_pointer
from hotcold.adapters.score_store import StoreHeader, StorePointer, check_name, not_there, pointed_at
from hotcold.adapters.table_blocks import Block, TableBlocks
from hotcold.domain.errors import ScoreStoreError

if TYPE_CHECKING:
    # Needs PyArrow, which whoever only points and reads does without.
    from hotcold.adapters.score_index import Merged

_TEMPORARY = ".new"
_POINT_LOCK = "point.lock"
# Also the most that a transaction holds in memory, twice: as blocks and as pages.
_BATCH_BYTES = 8 << 20


class LmdbScoreStore:
    """Implements `ScoreStore`.

    Args:
        folder: on a local disk; made when it is first written to.
    """

    def __init__(self, folder: str) -> None:
        self._root = Path(folder).expanduser()

    def write(self, header: StoreHeader, merged: Iterable[Merged]) -> StoreHeader:
        """See `ScoreStore`; one table of a model is written at a time."""
        folder = self._folder(header.model)
        target = folder / f"{header.table_id}{SUFFIX}"
        temporary = folder / f".{header.table_id}{_TEMPORARY}"
        blocks = TableBlocks(header)
        with self._errors(blocks, folder):
            folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / "write.lock"):
            # Whoever left them was killed: this process has the lock.
            for leftover in folder.glob(f".*{_TEMPORARY}"):
                leftover.unlink(missing_ok=True)
            try:
                self._fill(temporary, blocks, merged)
                # Under the lock of deletions too: an old table of this name must not be looked at while it becomes a new one.
                with self._errors(blocks, folder), _locked(folder / _POINT_LOCK):
                    _rename_durably(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)
        return blocks.stored().header

    def _fill(self, path: Path, blocks: TableBlocks, merged: Iterable[Merged]) -> None:
        folder = path.parent
        with self._errors(blocks, folder):
            file = _NewFile(path, blocks.needed_bytes)
        try:
            # What reads the fragments raises errors of its own, which must not look like those of this disk.
            for batch in blocks.batches(merged, _BATCH_BYTES):
                with self._errors(blocks, folder):
                    file.append(batch)
            with self._errors(blocks, folder):
                file.append([(HEADER_KEY, blocks.stored().to_bytes())])
                file.sync()
        finally:
            file.close()

    @contextmanager
    def _errors(self, blocks: TableBlocks, folder: Path) -> Iterator[None]:
        try:
            yield
        except (lmdb.Error, OSError) as error:
            raise ScoreStoreError(
                f"cannot write table {blocks.header.table_id} to {folder}: {error}; it needs about "
                f"{blocks.needed_bytes / 1e6:,.0f} MB and {_free_bytes(folder) / 1e6:,.0f} MB are free: make room, or set "
                "HOTCOLD_SCORE_STORE_URL to another place"
            ) from error

    def has(self, model: str, table_id: str) -> bool:
        """See `ScoreStore`."""
        path = self._path(model, table_id)
        try:
            open_table(path).close()
        except TableInUseError:
            return True
        except ScoreStoreError:
            return False
        return True

    def point(self, model: str, pointer: StorePointer) -> bool:
        """See `ScoreStore`."""
        folder = self._folder(model)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder / _POINT_LOCK):
                there = self.read_pointer(model)
                if pointer.generation <= there.generation:
                    return pointer == there
                # Under the lock, or the table could be deleted in between.
                if pointer.table_id and not self.has(model, pointer.table_id):
                    raise not_there(model, pointer.table_id)
                _write_pointer(folder / POINTER_FILE, pointer)
        except OSError as error:
            raise ScoreStoreError(
                f"cannot point at table {pointer.table_id or 'none'} of {model} in {folder}: {error.strerror or error}; "
                "make room, or make the folder writable"
            ) from error
        return True

    def read_pointer(self, model: str) -> StorePointer:
        """See `ScoreStore`; a pointer file that makes no sense counts as none."""
        try:
            return parse_pointer((self._folder(model) / POINTER_FILE).read_bytes()) or StorePointer()
        except FileNotFoundError:
            return StorePointer()
        except OSError as error:
            raise ScoreStoreError(f"cannot read the pointer of {model}: {error}; make the folder readable") from error

    def delete(self, model: str, table_id: str) -> None:
        """See `ScoreStore`."""
        with self._held(model, table_id) as (path, is_pointed_at):
            if is_pointed_at:
                raise pointed_at(model, table_id)
            if path:
                path.unlink()

    def delete_older(self, model: str, table_id: str, before: float) -> bool:
        """See `ScoreStore`; a file is renamed when it is complete, and keeps the time of its last byte."""
        with self._held(model, table_id) as (path, is_pointed_at):
            if path is None or is_pointed_at or path.stat().st_mtime >= before:
                return False
            path.unlink()
        return True

    @contextmanager
    def _held(self, model: str, table_id: str) -> Iterator[tuple[Path | None, bool]]:
        """The file of a table, None if there is none, and whether readers see it; neither changes meanwhile."""
        path = self._path(model, table_id)
        if not path.exists():
            yield None, False
            return
        try:
            with _locked(path.parent / _POINT_LOCK):
                yield path if path.exists() else None, self.read_pointer(model).table_id == table_id
        except OSError as error:
            raise ScoreStoreError(f"cannot delete {path}: {error.strerror or error}; make its folder writable") from error

    def tables(self, model: str) -> tuple[str, ...]:
        """See `ScoreStore`."""
        names = (path.name.removesuffix(SUFFIX) for path in self._folder(model).glob(f"*{SUFFIX}"))
        return tuple(sorted(name for name in names if not name.startswith(".")))

    def _folder(self, model: str) -> Path:
        check_name(model)
        return self._root / model

    def _path(self, model: str, table_id: str) -> Path:
        check_name(table_id)
        return self._folder(model) / f"{table_id}{SUFFIX}"


class _NewFile:
    """A table's file while nobody else knows of it."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        # In whole pages, whatever their size is.
        self._size_bytes = -(-size_bytes // _BATCH_BYTES) * _BATCH_BYTES
        # Nothing is synced before the end, and never through the map, where a full disk would be a signal.
        self._environment = lmdb.open(
            str(path), map_size=self._size_bytes, subdir=False, lock=False, sync=False, metasync=False, writemap=False
        )

    def append(self, batch: list[Block]) -> None:
        while True:
            try:
                with self._environment.begin(write=True) as transaction:
                    for name, content in batch:
                        transaction.put(name, content, append=True)
                return
            except lmdb.MapFullError:
                self._size_bytes *= 2
                self._environment.set_mapsize(self._size_bytes)

    def sync(self) -> None:
        self._environment.sync(True)

    def close(self) -> None:
        self._environment.close()


def _write_pointer(path: Path, pointer: StorePointer) -> None:
    # Of another suffix than tables, whose leftovers are deleted without this lock.
    temporary = path.with_name(f".{path.name}.next")
    with temporary.open("wb") as file:
        file.write(orjson.dumps({"table_id": pointer.table_id, "generation": pointer.generation}))
        file.flush()
        os.fsync(file.fileno())
    _rename_durably(temporary, path)


def _rename_durably(source: Path, target: Path) -> None:
    source.replace(target)
    sync_folder(target.parent)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Wait for a lock; the kernel lets go of it when its holder dies."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _free_bytes(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize
