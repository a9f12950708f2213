"""Reads files of late labels in bounded memory: rows that can be used, and why the others cannot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hotcold.adapters.input_files import open_input
from hotcold.adapters.label_values import NO_TIME, read_numbers, read_texts, read_times
from hotcold.adapters.piece_reader import read_piece
from hotcold.adapters.row_batch import RowBatch, Wanted
from hotcold.domain.batch_plan import Columns, FileFormat, InputFile, Part, Piece
from hotcold.domain.errors import BadInputError
from hotcold.domain.label_counts import LabelCounts
from hotcold.domain.label_source import LabelSource
from hotcold.domain.labels import Labels, are_labels
from hotcold.domain.prediction import MAX_ENTITY_BYTES

_BATCH_ROWS = 1 << 16
BROKEN_LINE = "its line cannot be taken apart"
BAD_KEY = "it names no request or entity, or one that is too long"
BAD_LABEL = "its label is not 0, 1 or a number in between"
BAD_TIME = "its time is none"
BAD_KNOWN_AT = "nobody can say when it became known"
_OPEN_END = "its last line has no end, as if it were still being written; that line is left out until a line break ends it"


@dataclass(frozen=True, eq=False)
class LabelRows:
    """Rows of labels that can be used, n of them.

    Args:
        keys: request ids or entities.
        labels: in [0, 1].
        times_us: when the request was sent; 0 where labels go by request id.
        known_us: when the label became known.
        files: number of the row's file.
    """

    keys: pa.ChunkedArray
    labels: Labels
    times_us: NDArray[np.int64]
    known_us: NDArray[np.int64]
    files: NDArray[np.int32]


@dataclass
class LabelReader:
    """Reads the parts of an input.

    Args:
        source: what the columns mean.
        format: of the files.
        files: as they were listed.
        seen_us: when each file was first seen, which is when its labels became known if no column says so.
        problems: files that cannot be read, or not to their end, with the reason.
        counts: of what was read so far: rows, and those that cannot be used.
    """

    source: LabelSource
    format: FileFormat
    files: Sequence[InputFile]
    seen_us: Sequence[int]
    problems: dict[str, str] = field(default_factory=dict)
    counts: LabelCounts = field(default_factory=LabelCounts)

    def read(self, part: Part) -> LabelRows:
        """The rows of a part that can be used.

        Raises:
            UnreachableInputError: the disk or network does not give a file.
        """
        batches = [rows for piece in part.pieces for rows in self._read_piece(piece)]
        none = np.array([], np.int64)
        return LabelRows(
            pa.chunked_array([batch.keys for batch in batches], pa.string()),
            np.concatenate([none.astype(np.float32), *(batch.labels for batch in batches)]),
            np.concatenate([none, *(batch.times_us for batch in batches)]),
            np.concatenate([none, *(batch.known_us for batch in batches)]),
            np.concatenate([none.astype(np.int32), *(batch.files for batch in batches)]),
        )

    def _read_piece(self, piece: Piece) -> Iterator[LabelRows]:
        file = self.files[piece.file]
        wanted = Wanted(None, Columns(self.source.key_column, self.source.columns[1:]), self.format)
        try:
            for batch in self._whole_rows(file, piece, read_piece(file, piece, wanted, _BATCH_ROWS)):
                yield self._usable(batch, piece.file)
        except BadInputError as error:
            self.problems[file.url] = str(error)

    def _whole_rows(self, file: InputFile, piece: Piece, batches: Iterator[RowBatch]) -> Iterator[RowBatch]:
        """Without the last line of a CSV file that has no end: half an id is the id of another request."""
        held: RowBatch | None = None
        for batch in batches:
            if held is not None:
                yield held
            held = batch
        if held is not None and self.format == "csv" and _has_open_end(file, piece):
            self.problems[file.url] = _OPEN_END
            held = RowBatch(held.rows.slice(0, held.rows.num_rows - 1), held.faults)
        if held is not None:
            yield held

    def _usable(self, batch: RowBatch, file: int) -> LabelRows:
        source, rows = self.source, batch.rows
        keys = read_texts(rows.column(source.key_column), source.key_column, MAX_ENTITY_BYTES)
        labels = read_numbers(rows.column(source.label_column), source.label_column)
        times, known = self._times(rows, source.time_column, 0), self._times(rows, source.known_at_column, self.seen_us[file])
        broken = np.zeros(rows.num_rows, bool)
        broken[[row for row in batch.faults if row < rows.num_rows]] = True
        reasons = {
            BROKEN_LINE: broken,
            BAD_KEY: np.asarray(pc.is_null(keys)),
            BAD_LABEL: ~are_labels(labels),
            BAD_TIME: times == NO_TIME,
            BAD_KNOWN_AT: known == NO_TIME,
        }
        good = self._count(reasons, rows.num_rows)
        chosen = pa.array(np.flatnonzero(good))
        files = np.full(len(chosen), file, np.int32)
        return LabelRows(keys.take(chosen), labels[good].astype(np.float32), times[good], known[good], files)

    def _times(self, rows: pa.RecordBatch, column: str, otherwise: int) -> NDArray[np.int64]:
        return read_times(rows.column(column), column) if column else np.full(rows.num_rows, otherwise, np.int64)

    def _count(self, reasons: dict[str, NDArray[np.bool_]], rows: int) -> NDArray[np.bool_]:
        """Which rows have no fault; a row with several counts for the first of them."""
        good, invalid = np.ones(rows, bool), Counter[str]()
        for reason, is_bad in reasons.items():
            if count := int(np.count_nonzero(is_bad & good)):
                invalid[reason] = count
            good &= ~is_bad
        self.counts += LabelCounts(rows=rows, invalid=invalid)
        return good


def _has_open_end(file: InputFile, piece: Piece) -> bool:
    if piece.first + piece.count < file.size_bytes:
        return False
    with open_input(file) as source:
        source.seek(file.size_bytes - 1)
        return source.read(1) != b"\n"
