"""Watches a candidate while it gets copies of live requests: what the edge counts, and what the two sides have answered."""

import threading
import time
from collections.abc import Callable

import numpy as np
from prefect import get_run_logger

from hotcold.adapters.counter_database import CounterDatabase
from hotcold.adapters.shadow_comparison import ComparisonJob, LiveComparison
from hotcold.adapters.shadow_pairs import PairSource, first_copy_s
from hotcold.domain.edge import shadow_name
from hotcold.domain.edge_counters import Mark, increments
from hotcold.domain.errors import EvidenceError, HotcoldError
from hotcold.domain.evidence.value_counts import ValueCounts
from hotcold.domain.gate import Gate, Verdict
from hotcold.domain.release import Release
from hotcold.domain.shadow.comparison import Comparison
from hotcold.domain.shadow.judgement import copies_test, judge
from hotcold.settings import Settings

_LOOK_S = 1.0
# A look may take this share of the time, so that the comparison leaves the cores to whom it watches.
_SHARE = 0.2


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
        self._copies = CopyCount(settings, release)
        self._live: LiveComparison | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shadow watch", daemon=True)
        self._logger = get_run_logger()
        self._trouble = ""
        self._compared: tuple[Gate, ...] = ()
        self.pairs = 0

    @property
    def gates(self) -> tuple[Gate, ...]:
        """Verdicts so far."""
        return (self._copies.gate, *self._compared)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def close(self) -> None:
        """Stop watching; what was found stays."""
        self._stopped.set()
        if self._thread.ident:
            self._thread.join()
        self._copies.close()

    def _run(self) -> None:
        next_look_s = 0.0
        while not self._stopped.wait(_LOOK_S):
            self._attempt(self._copies.look)
            began = time.monotonic()
            if began >= next_look_s:
                self._attempt(self._compare)
                next_look_s = began + (time.monotonic() - began) / _SHARE

    def _attempt(self, look: Callable[[], None]) -> None:
        """Trouble is told once; the next look tries again, and what is not known is not SAFE."""
        try:
            look()
        except (HotcoldError, OSError) as error:
            if str(error) != self._trouble:
                self._logger.warning("the evidence is not complete: %s", error)
            self._trouble = str(error)

    def _compare(self) -> None:
        now = self._clock()
        if self._live is None:
            # Before the first copy there is nothing to compare; requests of that time are not missing.
            first = first_copy_s(self._job.source, self._entered_s, now)
            if first is None:
                return
            self._live = LiveComparison(self._job, first)
        counts = self._live.look(now)
        self._compared = self._judge(counts)
        self.pairs = counts.pairs

    def _judge(self, counts: Comparison) -> tuple[Gate, ...]:
        plan = self._release.plan
        return judge(counts, plan.limits, all_copied=plan.mirror_pct >= 100).gates


class CopyCount:
    """Copies that the candidate left unanswered, by second, as the edges count them. What nobody counted is no evidence.

    Args:
        settings: where the database is.
        release: that copies requests.
    """

    def __init__(self, settings: Settings, release: Release) -> None:
        self._database = CounterDatabase(settings.release_database_url)
        self._model = release.model
        self._cluster = shadow_name(release.model, release.slot)
        self._test = copies_test(release.plan.limits)
        self._counts = ValueCounts()
        self._mark: Mark | None = None
        self._since_s = 0.0
        self.gate = Gate(self._test.signal, Verdict.UNKNOWN, "there is no evidence", "")

    def look(self) -> None:
        """Count what was copied since the last look.

        Raises:
            DatabaseError: the database cannot be reached.
            EvidenceError: the edges do not count at the moment, or lost count.
        """
        try:
            now = self._database.read_mark(self._model, time.time())
            came = increments(self._mark, now).get(self._cluster) if self._mark else None
        except EvidenceError:
            # What was counted since the last mark is not known, so nothing of it is evidence.
            self._mark = None
            raise
        self._mark = now
        if came is None or not came.copied:
            return
        # A copy may be lost in the second after the one in which it was made.
        self._counts = self._counts.merge(self._test.count(np.array([min(came.lost / came.copied, 1.0)])))
        self.gate = self._test.judge(self._counts).to_gate()

    def close(self) -> None:
        """Close the connection."""
        self._database.close()
