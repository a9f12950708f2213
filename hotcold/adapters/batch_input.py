"""Finds the input of a batch run and says how it can be cut: Parquet files by their footers, CSV files by their lines."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
import pyarrow.parquet as pq

from hotcold.adapters.input_files import content_fault, describe_file, is_missing, open_input
from hotcold.domain.batch_plan import FileFormat, InputFile, OnBadPart, csv_range_bytes
from hotcold.domain.errors import BadInputError, BatchError, first_line

_THREADS = 8
_SUFFIXES: dict[str, FileFormat] = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv"}
_COMPRESSED = (".gz", ".bz2", ".zip", ".xz", ".zst")
# A line longer than this is taken for a file that is no CSV.
_LONGEST_LINE_BYTES = 1 << 20
_FIRST_BYTES = 4096


@dataclass(frozen=True)
class Listing:
    """The files of an input as they are now, not yet opened.

    Args:
        files: in order of their names; `units` is empty.
        format: of all of them.
    """

    files: tuple[InputFile, ...]
    format: FileFormat


def list_input(url: str) -> Listing:
    """List an input: one file, a folder, or a pattern with `*`; Parquet files or CSV files, not both.

    Args:
        url: a path, or a URL that fsspec knows.

    Raises:
        BadInputError: there is nothing, both formats are mixed, or a CSV file is compressed and cannot be cut.
    """
    files, entries = _entries(url)
    found = [(entry, Path(entry["name"]).suffix.lower()) for entry in entries]
    if squeezed := [entry["name"] for entry, suffix in found if suffix in _COMPRESSED]:
        raise BadInputError(f"{squeezed[0]} is compressed and cannot be cut into parts; unpack it, or write it as Parquet")
    if len(found) > 1:
        found = [(entry, suffix) for entry, suffix in found if suffix in _SUFFIXES]
    formats = {_SUFFIXES.get(suffix, "parquet") for _, suffix in found}
    if not found:
        raise BadInputError(f"there is no Parquet or CSV file at {url}; the input is a file, a folder or a pattern with *")
    if len(formats) > 1:
        raise BadInputError(
            f"{url} holds Parquet and CSV files; name one kind with a pattern such as {url.rstrip('/')}/*.parquet"
        )
    listed = (describe_file(files, entry) for entry, _ in found)
    return Listing(tuple(sorted(listed, key=lambda file: file.url)), formats.pop())


def _entries(url: str) -> tuple[Any, list[dict[str, Any]]]:
    try:
        files, path = fsspec.core.url_to_fs(url)
        # What this process saw of a store before may be outdated.
        files.invalidate_cache()
        if "*" in path:
            found = (_detailed(files, entry) for entry in files.glob(path, detail=True).values())
            return files, [entry for entry in found if entry["type"] == "file"]
        info = files.info(path)
        if info["type"] == "file":
            return files, [info]
        # What begins with a dot or an underscore is not data: temporary files, markers, logs.
        data = (entry for entry in files.find(path, detail=True).values() if _is_data(entry["name"], path))
        return files, [_require_file(_detailed(files, entry)) for entry in data]
    except BatchError:
        raise
    except Exception as error:
        # Each file system has errors of its own.
        if is_missing(error):
            raise BadInputError(f"there is nothing at {url}; the input is a file, a folder or a pattern with *") from error
        seen = error.__cause__ or error
        raise BadInputError(f"the input {url} cannot be listed: {type(seen).__name__}: {first_line(seen)}") from error


def _detailed(files: Any, entry: dict[str, Any]) -> dict[str, Any]:
    """A listing describes a link itself, where size and version of the file behind it are wanted; web pages list names only."""
    return dict(files.info(entry["name"])) if entry.get("islink") or entry.get("size") is None else entry


def _require_file(entry: dict[str, Any]) -> dict[str, Any]:
    if entry["type"] != "file":
        raise BadInputError(f"{entry['name']} is a link to a folder, which is not followed; name that folder itself as input")
    return entry


def _is_data(name: str, root: str) -> bool:
    return not any(step.startswith((".", "_")) for step in Path(name).relative_to(root).parts)


def measure_files(listing: Listing, rows_per_part: int, on_bad_part: OnBadPart) -> tuple[InputFile, ...]:
    """Open each file just far enough to know how it can be cut.

    Args:
        listing: see `list_input`.
        rows_per_part: wanted rows of a part.
        on_bad_part: what becomes of a file that cannot be read at all.

    Returns:
        The files with their units; with their problem where they have one.

    Raises:
        BadInputError: a file cannot be read and `on_bad_part` is `fail`, or there is not one row.
        UnreachableInputError: a disk or network does not give a file.
    """
    files = inspect_files(listing, rows_per_part)
    bad = [file for file in files if file.problem]
    if bad and on_bad_part == "fail":
        raise BadInputError(
            f"{len(bad)} of {len(files)} input files cannot be read; the first is {bad[0].url}: {bad[0].problem}. "
            "Repair or remove them, or run with on_bad_part=quarantine"
        )
    if not any(sum(file.units) for file in files):
        raise BadInputError(f"the input has no rows: {len(files)} files, {len(bad)} of them unreadable; nothing was scored")
    return files


def inspect_files(listing: Listing, rows_per_part: int) -> tuple[InputFile, ...]:
    """The same without a judgement: files that cannot be read, or have no rows, are as good an answer as others.

    Args:
        listing: see `list_input`.
        rows_per_part: wanted rows of a part.

    Raises:
        UnreachableInputError: a disk or network does not give a file.
    """
    measure = _measure_parquet if listing.format == "parquet" else _measure_csv
    with ThreadPoolExecutor(_THREADS) as threads:
        return tuple(threads.map(lambda file: measure(file, rows_per_part), listing.files))


def _measure_parquet(file: InputFile, _rows_per_part: int) -> InputFile:
    try:
        with open_input(file) as source:
            footer = pq.read_metadata(source)
        return replace(file, units=tuple(footer.row_group(group).num_rows for group in range(footer.num_row_groups)))
    except Exception as error:  # noqa: BLE001 - what is not the content's fault is raised again
        return replace(file, problem=f"not a complete Parquet file ({content_fault(file.url, error)})")


def _measure_csv(file: InputFile, rows_per_part: int) -> InputFile:
    """Ranges of whole lines; the header line belongs to none of them."""
    try:
        with open_input(file) as source:
            header = source.readline(_LONGEST_LINE_BYTES)
            if not header.strip():
                return replace(file, problem="the CSV file has no header line")
            if not _is_text(header):
                return replace(file, problem="the CSV file's header line is not UTF-8; write the file in that encoding")
            if b"\0" in header:
                return replace(file, problem="not a CSV file: its first line holds a zero byte")
            ranges = _line_ranges(source, len(header), file.size_bytes, csv_range_bytes(rows_per_part))
            return replace(file, units=tuple(ranges), header_bytes=len(header))
    except Exception as error:  # noqa: BLE001 - what is not the content's fault is raised again
        return replace(file, problem=f"not a usable CSV file ({content_fault(file.url, error)})")


def _is_text(header: bytes) -> bool:
    try:
        header.decode()
    except UnicodeDecodeError:
        return False
    return True


def _line_ranges(source: BinaryIO, start: int, size_bytes: int, step: int) -> Iterator[int]:
    while start < size_bytes:
        source.seek(min(start + step, size_bytes))
        rest = source.readline(_LONGEST_LINE_BYTES)
        if len(rest) == _LONGEST_LINE_BYTES:
            raise BadInputError(f"a line is longer than {_LONGEST_LINE_BYTES:,} bytes")
        end = min(start + step, size_bytes) + len(rest)
        yield end - start
        start = end
