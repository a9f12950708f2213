"""Brings what this node's Envoy counts into the release database, where whoever judges a release finds it.

A thread beside the agent's loop, so that an Envoy that hangs or a database that is locked never holds replicas and traffic up.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Protocol

from hotcold.adapters.counter_database import CounterDatabase
from hotcold.adapters.edge_stats import EdgeStats
from hotcold.domain.edge_counters import Reading, Running, begin, go_on
from hotcold.domain.errors import DatabaseError, EvidenceError
from hotcold.settings import Settings

_LOG = logging.getLogger("hotcold.agent")
_INTERVAL_S = 1.0


class Stats(Protocol):
    """Envoy's counters."""

    def read(self) -> Reading | None:
        """What Envoy has counted since it started; None while it does not answer."""
        ...


class Sums(Protocol):
    """Where the sums are kept."""

    def prepare(self) -> None:
        """Create what is missing."""
        ...

    def read_running(self, node: str) -> dict[str, Running]:
        """A node's sums by cluster."""
        ...

    def write_running(self, node: str, changed: Mapping[str, Running]) -> None:
        """Write the sums that have changed."""
        ...


class EdgeCounting:
    """Adds up what Envoy counts. Trouble is logged once; the next second tries again.

    Args:
        stats: of this node's Envoy.
        sums: in the release database.
        node: this node.
        clock: seconds since the epoch.
    """

    def __init__(self, stats: Stats, sums: Sums, node: str, clock: Callable[[], float] = time.time) -> None:
        self._stats = stats
        self._sums = sums
        self._node = node
        self._clock = clock
        self._series = str(uuid.uuid4())
        self._running: dict[str, Running] | None = None
        self._trouble = ""
        # When the counters were last read and, where they had changed, written, seconds since the epoch; None: never.
        self.counted_at: float | None = None

    def run(self, stopped: threading.Event) -> None:
        """Count each second until told to stop."""
        while not stopped.is_set():
            try:
                self.tick()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next second tries again, and readers see how old this is
                self._report(repr(error))
            stopped.wait(_INTERVAL_S)

    def tick(self) -> None:
        """Count once."""
        try:
            reading = self._stats.read()
            if reading is not None:
                self._count(reading)
        except (DatabaseError, EvidenceError) as error:
            self._report(str(error))
            return
        self._report("Envoy does not answer" if reading is None else "")

    def _count(self, reading: Reading) -> None:
        known = self._read_running() if self._running is None else self._running
        # What Envoy counted before this node's count began belongs to nobody.
        is_first = self._running is None and not known
        running = begin(self._series, reading) if is_first else go_on(known, reading, self._series)
        changed = {cluster: one for cluster, one in running.items() if one != known.get(cluster)}
        if changed:
            self._sums.write_running(self._node, changed)
        # Taken over only when it is written: what was not will be counted again from where the last row stands.
        self._running = running
        self.counted_at = self._clock()

    def _read_running(self) -> dict[str, Running]:
        self._sums.prepare()
        return self._sums.read_running(self._node)

    def _report(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            _LOG.error("the edge's counters are not read", extra={"reason": trouble})
        self._trouble = trouble


def start_edge_counting(settings: Settings, admin_port: int, stopped: threading.Event) -> EdgeCounting:
    """Start the thread; it ends soon after `stopped` is set, and with the process in any case."""
    counting = EdgeCounting(EdgeStats(admin_port), CounterDatabase(settings.release_database_url), settings.node)
    threading.Thread(target=counting.run, args=(stopped,), name="counting", daemon=True).start()
    return counting
