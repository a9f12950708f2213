"""One feature: what it is, and how a column of its values becomes numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hotcold.domain.errors import InvalidInputError, SchemaError

DType = Literal["float32", "int32", "category"]

_DTYPES = ("float32", "int32", "category")
_NUMBERS = frozenset({int, float})
# From 2**24 on, a float32 no longer tells neighbouring whole numbers apart; 2**24 + 1 becomes 2**24.
_INT_MAX = 2**24 - 1


@dataclass(frozen=True, eq=False)
class DictionaryColumn:
    """A column of categories as files hold it: each distinct value once, and which one stands in each row.

    Args:
        values: the distinct values; those that no row uses do no harm.
        codes: shape (n,), integers; index into `values`, -1 where the value is missing.
    """

    values: Sequence[object]
    codes: NDArray[Any]

    def __len__(self) -> int:
        return len(self.codes)


Column = Sequence[object] | NDArray[Any] | DictionaryColumn


@dataclass(frozen=True)
class Field:
    """One feature: its name, type, unit and what may be left out.

    Args:
        name: the key in a record.
        dtype: `float32`, `int32` (whole numbers of size below 2**24) or `category`.
        unit: physical unit in words, for instance `minutes after midnight`; empty if it has none.
        categories: allowed values of a category, in the order of their codes.
        nullable: null (NaN in a tensor) is allowed.
        required: the key has to be there. An optional field is nullable; left out means null.
    """

    name: str
    dtype: DType = "float32"
    unit: str = ""
    categories: tuple[str, ...] = ()
    nullable: bool = False
    required: bool = True

    def __post_init__(self) -> None:
        if not self.name or self.dtype not in _DTYPES:
            raise SchemaError(f"field {self.name!r} has dtype {self.dtype!r}; allowed are {', '.join(_DTYPES)}")
        if (self.dtype == "category") != bool(self.categories):
            raise SchemaError(f"field {self.name!r}: exactly the category fields list their categories")
        if len(set(self.categories)) != len(self.categories):
            raise SchemaError(f"field {self.name!r} lists a category twice")
        if not self.required and not self.nullable:
            raise SchemaError(f"field {self.name!r} is optional, so it has to be nullable")

    @cached_property
    def codes(self) -> dict[object, float]:
        """Category to code; null has the code NaN where it is allowed."""
        codes: dict[object, float] = {category: float(code) for code, category in enumerate(self.categories)}
        return codes | {None: float("nan")} if self.nullable else codes

    @property
    def limits(self) -> tuple[float, float] | None:
        """Least and greatest whole number; None for a feature that need not be whole."""
        if self.dtype == "float32":
            return None
        return (0.0, len(self.categories) - 1.0) if self.categories else (-float(_INT_MAX), float(_INT_MAX))


def require_length(field: Field, column: Column | None, rows: int) -> None:
    """Make sure that a column is there if it has to be, and is as long as it should be: NumPy would repeat a single value.

    Args:
        field: the feature.
        column: its values; None where the column is missing.
        rows: wanted number of values.

    Raises:
        InvalidInputError: names the column.
    """
    if column is None and field.required:
        raise InvalidInputError(f"the column {field.name!r} is missing", field=field.name)
    if column is not None and len(column) != rows:
        raise InvalidInputError(f"the column {field.name!r} has {len(column)} values; needed are {rows}", field=field.name)


def encode_column(field: Field, column: Column) -> NDArray[Any]:
    """Turn one column into numbers.

    Args:
        field: the feature.
        column: n values, None or NaN where missing.

    Returns:
        Shape (n,): float32 or float64; whether they suit the feature is checked with the whole matrix.

    Raises:
        InvalidInputError: a value that is no number or no known category; names the row.
    """
    if field.dtype != "category":
        if isinstance(column, DictionaryColumn):
            raise InvalidInputError(f"feature {field.name!r} is text; a number is needed", field=field.name)
        return _encode_numbers(field, column)
    if isinstance(column, DictionaryColumn):
        return _encode_dictionary(field, column)
    return _encode_categories(field, column)


def is_clearly_clean(field: Field, column: Column, values: NDArray[Any]) -> bool:
    """Whether a column needs no check with the whole matrix, which costs several passes over it.

    Args:
        field: the feature.
        column: as it was given.
        values: what `encode_column` made of it.

    Returns:
        True only if every value suits the feature; false where that is not seen at a glance.
    """
    if isinstance(column, DictionaryColumn):
        # Unknown values have been refused, and missing ones too where the feature does not allow them.
        return True
    if not len(values):
        return True
    if field.limits:
        lowest, highest = field.limits
        is_whole = isinstance(column, np.ndarray) and column.dtype.kind in "iu"
        return is_whole and bool(lowest <= column.min() and column.max() <= highest)  # type: ignore[union-attr]
    if field.nullable:
        return not bool(np.isinf(values).any())
    return bool(np.isfinite(values.sum(dtype=np.float64)))


def mark_column(field: Field, column: NDArray[Any] | DictionaryColumn) -> NDArray[np.bool_]:
    """Find the values of a column that the feature does not allow.

    Args:
        field: the feature.
        column: n values as a file holds them: numbers, NaN where missing, or a dictionary.

    Returns:
        Shape (n,), true where the value is not allowed.
    """
    if isinstance(column, DictionaryColumn):
        allowed = [*(_has_code(field, value) for value in column.values), field.nullable]
        refused: NDArray[np.bool_] = ~np.array(allowed, dtype=np.bool_)[column.codes]
        return refused
    with np.errstate(over="ignore"):
        values = column.astype(np.float32)
    missing = np.isnan(values)
    bad = np.isinf(values) | (missing & (not field.nullable))
    if field.limits:
        lowest, highest = field.limits
        with np.errstate(invalid="ignore"):
            bad |= ~missing & ((values < lowest) | (values > highest) | (np.floor(values) != values))
    return bad


def _encode_dictionary(field: Field, column: DictionaryColumn) -> NDArray[np.float32]:
    null = field.codes.get(None, math.inf)
    # The last entry is what the code -1 finds.
    table = np.array([*(field.codes.get(value, math.inf) for value in column.values), null], dtype=np.float32)
    encoded: NDArray[np.float32] = table[column.codes]
    if np.isinf(table).any() and (bad := np.isinf(encoded)).any():
        row = int(bad.argmax())
        code = int(column.codes[row])
        raise _refused_category(field, row, None if code < 0 else column.values[code])
    return encoded


def _encode_categories(field: Field, column: Sequence[object] | NDArray[Any]) -> NDArray[np.float64]:
    values = column.tolist() if isinstance(column, np.ndarray) else column
    try:
        # Only NaN differs from itself.
        return np.array([field.codes[None if value != value else value] for value in values])  # noqa: PLR0124
    except (KeyError, TypeError):
        row, value = next((r, v) for r, v in enumerate(values) if not _has_code(field, v))
    raise _refused_category(field, row, value)


def _refused_category(field: Field, row: int, value: object) -> InvalidInputError:
    allowed = ", ".join(field.categories[:40]) + (", …" if len(field.categories) > 40 else "")
    return InvalidInputError(
        f"row {row}, feature {field.name!r} is {_shown(value)}; allowed are {allowed}" + (" or null" if field.nullable else ""),
        field=field.name,
        row=row,
    )


def _encode_numbers(field: Field, column: Sequence[object] | NDArray[Any]) -> NDArray[Any]:
    if isinstance(column, np.ndarray) and column.dtype.kind in "fiu":
        with np.errstate(over="ignore"):
            return column.astype(np.float32)
    values = column.tolist() if isinstance(column, np.ndarray) else column
    kinds = set(map(type, values))
    allowed = _NUMBERS | {type(None)} if field.nullable else _NUMBERS
    if not kinds <= allowed:
        row, value = next((r, v) for r, v in enumerate(values) if type(v) not in allowed)
        raise InvalidInputError(
            f"row {row}, feature {field.name!r} is {_shown(value)}; a number{' or null' if field.nullable else ''} is needed",
            field=field.name,
            row=row,
        )
    try:
        numbers = np.array(values, dtype=np.float64)
    except OverflowError:
        numbers = np.array([_as_float(value) for value in values])
    with np.errstate(over="ignore"):
        return numbers.astype(np.float32)


def _has_code(field: Field, value: object) -> bool:
    if isinstance(value, str):
        return value in field.categories
    return field.nullable and (value is None or (isinstance(value, float) and math.isnan(value)))


def _as_float(value: object) -> float:
    """A number as float64; an integer beyond float64 is infinite, which the caller refuses."""
    try:
        return math.nan if value is None else float(value)  # type: ignore[arg-type]
    except OverflowError:
        return math.inf


def _shown(value: object) -> str:
    """A value from outside, short enough to be put into a message."""
    return f"{json_type(value)} {str(value)[:40]!r}" if isinstance(value, (str, int, float)) else json_type(value)


def json_type(value: object) -> str:
    """What a value from outside is called in a message."""
    names = {type(None): "null", bool: "a boolean", str: "the string", dict: "an object", list: "an array"}
    return names.get(type(value), "the number" if isinstance(value, (int, float)) else "not a JSON value")
