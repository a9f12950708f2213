"""Watches a candidate while it answers consumers: what the edge counts, and what the two sides have answered.

The log's evidence is counted again by whoever resumes the release. What the edge counts is gathered from nothing by each watch.
"""

import time
from collections import deque
from collections.abc import Callable

from hotcold.adapters.canary_answers import LiveCanary
from hotcold.domain.canary.judgement import edge_errors_test, judge
from hotcold.domain.canary.limits import CanaryLimits
from hotcold.domain.canary.spans import CLOCKS_S, Span
from hotcold.domain.edge import cluster_name
from hotcold.domain.edge_counters import ClusterCounters
from hotcold.domain.gate import Gate
from hotcold.domain.release import Release
from hotcold.settings import Settings
from tasks.edge_shares import EdgeShare
from tasks.shadow_watch import comparison_job
from tasks.watching import SHARE, EvidenceThread, Look, doubtful

# Answers at the edge without any in the log for longer than this, and the log is not what it was.
_SILENCE_S = 20.0
# Log and edge are compared over this time, up to a moment from which the edge has all answers for certain.
_COMPARED_S, _COUNTED_AFTER_S = 120.0, 12.0
# The log has a request twice that the edge has sent to a second replica.
_TOLERATED_SHARE, _TOLERATED = 0.05, 10

Spans = Callable[[], tuple[Span, ...]]


class CanaryWatch:
    """Gathers evidence in a thread until it is closed. A new watch gathers it again from the log.

    Args:
        settings: where log, labels and database are.
        release: that gives its candidate a share of the live requests.
        spans: when the edge gave which share so far, by time; the last one may be open.
        clock: seconds since the epoch.
        limits: what is tolerated beyond the limits of the plan; None for the defaults.
    """

    def __init__(
        self,
        settings: Settings,
        release: Release,
        spans: Spans,
        clock: Callable[[], float] = time.time,
        limits: CanaryLimits | None = None,
    ) -> None:
        self._job = comparison_job(settings, release)
        self._limits = limits or CanaryLimits()
        self._spans, self._clock = spans, clock
        self._failures = FailureCount(settings, release, spans, clock)
        looks = (Look(self._failures.look, self._failures.doubt), Look(self.compare, self.doubt, SHARE))
        self._thread = EvidenceThread("canary watch", looks)
        self._live = LiveCanary(self._job, self._limits, self._thread.is_stopped)
        self._compared: tuple[Gate, ...] = ()
        self.requests = 0

    @property
    def gates(self) -> tuple[Gate, ...]:
        """Verdicts so far; none once nobody looks any more."""
        return (self._failures.gate, *self._compared) if self._thread.is_alive else ()

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._thread.close()
        self._failures.close()

    def doubt(self, reason: str) -> None:
        """Take back what was SAFE by the log, until there is a look again."""
        self._compared = tuple(doubtful(gate, reason) for gate in self._compared)

    def compare(self) -> None:
        """Count what has settled in the log, and judge all of it."""
        now, spans = self._clock(), self._spans()
        counts = self._live.look(spans, now)
        self.requests = self._live.asked_in(spans[-1]) if spans else 0
        gates, reason = judge(counts, self._job.limits, self._limits).gates, self._contradiction(now)
        # At once, so that nobody sees them SAFE in between.
        self._compared = tuple(doubtful(gate, reason) for gate in gates) if reason else gates

    def _contradiction(self, now: float) -> str:
        """Why log and edge cannot both be right; empty if they can."""
        if self._failures.counted_at > max(self._live.last_answer_s, self._failures.since_s) + _SILENCE_S:
            return f"the edge counts answers of the candidate, but for {_SILENCE_S:g} s none came into the log"
        since_s, counted = self._failures.counted_lately()
        logged = self._live.asked_between(since_s + CLOCKS_S, now - _COUNTED_AFTER_S)
        if logged <= counted * (1 + _TOLERATED_SHARE) + _TOLERATED:
            return ""
        reason = f"the log has {logged:,} answers of the candidate in a time in which the edge counted {counted:,}"
        # What it counted of failures meanwhile is worth as little.
        self._failures.begin_anew(reason)
        return reason


class FailureCount(EdgeShare):
    """Answers of the candidate that failed at the edge, also those that no replica gave; only while a share is confirmed.

    Args:
        settings: where the database is.
        release: that gives its candidate a share of the live requests.
        spans: see CanaryWatch.
        clock: seconds since the epoch.
    """

    def __init__(self, settings: Settings, release: Release, spans: Spans, clock: Callable[[], float] = time.time) -> None:
        cluster, test = cluster_name(release.model, release.slot), edge_errors_test(release.plan.limits)
        super().__init__(settings, release.model, cluster, test, _failed, clock)
        self._spans = spans
        self._span: Span | None = None
        self._lately: deque[tuple[float, int]] = deque()
        self.since_s = clock()

    def look(self) -> None:
        """Count what came since the last look under the same share. Raises as in EdgeShare."""
        spans = self._spans()
        span = spans[-1] if spans and spans[-1].until_s is None else None
        if span != self._span:
            # Of what came since the last mark, nobody knows under which share.
            self._span, self._mark = span, None
        if span is not None:
            super().look()

    def _read(self) -> ClusterCounters | None:
        before = self._mark
        try:
            came = super()._read()
        finally:
            if self._mark is None:
                self._lately.clear()
        now = self._clock()
        if before is None:
            self.since_s = now
            self._lately = deque([(now, 0)])
        elif came is not None:
            self._lately.append((now, self._lately[-1][1] + sum(count for _, count in came.codes)))
            while self._lately[0][0] < now - _COMPARED_S:
                self._lately.popleft()
        return came

    def counted_lately(self) -> tuple[float, int]:
        """Since when, seconds since the epoch, and how many answers the edge has counted; if it does not, since infinity."""
        if not self._lately:
            return float("inf"), 0
        return self._lately[0][0], self._lately[-1][1] - self._lately[0][1]

    def begin_anew(self, reason: str) -> None:
        """Forget what was counted.

        Args:
            reason: why it is worth nothing.
        """
        self._forget()
        self.gate = Gate(self.gate.name, self.gate.verdict, f"{self.gate.observed}: {reason}", self.gate.limit)


def _failed(came: ClusterCounters) -> tuple[int, int]:
    return came.failed, came.asked
