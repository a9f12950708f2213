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
        run: names the requests, so that labels can be given to them: the nth has the id `<run>-<n>`. Empty: the edge gives ids.

    Raises:
        TrainingError: the flights cannot be read.
    """

    def __init__(self, model: str, first_day: date, last_day: date, most: int = 20_000, run: str = "") -> None:
        flights = read_flights().between(first_day, last_day).arrived().take(slice(most))
        self._path = f"/models/{model}/predict"
        self._bodies = [orjson.dumps({"records": [record]}) for record in feature_records(flights)]
        self._entities = entity_ids(flights)
        self._run = run
        self._labels = late_labels(flights)

    def __len__(self) -> int:
        return len(self._bodies)

    def request(self, index: int) -> tuple[str, Mapping[str, str], bytes]:
        """Path, headers and body of the nth request."""
        flight = index % len(self)
        headers = {"content-type": "application/json", "x-entity-id": self._entities[flight]}
        if self._run:
            headers["x-request-id"] = self.request_id(index)
        return self._path, headers, self._bodies[flight]

    def request_id(self, index: int) -> str:
        """Id of the nth request of a run that has a name."""
        return f"{self._run}-{index}"

    def entity(self, index: int) -> str:
        """The flight of the nth request."""
        return self._entities[index % len(self)]

    def label(self, index: int) -> int:
        """1 if the flight of the nth request arrived late, else 0."""
        return int(self._labels[index % len(self)])
