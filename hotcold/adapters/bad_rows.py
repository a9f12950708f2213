"""Rows that cannot be scored: which ones, and why. For clean rows, the look costs next to nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hotcold.adapters.arrow_columns import is_text
from hotcold.domain.batch_plan import Columns
from hotcold.domain.errors import InvalidInputError
from hotcold.domain.field import DictionaryColumn
from hotcold.domain.schema import Schema


def find_faults(batch: pa.RecordBatch, columns: Columns) -> dict[int, str]:
    """Rows whose id or passed-through columns cannot be written, whatever their features are.

    Args:
        batch: n rows.
        columns: id and columns to pass through.

    Returns:
        By row, why: the id is null, or text is not UTF-8, which a Parquet file may hold, since its readers do not look.
    """
    faults: dict[int, str] = {}
    for name in reversed(columns.names):
        faults |= dict.fromkeys(_bad_text(batch.column(name)), f"the column {name!r} holds text that is not UTF-8")
    ids = batch.column(columns.entity)
    if ids.null_count:
        rows = np.flatnonzero(np.asarray(ids.is_null())).tolist()
        faults |= dict.fromkeys(rows, f"the id {columns.entity!r} is null")
    return faults


def refuse_first(faults: Mapping[int, str]) -> None:
    """Pass if there are no faults.

    Raises:
        InvalidInputError: names the first row at fault.
    """
    if faults:
        row = min(faults)
        raise InvalidInputError(f"row {row}, {faults[row]}", row=row)


def all_faults(
    schema: Schema, columns: Mapping[str, NDArray[Any] | DictionaryColumn], rows: int, faults: Mapping[int, str]
) -> dict[int, str]:
    """Every row that cannot be scored.

    Args:
        schema: features of the model.
        columns: features of n rows.
        rows: n.
        faults: what is known already.

    Returns:
        By row, in order, why.
    """
    first_bad = schema.find_bad_rows(columns, rows)
    found = {
        int(row): f"the feature {schema.names[first_bad[row]]!r} has a value that is not allowed"
        for row in np.flatnonzero(first_bad >= 0)
    }
    return dict(sorted((found | dict(faults)).items()))


def readable_texts(ids: pa.Array) -> pa.Array:
    """Ids as text, in which bytes that are not UTF-8 are shown as such, by a backslash and two digits."""
    texts = ids.cast(pa.string())
    if not _bad_text(texts):
        return texts
    found = texts.cast(pa.binary()).to_pylist()
    return pa.array([None if text is None else text.decode(errors="backslashreplace") for text in found], pa.string())


def _bad_text(column: pa.Array) -> list[int]:
    """Rows that hold text, at whatever depth, that is not UTF-8."""
    if not _holds_text(column.type) or _is_ascii(column):
        return []
    if pa.types.is_dictionary(column.type) and not _bad_text(column.dictionary):
        return []
    try:
        column.validate(full=True)
        return []
    except pa.ArrowInvalid:
        # There may be none: a dictionary holds values that no row uses, and lists share theirs with rows of other batches.
        return [row for row, value in enumerate(column) if not _is_text(value)]


def _holds_text(kind: pa.DataType) -> bool:
    if pa.types.is_nested(kind):
        return any(_holds_text(kind.field(index).type) for index in range(kind.num_fields))
    return is_text(kind)


def _is_ascii(column: pa.Array) -> bool:
    """True for most ids, and seen at a twentieth of the cost of looking for UTF-8; false where that is not seen at once."""
    if not pa.types.is_string(column.type) or not len(column):
        return False
    _, offsets, content = column.buffers()
    if content is None:
        return False
    ends = np.frombuffer(offsets, np.int32)[[column.offset, column.offset + len(column)]]
    return bool(np.frombuffer(content, np.int8)[ends[0] : ends[1]].min(initial=0) >= 0)


def _is_text(value: pa.Scalar) -> bool:
    try:
        value.as_py()
    except UnicodeDecodeError:
        return False
    return True
