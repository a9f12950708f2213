"""Reads pieces of input files, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import pyarrow as pa
import pyarrow.parquet as pq

from hotcold.adapters.arrow_columns import is_text
from hotcold.adapters.csv_reader import read_csv
from hotcold.adapters.input_files import content_fault, open_input, require_unchanged
from hotcold.adapters.row_batch import RowBatch, Wanted
from hotcold.domain.batch_plan import InputFile, Piece
from hotcold.domain.errors import BadInputError, InvalidInputError

_BUFFER_BYTES = 1 << 20
_FOOTERS = 32
_PLAIN_BYTES = 4


def read_piece(file: InputFile, piece: Piece, wanted: Wanted, batch_rows: int) -> Iterator[RowBatch]:
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
    read = _read_parquet if wanted.format == "parquet" else read_csv
    try:
        yield from read(file, piece, wanted, batch_rows)
    except (BadInputError, InvalidInputError):
        raise
    except Exception as error:
        raise BadInputError(f"{file.url} cannot be read: {content_fault(file.url, error)}") from error


def _read_parquet(file: InputFile, piece: Piece, wanted: Wanted, batch_rows: int) -> Iterator[RowBatch]:
    footer, found = read_footer(file)
    with open_input(file) as source:
        wanted.require(found, file.url)
        coded = _coded_texts(footer, piece, found, wanted)
        parquet = pq.ParquetFile(source, metadata=footer, read_dictionary=coded, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        chosen = [name for name in found.names if name in wanted.names]
        groups = list(range(piece.first, piece.first + piece.count))
        batches = parquet.iter_batches(batch_rows, row_groups=groups, columns=chosen, use_threads=False)
        yield from (RowBatch(batch) for batch in _window(batches, piece.skip_rows, piece.rows))


@lru_cache(maxsize=_FOOTERS)
def read_footer(file: InputFile) -> tuple[pq.FileMetaData, pa.Schema]:
    """The footer of a Parquet file, and its schema; kept, because every part of a file needs it, and it may be long."""
    with open_input(file) as source:
        footer = pq.read_metadata(source)
    return footer, footer.schema.to_arrow_schema()


def _coded_texts(footer: pq.FileMetaData, piece: Piece, found: pa.Schema, wanted: Wanted) -> list[str]:
    """Text columns that the file keeps as dictionaries: read as such, they take half the time, and each text is seen once."""
    places = {footer.schema.column(index).path: index for index in range(footer.num_columns)}
    groups = [footer.row_group(piece.first + number) for number in range(piece.count)]
    texts = [name for name in wanted.names if name in found.names and is_text(found.field(name).type)]
    return [name for name in texts if all(_is_coded(group.column(places[name])) for group in groups)]


def _is_coded(chunk: pq.ColumnChunkMetaData) -> bool:
    # Arrow makes no dictionaries of texts that are stored as differences. Plain, a text takes four bytes for its length alone,
    # and to look each one up takes longer than to read it.
    kinds = " ".join(chunk.encodings)
    return "DICTIONARY" in kinds and "DELTA" not in kinds and chunk.total_uncompressed_size < _PLAIN_BYTES * chunk.num_values


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
