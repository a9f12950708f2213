"""How a batch run is cut into parts: pure, so that the same input and parameters always give the same parts.

A *part* is what one task scores and what one output file holds: some pieces of input files that come to about `rows_per_part`
rows. A *piece* is a run of rows inside one file: whole row groups, or a slice of one row group that is too large; of a CSV
file, a range of bytes that begins and ends at a line. Ten thousand small files share parts; one giant file fills many.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from hotcold.domain.errors import BatchError

# Reading a slice of a row group means to decode what comes before it, so that slices cost more the more there are.
MAX_SLICES = 16
MAX_PIECES_PER_PART = 512
# Rows of a CSV file are counted only when they are read; until then a row is taken to be this long.
CSV_ROW_BYTES = 128

FileFormat = Literal["parquet", "csv"]
OnBadPart = Literal["fail", "quarantine"]


@dataclass(frozen=True)
class InputFile:
    """One input file as it was when the run was planned.

    Args:
        url: where it is.
        size_bytes: its size.
        version: what changes when its content does: modification time or ETag; where there is neither, a digest of its ends.
        units: rows of each row group; of a CSV file, bytes of each range of whole lines.
        header_bytes: length of a CSV file's first line.
        problem: why it cannot be read at all, empty if it can.
    """

    url: str
    size_bytes: int
    version: str
    units: tuple[int, ...] = ()
    header_bytes: int = 0
    problem: str = ""


@dataclass(frozen=True)
class Piece:
    """A run of rows in one file.

    Args:
        file: index of the file in the plan.
        first: first row group; of a CSV file, the first byte.
        count: number of row groups; of a CSV file, the number of bytes.
        skip_rows: rows to leave out at the start, for a slice of one row group.
        rows: rows to take; None where only reading tells, as in a CSV file.
        is_slice: not all rows of the row group are taken.
    """

    file: int
    first: int
    count: int
    skip_rows: int = 0
    rows: int | None = None
    is_slice: bool = False


@dataclass(frozen=True)
class Part:
    """What one task scores.

    Args:
        index: counted from 0 in input order.
        pieces: at least one, in input order.
    """

    index: int
    pieces: tuple[Piece, ...]

    @property
    def name(self) -> str:
        """Stem of its output file and its receipt."""
        return f"part-{self.index:06d}"

    @property
    def rows(self) -> int | None:
        """Rows in it, None where only reading tells."""
        rows = [piece.rows for piece in self.pieces]
        return None if None in rows else sum(row for row in rows if row is not None)


@dataclass(frozen=True)
class Columns:
    """Which columns of the input matter besides the features.

    Args:
        entity: column with the id of each row.
        passthrough: columns that are copied to the output.
    """

    entity: str
    passthrough: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not all(self.names):
            raise BatchError("the id column and the columns to pass through need a name each")
        if len(set(self.names)) != len(self.names):
            raise BatchError(f"of the id column and the columns to pass through, one is named twice: {', '.join(self.names)}")

    @property
    def names(self) -> tuple[str, ...]:
        """The id column, then the others."""
        return self.entity, *self.passthrough


@dataclass(frozen=True)
class BatchPlan:
    """All that decides about the bytes of a table.

    Args:
        model: registered model name.
        package_digest: SHA-256 of the package that scores.
        engine: engine that scores; engines agree within the parity limit, not to the last bit.
        format: of the input files.
        files: input files in order.
        columns: id and columns to pass through.
        on_bad_part: `fail`: one row that cannot be scored ends the run; `quarantine`: it is set aside and counted.
        rows_per_part: wanted rows of a part.
        writer: name and version of what writes the parts.
    """

    model: str
    package_digest: str
    engine: str
    format: FileFormat
    files: tuple[InputFile, ...]
    columns: Columns
    on_bad_part: OnBadPart
    rows_per_part: int
    writer: str = ""

    @property
    def input_fingerprint(self) -> str:
        """SHA-256 of names, sizes and versions of the input files, in hexadecimal."""
        return _digest([[file.url, file.size_bytes, file.version] for file in self.files])

    @property
    def table_id(self) -> str:
        """Names the table: 12 digits of the package, then 16 of everything else."""
        rest = [self.input_fingerprint, self.engine, asdict(self.columns), self.on_bad_part, self.rows_per_part, self.writer]
        return f"{self.package_digest[:12]}-{_digest([self.package_digest, *rest])[:16]}"

    @property
    def unreadable(self) -> tuple[InputFile, ...]:
        """Files without a usable footer: nobody can say how many rows they held."""
        return tuple(file for file in self.files if file.problem)

    def parts(self) -> tuple[Part, ...]:
        """The parts, in input order; see the module."""
        return cut_files(self.files, self.format, self.rows_per_part)

    def to_json(self) -> dict[str, Any]:
        """The plan as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> BatchPlan:
        """Inverse of `to_json`.

        Raises:
            BatchError: it is none.
        """
        try:
            values = dict(document)
            files = tuple(InputFile(**{**file, "units": tuple(file["units"])}) for file in values.pop("files"))
            columns = values.pop("columns")
            return cls(**values, files=files, columns=Columns(columns["entity"], tuple(columns["passthrough"])))
        except (KeyError, TypeError) as error:
            raise BatchError(f"not a batch plan: {error}; delete the table's folder and run again") from error


