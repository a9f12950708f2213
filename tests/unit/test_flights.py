"""Flights: features known before departure, labels, entities and records, on literal rows."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from datetime import date
from typing import Any

import numpy as np
import pytest

from hotcold.domain.errors import TrainingError
from hotcold.domain.flights import (
    FLIGHTS_SCHEMA,
    WEATHER_UNITS,
    Flights,
    encode,
    entity_ids,
    feature_columns,
    feature_records,
    labelled,
    late_labels,
    same_key_counts,
    weather_features,
)

NAN = math.nan
WEATHER = [39.02, 28.04, 64.43, 260.0, 12.66, NAN, 0.0, 1011.9, 10.0, 0.5, -0.4]
FLIGHTS = Flights(
    day=np.array(["2013-01-01", "2013-01-07"], dtype="datetime64[D]"),
    departure_minute=np.array([315, 1439], dtype=np.int32),
    arrival_minute=np.array([499, 20], dtype=np.int32),
    carrier=np.array(["UA", "B6"], dtype=object),
    number=np.array([1545, 7], dtype=np.int32),
    origin=np.array(["EWR", "JFK"], dtype=object),
    dest=np.array(["IAH", "BQN"], dtype=object),
    distance=np.array([1400.0, 1576.0]),
    departures_in_hour=np.array([2, 30], dtype=np.int32),
    departures_in_day=np.array([305, 297], dtype=np.int32),
    weather=np.array([WEATHER, [NAN] * len(WEATHER)]),
    arrival_delay_min=np.array([15.0, 16.0]),
)


def test_the_features_of_a_flight() -> None:
    """The 1st of January 2013 was a Tuesday, the 7th a Monday."""
    first, second = feature_records(FLIGHTS)
    assert {
        "day_of_week": 1,
        "departure_minute": 315,
        "arrival_minute": 499,
        "distance": 1400.0,
        "carrier": "UA",
        "origin": "EWR",
        "dest": "IAH",
        "departures_in_hour": 2,
        "departures_in_day": 305,
        "temp": 39.02,
        "dewp": 28.04,
        "humid": 64.43,
        "wind_dir": 260.0,
        "wind_speed": 12.66,
        "wind_gust": None,
        "precip": 0.0,
        "pressure": 1011.9,
        "visib": 10.0,
        "precip_3h": 0.5,
        "pressure_change_3h": -0.4,
    } == first
    assert (0, 1439, 20, "BQN") == tuple(second[n] for n in ("day_of_week", "departure_minute", "arrival_minute", "dest"))
    assert {None} == {second[name] for name in WEATHER_UNITS}


def test_features_and_schema_name_the_same_columns_in_the_same_order() -> None:
    assert FLIGHTS_SCHEMA.names == tuple(feature_columns(FLIGHTS))


def test_a_record_sent_to_the_endpoint_is_encoded_as_in_training() -> None:
    np.testing.assert_array_equal(encode(FLIGHTS), FLIGHTS_SCHEMA.encode_records(feature_records(FLIGHTS)))


def test_what_happened_after_the_scheduled_departure_never_becomes_a_feature() -> None:
    """No such name in the schema, no such column in the table but the label, and the label changes no feature."""
    leaks = {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "arrival_delay_min", "late"}
    assert not leaks & set(FLIGHTS_SCHEMA.names)
    assert {"arrival_delay_min"} == leaks & {field.name for field in fields(Flights)}
    other = replace(FLIGHTS, arrival_delay_min=np.array([500.0, NAN]))
    np.testing.assert_array_equal(encode(FLIGHTS), encode(other))


def test_late_means_more_than_fifteen_minutes() -> None:
    assert [0, 1] == late_labels(FLIGHTS).tolist()


def test_a_flight_that_never_arrived_has_no_label() -> None:
    cancelled = replace(FLIGHTS, arrival_delay_min=np.array([NAN, 16.0]))
    with pytest.raises(TrainingError, match="1 of 2 flights never arrived"):
        late_labels(cancelled)
    assert ([1], 1) == (labelled(cancelled.arrived()).labels.tolist(), len(cancelled.arrived()))


def test_an_entity_is_a_flight_number_of_a_carrier() -> None:
    assert ["UA1545", "B67"] == entity_ids(FLIGHTS)


@pytest.mark.parametrize(
    ("first", "last", "count"),
    [(date(2013, 1, 1), date(2013, 1, 7), 2), (date(2013, 1, 2), date(2013, 1, 7), 1), (date(2013, 1, 2), date(2013, 1, 6), 0)],
)  # fmt: skip
def test_a_window_includes_both_its_days(first: date, last: date, count: int) -> None:
    assert count == len(FLIGHTS.between(first, last))


def test_no_flights_make_an_empty_matrix() -> None:
    assert (0, len(FLIGHTS_SCHEMA.fields)) == encode(FLIGHTS.take(slice(0, 0))).shape


def test_rows_with_the_same_key_are_counted() -> None:
    assert [2, 1, 2] == same_key_counts(np.array([5, 7, 5])).tolist()


def grid(**readings: list[float]) -> dict[str, Any]:
    hours = len(next(iter(readings.values())))
    names = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
    return {name: np.array([readings.get(name, [0.0] * hours)]) for name in names}


def column(name: str, features: Any) -> Any:
    return features[0, :, list(WEATHER_UNITS).index(name)]


def test_recent_rain_sums_this_hour_and_the_two_before() -> None:
    """An hour that was not read counts as dry, unless none of the three was read."""
    features = weather_features(grid(precip=[0.5, 0.25, 0.0, 1.0, NAN, NAN, NAN]))
    np.testing.assert_array_equal([0.5, 0.75, 0.75, 1.25, 1.0, 1.0, NAN], column("precip_3h", features))


def test_the_pressure_is_compared_with_three_hours_before() -> None:
    features = weather_features(grid(pressure=[1010.0, 1011.0, NAN, 1013.5, 1010.7]))
    np.testing.assert_array_equal([NAN, NAN, NAN, 3.5, -0.3], column("pressure_change_3h", features))


def test_an_impossible_wind_is_taken_for_missing() -> None:
    """EWR once reported 1,048 mph."""
    features = weather_features(grid(wind_speed=[1048.4, 40.0]))
    np.testing.assert_array_equal([NAN, 40.0], column("wind_speed", features))
