"""Flights as tables that an airline could hand in for scoring: an id, the day, and what is known before departure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hotcold.adapters.flights import read_flights
from hotcold.domain.flights import FLIGHTS_SCHEMA, Flights, feature_columns, flight_ids

ID_COLUMN, DAY_COLUMN = "flight_id", "day"
_ROW_GROUP_ROWS = 250_000
_ARROW_TYPES = {"float32": pa.float32(), "int32": pa.int32(), "category": pa.string()}


def write_schedule(path: Path, first_day: date, last_day: date) -> int:
    """Write the real schedule of some days, cancelled flights included, as one Parquet file.

    Args:
        path: the file; its folder is made.
        first_day: first day of departure.
        last_day: last day of departure.

    Returns:
        Number of flights.

    Raises:
        TrainingError: the flights cannot be read.
    """
    flights = read_flights().between(first_day, last_day)
    ids = {ID_COLUMN: pa.array(flight_ids(flights)), DAY_COLUMN: pa.array(np.datetime_as_string(flights.day).tolist())}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(ids | _features(flights)), path)
    return len(flights)


def write_bootstrapped(path: Path, rows: int, seed: int = 0) -> None:
    """Write rows drawn from all flights of the year, with replacement, each with an id of its own.

    Args:
        path: the Parquet file; its folder is made.
        rows: how many.
        seed: of the draw.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    batches = _bootstrap(rows, seed)
    first = next(batches)
    with pq.ParquetWriter(path, first.schema) as writer:
        writer.write_table(first)
        for batch in batches:
            writer.write_table(batch)


def _bootstrap(rows: int, seed: int) -> Iterator[pa.Table]:
    flights = read_flights()
    random = np.random.default_rng(seed)
    # Encoded once, so that drawing copies small numbers and not texts.
    year = pa.table({name: _encoded(column) for name, column in _features(flights).items()})
    plain = pa.schema([(name, _plain(year.schema.field(name).type)) for name in year.column_names])
    for start in range(0, rows, _ROW_GROUP_ROWS):
        count = min(_ROW_GROUP_ROWS, rows - start)
        drawn = year.take(pa.array(random.integers(0, len(flights), count))).cast(plain)
        yield drawn.add_column(0, ID_COLUMN, pa.array(np.arange(start, start + count, dtype=np.int64)))


def _features(flights: Flights) -> dict[str, pa.Array]:
    columns = feature_columns(flights)
    return {
        field.name: pa.array(columns[field.name], _ARROW_TYPES[field.dtype], from_pandas=True)
        for field in FLIGHTS_SCHEMA.fields
    }


def _encoded(column: pa.Array) -> pa.Array:
    return column.dictionary_encode() if pa.types.is_string(column.type) else column


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind
