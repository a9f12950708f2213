"""The state machine of a release: pure, total, idempotent.

    packaging → deploying → smoke → cutover → baking → promoted
        │           │         │        │         │         │
        └───────────┴─────────┤        └─────────┴─────────┴→ rolling_back → rolled_back
                              └→ rejected (before any traffic)            held: waits for a person

`advance` takes what was observed and answers with the next state and the instructions that lead there; see `instructions`.
Time under way is counted, not subtracted: a clock that jumps neither ends a bake early nor times anything out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from hotcold.domain.gate import Gate, first_harm, missing_evidence
from hotcold.domain.instructions import (
    Deploy,
    Finish,
    Instruction,
    Package,
    PublishScores,
    RetractScores,
    SetSplit,
    SetStage,
    Smoke,
)
from hotcold.domain.package import PackageRef
from hotcold.domain.plan import Plan
from hotcold.domain.serving import Slot, SlotStatus

# The most that one tick adds to the time in a phase: a jump of the clock or a pause of the driver counts as this at most.
MAX_TICK_S = 5.0
# What has to be SAFE before a candidate gets its first request.
SMOKE_GATES = ("smoke", "batch_parity")


class Phase(StrEnum):
    """Where a release stands."""

    PACKAGING = "packaging"
    DEPLOYING = "deploying"
    SMOKE = "smoke"
    SHADOW = "shadow"
    CANARY = "canary"
    CUTOVER = "cutover"
    BAKING = "baking"
    PROMOTED = "promoted"
    HELD = "held"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    REJECTED = "rejected"


FINAL = frozenset({Phase.PROMOTED, Phase.ROLLED_BACK, Phase.REJECTED})
# Phases in which the candidate may hold traffic while a controller is needed to judge it.
EXPOSED = frozenset({Phase.CANARY, Phase.CUTOVER, Phase.BAKING})


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
        exposed: the candidate has been given traffic at some time.
        in_phase_s: time counted in this phase, seconds.
        ticked_at: time of the last tick, seconds since the epoch.
        held_from: phase that was left for `held`.
        reason: why it stands where it stands.
        epoch: fence of the controller that may write.
        row_version: counts the changes.
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

    @property
    def active(self) -> bool:
        """The release has not ended."""
        return self.phase not in FINAL


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
        gates: verdicts on live traffic.
        command: what a person asked for.
        command_reason: who asked, and why.
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


def advance(release: Release, seen: Observation, now: float) -> tuple[Release, tuple[Instruction, ...]]:
    """Take a release one step further.

    Args:
        release: its present state.
        seen: what was observed.
        now: seconds since the epoch; may jump.

    Returns:
        The next state, and what has to be done for it. Calling again with the same arguments gives the same answer;
        calling with the new state repeats no row that was written with it.
    """
    ticked = _tick(release, now)
    moved = _obey(ticked, seen) or _RULES[release.phase](ticked, seen)
    return moved, _instructions(release, moved, seen)


def guard(release: Release, champion: SlotStatus | None, edge_share: int | None) -> tuple[Release, tuple[Instruction, ...]]:
    """What the agent does for a release whose controller is dead: take the candidate's traffic away and hold.

    Traffic stays where it is while the champion is not known to be ready, and where there is no champion. A rollback that
    lost its controller is brought to its end.

    Args:
        release: its present state; its lease has run out.
        champion: the champion's slot as the agent sees it.
        edge_share: candidate's share that Envoy confirmed, in percent.
    """
    if release.phase is Phase.ROLLING_BACK:
        return advance(release, Observation(champion=champion, edge_share=edge_share), release.ticked_at)
    if release.phase not in EXPOSED:
        return release, ()
    reason = "the controller's lease ran out"
    if release.champion is None:
        moved = _hold(release, f"{reason}; there is no champion to go back to")
    elif champion is None or champion.ready == 0:
        moved = _hold(release, f"{reason}; the champion is not ready, so traffic stays")
    else:
        moved = replace(_hold(release, f"{reason}; traffic went back to the champion"), split=0)
    return moved, _instructions(release, moved, Observation())


def _tick(release: Release, now: float) -> Release:
    elapsed_s = min(max(now - release.ticked_at, 0.0), MAX_TICK_S) if release.ticked_at else 0.0
    return replace(release, in_phase_s=release.in_phase_s + elapsed_s, ticked_at=now)


def _enter(release: Release, phase: Phase, reason: str = "") -> Release:
    return replace(release, phase=phase, reason=reason, in_phase_s=0.0, held_from=None)


def _hold(release: Release, reason: str) -> Release:
    return replace(_enter(release, Phase.HELD, reason), held_from=release.phase)


def _obey(release: Release, seen: Observation) -> Release | None:
    if seen.command is Command.ROLL_BACK and _can_roll_back(release):
        # The agent moves traffic only to a slot that is ready, so a person may ask for this at any time.
        return replace(_enter(release, Phase.ROLLING_BACK, seen.command_reason or "asked for"), split=0)
    if seen.command is Command.RESUME and release.phase is Phase.HELD:
        if release.candidate is None:
            return _enter(release, Phase.PACKAGING, seen.command_reason)
        return _enter(release, Phase.CUTOVER if release.split else Phase.DEPLOYING, seen.command_reason)
    return None


def _can_roll_back(release: Release) -> bool:
    """Something is left to take back. A first release under way is taken off the edge; once promoted, it stays."""
    if release.phase is Phase.PROMOTED:
        return release.champion is not None
    return release.phase not in (Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.REJECTED)


def _package(release: Release, seen: Observation) -> Release:
    if seen.package_failure:
        return _reject(release, seen.package_failure)
    if seen.package is None:
        return _reject_late(release, release.plan.package_timeout_s, "the package was not built")
    if release.champion is not None and seen.package.digest == release.champion.digest:
        return _reject(release, f"{seen.package.tag} is the champion already")
    return replace(_enter(release, Phase.DEPLOYING), candidate=seen.package)


def _deploy(release: Release, seen: Observation) -> Release:
    slot = seen.candidate
    if slot is not None and slot.digest == _digest(release):
        if slot.failure:
            return _reject(release, slot.failure)
        if slot.ready >= release.plan.replicas:
            return _enter(release, Phase.SMOKE)
    ready = 0 if slot is None or slot.digest != _digest(release) else slot.ready
    return _reject_late(release, release.plan.ready_timeout_s, f"{ready} of {release.plan.replicas} replicas became ready")


def _smoke(release: Release, seen: Observation) -> Release:
    if harm := first_harm(seen.smoke):
        return _reject(release, harm.sentence)
    missing = missing_evidence(seen.smoke, SMOKE_GATES)
    if not missing and _serves(release, seen.candidate):
        return replace(_enter(release, Phase.CUTOVER), split=100, exposed=True)
    return _reject_late(release, release.plan.smoke_timeout_s, f"no evidence from {', '.join(missing) or 'the slot'}")


def _cut_over(release: Release, seen: Observation) -> Release:
    if _is_down(release, seen.candidate):
        return _retreat(release, seen, "no replica of the candidate is ready")
    if seen.edge_share == 100:
        return _enter(release, Phase.BAKING)
    if release.in_phase_s >= release.plan.route_timeout_s:
        return _retreat(release, seen, f"the edge did not confirm the switch within {release.plan.route_timeout_s:g} s")
    return release


def _bake(release: Release, seen: Observation) -> Release:
    plan = release.plan
    if _is_down(release, seen.candidate):
        return _retreat(release, seen, "no replica of the candidate is ready")
    if harm := first_harm(seen.gates):
        return _retreat(release, seen, harm.sentence)
    missing = missing_evidence(seen.gates, plan.required_gates)
    if not missing and release.in_phase_s >= plan.bake_s and seen.edge_share == 100:
        return _enter(release, Phase.PROMOTED)
    if release.in_phase_s < plan.max_bake_s:
        return release
    reason = f"no evidence from {', '.join(missing) or 'the edge'} within {plan.max_bake_s:g} s"
    return _hold(release, reason) if plan.on_unknown == "hold" else _retreat(release, seen, reason)


def _roll_back(release: Release, seen: Observation) -> Release:
    return _enter(release, Phase.ROLLED_BACK, release.reason) if seen.edge_share == 0 else release


def _stay(release: Release, _seen: Observation) -> Release:
    return release


def _retreat(release: Release, seen: Observation, reason: str) -> Release:
    """Give the traffic back to the champion, unless that would make it worse."""
    if release.champion is None:
        return _hold(release, f"{reason}; there is no champion to go back to")
    if seen.champion is None:
        return release
    if seen.champion.ready == 0:
        return _hold(release, f"{reason}; the champion is not ready either, so traffic stays")
    return replace(_enter(release, Phase.ROLLING_BACK, reason), split=0)


def _reject(release: Release, reason: str) -> Release:
    """End before any traffic; a release that was exposed and resumed makes sure of its traffic first."""
    return _enter(release, Phase.ROLLING_BACK if release.exposed else Phase.REJECTED, reason)


def _reject_late(release: Release, limit_s: float, reason: str) -> Release:
    return _reject(release, f"{reason} within {limit_s:g} s") if release.in_phase_s >= limit_s else release


def _digest(release: Release) -> str:
    return release.candidate.digest if release.candidate else ""


def _serves(release: Release, slot: SlotStatus | None) -> bool:
    return slot is not None and slot.digest == _digest(release) and slot.ready > 0 and not slot.failure


def _is_down(release: Release, slot: SlotStatus | None) -> bool:
    return slot is not None and not _serves(release, slot)


_RULES: dict[Phase, Callable[[Release, Observation], Release]] = {
    Phase.PACKAGING: _package,
    Phase.DEPLOYING: _deploy,
    Phase.SMOKE: _smoke,
    # No plan leads to these two yet; a release that stands there waits for a person.
    Phase.SHADOW: _stay,
    Phase.CANARY: _stay,
    Phase.CUTOVER: _cut_over,
    Phase.BAKING: _bake,
    Phase.HELD: _stay,
    Phase.ROLLING_BACK: _roll_back,
    Phase.PROMOTED: _stay,
    Phase.ROLLED_BACK: _stay,
    Phase.REJECTED: _stay,
}


def _instructions(before: Release, after: Release, seen: Observation) -> tuple[Instruction, ...]:
    done: list[Instruction] = []
    if after.split != before.split:
        done.append(SetSplit(after.slot, after.split))
    if after.phase is Phase.PACKAGING and seen.package is None:
        done.append(Package(after.model, after.version))
    if after.phase is Phase.SMOKE and after.candidate and missing_evidence(seen.smoke, SMOKE_GATES):
        done.append(Smoke(after.slot, after.candidate))
    if after.phase is not before.phase:
        done += _on_entry(after)
    return tuple(done)


def _on_entry(release: Release) -> list[Instruction]:
    match release.phase:
        case Phase.DEPLOYING if release.candidate:
            return [Deploy(release.slot, release.candidate, release.plan.replicas), SetStage(release.model)]
        case Phase.ROLLING_BACK if release.candidate:
            # With the traffic, not after it: readers of its tables must not see them a moment longer either.
            return [RetractScores(release.model, release.candidate, release.champion, release.reason)]
        case Phase.PROMOTED | Phase.ROLLED_BACK | Phase.REJECTED:
            return _close(release)
    return []


def _close(release: Release) -> list[Instruction]:
    promoted = release.phase is Phase.PROMOTED
    champion = release.slot.other if release.champion else None
    # Before a package was built, the slot still holds the previous champion, which stays warm.
    retire = not promoted and release.candidate is not None
    scores = [PublishScores(release.model, release.candidate)] if promoted and release.candidate else []
    return [Finish(release.slot, champion, promoted, retire), *scores, SetStage(release.model)]
