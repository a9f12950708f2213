"""Archives of the prediction log: Parquet files with the rows of closed log segments, a folder per day.

Each says in its footer which segments it holds and in which row groups. So whoever sees a segment both as a file and in an
archive, because a compaction was killed in between, takes it once.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hotcold.adapters.folder_sync import sync_folder
from hotcold.adapters.prediction_columns import SCHEMA
from hotcold.adapters.prediction_segments import Segment
from hotcold.domain.errors import PredictionLogError, first_line
from hotcold.domain.prediction import Origin, SegmentName

ARCHIVE, SUFFIX, TEMPORARY = "archive", ".parquet", ".hotcold-"
_KEY = b"hotcold"
_ROWS_PER_GROUP = 1 << 18
# For people who read the file by itself; within the log they are in `Origin`.
_ORIGIN_COLUMNS = ("version", "digest", "slot", "writer")
_FILE_SCHEMA = pa.schema([*SCHEMA, *((name, pa.string()) for name in _ORIGIN_COLUMNS)])
_REPEATED = ["entity", "segment", *_ORIGIN_COLUMNS]


@dataclass(frozen=True)
class Archived:
    """A log segment within an archive.

    Args:
        name: of the segment.
        origin: who wrote it.
        rows: that it has.
        first_group: its first row group.
        groups: number of its row groups.
        is_torn: see Segment.
        first_us: earliest arrival of a request, microseconds since the epoch; when it was begun if it has no rows.
        last_us: latest arrival.
    """

    name: SegmentName
    origin: Origin
    rows: int
    first_group: int
    groups: int
    is_torn: bool
    first_us: int
    last_us: int

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "name": self.name.file, "origin": self.origin.to_json()}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        """Inverse of `to_json`.

        Raises:
            PredictionLogError: it is none.
        """
        try:
            name = SegmentName.parse(document["name"])
            if name is None:
                raise PredictionLogError(f"an archive names the segment {document['name']!r}, which is no name of one")
            return cls(**{**document, "name": name, "origin": Origin.from_json(document["origin"])})
        except (KeyError, TypeError) as error:
            raise PredictionLogError(f"an archive does not say what it holds: {error}") from error


def list_archives(folder: Path, first_day: str = "") -> list[Path]:
    """Archives of a model, by day and name.

    Args:
        folder: of the model's log.
        first_day: leaves out those of the days before, as in `2026-11-24`.
    """
    return sorted(path for path in (folder / ARCHIVE).glob(f"*/[!.]*{SUFFIX}") if path.parent.name >= first_day)


def day_folder(folder: Path, day: str) -> Path:
    """Where the archives of a day are.

    Args:
        folder: of the model's log.
        day: see `SegmentName.day`.
    """
    return folder / ARCHIVE / day


def read_contents(path: Path) -> tuple[Archived, ...]:
    """The segments that an archive holds.

    Raises:
        FileNotFoundError: there is no such file (any more).
        PredictionLogError: it is no archive.
    """
    try:
        metadata = pq.read_metadata(path).metadata or {}
        document = orjson.loads(metadata.get(_KEY, b""))
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, orjson.JSONDecodeError) as error:
        raise PredictionLogError(f"{path.name} is no archive of answers: {first_line(error)}") from error
    return tuple(Archived.from_json(entry) for entry in document)


def read_archived(path: Path, archived: Archived, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of one segment.

    Args:
        path: of the archive.
        archived: which segment.
        columns: of SCHEMA; None reads all of them.

    Raises:
        FileNotFoundError: there is no such file (any more).
        PredictionLogError: it is damaged.
    """
    names = list(SCHEMA.names if columns is None else columns)
    groups = range(archived.first_group, archived.first_group + archived.groups)
    try:
        with pq.ParquetFile(path) as file:
            return file.read_row_groups(groups, names).select(names).cast(pa.schema([SCHEMA.field(name) for name in names]))
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise PredictionLogError(f"{path.name} is damaged: {first_line(error)}") from error


def write_archive(folder: Path, name: str, segments: Iterable[Segment]) -> tuple[Archived, ...]:
    """Write an archive; it is there as a whole and safely on the disk, or not at all.

    Args:
        folder: of the day.
        name: of the file, without its ending.
        segments: taken one after the other, so that memory holds one of them.

    Returns:
        What it holds.

    Raises:
        OSError: the disk does not take it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{TEMPORARY}{uuid.uuid4().hex}{SUFFIX}"
    try:
        with temporary.open("wb") as file:
            contents = _write(file, segments)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / f"{name}{SUFFIX}")
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(folder)
    return contents


def _write(file: Any, segments: Iterable[Segment]) -> tuple[Archived, ...]:
    contents: list[Archived] = []
    with pq.ParquetWriter(file, _FILE_SCHEMA, compression="zstd", use_dictionary=_REPEATED) as writer:
        first_group = 0
        for segment in segments:
            archived = _describe(segment, first_group)
            if archived.rows:
                writer.write_table(_with_origin(segment), row_group_size=_ROWS_PER_GROUP)
            contents.append(archived)
            first_group += archived.groups
        writer.add_key_value_metadata({_KEY: orjson.dumps([archived.to_json() for archived in contents])})
    return tuple(contents)


def _describe(segment: Segment, first_group: int) -> Archived:
    rows = len(segment.table)
    begun_us = round(segment.name.started_s * 1e6)
    first, last = pc.min_max(segment.table["at"].cast(pa.int64())).as_py().values() if rows else (begun_us, begun_us)
    groups = -(-rows // _ROWS_PER_GROUP)
    return Archived(segment.name, segment.origin, rows, first_group, groups, segment.is_torn, first, last)


def _with_origin(segment: Segment) -> pa.Table:
    rows, origin = len(segment.table), segment.origin
    values = [pa.repeat(getattr(origin, name), rows) for name in _ORIGIN_COLUMNS]
    return pa.Table.from_arrays([*segment.table.columns, *values], schema=_FILE_SCHEMA)
