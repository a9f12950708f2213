"""Reads scores from the LMDB files of a score store, a few microseconds each: what a scorer does in its event loop."""

from __future__ import annotations

import os
from pathlib import Path

import lmdb
import orjson

from hotcold.adapters.score_store import StoredScore, StoredTable, StorePointer
from hotcold.domain.errors import NoScoresError, ScoreStoreError
from hotcold.domain.score_blocks import find_score

POINTER_FILE = "current.json"
SUFFIX = ".mdb"
# Behind all blocks, whose names have four bytes; a file without it is not complete.
HEADER_KEY = b"\xff" * 5
_ATTEMPTS = 3
_OPEN_HERE = "already open in this process"


class TableInUseError(ScoreStoreError):
    """This process has the table open; LMDB opens a file once."""


class OpenTable:
    """The file of one table, mapped; it stays readable when the file is deleted or replaced.

    Args:
        environment: of the file.
        transaction: reads it.
        stored: what the file says of its table.
    """

    def __init__(self, environment: lmdb.Environment, transaction: lmdb.Transaction, stored: StoredTable) -> None:
        self._environment = environment
        self._transaction = transaction
        self.stored = stored

    def find(self, entity: str) -> StoredScore | None:
        """The score of an entity; None if the table has none.

        Raises:
            NoScoresError: the file is corrupt.
        """
        place = self.stored.locate(entity)
        if place is None:
            return None
        name, key = place
        try:
            block = self._transaction.get(name)
        except lmdb.Error as error:
            raise _unusable(self.stored.header.model, self.stored.header.table_id, error) from error
        score = None if block is None else find_score(bytes(block), key)
        return None if score is None else StoredScore(entity, score, self.stored.header)

    def close(self) -> None:
        """Let go of the file; nothing may be read afterwards."""
        self._transaction.abort()
        self._environment.close()


def open_table(path: Path) -> OpenTable:
    """Open the file of a table.

    Args:
        path: of the file.

    Raises:
        TableInUseError: this process has it open.
        ScoreStoreError: it is not there, cut off, or no table.
    """
    try:
        size_bytes = path.stat().st_size
        environment = lmdb.open(str(path), subdir=False, readonly=True, lock=False, readahead=False)
    except (lmdb.Error, OSError) as error:
        if _OPEN_HERE in str(error):
            raise TableInUseError(f"{path.name} is open in this process already") from error
        raise ScoreStoreError(f"{path.name} cannot be opened: {error}") from error
    try:
        _check_size(path, size_bytes, environment)
        transaction = environment.begin()
        return OpenTable(environment, transaction, StoredTable.from_bytes(transaction.get(HEADER_KEY, b"")))
    except lmdb.Error as error:
        environment.close()
        raise ScoreStoreError(f"{path.name} is corrupt: {error}") from error
    except ScoreStoreError:
        environment.close()
        raise


def _check_size(path: Path, size_bytes: int, environment: lmdb.Environment) -> None:
    """A page that the file does not have would end the process when it is touched."""
    needed_bytes = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    if size_bytes < needed_bytes:
        raise ScoreStoreError(f"{path.name} was cut off: it has {size_bytes:,} bytes of {needed_bytes:,}")


class LmdbLookup:
    """Scores of one model; for one thread, and one per process.

    Args:
        folder: of the store.
        model: registered model name.
    """

    inline = True

    def __init__(self, folder: str, model: str) -> None:
        self._folder = Path(folder).expanduser() / model
        self._model = model
        self._pointer = str(self._folder / POINTER_FILE)
        self._seen: tuple[int, int] | None = None
        self._table: OpenTable | None = None

    def find(self, entity: str) -> StoredScore | None:
        """See `ScoreLookup.find`."""
        try:
            status = os.stat(self._pointer)  # noqa: PTH116 - a path object costs as much as the whole lookup
        except OSError as error:
            self._close()
            raise NoScoresError(f"no scores of {self._model} are published") from error
        if self._table is None or (status.st_ino, status.st_mtime_ns) != self._seen:
            self._table = self._open()
        try:
            return self._table.find(entity)
        except NoScoresError:
            self._close()
            raise

    def _open(self) -> OpenTable:
        """The table that the pointer names; once more if it moved and the table was deleted meanwhile."""
        self._close()
        pointer, reason = StorePointer(), ""
        for _ in range(_ATTEMPTS):
            pointer = self._read_pointer()
            if not pointer.table_id:
                raise NoScoresError(f"no scores of {self._model} are published")
            try:
                return open_table(self._folder / f"{pointer.table_id}{SUFFIX}")
            except ScoreStoreError as error:
                reason = str(error)
        raise _unusable(self._model, pointer.table_id, reason)

    def _read_pointer(self) -> StorePointer:
        try:
            # In this order: if the file is replaced in between, the next lookup sees another one and reads again.
            status = os.stat(self._pointer)  # noqa: PTH116
            content = Path(self._pointer).read_bytes()
        except OSError as error:
            raise NoScoresError(f"no scores of {self._model} are published") from error
        self._seen = (status.st_ino, status.st_mtime_ns)
        return parse_pointer(content) or StorePointer()

    def _close(self) -> None:
        if self._table is not None:
            self._table.close()
        self._table, self._seen = None, None


def parse_pointer(content: bytes) -> StorePointer | None:
    """A pointer as its file holds it; None if it is none."""
    try:
        document = orjson.loads(content)
        return StorePointer(str(document["table_id"]), int(document["generation"]))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None


def _unusable(model: str, table_id: str, reason: object) -> NoScoresError:
    return NoScoresError(f"table {table_id} of {model} is published but cannot be used: {reason}; publish it again")
