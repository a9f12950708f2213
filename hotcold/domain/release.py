"""The state machine of a release: pure, total, idempotent.

    packaging → deploying → smoke → [shadow] → [canary, step by step] → cutover → baking → promoted
        │           │         │         │             │                    │         │         │
        └───────────┴─────────┤         └─────────────┴────────────────────┴─────────┴─────────┴→ rolling_back → rolled_back
                              └→ rejected (before any traffic)                       held: has no driver, waits for a person

What is in brackets depends on the plan. A canary that asks a person stays in its phase, where its gates go on being watched.

A release by the plan `shadow` moves no traffic and ends with a verdict:

    … → smoke → shadow → closing → evaluated

The candidate gets copies of live requests in `shadow` only, whose clock runs while the edge confirms them. In `closing` there
is a verdict, and the edge is waited for: the slot is changed only when it has confirmed that there are no copies any more.

`advance` takes what was observed and answers with the next state and the instructions that lead there; see `instructions`.
Time under way is counted, not subtracted: a clock that jumps neither ends a bake early nor times anything out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hotcold.domain.canary.rules import candidate_harm, watch_step
from hotcold.domain.gate import first_harm, missing_evidence
from hotcold.domain.instructions import (
    Deploy,
    Finish,
    Instruction,
    Mirror,
    Package,
    PublishScores,
    RetractScores,
    SetSplit,
    SetStage,
    Smoke,
)
from hotcold.domain.release_moves import (
    digest_of,
    enter,
    give_share,
    go_on,
    hold,
    is_down,
    is_left_alone,
    reject,
    reject_late,
    retreat,
    serves,
    take_back,
)
from hotcold.domain.release_state import (
    EXPOSED,
    FINAL,
    LOST_CONTROLLER,
    Command,
    Observation,
    Phase,
    Release,
    moves_traffic,
)
from hotcold.domain.serving import SlotStatus
from hotcold.domain.shadow.rules import close_evaluation, watch_copies

# Who asks for the state machine gets its states with it.
__all__ = [
    "EXPOSED",
    "FINAL",
    "MAX_TICK_S",
    "SMOKE_GATES",
    "Command",
    "Observation",
    "Phase",
    "Release",
    "advance",
    "guard",
]

# The most that one tick adds to the time in a phase: a jump of the clock or a pause of the driver counts as this at most.
MAX_TICK_S = 5.0
# What has to be SAFE before a candidate gets its first request.
SMOKE_GATES = ("smoke", "batch_parity")


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
    ticked = _tick(release, seen, now)
    moved = _obey(ticked, seen) or _RULES[release.phase](ticked, seen)
    return moved, _instructions(release, moved, seen)


def guard(
    release: Release, champion: SlotStatus | None, edge_share: int | None, edge_mirror: float | None = None
) -> tuple[Release, tuple[Instruction, ...]]:
    """What the agent does for a release whose controller is dead: take the candidate's requests away and hold.

    Traffic stays where it is while the champion is not known to be ready, and where there is no champion. A rollback or an
    evaluation that lost its controller at the end is brought to it.

    Args:
        release: its present state; its lease has run out.
        champion: the champion's slot as the agent sees it.
        edge_share: candidate's share that Envoy confirmed, in percent.
        edge_mirror: share of the requests that Envoy confirmed to copy to the candidate, in percent.
    """
    if release.phase in (Phase.ROLLING_BACK, Phase.CLOSING):
        seen = Observation(champion=champion, edge_share=edge_share, edge_mirror=edge_mirror)
        return advance(release, seen, release.ticked_at)
    if release.phase not in EXPOSED | {Phase.SHADOW}:
        return release, ()
    reason = LOST_CONTROLLER
    if release.phase is Phase.SHADOW:
        moved = hold(release, f"{reason}; requests are no longer copied")
    elif release.champion is None:
        moved = hold(release, f"{reason}; there is no champion to go back to")
    elif champion is None or champion.ready == 0:
        moved = hold(release, f"{reason}; the champion is not ready, so traffic stays")
    else:
        moved = give_share(hold(release, f"{reason}; traffic went back to the champion"), 0)
    return moved, _instructions(release, moved, Observation())


def _tick(release: Release, seen: Observation, now: float) -> Release:
    elapsed_s = min(max(now - release.ticked_at, 0.0), MAX_TICK_S) if release.ticked_at else 0.0
    waited_s = release.waited_s + elapsed_s if release.waiting else 0.0
    ticked = replace(release, ticked_at=now, waited_s=waited_s)
    if _awaits_edge(release, seen):
        # Set, then verify at the edge, then start the clock; and stop it while what was set is not so.
        return replace(ticked, quiet_s=release.quiet_s + elapsed_s)
    return replace(ticked, in_phase_s=release.in_phase_s + elapsed_s, quiet_s=0.0)


def _awaits_edge(release: Release, seen: Observation) -> bool:
    if release.phase is Phase.SHADOW:
        return seen.edge_mirror != release.mirror_pct
    return release.phase is Phase.CANARY and seen.edge_share != release.split


def _obey(release: Release, seen: Observation) -> Release | None:
    if seen.command is Command.ROLL_BACK and _can_roll_back(release):
        # The agent moves traffic only to a slot that is ready, so a person may ask for this at any time.
        return take_back(release, seen.command_reason or "asked for")
    if seen.command is Command.RESUME and release.phase is Phase.HELD:
        if release.candidate is None:
            return enter(release, Phase.PACKAGING, seen.command_reason)
        return _resume(release, seen.command_reason)
    return None


def _resume(release: Release, reason: str) -> Release:
    """Where there is traffic, it is watched again at once; else the candidate is made ready and tested anew."""
    if not release.split:
        return enter(release, Phase.DEPLOYING, reason)
    phase = Phase.CUTOVER if release.split == 100 else Phase.CANARY
    return replace(enter(release, phase, reason), settled=False)


def _can_roll_back(release: Release) -> bool:
    """Something is left to take back. A first release under way is taken off the edge; once promoted, it stays."""
    if release.phase is Phase.PROMOTED:
        return release.champion is not None
    return release.phase is not Phase.ROLLING_BACK and release.active


def _package(release: Release, seen: Observation) -> Release:
    if seen.package_failure:
        return reject(release, seen.package_failure)
    if seen.package is None:
        return reject_late(release, release.plan.package_timeout_s, "the package was not built")
    if release.champion is not None and seen.package.digest == release.champion.digest:
        return reject(release, f"{seen.package.tag} is the champion already")
    return replace(go_on(release), candidate=seen.package)


def _deploy(release: Release, seen: Observation) -> Release:
    slot = seen.candidate
    if slot is not None and slot.digest == digest_of(release):
        if slot.failure:
            return reject(release, slot.failure)
        if slot.ready >= release.plan.replicas:
            return go_on(release)
    ready = 0 if slot is None or slot.digest != digest_of(release) else slot.ready
    return reject_late(release, release.plan.ready_timeout_s, f"{ready} of {release.plan.replicas} replicas became ready")


def _smoke(release: Release, seen: Observation) -> Release:
    if harm := first_harm(seen.smoke):
        return reject(release, harm.sentence)
    missing = missing_evidence(seen.smoke, SMOKE_GATES)
    if not missing and serves(release, seen.candidate):
        return go_on(release)
    return reject_late(release, release.plan.smoke_timeout_s, f"no evidence from {', '.join(missing) or 'the slot'}")


def _cut_over(release: Release, seen: Observation) -> Release:
    if is_down(release, seen.candidate):
        return retreat(release, seen, "no replica of the candidate is ready")
    if harm := candidate_harm(seen.gates):
        return retreat(release, seen, harm.sentence)
    if seen.edge_share == 100:
        return replace(go_on(release), settled=True)
    if release.in_phase_s >= release.plan.route_timeout_s:
        return retreat(release, seen, f"the edge did not confirm the switch within {release.plan.route_timeout_s:g} s")
    return release


def _bake(release: Release, seen: Observation) -> Release:
    plan = release.plan
    if is_down(release, seen.candidate):
        return retreat(release, seen, "no replica of the candidate is ready")
    if harm := candidate_harm(seen.gates):
        return retreat(release, seen, harm.sentence)
    missing = missing_evidence(seen.gates, plan.required_gates)
    if not missing and release.in_phase_s >= plan.bake_s and seen.edge_share == 100:
        return go_on(release)
    if release.in_phase_s < plan.max_bake_s:
        return release
    reason = f"no evidence from {', '.join(missing) or 'the edge'} within {plan.max_bake_s:g} s"
    return hold(release, reason) if plan.on_unknown == "hold" else retreat(release, seen, reason)


def _roll_back(release: Release, seen: Observation) -> Release:
    return enter(release, Phase.ROLLED_BACK, release.reason) if is_left_alone(release, seen) else release


def _stay(release: Release, _seen: Observation) -> Release:
    return release


_RULES: dict[Phase, Callable[[Release, Observation], Release]] = {
    Phase.PACKAGING: _package,
    Phase.DEPLOYING: _deploy,
    Phase.SMOKE: _smoke,
    Phase.SHADOW: watch_copies,
    Phase.CLOSING: close_evaluation,
    Phase.EVALUATED: _stay,
    Phase.CANARY: watch_step,
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
    if after.mirror_pct != before.mirror_pct:
        done.append(Mirror(after.slot, after.mirror_pct))
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
        case Phase.ROLLING_BACK if release.candidate and moves_traffic(release.plan):
            # With the traffic, not after it: readers of its tables must not see them a moment longer either.
            return [RetractScores(release.model, release.candidate, release.champion, release.reason)]
        case Phase.PROMOTED | Phase.ROLLED_BACK | Phase.REJECTED | Phase.EVALUATED:
            return _close(release)
    return []


def _close(release: Release) -> list[Instruction]:
    promoted = release.phase is Phase.PROMOTED
    champion = release.slot.other if release.champion else None
    # Before a package was built, the slot still holds the previous champion, which stays warm.
    retire = not promoted and release.candidate is not None
    scores = [PublishScores(release.model, release.candidate)] if promoted and release.candidate else []
    return [Finish(release.slot, champion, promoted, retire), *scores, SetStage(release.model)]
