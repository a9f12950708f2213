"""The files of one part: scores, what was set aside, and the receipt. Equal rows give equal bytes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hotcold.adapters.bad_rows import readable_texts
from hotcold.domain.errors import BadInputError, BatchError
from hotcold.domain.receipt import Receipt

INDEX, QUARANTINE, RECEIPTS = "index", "quarantine", "receipts"
SCORE_COLUMN = "score"
WRITER = f"pyarrow {pa.__version__}, layout 2"

_QUARANTINED = pa.schema([("id", pa.string()), ("file", pa.string()), ("row", pa.int64()), ("reason", pa.string())])


def output_columns(found: pa.Schema, names: Sequence[str]) -> pa.Schema:
    """Types in which the id and the columns to pass through are written.

    Args:
        found: schema of an input file.
        names: the id column, then the others.

    Raises:
        BadInputError: a column is missing or there twice, the id is neither text nor a whole number, or a name is taken by
            the score.
    """
    for name in names:
        if name not in found.names:
            raise BadInputError(f"the input has no column {name!r}; it has {', '.join(found.names[:40])}")
        if found.names.count(name) > 1:
            raise BadInputError(f"the input has the column {name!r} twice; nobody can say which of them is meant")
    if SCORE_COLUMN in names:
        raise BadInputError(f"a column to pass through is named {SCORE_COLUMN!r}, as the scores are; leave it out")
    kinds = [_plain(found.field(name).type) for name in names]
    if not (pa.types.is_int64(kinds[0]) or pa.types.is_string(kinds[0])):
        raise BadInputError(f"the id column {names[0]!r} is of type {kinds[0]}; text or whole numbers are needed")
    return pa.schema(list(zip(names, kinds, strict=True)))


def _plain(kind: pa.DataType) -> pa.DataType:
    """One type for all the ways in which files store the same values."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    return pa.int64() if pa.types.is_integer(kind) and not pa.types.is_uint64(kind) else kind


def cast_columns(batch: pa.RecordBatch, wanted: pa.Schema) -> pa.RecordBatch:
    """The wanted columns of a batch in the wanted types.

    Raises:
        BadInputError: a column is of another kind than in the other files, or a value does not fit.
    """
    for field in wanted:
        found = _plain(batch.schema.field(field.name).type)
        if not _is_same_kind(found, field.type):
            raise BadInputError(f"the column {field.name!r} is of type {found}; in the first file it is {field.type}")
    try:
        columns = [batch.column(field.name).cast(field.type) for field in wanted]
    except MemoryError:
        # Arrow's is one of its own errors, too; the rows are not at fault.
        raise
    except pa.ArrowException as error:
        raise BadInputError(f"a column differs from that of the first file: {error}") from error
    return pa.RecordBatch.from_arrays(columns, schema=wanted)


def _is_same_kind(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether values keep their meaning: "007" is not 7, and 7 o'clock in one time zone is not 7 o'clock in another."""
    if pa.types.is_timestamp(found) and pa.types.is_timestamp(wanted):
        return bool(found.tz == wanted.tz)
    # A CSV file's features are numbers, and what is passed through is text.
    pairs = [
        (pa.types.is_integer, pa.types.is_integer),
        (pa.types.is_floating, pa.types.is_floating),
        (pa.types.is_floating, pa.types.is_string),
    ]
    return (
        found.id == wanted.id
        or pa.types.is_null(found)
        or any(is_one(found) and is_other(wanted) for is_one, is_other in pairs)
    )


def ascending_ids(ids: Sequence[pa.Array]) -> tuple[int, int] | tuple[str, str] | None:
    """First and last of some ids, if each is greater than the one before it; None if they are not, or there is none.

    Args:
        ids: whole numbers or texts without nulls, in chunks that are not empty.
    """
    if not ids or not all(_ascend(chunk) for chunk in ids):
        return None
    edges = [(chunk[0].as_py(), chunk[-1].as_py()) for chunk in ids]
    if any(before[1] >= after[0] for before, after in pairwise(edges)):
        return None
    return edges[0][0], edges[-1][1]


def _ascend(ids: pa.Array) -> bool:
    return bool(len(ids) == 1 or pc.all(pc.less(ids[:-1], ids[1:])).as_py())


def scores_file(columns: Sequence[pa.RecordBatch], scores: NDArray[np.float32], wanted: pa.Schema) -> bytes:
    """The Parquet file of a part: id, score, and what is passed through.

    Args:
        columns: id and columns to pass through, n rows in all.
        scores: shape (n,), float32.
        wanted: schema of `columns`.
    """
    table = pa.Table.from_batches(columns, wanted).add_column(1, SCORE_COLUMN, pa.array(scores, pa.float32()))
    return _parquet(table)


def quarantined_rows(ids: pa.Array, file: str, rows: NDArray[np.int64], reasons: Sequence[str]) -> pa.RecordBatch:
    """Rows that were set aside, each with its file, its number there and the reason."""
    columns = [readable_texts(ids), pa.array([file] * len(rows), pa.string()), pa.array(rows), pa.array(reasons, pa.string())]
    return pa.RecordBatch.from_arrays(columns, schema=_QUARANTINED)


def quarantine_file(rows: Sequence[pa.RecordBatch]) -> bytes:
    """The Parquet file of what was set aside."""
    return _parquet(pa.Table.from_batches(rows, _QUARANTINED))


def _parquet(table: pa.Table) -> bytes:
    texts = [field.name for field in table.schema if pa.types.is_string(field.type)]
    # Ids mostly ascend, so their differences are tiny. Of a score only sign and exponent repeat: it is split into bytes.
    encodings = {field.name: "DELTA_BINARY_PACKED" for field in table.schema if pa.types.is_integer(field.type)}
    if SCORE_COLUMN in table.column_names:
        encodings[SCORE_COLUMN] = "BYTE_STREAM_SPLIT"
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.combine_chunks(),
        sink,
        row_group_size=max(len(table), 1),
        compression="zstd",
        compression_level=1,
        use_dictionary=texts,
        column_encoding=encodings,
    )
    content: bytes = sink.getvalue().to_pybytes()
    return content


def receipt_bytes(receipt: Receipt) -> bytes:
    """A receipt as it is stored."""
    return orjson.dumps(receipt.to_json())


def read_receipt(content: bytes) -> Receipt:
    """Inverse of `receipt_bytes`.

    Raises:
        BatchError: it is none.
    """
    try:
        return Receipt.from_json(orjson.loads(content))
    except orjson.JSONDecodeError as error:
        raise BatchError(f"not a receipt: {error}; the part is scored again") from error
