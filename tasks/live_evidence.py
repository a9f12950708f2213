"""What is known of a candidate that gets live requests or copies of them, from wherever it has to be gathered."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from hotcold.adapters.release_database import ReleaseDatabase
from hotcold.domain.canary.spans import Span
from hotcold.domain.canary.timeline import spans_of
from hotcold.domain.gate import Gate
from hotcold.domain.release import EXPOSED, Phase, Release
from hotcold.domain.serving import ModelStatus
from hotcold.domain.smoke import judge_health, judge_probe
from hotcold.settings import Settings
from tasks.canary_watch import CanaryWatch
from tasks.shadow_watch import ShadowWatch, copies_began
from tasks.smoke import EdgeProbe


@dataclass(frozen=True)
class Seen:
    """Evidence at one moment.

    Args:
        gates: all verdicts.
        pairs: requests that both sides have answered since copies began; None where nothing is copied.
        requests: the candidate's answers in the present step; None where there are no steps.
    """

    gates: tuple[Gate, ...] = ()
    pairs: int | None = None
    requests: int | None = None


class LiveEvidence:
    """Gathers while a release is driven; a new one gathers again what is in the log.

    Args:
        settings: where log, labels and database are.
        database: the release database.
        clock: seconds since the epoch.
    """

    def __init__(self, settings: Settings, database: ReleaseDatabase, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock
        self._restarts_before: int | None = None
        self._probe: EdgeProbe | None = None
        self._copies: ShadowWatch | None = None
        self._answers: CanaryWatch | None = None
        self.last = Seen()

    def look(self, release: Release, status: ModelStatus | None) -> Seen:
        """What is known now; what was known stays when the release leaves these phases."""
        if release.phase is Phase.SHADOW:
            self.last = self._look_at_copies(release, status)
        elif release.phase in EXPOSED and release.candidate:
            self.last = self._look_at_answers(release, status)
        return self.last

    def _judge_health(self, release: Release, status: ModelStatus | None) -> Gate:
        slot = status.slot(release.slot) if status else None
        if self._restarts_before is None and slot:
            self._restarts_before = slot.restarts
        return judge_health(slot, release.plan.replicas, self._restarts_before or 0)

    def _look_at_copies(self, release: Release, status: ModelStatus | None) -> Seen:
        """What the comparison says so far; it goes on in a thread of its own, so that the lease is renewed in time."""
        if self._copies is None:
            began = copies_began(self._database.read_events(release.id))
            self._copies = ShadowWatch(self._settings, release, began or self._clock())
            self._copies.start()
        return Seen((self._judge_health(release, status), *self._copies.gates), pairs=self._copies.pairs)

    def _look_at_answers(self, release: Release, status: ModelStatus | None) -> Seen:
        self._end_copies()
        gates = (self._judge_health(release, status), *self._probe_edge(release))
        if release.plan.strategy != "canary":
            return Seen(gates)
        if self._answers is None:
            self._answers = CanaryWatch(self._settings, release, lambda: self._spans(release))
            self._answers.start()
        return Seen((*gates, *self._answers.gates), requests=self._answers.requests)

    def _spans(self, release: Release) -> tuple[Span, ...]:
        events = self._database.read_events(release.id)
        return spans_of((event.at, event.split, event.settled) for event in events)

    def _probe_edge(self, release: Release) -> tuple[Gate, ...]:
        if release.phase is not Phase.BAKING or not release.candidate:
            return ()
        self._probe = self._probe or EdgeProbe(release.candidate)
        return (judge_probe(release.candidate, self._probe.ask(self._database.read_edges(self._clock()))),)

    def _end_copies(self) -> None:
        if self._copies:
            self._copies.close()
            self._copies = None

    def close(self) -> None:
        """Stop gathering and close the connections."""
        self._end_copies()
        if self._answers:
            self._answers.close()
        if self._probe:
            self._probe.close()
