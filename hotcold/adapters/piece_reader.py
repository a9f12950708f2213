"""Reads pieces of input files as Arrow record batches, in bounded memory."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from hotcold.adapters.arrow_columns import require_columns
from hotcold.adapters.input_files import content_fault, open_input, require_unchanged
from hotcold.domain.batch_plan import Columns, FileFormat, InputFile, Piece
from hotcold.domain.errors import BadInputError, InvalidInputError
from hotcold.domain.schema import Schema

_BUFFER_BYTES = 1 << 20
_FOOTERS = 32
_NULLS = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"]


@dataclass(frozen=True)
class Wanted:
    """What is read of each file.

    Args:
        schema: features of the model.
        columns: id and columns to pass through.
        format: of the files.
    """

    schema: Schema
    columns: Columns
    format: FileFormat

    @property
    def categories(self) -> list[str]:
        """Features that hold text."""
        return [field.name for field in self.schema.fields if field.dtype == "category"]

    @property
    def others(self) -> tuple[str, ...]:
        """Columns besides the features."""
        return (self.columns.entity, *self.columns.passthrough)


def read_piece(file: InputFile, piece: Piece, wanted: Wanted, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """The rows of one piece, a batch at a time.

    Args:
        file: as it was planned.
        piece: which of its rows.
        wanted: which of its columns.
        batch_rows: most rows of a batch.

    Raises:
        BadInputError: the file cannot be read, was changed, lacks a column, or holds other rows than planned.
        InvalidInputError: a feature is missing or of another type.
        UnreachableInputError: the disk or network does not give the file.
    """
    require_unchanged(file)
    read = _read_parquet if wanted.format == "parquet" else _read_csv
    try:
        yield from read(file, piece, wanted, batch_rows)
    except (BadInputError, InvalidInputError):
        raise
    except Exception as error:
        raise BadInputError(f"{file.url} cannot be read: {content_fault(file.url, error)}") from error


def _read_parquet(file: InputFile, piece: Piece, wanted: Wanted, batch_rows: int) -> Iterator[pa.RecordBatch]:
    footer, found = _footer(file)
    with open_input(file) as source:
        _require_others(file, found.names, wanted)
        require_columns(found, wanted.schema)
        texts = [name for name in wanted.categories if name in found.names]
        parquet = pq.ParquetFile(source, metadata=footer, read_dictionary=texts, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        chosen = [name for name in found.names if name in wanted.schema.names or name in wanted.others]
        groups = list(range(piece.first, piece.first + piece.count))
        batches = parquet.iter_batches(batch_rows, row_groups=groups, columns=chosen, use_threads=False)
        yield from _window(batches, piece.skip_rows, piece.rows)


@lru_cache(maxsize=_FOOTERS)
def _footer(file: InputFile) -> tuple[pq.FileMetaData, pa.Schema]:
    """Kept, because every part of a file needs it and it grows with the number of row groups."""
    with open_input(file) as source:
        footer = pq.read_metadata(source)
    return footer, footer.schema.to_arrow_schema()


def _window(batches: Iterator[pa.RecordBatch], skip: int, rows: int | None) -> Iterator[pa.RecordBatch]:
    """Rows `skip` up to `skip + rows`."""
    left = rows
    for batch in batches:
        if skip >= batch.num_rows:
            skip -= batch.num_rows
            continue
        taken = batch.slice(skip, left)
        skip = 0
        if left is not None:
            left -= taken.num_rows
        yield taken
        if left == 0:
            return


def _require_others(file: InputFile, names: Sequence[str], wanted: Wanted) -> None:
    if missing := [name for name in wanted.others if name not in names]:
        raise BadInputError(
            f"{file.url} lacks the column {missing[0]!r}, which is the id or is to be passed through; it has "
            f"{', '.join(names[:40])}"
        )


def _read_csv(file: InputFile, piece: Piece, wanted: Wanted, batch_rows: int) -> Iterator[pa.RecordBatch]:
    with open_input(file) as source:
        header = source.read(file.header_bytes)
        source.seek(piece.first)
        content = source.read(piece.count)
    if len(content) != piece.count:
        raise BadInputError(f"{file.url} ends within bytes {piece.first} to {piece.first + piece.count}; it was cut off")
    names = pacsv.read_csv(io.BytesIO(header)).column_names
    _require_others(file, names, wanted)
    types = dict.fromkeys(wanted.others, pa.string()) | {field.name: _csv_type(field.dtype) for field in wanted.schema.fields}
    chosen = [name for name in names if name in types]
    table = pacsv.read_csv(
        pa.BufferReader(content),
        pacsv.ReadOptions(column_names=names, use_threads=False),
        pacsv.ParseOptions(newlines_in_values=False),
        pacsv.ConvertOptions(column_types=types, include_columns=chosen, null_values=_NULLS),
    )
    for index, name in enumerate(table.column_names):
        if pa.types.is_string(table.column(index).type):
            table = table.set_column(
                index, name, _with_nulls(table.column(index), _NULLS if name in wanted.categories else [""])
            )
    require_columns(table.schema, wanted.schema)
    yield from table.to_batches(batch_rows)


def _csv_type(dtype: str) -> pa.DataType:
    return pa.string() if dtype == "category" else pa.float64()


def _with_nulls(texts: pa.ChunkedArray, nulls: Sequence[str]) -> pa.ChunkedArray:
    """Texts that stand for nothing become null. Of ids and what is passed through, only the empty one: NA is a name, too."""
    return pc.if_else(pc.is_in(texts, value_set=pa.array(nulls)), pa.scalar(None, pa.string()), texts)


def count_csv_rows(file: InputFile, piece: Piece) -> int:
    """Lines of a range of a CSV file that are not empty, counted without parsing them."""
    with open_input(file) as source:
        source.seek(piece.first)
        lines = source.read(piece.count).split(b"\n")
    return sum(1 for line in lines if line.strip())
