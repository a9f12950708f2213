"""From Arrow to the columns that a schema encodes: NumPy arrays and dictionaries, without pandas, and without copies where
types allow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hotcold.domain.errors import InvalidInputError
from hotcold.domain.field import DictionaryColumn, Field
from hotcold.domain.schema import Schema


def schema_columns(batch: pa.RecordBatch, schema: Schema) -> dict[str, NDArray[Any] | DictionaryColumn]:
    """The features of a record batch; columns of other names are left out.

    Args:
        batch: n rows of a file that `require_columns` has passed.
        schema: features of the model.

    Returns:
        By feature name n values: numbers with NaN where they are null, or a dictionary. An optional feature may be missing.
    """
    names = [field.name for field in schema.fields if field.name in batch.schema.names]
    return {name: _values(batch.column(name)) for name in names}


def require_columns(found: pa.Schema, schema: Schema) -> None:
    """Make sure that a file has the features of a model, in types that can hold them.

    Raises:
        InvalidInputError: names the first feature at fault, what was found and what is needed.
    """
    for field in schema.fields:
        if found.names.count(field.name) > 1:
            raise InvalidInputError(f"the column {field.name!r} is there twice", field=field.name)
        if field.name not in found.names:
            if field.required:
                raise InvalidInputError(
                    f"the column {field.name!r} is missing; found are {', '.join(found.names[:40])}", field=field.name
                )
            continue
        kind = found.field(field.name).type
        if not _suits(field, kind):
            needed = "text" if field.dtype == "category" else "a number"
            raise InvalidInputError(f"the column {field.name!r} is of type {kind}; {needed} is needed", field=field.name)


def _suits(field: Field, kind: pa.DataType) -> bool:
    if pa.types.is_null(kind):
        # A column of nulls only, which is how some writers store a column that has no value in this file.
        return field.nullable
    if field.dtype == "category":
        return is_text(kind)
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def is_text(kind: pa.DataType) -> bool:
    """Whether a column holds text, as it is or by a dictionary."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _values(column: pa.Array) -> NDArray[Any] | DictionaryColumn:
    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan, dtype=np.float32)
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        # Nulls become NaN, by way of float64 for integers; without nulls this is the column's own memory.
        numbers: NDArray[Any] = column.to_numpy(zero_copy_only=False)
        return numbers
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    codes = column.indices
    if codes.null_count:
        codes = codes.fill_null(-1)
    return DictionaryColumn(_texts(column.dictionary), codes.to_numpy(zero_copy_only=False))


def _texts(dictionary: pa.Array) -> list[object]:
    """The values; bytes that are not UTF-8 become lone surrogates, which no category has, so that the rows are found."""
    try:
        values: list[object] = dictionary.to_pylist()
    except UnicodeDecodeError:
        found = dictionary.cast(pa.large_binary()).to_pylist()
        values = [None if value is None else value.decode(errors="surrogateescape") for value in found]
    return values
