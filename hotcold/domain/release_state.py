"""A release and what is observed of it, as values; `release` says how one leads to the next."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hotcold.domain.gate import Gate, Verdict
from hotcold.domain.package import PackageRef
from hotcold.domain.plan import Plan
from hotcold.domain.serving import Slot, SlotStatus


class Phase(StrEnum):
    """Where a release stands."""

    PACKAGING = "packaging"
    DEPLOYING = "deploying"
    SMOKE = "smoke"
    SHADOW = "shadow"
    CLOSING = "closing"
    EVALUATED = "evaluated"
    CANARY = "canary"
    CUTOVER = "cutover"
    BAKING = "baking"
    PROMOTED = "promoted"
    HELD = "held"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    REJECTED = "rejected"


FINAL = frozenset({Phase.PROMOTED, Phase.ROLLED_BACK, Phase.REJECTED, Phase.EVALUATED})
# Phases in which the candidate may hold traffic while a controller is needed to judge it.
EXPOSED = frozenset({Phase.CANARY, Phase.CUTOVER, Phase.BAKING})
# How the reason begins for which an agent holds a release: it waits for a driver, not for a person.
LOST_CONTROLLER = "the controller's lease ran out"
_BEFORE = (Phase.PACKAGING, Phase.DEPLOYING, Phase.SMOKE)
_TO_ALL = (Phase.CUTOVER, Phase.BAKING, Phase.PROMOTED)


def phases_of(plan: Plan) -> tuple[Phase, ...]:
    """The way of a release that nothing disturbs."""
    if plan.strategy == "shadow":
        return (*_BEFORE, Phase.SHADOW, Phase.CLOSING, Phase.EVALUATED)
    copies = (Phase.SHADOW,) if plan.shadow_first else ()
    steps = (Phase.CANARY,) if plan.strategy == "canary" else ()
    return (*_BEFORE, *copies, *steps, *_TO_ALL)


def moves_traffic(plan: Plan) -> bool:
    """A release by this plan may give its candidate live traffic."""
    return not EXPOSED.isdisjoint(phases_of(plan))


def copies_requests(plan: Plan) -> bool:
    """A release by this plan gives its candidate copies of live requests."""
    return Phase.SHADOW in phases_of(plan)


def needs_champion(plan: Plan) -> bool:
    """A release by this plan compares its candidate with a champion that serves."""
    return not {Phase.SHADOW, Phase.CANARY}.isdisjoint(phases_of(plan))


class Command(StrEnum):
    """What a person may ask of a release."""

    ROLL_BACK = "roll_back"
    RESUME = "resume"
    APPROVE = "approve"
    HOLD = "hold"


@dataclass(frozen=True)
class Release:
    """One release of one model.

    Args:
        id: unique name.
        model: registered model name.
        version: registry version of the candidate.
        plan: how to proceed, frozen.
        slot: the candidate's slot; the champion's is the other one.
        champion: package to go back to; None for a model's first release.
        candidate: package being released; None until it is built.
        phase: where it stands.
        split: candidate's share that is desired, in percent.
        exposed: the candidate has been given requests at some time, to answer or as copies.
        in_phase_s: time counted in this phase or step, seconds; in `shadow` and `canary` only while the edge confirms what is
            desired.
        ticked_at: time of the last tick, seconds since the epoch.
        held_from: phase that was left for `held`.
        reason: why it stands where it stands.
        epoch: fence of the controller that may write.
        row_version: counts the changes.
        verdict: what an evaluation found; None until it has ended.
        quiet_s: time counted in `shadow` and `canary` since the edge last confirmed what is desired, seconds.
        step: of a canary, 0 before the first; see `CanaryPlan.share`. It is kept while the release is held.
        settled: the edge has confirmed the present split; the evidence of a step begins then.
        waiting: why a person is asked; empty while nobody is.
        waited_s: time counted since then, seconds.
    """

    id: str
    model: str
    version: int
    plan: Plan
    slot: Slot
    champion: PackageRef | None
    candidate: PackageRef | None = None
    phase: Phase = Phase.PACKAGING
    split: int = 0
    exposed: bool = False
    in_phase_s: float = 0.0
    ticked_at: float = 0.0
    held_from: Phase | None = None
    reason: str = ""
    epoch: int = 0
    row_version: int = 0
    verdict: Verdict | None = None
    quiet_s: float = 0.0
    step: int = 0
    settled: bool = False
    waiting: str = ""
    waited_s: float = 0.0

    @property
    def active(self) -> bool:
        """The release has not ended."""
        return self.phase not in FINAL

    @property
    def mirror_pct(self) -> float:
        """Share of the scoring requests that are to be copied to the candidate, in percent."""
        return self.plan.mirror_pct if self.phase is Phase.SHADOW else 0.0


@dataclass(frozen=True)
class Observation:
    """What the driver saw since the last call. None means not known, which never counts as good.

    Args:
        package: the candidate's package, once built.
        package_failure: why it can never be built.
        candidate: the candidate's slot as the agents see it.
        champion: the champion's slot as the agents see it.
        edge_share: candidate's share that Envoy confirmed, in percent.
        smoke: verdicts on the candidate's slot before it has traffic; see SMOKE_GATES.
        gates: verdicts on live traffic, or on copies of it.
        command: what a person asked for.
        command_reason: who asked, and why.
        edge_mirror: share of the scoring requests that Envoy confirmed to copy to the candidate, in percent.
        pairs: requests that both champion and candidate have answered since copies began.
        requests: answers that the candidate has given in the present step of a canary.
    """

    package: PackageRef | None = None
    package_failure: str = ""
    candidate: SlotStatus | None = None
    champion: SlotStatus | None = None
    edge_share: int | None = None
    smoke: tuple[Gate, ...] = ()
    gates: tuple[Gate, ...] = ()
    command: Command | None = None
    command_reason: str = ""
    edge_mirror: float | None = None
    pairs: int | None = None
    requests: int | None = None


def is_news(before: Release, after: Release) -> bool:
    """Whether a step has to be written with an event of its own, or only the time has gone on."""
    return _told(before) != _told(after)


def _told(release: Release) -> tuple[object, ...]:
    return (release.phase, release.split, release.step, release.settled, release.waiting)


def is_for_people(before: Release, after: Release) -> bool:
    """Whether people are to be told of a step: the release has ended, goes back, lost its driver, or asks them."""
    if after.phase is not before.phase and after.phase in FINAL | {Phase.HELD, Phase.ROLLING_BACK}:
        return True
    return bool(after.waiting) and after.waiting != before.waiting
