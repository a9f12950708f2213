"""Watches a candidate while it gets copies of live requests: what the edge counts, and what the two sides have answered."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from prefect import get_run_logger

from hotcold.adapters.counter_database import CounterDatabase
from hotcold.adapters.release_database import Event
from hotcold.adapters.shadow_comparison import ComparisonJob, LiveComparison
from hotcold.adapters.shadow_pairs import PairSource, first_copy_s
from hotcold.domain.edge import shadow_name
from hotcold.domain.edge_counters import Mark, increments
from hotcold.domain.errors import EvidenceError, first_line
from hotcold.domain.evidence.value_counts import ValueCounts
from hotcold.domain.gate import Gate, Verdict
from hotcold.domain.release import Phase, Release
from hotcold.domain.shadow.comparison import Comparison
from hotcold.domain.shadow.judgement import copies_test, judge
from hotcold.settings import Settings

_LOOK_S = 1.0
# A look may take this share of the time, so that the comparison leaves the cores to whom it watches.
_SHARE = 0.2
# A release that stands there again begins anew.
_BEFORE = (Phase.PACKAGING, Phase.DEPLOYING, Phase.SMOKE)
# Copies without pairs for longer than this, and the log is not what it was.
_SILENCE_S = 20.0


def comparison_job(settings: Settings, release: Release) -> ComparisonJob:
    """What is compared in a release that copies requests.

    Raises:
        EvidenceError: one of the two sides has no package.
    """
    if release.champion is None or release.candidate is None:
        raise EvidenceError(f"release {release.id[:8]} has no champion or no candidate, so there is nothing to compare")
    return ComparisonJob(
        source=PairSource(settings.prediction_dir, release.champion, release.candidate),
        limits=release.plan.limits,
        budget_us=release.plan.latency_budget_ms * 1000,
        labels=settings.label_dir,
    )


def copies_began(events: Sequence[Event]) -> float | None:
    """When a release began to copy requests, without a break since; None if it never did.

    Args:
        events: its story. Being taken over by another controller is no break.
    """
    began = None
    for event in sorted(events, key=lambda event: event.at):
        if event.phase is Phase.SHADOW:
            began = event.at if began is None else began
        elif event.phase is not Phase.CLOSING and event.phase is not Phase.EVALUATED:
            began = None if event.phase in _BEFORE else began
    return began


class ShadowWatch:
    """Gathers evidence in a thread until it is closed. A new watch gathers it again from the log.

    Args:
        settings: where log, labels and database are.
        release: that copies requests.
        entered_s: when it began to, seconds since the epoch.
        clock: seconds since the epoch.
    """

    def __init__(self, settings: Settings, release: Release, entered_s: float, clock: Callable[[], float] = time.time) -> None:
        self._release = release
        self._job = comparison_job(settings, release)
        self._entered_s = entered_s
        self._clock = clock
        self._copies = CopyCount(settings, release, clock)
        self._live: LiveComparison | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shadow watch", daemon=True)
        self._logger = get_run_logger()
        self._told: set[str] = set()
        self._compared: tuple[Gate, ...] = ()
        self._paired_at = 0.0
        self.pairs = 0

    @property
    def gates(self) -> tuple[Gate, ...]:
        """Verdicts so far; none once nobody looks any more."""
        return (self._copies.gate, *self._compared) if self._thread.is_alive() else ()

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._stopped.set()
        if self._thread.ident:
            self._thread.join()
        self._copies.close()

    def _run(self) -> None:
        next_look_s = 0.0
        while not self._stopped.wait(_LOOK_S):
            self._attempt(self._copies.look, self._copies.doubt)
            began = time.monotonic()
            if began >= next_look_s:
                self._attempt(self._compare, self._doubt)
                next_look_s = began + (time.monotonic() - began) / _SHARE

    def _attempt(self, look: Callable[[], None], doubt: Callable[[str], None]) -> None:
        """Look; what goes wrong is told once for each kind, takes what was SAFE back, and the next look tries again."""
        try:
            look()
        except Exception as error:  # noqa: BLE001 - whatever it is, a thread that died would leave its last word behind
            doubt(first_line(error))
            kind = f"{look.__name__} {type(error).__name__}"
            if kind not in self._told:
                self._told.add(kind)
                self._logger.warning("the evidence is not complete: %s", error)

    def _doubt(self, reason: str) -> None:
        self._compared = tuple(doubtful(gate, reason) for gate in self._compared)

    def _compare(self) -> None:
        now = self._clock()
        if self._live is None:
            # Before the first copy there is nothing to compare; requests of that time are not missing.
            first = first_copy_s(self._job.source, self._entered_s, now)
            if first is None:
                return
            self._live = LiveComparison(self._job, first, self._stopped.is_set)
        counts = self._live.look(now)
        if counts.pairs > self.pairs or not self._paired_at:
            self._paired_at = now
        self.pairs = counts.pairs
        self._compared = self._judge(counts)
        if self._copies.copied_at > self._paired_at + _SILENCE_S:
            self._doubt(f"requests are copied, but for {_SILENCE_S:g} s no pair of answers came into the log")

    def _judge(self, counts: Comparison) -> tuple[Gate, ...]:
        plan = self._release.plan
        return judge(counts, plan.limits, all_copied=plan.mirror_pct >= 100).gates


def doubtful(gate: Gate, reason: str) -> Gate:
    """A gate whose evidence does not come any more: what was SAFE is not known now."""
    if gate.verdict is not Verdict.SAFE:
        return gate
    return replace(gate, verdict=Verdict.UNKNOWN, observed=f"{gate.observed}; but now: {reason}")


class CopyCount:
    """Copies that the candidate left unanswered, as the edges count them. What nobody counted is no evidence.

    Args:
        settings: where the database is.
        release: that copies requests.
        clock: seconds since the epoch.
    """

    def __init__(self, settings: Settings, release: Release, clock: Callable[[], float] = time.time) -> None:
        self._database = CounterDatabase(settings.release_database_url)
        self._model = release.model
        self._cluster = shadow_name(release.model, release.slot)
        self._test = copies_test(release.plan.limits)
        self._counts = ValueCounts()
        self._mark: Mark | None = None
        self._clock = clock
        self.copied_at = 0.0
        self.gate = Gate(self._test.signal, Verdict.UNKNOWN, "there is no evidence", f"{release.plan.limits.lost_pct:g} %")

    def look(self) -> None:
        """Count what was copied since the last look that saw a copy.

        Raises:
            DatabaseError: the database cannot be reached.
            EvidenceError: the edges do not count at the moment, or lost count.
        """
        try:
            now = self._database.read_mark(self._model, self._clock())
            came = increments(self._mark, now).get(self._cluster) if self._mark else None
        except EvidenceError:
            # What was counted since the last mark is not known, so nothing of it is evidence.
            self._mark = None
            raise
        if self._mark is None:
            self._mark = now
        if came is None or not came.copied:
            # The mark stays: a copy that was made before it may yet be lost.
            return
        self._mark = now
        self.copied_at = self._clock()
        self._counts = self._counts.merge(self._test.count(np.array([min(came.lost / came.copied, 1.0)])))
        self.gate = self._test.judge(self._counts).to_gate()

    def doubt(self, reason: str) -> None:
        """Take back what was SAFE, until there is a look again."""
        self.gate = doubtful(self.gate, reason)

    def close(self) -> None:
        """Close the connection."""
        self._database.close()
