"""What a reader of input files is asked for, and what it gives: rows as Arrow, and what is wrong with some of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from hotcold.adapters.arrow_columns import require_columns
from hotcold.domain.batch_plan import Columns, FileFormat
from hotcold.domain.errors import BadInputError
from hotcold.domain.field import Field
from hotcold.domain.schema import Schema


@dataclass(frozen=True)
class Wanted:
    """What is read of each file.

    Args:
        schema: features of the model; None where there are none, and all columns of a CSV file are texts.
        columns: id and columns to pass through.
        format: of the files.
        with_features: read them; if not, only make sure that they are there.
    """

    schema: Schema | None
    columns: Columns
    format: FileFormat
    with_features: bool = True

    @property
    def fields(self) -> tuple[Field, ...]:
        """Features of the model."""
        return self.schema.fields if self.schema else ()

    @property
    def names(self) -> frozenset[str]:
        """Columns to read."""
        features = (field.name for field in self.fields) if self.with_features else ()
        return frozenset(self.columns.names) | frozenset(features)

    @property
    def categories(self) -> list[str]:
        """Features that hold text."""
        return [field.name for field in self.fields if field.dtype == "category"]

    def require(self, found: pa.Schema, url: str) -> None:
        """Make sure that a file has all these columns, each once, and the features in types that can hold them.

        Raises:
            BadInputError: the id or a column to pass through is missing or there twice.
            InvalidInputError: see `require_columns`.
        """
        for name in self.columns.names:
            if name not in found.names:
                raise BadInputError(
                    f"{url} lacks the column {name!r}; needed are {', '.join(self.columns.names)}, and it has "
                    f"{', '.join(found.names[:40])}"
                )
            if found.names.count(name) > 1:
                raise BadInputError(f"{url} has the column {name!r} twice; nobody can say which of them is meant")
        if self.schema:
            require_columns(found, self.schema)


@dataclass(frozen=True, eq=False)
class RowBatch:
    """Rows that follow one another in a file, in order and without gaps.

    Args:
        rows: all of them; of those that cannot be read, what could be, else nulls.
        faults: why a row cannot be read, by its number in `rows`; of Parquet files, rows are read or the whole piece is not.
    """

    rows: pa.RecordBatch
    faults: Mapping[int, str] = field(default_factory=dict)
