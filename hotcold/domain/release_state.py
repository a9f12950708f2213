"""A release and what is observed of it, as values; `release` says how one leads to the next."""

from __future__ import annotations

from collections.abc import Mapping
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
# The way of a release that nothing disturbs, by the plan's strategy.
PATHS: Mapping[str, tuple[Phase, ...]] = {
    "blue_green": (Phase.PACKAGING, Phase.DEPLOYING, Phase.SMOKE, Phase.CUTOVER, Phase.BAKING, Phase.PROMOTED),
    "shadow": (Phase.PACKAGING, Phase.DEPLOYING, Phase.SMOKE, Phase.SHADOW, Phase.CLOSING, Phase.EVALUATED),
}


def moves_traffic(plan: Plan) -> bool:
    """A release by this plan may give its candidate live traffic."""
    return not EXPOSED.isdisjoint(PATHS[plan.strategy])


def copies_requests(plan: Plan) -> bool:
    """A release by this plan gives its candidate copies of live requests, so it needs a champion that gets them."""
    return Phase.SHADOW in PATHS[plan.strategy]


class Command(StrEnum):
    """What a person may ask of a release."""

    ROLL_BACK = "roll_back"
    RESUME = "resume"


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
        in_phase_s: time counted in this phase, seconds; in `shadow` only while the edge confirms the copies.
        ticked_at: time of the last tick, seconds since the epoch.
        held_from: phase that was left for `held`.
        reason: why it stands where it stands.
        epoch: fence of the controller that may write.
        row_version: counts the changes.
        verdict: what an evaluation found; None until it has ended.
        quiet_s: time counted in `shadow` since the edge last confirmed the copies, seconds.
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
