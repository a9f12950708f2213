"""Files of a score table: each appears complete or not at all, on a local disk or on any file system that fsspec knows."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from hotcold.adapters.folder_sync import sync_folder
from hotcold.domain.errors import BatchError, first_line

# An output: `tables/<id>/data/part-*.parquet`, and what a table, or the output, says of itself.
TABLES, DATA, LINEAGE_FILE = "tables", "data", "SCORES.json"
_TEMPORARY = ".hotcold-"


def plain_url(url: str) -> str:
    """One way to write the address of a file or folder, so that equal places have equal names.

    Args:
        url: a path, relative or absolute, or a URL that fsspec knows.

    Returns:
        An absolute path where it is local, without `file://`; anything else without a slash at its end.

    Raises:
        BatchError: fsspec does not know its file system, or it is a chain of several.
    """
    refuse_chain(url)
    try:
        files, path = fsspec.core.url_to_fs(url)
    except Exception as error:
        # Each file system has errors of its own.
        raise BatchError(f"{url} cannot be used: {error}; give a path, or a URL of a file system that is installed") from error
    return os.path.normpath(path) if isinstance(files, LocalFileSystem) else url.rstrip("/")


def refuse_chain(url: str) -> None:
    """Pass if an address is on one file system.

    Raises:
        BatchError: it chains several, such as an archive on a disk: a file in it has no address that leads there alone.
    """
    if "::" in url:
        raise BatchError(f"{url} chains file systems with '::', which cannot be read in parts; unpack it, and name the files")


def plain_output(url: str) -> str:
    """The same for an output, whichever links lead there: under two names its runs would not know of each other's tables.

    Raises:
        BatchError: see `plain_url`.
    """
    plain = plain_url(url)
    return plain if "://" in plain else os.path.realpath(plain)


@contextmanager
def _errors_of_all_kinds() -> Iterator[None]:
    """Whatever a file system raises, such as the errors of a cloud's client, is an OSError to those who use a folder."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        # With a number: without one, Arrow's errors of a file's content would look the same.
        raise OSError(errno.EIO, f"{type(error).__name__}: {first_line(error)}") from error


class Folder:
    """A folder with atomic writes. On a local disk a file is fsynced before it gets its name; elsewhere it is one upload.

    Its methods raise OSError for what the file system does not do, whatever that raises itself.

    Args:
        url: a path, or a URL that fsspec knows.
    """

    def __init__(self, url: str) -> None:
        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except Exception as error:
            # Each file system has errors of its own.
            raise BatchError(f"the folder {url} cannot be used: {error}") from error
        self.url = url.rstrip("/")
        self.is_local = isinstance(self._files, LocalFileSystem)

    def child(self, name: str) -> Folder:
        """A folder in it."""
        return Folder(f"{self.url}/{name}")

    def path(self, name: str) -> str:
        """Path of a file as its file system knows it."""
        return f"{self._root.rstrip('/')}/{name}"

    def write(self, name: str, content: bytes, durable: bool = True) -> None:
        """Write a file, or replace it; readers see the old content or the new.

        Args:
            name: path below this folder.
            content: all of it.
            durable: it is on disk when this returns, whatever happens to the machine; not worth its time for what can be
                made again and is recognised when it is torn.

        Raises:
            BatchError: the disk or the store does not take it; names the folder and what was needed.
        """
        try:
            if self.is_local:
                _write_locally(Path(self.path(name)), content, durable)
            else:
                with _errors_of_all_kinds():
                    self._files.pipe_file(self.path(name), content)
        except OSError as error:
            raise BatchError(
                f"cannot write {name} ({len(content):,} bytes) to {self.url}: {error.strerror or error}; free some space or "
                "choose another output, and run again: what is done is kept"
            ) from error

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes | None:
        """Content of a file, or bytes `start` to `end` of it; None if there is no such file."""
        try:
            with _errors_of_all_kinds():
                return bytes(self._files.cat_file(self.path(name), start=start, end=end))
        except FileNotFoundError:
            return None

    def sizes(self, name: str = "") -> dict[str, int]:
        """Names of the files in a folder, each with its size in bytes; empty if there is no such folder."""
        try:
            with _errors_of_all_kinds():
                entries = self._files.ls(self.path(name).rstrip("/"), detail=True)
        except FileNotFoundError:
            return {}
        except NotADirectoryError as error:
            raise BatchError(f"{self.url}/{name} is a file; a folder is needed there") from error
        return {Path(entry["name"]).name: int(entry["size"]) for entry in entries if entry["type"] == "file"}

    def modified(self, name: str) -> float:
        """When a file was written, seconds since the epoch; 0 if there is none, infinity where the store does not tell."""
        try:
            with _errors_of_all_kinds():
                return self._modified(self.path(name))
        except FileNotFoundError:
            return 0.0

    def _modified(self, path: str) -> float:
        try:
            return float(self._files.modified(path).timestamp())
        except NotImplementedError:
            return float("inf")

    def folders(self) -> list[str]:
        """Names of the folders in it."""
        try:
            with _errors_of_all_kinds():
                entries = self._files.ls(self._root, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(Path(entry["name"]).name for entry in entries if entry["type"] == "directory")

    def delete(self) -> None:
        """Delete it with all that is in it; no matter if it is gone already."""
        try:
            with _errors_of_all_kinds():
                self._files.rm(self._root, recursive=True)
        except FileNotFoundError:
            return

    def delete_leftovers(self) -> int:
        """Delete what writers that were killed have left in it and below; nobody may be writing. How many files it was."""
        if not self.is_local:
            return 0
        leftovers = [path for path in Path(self._root).rglob(f"{_TEMPORARY}*") if path.is_file()]
        for path in leftovers:
            path.unlink(missing_ok=True)
        return len(leftovers)


def _write_locally(path: Path, content: bytes, durable: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Hidden, so that whoever lists the folder while a writer was killed does not take it for data.
    temporary = path.with_name(f"{_TEMPORARY}{os.getpid()}-{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)
