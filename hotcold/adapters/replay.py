"""Real flights as live requests, in the order in which they were scheduled."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import orjson

from hotcold.adapters.flights import read_flights
from hotcold.domain.flights import entity_ids, feature_records, late_labels


class FlightReplay:
    """Flights that arrived, between two days. When the last was sent, it begins again.

    Args:
        model: registered model name.
        first_day: first day of departure.
        last_day: last day of departure.
        most: at most so many flights.

    Raises:
        TrainingError: the flights cannot be read.
    """

    def __init__(self, model: str, first_day: date, last_day: date, most: int = 20_000) -> None:
        flights = read_flights().between(first_day, last_day).arrived().take(slice(most))
        self._path = f"/models/{model}/predict"
        self._bodies = [orjson.dumps({"records": [record]}) for record in feature_records(flights)]
        self._entities = entity_ids(flights)
        self._labels = late_labels(flights)

    def __len__(self) -> int:
        return len(self._bodies)

    def request(self, index: int) -> tuple[str, Mapping[str, str], bytes]:
        """Path, headers and body of the nth request."""
        flight = index % len(self)
        headers = {"content-type": "application/json", "x-entity-id": self._entities[flight]}
        return self._path, headers, self._bodies[flight]

    def label(self, index: int) -> int:
        """1 if the flight of the nth request arrived late, else 0."""
        return int(self._labels[index % len(self)])
