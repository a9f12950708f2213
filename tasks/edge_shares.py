"""Shares of a slot's requests that went wrong, as the edges count them, look by look. What nobody counted is no evidence."""

import time
from collections.abc import Callable

import numpy as np

from hotcold.adapters.counter_database import CounterDatabase
from hotcold.domain.edge_counters import ClusterCounters, Mark, increments
from hotcold.domain.errors import EvidenceError
from hotcold.domain.evidence.paired_mean import MeanTest
from hotcold.domain.evidence.value_counts import ValueCounts
from hotcold.domain.gate import Gate, Verdict
from hotcold.settings import Settings
from tasks.watching import doubtful


class EdgeShare:
    """One gate that rests on the edges' counters; each look that saw requests is one observation.

    Args:
        settings: where the database is.
        model: registered model name.
        cluster: of the edge, whose counters are read.
        test: of the share.
        count: of what was counted, how many requests went wrong, and of how many.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        settings: Settings,
        model: str,
        cluster: str,
        test: MeanTest,
        count: Callable[[ClusterCounters], tuple[int, int]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = CounterDatabase(settings.release_database_url)
        self._model, self._cluster, self._test, self._count, self._clock = model, cluster, test, count, clock
        self._mark: Mark | None = None
        self.counted_at = 0.0
        self._forget()

    def _forget(self) -> None:
        """Begin to gather evidence from nothing."""
        self._counts = ValueCounts()
        limit = f"{self._test.limit * self._test.per:g} {self._test.unit}"
        self.gate = Gate(self._test.signal, Verdict.UNKNOWN, "there is no evidence", limit)

    def look(self) -> None:
        """Count what came since the last look that saw a request.

        Raises:
            DatabaseError: the database cannot be reached.
            EvidenceError: the edges do not count at the moment, or lost count.
        """
        came = self._read()
        if came is None:
            return
        wrong, of = self._count(came)
        self.counted_at = self._clock()
        self._counts = self._counts.merge(self._test.count(np.array([min(wrong / of, 1.0)])))
        self.gate = self._test.judge(self._counts).to_gate()

    def _read(self) -> ClusterCounters | None:
        """What came since the mark, which is moved; None if no request did.

        Where there was none the mark stays: one that began before it may yet go wrong.
        """
        try:
            now = self._database.read_mark(self._model, self._clock())
            came = increments(self._mark, now).get(self._cluster) if self._mark else None
        except EvidenceError:
            # What was counted since the last mark is not known, so nothing of it is evidence.
            self._mark = None
            raise
        is_new = self._mark is None
        if is_new or (came is not None and self._count(came)[1]):
            self._mark = now
            return came
        return None

    def doubt(self, reason: str) -> None:
        """Take back what was SAFE, until there is a look again."""
        self.gate = doubtful(self.gate, reason)

    def close(self) -> None:
        """Close the connection."""
        self._database.close()
