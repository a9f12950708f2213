"""Brings what this node's Envoy counts into the release database, where whoever judges a release finds it."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from hotcold.domain.edge import cluster_name, shadow_name
from hotcold.domain.edge_counters import Reading, Running, begin, go_on
from hotcold.domain.errors import DatabaseError, EvidenceError
from hotcold.domain.serving import Slot

_LOG = logging.getLogger("hotcold.agent")
_INTERVAL_S = 1.0


class Stats(Protocol):
    """Envoy's counters."""

    def read(self) -> Reading | None:
        """What Envoy has counted since it started; None while it does not answer."""
        ...


class Sums(Protocol):
    """Where the sums are kept."""

    def read_running(self, node: str) -> dict[str, Running]:
        """A node's sums by cluster."""
        ...

    def write_running(self, node: str, changed: Mapping[str, Running]) -> None:
        """Write the sums that have changed."""
        ...


class EdgeCounting:
    """Reads the counters each second, and writes those that changed. Trouble is logged once; the next second tries again.

    Args:
        stats: of this node's Envoy.
        sums: in the release database.
        node: this node.
        clock: seconds since the epoch.
        monotonic: seconds on a clock that does not jump.
    """

    def __init__(
        self,
        stats: Stats,
        sums: Sums,
        node: str,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stats = stats
        self._sums = sums
        self._node = node
        self._clock = clock
        self._monotonic = monotonic
        self._series = str(uuid.uuid4())
        self._running: dict[str, Running] | None = None
        self._next_s = 0.0
        self._trouble = ""
        self.counted_at: float | None = None

    def tick(self, models: Collection[str]) -> None:
        """Count, if a second has passed.

        Args:
            models: whose clusters are of interest.
        """
        now_s = self._monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + _INTERVAL_S
        try:
            reading = self._stats.read()
            if reading is not None:
                self._count(_of_models(reading, models))
        except (DatabaseError, EvidenceError) as error:
            self._report(str(error))
            return
        self._report("" if reading else "Envoy does not answer")

    def _count(self, reading: Reading) -> None:
        known = self._sums.read_running(self._node) if self._running is None else self._running
        # What Envoy counted before this node's count began belongs to nobody.
        is_first = self._running is None and not known
        running = begin(self._series, reading) if is_first else go_on(known, reading, self._series)
        changed = {cluster: one for cluster, one in running.items() if one != known.get(cluster)}
        if changed:
            self._sums.write_running(self._node, changed)
        # Taken over only when it is written: what was not will be counted again from where the last row stands.
        self._running = running
        self.counted_at = self._clock()

    def _report(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            _LOG.error("the edge's counters are not read", extra={"reason": trouble})
        self._trouble = trouble


def _of_models(reading: Reading, models: Collection[str]) -> Reading:
    names = {name(model, slot) for model in models for slot in Slot for name in (cluster_name, shadow_name)}
    return Reading(reading.started_at, {name: one for name, one in reading.clusters.items() if name in names})
