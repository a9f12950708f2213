"""One input file on whatever file system: opened, recognised again, and whose fault it is when it cannot be read."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from hotcold.domain.batch_plan import InputFile
from hotcold.domain.errors import BadInputError, HotcoldError, UnreachableInputError, first_line

# What a file system says of a file that changes when its content does; the most exact first.
_VERSION_KEYS = (
    *("mtime_ns", "ETag", "etag", "Content-MD5", "Digest", "generation"),
    *("mtime", "LastModified", "last_modified", "Last-Modified", "modified", "created"),
)
_BUFFER_BYTES = 1 << 20
# A Parquet file's footer lies at its end; a CSV file that grew has another end.
_SAMPLED_BYTES = 1 << 16
_NOT_FOUND = 404


def open_input(file: InputFile) -> BinaryIO:
    """Open an input file for reading, without a buffer of its own where the file is local."""
    if (local := local_path(file)) is not None:
        return local.open("rb")
    files, path = fsspec.core.url_to_fs(file.url)
    # Of what a binary file can do, files of fsspec lack some, such as reading a line up to a length.
    return cast("BinaryIO", io.BufferedReader(files.open(path, "rb"), _BUFFER_BYTES))


def local_path(file: InputFile) -> Path | None:
    """Where an input file lies on this machine's disks; None if it lies elsewhere."""
    files, path = fsspec.core.url_to_fs(file.url)
    return Path(path) if isinstance(files, LocalFileSystem) else None


def describe_file(files: Any, entry: Mapping[str, Any]) -> InputFile:
    """A listed file as it is now, not yet opened.

    Args:
        files: its file system.
        entry: what a listing of that file system says of it.

    Raises:
        BadInputError: nobody can say how large it is.
        UnreachableInputError: the file system does not answer.
    """
    url = files.unstrip_protocol(entry["name"])
    if entry.get("size") is None:
        raise BadInputError(f"{url} has no size that its server would tell, so it cannot be cut into parts; copy it elsewhere")
    size = int(entry["size"])
    return InputFile(url, size, _version(entry) or _sampled_version(files, entry["name"], size))


def _version(entry: Mapping[str, Any]) -> str:
    return next((f"{key} {_as_text(entry[key])}" for key in _VERSION_KEYS if entry.get(key) is not None), "")


def _as_text(value: object) -> str:
    """The same for a time however it is written: some file systems give another kind for one file than for a folder."""
    return str(value.timestamp()) if isinstance(value, datetime) else str(value)


def _sampled_version(files: Any, path: str, size: int) -> str:
    """For a file system that keeps no times and no tags: a digest of the file's end, and of its start."""
    try:
        ends = files.cat_file(path, start=0, end=_SAMPLED_BYTES), files.cat_file(path, start=max(size - _SAMPLED_BYTES, 0))
    except Exception as error:
        # Each file system has errors of its own.
        raise _unreachable(path, error) from error
    return f"sha256 of both ends {hashlib.sha256(b''.join(ends)).hexdigest()}"


def require_unchanged(file: InputFile) -> None:
    """Make sure that a file is still the one that was planned.

    Raises:
        BadInputError: it is gone, or was written again under the run.
        UnreachableInputError: the file system does not answer.
    """
    files, path = fsspec.core.url_to_fs(file.url)
    try:
        now = describe_file(files, files.info(path))
    except HotcoldError:
        raise
    except Exception as error:
        # Each file system has errors of its own.
        if not is_missing(error):
            raise _unreachable(file.url, error) from error
        raise BadInputError(
            f"{file.url} was there when the run was planned and is gone; run again on a stable input"
        ) from error
    if (now.size_bytes, now.version) != (file.size_bytes, file.version):
        raise BadInputError(f"{file.url} was changed while the run was under way; run again on a stable input")


def is_missing(error: Exception) -> bool:
    """Whether an error says that a file is not there. For the web's, everything is `not found`; what they met tells more."""
    cause = error.__cause__
    return isinstance(error, FileNotFoundError) and (cause is None or getattr(cause, "status", None) == _NOT_FOUND)


def content_fault(url: str, error: Exception) -> str:
    """What is wrong with a file's content, in a line.

    A file that is damaged stays so, and may be set aside. A disk or a network that fails may be well again in a minute, and so
    may a machine that is short of memory: rows behind them are never set aside.

    Args:
        url: the file.
        error: what reading it has raised.

    Raises:
        UnreachableInputError: it is not the content that is at fault.
    """
    if isinstance(error, MemoryError):
        # Arrow's is an ArrowException as well.
        raise UnreachableInputError(
            f"{url} cannot be read for lack of memory ({first_line(error)}); run again when there is more, or with fewer "
            "rows_per_part"
        ) from error
    # Arrow raises a bare OSError without a number for data that it cannot decode; its Python side decodes names of columns.
    is_content = isinstance(error, pa.ArrowException | BadInputError | UnicodeDecodeError)
    if is_content or (type(error) is OSError and error.errno is None):
        return first_line(error)
    raise _unreachable(url, error) from error


def _unreachable(url: str, error: Exception) -> UnreachableInputError:
    seen = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error
    return UnreachableInputError(
        f"{url} cannot be read now ({type(seen).__name__}: {first_line(seen)}); run again when it can: what is done is kept"
    )
