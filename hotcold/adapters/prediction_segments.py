"""Reads log segments as their writers left them: complete, still growing, or torn because the writer was killed."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from hotcold.adapters.prediction_columns import SCHEMA, origin_of
from hotcold.adapters.segment_file import END_OF_STREAM
from hotcold.domain.errors import PredictionLogError, first_line
from hotcold.domain.prediction import Origin, SegmentName


@dataclass(frozen=True, eq=False)
class Segment:
    """What a segment held when it was read.

    Args:
        name: of the segment.
        origin: who wrote it.
        table: its rows, columns as in SCHEMA.
        is_done: no more will come, since the writer closed it or is dead.
        is_torn: it is done and ends within a message, or has a damaged one; the rows before it are here.
    """

    name: SegmentName
    origin: Origin
    table: pa.Table
    is_done: bool
    is_torn: bool


def list_models(root: Path) -> list[str]:
    """Models that have a log.

    Args:
        root: folder of the log.
    """
    try:
        return sorted(path.name for path in root.iterdir() if path.is_dir())
    except FileNotFoundError:
        return []


def list_segments(folder: Path) -> dict[SegmentName, os.stat_result]:
    """Segments of a model and what the file system says of each; empty if there is no such folder.

    Args:
        folder: of the model's log.
    """
    found: dict[SegmentName, os.stat_result] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if name := SegmentName.parse(entry.name):
                    try:
                        found[name] = entry.stat()
                    except FileNotFoundError:
                        continue
    except FileNotFoundError:
        return {}
    return found


def is_abandoned(path: Path) -> bool:
    """Nobody writes to a segment any more; False if it is gone."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return _is_unlocked(handle)
    finally:
        os.close(handle)


def read_segment(folder: Path, name: SegmentName) -> Segment:
    """Read a segment up to its end, or up to where it is torn.

    Args:
        folder: of the model's log.
        name: of the segment.

    Raises:
        FileNotFoundError: there is none (any more); what it held may be in an archive.
        PredictionLogError: it does not begin as a segment does.
    """
    handle = os.open(folder / name.file, os.O_RDONLY | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        # In this order: a writer that ends in between has written all before.
        is_left = _is_unlocked(handle)
        content = file.read()
    source = pa.BufferReader(content)
    try:
        schema = pa.ipc.read_schema(source)
    except (pa.ArrowException, OSError, EOFError) as error:
        raise PredictionLogError(
            f"{name.file} is no log segment: {first_line(error)}; delete it if it is not needed"
        ) from error
    origin = origin_of(schema)
    batches, end = [], source.tell()
    for batch in _messages(source, schema):
        batches.append(batch)
        end = source.tell()
    is_closed = content[end : end + len(END_OF_STREAM)] == END_OF_STREAM
    return Segment(
        name,
        origin,
        pa.Table.from_batches(batches, SCHEMA),
        is_done=is_closed or is_left,
        is_torn=is_left and not is_closed and end < len(content),
    )


def _is_unlocked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(handle, fcntl.LOCK_UN)
    return True


def _messages(source: pa.BufferReader, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Batches up to the first that is not whole and sound; a machine that lost its power leaves zeros in place of data."""
    while True:
        try:
            batch = pa.ipc.read_record_batch(pa.ipc.read_message(source), schema)
            batch.validate(full=True)
        except (pa.ArrowException, OSError, EOFError):
            return
        if not batch.num_rows or _has_zeros(batch):
            return
        yield batch


def _has_zeros(batch: pa.RecordBatch) -> bool:
    times = batch.column("at").cast(pa.int64()).to_numpy()
    return bool((times == 0).any())
