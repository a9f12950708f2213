"""Watches a candidate while it gets copies of live requests: what the edge counts, and what the two sides have answered."""

import time
from collections.abc import Callable, Sequence

from hotcold.adapters.release_database import Event
from hotcold.adapters.shadow_comparison import ComparisonJob, LiveComparison
from hotcold.adapters.shadow_pairs import PairSource, first_copy_s
from hotcold.domain.edge import shadow_name
from hotcold.domain.errors import EvidenceError
from hotcold.domain.gate import Gate
from hotcold.domain.release import Phase, Release
from hotcold.domain.shadow.comparison import Comparison
from hotcold.domain.shadow.judgement import copies_test, judge
from hotcold.settings import Settings
from tasks.edge_shares import EdgeShare
from tasks.watching import SHARE, EvidenceThread, Look, doubtful

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
        looks = (Look(self._copies.look, self._copies.doubt), Look(self._compare, self._doubt, SHARE))
        self._thread = EvidenceThread("shadow watch", looks)
        self._compared: tuple[Gate, ...] = ()
        self._paired_at = 0.0
        self.pairs = 0

    @property
    def gates(self) -> tuple[Gate, ...]:
        """Verdicts so far; none once nobody looks any more."""
        return (self._copies.gate, *self._compared) if self._thread.is_alive else ()

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._thread.close()
        self._copies.close()

    def _doubt(self, reason: str) -> None:
        self._compared = tuple(doubtful(gate, reason) for gate in self._compared)

    def _compare(self) -> None:
        now = self._clock()
        if self._live is None:
            # Before the first copy there is nothing to compare; requests of that time are not missing.
            first = first_copy_s(self._job.source, self._entered_s, now)
            if first is None:
                return
            self._live = LiveComparison(self._job, first, self._thread.is_stopped)
        counts = self._live.look(now)
        if counts.pairs > self.pairs or not self._paired_at:
            self._paired_at = now
        self.pairs = counts.pairs
        self._compared = self._judge(counts)
        if self._copies.counted_at > self._paired_at + _SILENCE_S:
            self._doubt(f"requests are copied, but for {_SILENCE_S:g} s no pair of answers came into the log")

    def _judge(self, counts: Comparison) -> tuple[Gate, ...]:
        plan = self._release.plan
        return judge(counts, plan.limits, all_copied=plan.mirror_pct >= 100).gates


class CopyCount(EdgeShare):
    """Copies that the candidate left unanswered.

    Args:
        settings: where the database is.
        release: that copies requests.
        clock: seconds since the epoch.
    """

    def __init__(self, settings: Settings, release: Release, clock: Callable[[], float] = time.time) -> None:
        cluster, test = shadow_name(release.model, release.slot), copies_test(release.plan.limits)
        super().__init__(settings, release.model, cluster, test, lambda came: (came.lost, came.copied), clock)
