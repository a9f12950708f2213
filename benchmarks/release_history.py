"""What happened to a simulated release, in true time, and the rules that only a whole history shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from hotcold.domain.instructions import Finish, Instruction
from hotcold.domain.release import EXPOSED, MAX_TICK_S, Observation, Phase, Release
from hotcold.domain.release_rules import broken_rules
from hotcold.domain.release_state import is_news

# How long a controller may be silent, and how long the watchdog may need then.
TIMEOUT_S, _LATE_S = 10.0, 5.0


@dataclass(frozen=True)
class Event:
    """One change that the database accepted.

    Args:
        at_s: true time, seconds.
        actor: who wrote it.
        before: what the writer believed the state was.
        after: as it was written.
        asked: instructions that were written with it.
        edge_share: the candidate's share that the edge really had, percent.
        by_person: a person told the release to go on.
    """

    at_s: float
    actor: str
    before: Release
    after: Release
    asked: tuple[Instruction, ...]
    edge_share: int
    by_person: bool = False


@dataclass
class History:
    """What is kept of one release.

    Args:
        fenced: writes of those who do not know the present state are refused, as the database does.
    """

    fenced: bool = True
    events: list[Event] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    jumps: int = 0
    refused: int = 0
    alone_s: float = 0.0

    def write(self, row: Release, event: Event, seen: Observation) -> Release:
        """Compare and set, as the database does it.

        Args:
            row: the state that the database has.
            event: who writes what; each step is checked, accepted or not.
            seen: what the writer observed.

        Returns:
            The state that the database has then: `row` itself if the write was refused.
        """
        before, after = event.before, event.after
        self.broken += broken_rules(before, after, event.asked, seen)
        if self.fenced and (before.row_version, before.epoch) != (row.row_version, row.epoch):
            self.refused += 1
            return row
        if not (is_news(before, after) or event.asked):
            return after
        written = replace(after, row_version=before.row_version + 1)
        self.events.append(replace(event, after=written))
        return written

    def note_alone(self, seconds: float, edge_share: int, release: Release, champion_known: bool) -> None:
        """Nobody drove the release for some time, in seconds; or somebody did, and they are 0."""
        alone = seconds > 0 and edge_share > 0 and release.phase in EXPOSED and champion_known
        self.alone_s = self.alone_s + seconds if alone else 0.0
        if self.alone_s > TIMEOUT_S + _LATE_S:
            self.broken.append(f"the candidate had {edge_share} % for {self.alone_s:g} s, and no controller")


def broken_history(history: History, last_share: int) -> tuple[str, ...]:
    """Check a history that has ended.

    Args:
        history: of one release, whose steps were checked when they were written.
        last_share: the candidate's share at the edge in the end, percent.

    Returns:
        A sentence for each rule that was broken.
    """
    events = history.events
    return (
        *history.broken,
        *_writers(events),
        *_slots(events),
        *_steps(events, history.jumps),
        *_end(events, last_share),
    )


def _writers(events: Sequence[Event]) -> Iterator[str]:
    owners: dict[int, str] = {}
    for last, event in pairwise(events):
        was, now = last.after, event.after
        if now.row_version != was.row_version + 1 or now.epoch < was.epoch:
            yield (
                f"{event.actor} wrote version {now.row_version} of epoch {now.epoch} after version {was.row_version}"
                f" of epoch {was.epoch}"
            )
    for event in events:
        if not event.actor.startswith("agent") and owners.setdefault(event.after.epoch, event.actor) != event.actor:
            yield f"epoch {event.after.epoch} belongs to {owners[event.after.epoch]}, and {event.actor} acted in it"


def _slots(events: Sequence[Event]) -> Iterator[str]:
    for event in events:
        if event.edge_share and any(isinstance(one, Finish) and one.retire for one in event.asked):
            yield f"the candidate's slot was retired while the edge gave it {event.edge_share} %"
        if event.after.settled and not event.before.settled and event.edge_share != event.after.split:
            yield f"{event.after.split} % was taken for settled while the edge gave {event.edge_share} %"


def _steps(events: Sequence[Event], jumps: int) -> Iterator[str]:
    """In true time, a step is as long as the plan says; each jump of a clock counts as one long tick at most."""
    settled_s = 0.0
    for event in events:
        before, after = event.before, event.after
        if after.settled and not before.settled:
            settled_s = event.at_s
        least_s = after.plan.canary.step_min_s - MAX_TICK_S * jumps
        if after.step > before.step > 0 and not event.by_person and event.at_s - settled_s < least_s:
            yield f"step {before.step} lasted {event.at_s - settled_s:g} s, not {after.plan.canary.step_min_s:g} s"


def _end(events: Sequence[Event], last_share: int) -> Iterator[str]:
    phase = events[-1].after.phase
    expected = {Phase.PROMOTED: 100, Phase.ROLLED_BACK: 0, Phase.REJECTED: 0}.get(phase)
    if expected is not None and last_share != expected:
        yield f"the release is {phase}, and the edge gives its candidate {last_share} %"
