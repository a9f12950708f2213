"""Scores one part: read, encode, score, write. Runs in Dask workers, one thread per part."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hotcold.adapters.arrow_columns import schema_columns
from hotcold.adapters.bad_rows import all_faults, find_faults, refuse_first
from hotcold.adapters.bulk_engine import BulkEngine, bulk_engine
from hotcold.adapters.csv_reader import count_csv_rows
from hotcold.adapters.part_files import (
    INDEX,
    QUARANTINE,
    RECEIPTS,
    ascending_ids,
    cast_columns,
    quarantine_file,
    quarantined_rows,
    receipt_bytes,
    scores_file,
)
from hotcold.adapters.piece_reader import read_piece
from hotcold.adapters.row_batch import RowBatch, Wanted
from hotcold.adapters.score_index import encode_fragment
from hotcold.adapters.table_folder import DATA, Folder
from hotcold.domain.batch_plan import Columns, FileFormat, InputFile, OnBadPart, Part, Piece
from hotcold.domain.errors import BadInputError, InvalidInputError
from hotcold.domain.receipt import SHOWN_PROBLEMS, Problem, Receipt, Timings
from hotcold.domain.score_histogram import count_scores


@dataclass(frozen=True)
class ScoringJob:
    """What all parts of a run have in common.

    Args:
        table_url: folder of the table.
        package_dir: folder of the package, where every worker finds it.
        package_digest: what has to lie there.
        device: `cpu` or `cuda`.
        columns: id and columns to pass through.
        output_schema: id and passed-through columns as they are written, as an Arrow IPC message.
        format: of the input files.
        on_bad_part: see `BatchPlan`.
        with_index: write what the score store is built from, too.
    """

    table_url: str
    package_dir: str
    package_digest: str
    device: str
    columns: Columns
    output_schema: bytes
    format: FileFormat
    on_bad_part: OnBadPart
    with_index: bool

    @property
    def written(self) -> pa.Schema:
        """Columns of the output besides the score."""
        return pa.ipc.read_schema(pa.py_buffer(self.output_schema))


@dataclass
class _Rows:
    """Scored rows of a piece, or of the part so far."""

    rows_in: int = 0
    columns: list[pa.RecordBatch] = field(default_factory=list)
    scores: list[NDArray[np.float32]] = field(default_factory=list)
    set_aside: list[pa.RecordBatch] = field(default_factory=list)
    quarantined: int = 0
    problems: list[Problem] = field(default_factory=list)

    def add(self, more: _Rows) -> None:
        self.rows_in += more.rows_in
        self.columns += more.columns
        self.scores += more.scores
        self.set_aside += more.set_aside
        self.quarantined += more.quarantined
        self.problems += more.problems


def score_part(
    job: ScoringJob, part: Part, files: Mapping[int, InputFile], before_writing: Callable[[], object] = lambda: None
) -> Receipt:
    """Score one part and write its file, then its receipt. Doing it again writes the same bytes.

    Args:
        job: what all parts have in common.
        part: which rows.
        files: input files of the part's pieces, by index.
        before_writing: called when all that is left is to wait for the disk.

    Returns:
        The receipt as it was written.

    Raises:
        BadInputError: rows that cannot be scored while `on_bad_part` is `fail`; names file and row.
        BatchError: the output cannot be written.
        PackageError: the package is not what it should be.
    """
    reader = _PieceScorer(job)
    done = _Rows()
    for piece in part.pieces:
        done.add(reader.score_or_set_aside(files[piece.file], piece))
    began = time.perf_counter()
    scores = np.concatenate(done.scores) if done.scores else np.empty(0, dtype=np.float32)
    content = scores_file(done.columns, scores, job.written)
    before_writing()
    _write_files(job, part, done, scores, content)
    receipt = Receipt(
        part=part.index,
        rows_in=done.rows_in,
        rows_out=len(scores),
        rows_quarantined=done.quarantined,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        histogram=count_scores(scores),
        problems=tuple(done.problems[:SHOWN_PROBLEMS]),
        timings=reader.timings + Timings(write_s=time.perf_counter() - began),
        where=f"process {os.getpid()}",
        ids=ascending_ids([batch.column(0) for batch in done.columns if batch.num_rows]),
    )
    # Last, so that a part with a receipt is complete.
    Folder(job.table_url).write(f"{RECEIPTS}/{part.name}.json", receipt_bytes(receipt), durable=False)
    return receipt


def _write_files(job: ScoringJob, part: Part, done: _Rows, scores: NDArray[np.float32], content: bytes) -> None:
    folder = Folder(job.table_url)
    if job.with_index:
        ids = pa.chunked_array([batch.column(0) for batch in done.columns], job.written.field(0).type)
        folder.write(f"{INDEX}/{part.name}.idx", encode_fragment(ids, scores), durable=False)
    if done.set_aside:
        folder.write(f"{QUARANTINE}/{part.name}.parquet", quarantine_file(done.set_aside))
    folder.write(f"{DATA}/{part.name}.parquet", content)


class _PieceScorer:
    """Scores the pieces of one part and keeps the time."""

    def __init__(self, job: ScoringJob) -> None:
        self._job = job
        self._engine: BulkEngine = bulk_engine(job.package_dir, job.package_digest, job.device)
        self._wanted = Wanted(self._engine.schema, job.columns, job.format)
        self.timings = Timings()

    def score_or_set_aside(self, file: InputFile, piece: Piece) -> _Rows:
        """The piece's rows, or what is wrong with them."""
        try:
            return self._score(file, piece)
        except (BadInputError, InvalidInputError) as error:
            if self._job.on_bad_part == "fail":
                raise BadInputError(
                    f"{file.url}, {_position(piece)}: {error}. Repair the input, or run with on_bad_part=quarantine"
                ) from error
            rows = piece.rows if piece.rows is not None else count_csv_rows(file, piece)
            problem = Problem(file.url, rows, f"{_position(piece)}: {error}")
            return _Rows(rows_in=rows, quarantined=rows, problems=[problem])

    def _score(self, file: InputFile, piece: Piece) -> _Rows:
        return self._score_whole(file, piece) or self._score_batches(file, piece)

    def _score_whole(self, file: InputFile, piece: Piece) -> _Rows | None:
        """A piece whose features the engine reads by itself; None if it does not, or if anything is wrong with a row."""
        scored = self._engine.read_and_score(file, piece) if self._wanted.format == "parquet" else None
        if scored is None:
            return None
        done = _Rows(scores=[scored.scores])
        others = replace(self._wanted, with_features=False)
        for read in self._timed(read_piece(file, piece, others, self._engine.batch_rows)):
            if find_faults(read.rows, self._job.columns):
                return None
            done.columns.append(cast_columns(read.rows, self._job.written))
            done.rows_in += read.rows.num_rows
        self.timings += scored.timings
        return done if done.rows_in == piece.rows == len(scored.scores) else None

    def _score_batches(self, file: InputFile, piece: Piece) -> _Rows:
        done = _Rows()
        for batch in self._timed(read_piece(file, piece, self._wanted, self._engine.batch_rows)):
            kept = self._score_batch(file, piece, batch, done)
            done.columns.append(cast_columns(kept, self._job.written))
            done.rows_in += batch.rows.num_rows
        # A CSV file's reader has counted the lines itself.
        if piece.rows is not None and done.rows_in != piece.rows:
            raise BadInputError(f"{done.rows_in} rows were read where there are {piece.rows}; the file is damaged")
        return done

    def _timed(self, batches: Iterator[RowBatch]) -> Iterator[RowBatch]:
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self.timings += Timings(read_s=time.perf_counter() - began)
            if batch is None:
                return
            yield batch

    def _score_batch(self, file: InputFile, piece: Piece, read: RowBatch, done: _Rows) -> pa.RecordBatch:
        """Score a batch into `done`; the rows that were scored."""
        batch, schema = read.rows, self._engine.schema
        columns = schema_columns(batch, schema)
        faults = find_faults(batch, self._job.columns) | dict(read.faults)
        try:
            refuse_first(faults)
            scored = self._engine.score(columns, batch.num_rows)
        except InvalidInputError as found:
            error = _counted_in_piece(found, done.rows_in + piece.skip_rows)
            if self._job.on_bad_part == "fail" or error.row is None:
                raise error from found
            batch = self._set_aside(file, piece, batch, all_faults(schema, columns, batch.num_rows, faults), done, error)
            scored = self._engine.score(schema_columns(batch, schema), batch.num_rows)
        self.timings += scored.timings
        done.scores.append(scored.scores)
        return batch

    def _set_aside(
        self,
        file: InputFile,
        piece: Piece,
        batch: pa.RecordBatch,
        faults: Mapping[int, str],
        done: _Rows,
        error: InvalidInputError,
    ) -> pa.RecordBatch:
        """Take the rows at fault out of a batch; the others."""
        rows = np.array(list(faults), dtype=np.int64)
        numbers, ids = rows + done.rows_in + piece.skip_rows, batch.column(self._job.columns.entity).take(pa.array(rows))
        done.set_aside.append(quarantined_rows(ids, f"{file.url}, {_position(piece)}", numbers, list(faults.values())))
        done.quarantined += len(rows)
        done.problems.append(Problem(file.url, len(rows), f"{_position(piece)}: {error}"))
        is_kept = np.ones(batch.num_rows, dtype=np.bool_)
        is_kept[rows] = False
        return batch.filter(pa.array(is_kept))


def _counted_in_piece(error: InvalidInputError, rows_before: int) -> InvalidInputError:
    """The same error, with the row counted from the beginning of what the message names, not from that of the batch."""
    if error.row is None:
        return error
    row = rows_before + error.row
    return InvalidInputError(error.detail.replace(f"row {error.row},", f"row {row},", 1), field=error.field, row=row)


def _position(piece: Piece) -> str:
    """Where a piece lies in its file."""
    if piece.rows is None:
        return f"bytes {piece.first} to {piece.first + piece.count}"
    last = piece.first + piece.count - 1
    return f"row group {piece.first}" if last == piece.first else f"row groups {piece.first} to {last}"