def cut_files(files: Sequence[InputFile], file_format: FileFormat, rows_per_part: int) -> tuple[Part, ...]:
    """Cut files into parts, in their order; see the module.

    Args:
        files: with their units.
        file_format: of all of them.
        rows_per_part: wanted rows of a part.
    """
    if file_format == "csv":
        chunks = _chunks(_csv_pieces(files), csv_range_bytes(rows_per_part))
    else:
        chunks = _chunks(_parquet_pieces(files, rows_per_part), rows_per_part)
    return tuple(Part(index, chunk) for index, chunk in enumerate(chunks))


def csv_range_bytes(rows_per_part: int) -> int:
    """Wanted length, in bytes, of the ranges that a CSV file is cut into."""
    return rows_per_part * CSV_ROW_BYTES


def _parquet_pieces(files: Sequence[InputFile], rows_per_part: int) -> Iterator[Piece]:
    """One piece per row group, or several where a row group alone is more than a part."""
    for index, file in enumerate(files):
        for group, rows in enumerate(file.units):
            slices = min(-(-rows // rows_per_part), MAX_SLICES) if rows >= 2 * rows_per_part else 1
            step = max(-(-rows // slices), 1)
            for start in range(0, rows, step):
                yield Piece(index, group, 1, start, min(step, rows - start), is_slice=slices > 1)


def _csv_pieces(files: Sequence[InputFile]) -> Iterator[Piece]:
    for index, file in enumerate(files):
        first = file.header_bytes
        for size in file.units:
            yield Piece(index, first, size)
            first += size


def _chunks(pieces: Iterable[Piece], limit: int) -> Iterator[tuple[Piece, ...]]:
    """Fill parts in order; a part ends before it would grow beyond the limit, in rows or, for CSV files, in bytes."""
    chunk: list[Piece] = []
    filled = 0
    for piece in pieces:
        size = piece.count if piece.rows is None else piece.rows
        if chunk and (filled + size > limit or len(chunk) >= MAX_PIECES_PER_PART):
            yield tuple(chunk)
            chunk, filled = [], 0
        filled += size
        if chunk and _follows(chunk[-1], piece):
            chunk[-1] = _joined(chunk[-1], piece)
        else:
            chunk.append(piece)
    if chunk:
        yield tuple(chunk)


def _follows(before: Piece, piece: Piece) -> bool:
    """Both are whole row groups of one file, side by side."""
    whole = before.rows is not None and piece.rows is not None and not before.is_slice and not piece.is_slice
    return whole and before.file == piece.file and before.first + before.count == piece.first


def _joined(before: Piece, piece: Piece) -> Piece:
    rows = (before.rows or 0) + (piece.rows or 0)
    return Piece(before.file, before.first, before.count + piece.count, 0, rows)


def _digest(document: object) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
