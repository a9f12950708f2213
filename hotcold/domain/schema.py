"""The feature schema that training, batch scoring and serving share, and the one function that encodes rows with it.

A model sees a float32 matrix with one column per field, in schema order. A missing value is NaN; a category is its index in
the field's list. Two schemas are compatible when every request that suits the old one suits the new one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hotcold.domain.errors import InvalidInputError, SchemaError
from hotcold.domain.field import (
    Column,
    DictionaryColumn,
    Field,
    encode_column,
    is_clearly_clean,
    json_type,
    mark_column,
    require_length,
)

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Schema:
    """The ordered features of a model. Optional fields come last, so that a tensor without them is a prefix."""

    fields: tuple[Field, ...]

    def __post_init__(self) -> None:
        if not self.fields:
            raise SchemaError("a schema needs at least one field")
        if len(set(self.names)) != len(self.fields):
            raise SchemaError("a field is listed twice")
        required = [field.required for field in self.fields]
        if required != sorted(required, reverse=True):
            raise SchemaError("an optional field comes before a required one; append optional fields at the end")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Field names in column order."""
        return tuple(field.name for field in self.fields)

    @cached_property
    def required_names(self) -> frozenset[str]:
        """Names that every record has to carry."""
        return frozenset(field.name for field in self.fields if field.required)

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.names)

    @cached_property
    def _not_nullable(self) -> NDArray[np.bool_]:
        return np.array([not field.nullable for field in self.fields])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON, in hexadecimal."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """The schema as plain JSON values."""
        return {"fields": [{**asdict(field), "categories": list(field.categories)} for field in self.fields]}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Schema:
        """Inverse of `to_json`.

        Raises:
            SchemaError: unknown or missing keys, or a schema that contradicts itself.
        """
        try:
            return cls(tuple(Field(**{**entry, "categories": tuple(entry["categories"])}) for entry in document["fields"]))
        except (KeyError, TypeError) as error:
            raise SchemaError(f"not a feature schema: {error}") from error

    def encode_records(self, records: Sequence[object]) -> Matrix:
        """Encode JSON records, for instance `{"distance": 1089, "carrier": "UA"}`.

        Args:
            records: n objects, each with all required fields and no unknown ones.

        Returns:
            Matrix of shape (n, len(fields)), float32.

        Raises:
            InvalidInputError: names the record and the field at fault.
        """
        for row, record in enumerate(records):
            if not isinstance(record, dict):
                raise InvalidInputError(f"record {row} is {json_type(record)}; an object is needed", row=row)
            if record.keys() != self._known:
                self._check_keys(row, record.keys())
        columns = {name: [record.get(name) for record in records] for name in self.names}  # type: ignore[attr-defined]
        return self.encode_columns(columns, len(records))

    def _check_keys(self, row: int, keys: Any) -> None:
        if missing := sorted(self.required_names - keys):
            raise InvalidInputError(
                f"record {row} lacks the feature {missing[0]!r}; needed are {', '.join(self.names)}", field=missing[0], row=row
            )
        if extra := sorted(map(str, keys - self._known)):
            raise InvalidInputError(
                f"record {row} has the unknown feature {extra[0][:80]!r}; known are {', '.join(self.names)}",
                field=extra[0][:80],
                row=row,
            )

    def encode_columns(self, columns: Mapping[str, Column], rows: int, order: Literal["C", "F"] = "C") -> Matrix:
        """Encode columns of equal length; the one way from values to the matrix, for training, batch and serving.

        Args:
            columns: for each field name a sequence of `rows` values, None or NaN where missing.
            rows: number of rows.
            order: how the matrix lies in memory, row after row (C) or feature after feature (F), which is filled three times as
                fast.

        Returns:
            Matrix of shape (rows, len(fields)), float32; in C order whenever each value had to be checked.

        Raises:
            InvalidInputError: names the row and the field at fault.
        """
        matrix = np.empty((rows, len(self.fields)), dtype=np.float32, order=order)
        is_clean = True
        for index, field in enumerate(self.fields):
            column = columns.get(field.name)
            require_length(field, column, rows)
            if column is None:
                matrix[:, index] = np.nan
            else:
                values = encode_column(field, column)
                matrix[:, index] = values
                is_clean = is_clean and is_clearly_clean(field, column, values)
        return matrix if is_clean else self.check_matrix(matrix)

    def find_bad_rows(self, columns: Mapping[str, NDArray[Any] | DictionaryColumn], rows: int) -> NDArray[np.intp]:
        """Find the rows that `encode_columns` would refuse.

        Args:
            columns: as for `encode_columns`, as a file holds them.
            rows: number of rows.

        Returns:
            Shape (rows,): index of the first feature at fault, -1 where the row is fine.
        """
        first_bad = np.full(rows, -1, dtype=np.intp)
        for index, field in enumerate(self.fields):
            if (column := columns.get(field.name)) is not None:
                first_bad[(first_bad < 0) & mark_column(field, column)] = index
        return first_bad

    def check_matrix(self, matrix: NDArray[Any]) -> Matrix:
        """Check a float matrix against the schema; optional trailing columns may be left out.

        Args:
            matrix: shape (n, k) with `len(required) <= k <= len(fields)`.

        Returns:
            Matrix of shape (n, len(fields)), float32, C-contiguous.

        Raises:
            InvalidInputError: wrong shape, infinity, NaN where null is not allowed, or an unknown category code.
        """
        least, most = len(self.required_names), len(self.fields)
        if matrix.ndim != 2 or not least <= matrix.shape[1] <= most:
            allowed = f"{most}" if least == most else f"{least} to {most}"
            raise InvalidInputError(f"the input has shape {list(matrix.shape)}; needed is [rows, {allowed}]")
        with np.errstate(over="ignore"):
            matrix = np.ascontiguousarray(matrix, dtype=np.float32)
        if matrix.shape[1] < most:
            padding = np.full((len(matrix), most - matrix.shape[1]), np.nan, dtype=np.float32)
            matrix = np.hstack([matrix, padding])
        # One pass decides the usual case: a finite sum has neither NaN nor infinity in it.
        with np.errstate(invalid="ignore"):
            total = matrix.sum(dtype=np.float64)
        if not np.isfinite(total):
            self._check_finite(matrix)
        self._check_ranges(matrix)
        return matrix

    def _check_finite(self, matrix: Matrix) -> None:
        if (bad := np.isinf(matrix)).any():
            self._refuse(bad, "is infinite or beyond float32; a finite number is needed")
        if (bad := np.isnan(matrix) & self._not_nullable).any():
            self._refuse(bad, "is null or NaN, which this feature does not allow")

    @cached_property
    def _limits(self) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]]:
        """Columns that hold whole numbers, with the least and greatest value of each."""
        whole = [(index, field.limits) for index, field in enumerate(self.fields) if field.limits]
        return (
            np.array([index for index, _ in whole], dtype=np.intp),
            np.array([lowest for _, (lowest, _) in whole], dtype=np.float32),
            np.array([highest for _, (_, highest) in whole], dtype=np.float32),
        )

    def _check_ranges(self, matrix: Matrix) -> None:
        columns, lows, highs = self._limits
        if not len(columns):
            return
        whole = matrix[:, columns]
        wrong = (whole < lows) | (whole > highs) | (np.floor(whole) != whole) & ~np.isnan(whole)
        if wrong.any():
            bad = np.zeros(matrix.shape, dtype=np.bool_)
            bad[:, columns] = wrong
            self._refuse(bad, "is not a whole number in the range of this feature")

    def _refuse(self, bad: NDArray[np.bool_], why: str) -> None:
        row, column = (int(index) for index in np.argwhere(bad)[0])
        name = self.fields[column].name
        raise InvalidInputError(f"row {row}, feature {name!r} {why}", field=name, row=row)


def breaking_changes(old: Schema, new: Schema) -> tuple[str, ...]:
    """Why a request that suits `old` may not suit `new`; empty if every such request does.

    A field keeps its position, dtype, unit and category codes; it may gain categories and become nullable. New fields are
    optional, so they stand at the end.

    Args:
        old: the schema that callers know.
        new: the schema of the next version.

    Returns:
        One sentence per break, in column order.
    """
    breaks = []
    for index, before in enumerate(old.fields):
        if index >= len(new.fields) or new.fields[index].name != before.name:
            where = "removed" if before.name not in new.names else "moved to another position"
            breaks.append(f"{before.name} was {where}")
            continue
        after = new.fields[index]
        if after.dtype != before.dtype or after.unit != before.unit:
            breaks.append(f"{before.name} was {before.dtype} [{before.unit}] and is {after.dtype} [{after.unit}]")
        if after.categories[: len(before.categories)] != before.categories:
            breaks.append(f"{before.name} lost or reordered categories")
        if before.nullable and not after.nullable:
            breaks.append(f"{before.name} no longer allows null")
        if after.required and not before.required:
            breaks.append(f"{before.name} is now required")
    breaks += [f"{field.name} is new and required" for field in new.fields if field.required and field.name not in old.names]
    return tuple(breaks)
