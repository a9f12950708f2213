"""The state machine of a release: pure, total, idempotent.

    packaging → deploying → smoke → cutover → baking → promoted
        │           │         │        │         │         │
        └───────────┴─────────┤        └─────────┴─────────┴→ rolling_back → rolled_back
                              └→ rejected (before any traffic)            held: waits for a person

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

from hotcold.domain.gate import Verdict, first_harm, missing_evidence
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
from hotcold.domain.release_state import (
    EXPOSED,
    FINAL,
    LOST_CONTROLLER,
    PATHS,
    Command,
    Observation,
    Phase,
    Release,
    copies_requests,
    moves_traffic,
)
from hotcold.domain.serving import SlotStatus

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
        moved = _hold(release, f"{reason}; requests are no longer copied")
    elif release.champion is None:
        moved = _hold(release, f"{reason}; there is no champion to go back to")
    elif champion is None or champion.ready == 0:
        moved = _hold(release, f"{reason}; the champion is not ready, so traffic stays")
    else:
        moved = replace(_hold(release, f"{reason}; traffic went back to the champion"), split=0)
    return moved, _instructions(release, moved, Observation())


def _tick(release: Release, seen: Observation, now: float) -> Release:
    elapsed_s = min(max(now - release.ticked_at, 0.0), MAX_TICK_S) if release.ticked_at else 0.0
    if release.phase is Phase.SHADOW and seen.edge_mirror != release.mirror_pct:
        # Set, then verify at the edge, then start the clock; and stop it while the copies pause.
        return replace(release, quiet_s=release.quiet_s + elapsed_s, ticked_at=now)
    return replace(release, in_phase_s=release.in_phase_s + elapsed_s, quiet_s=0.0, ticked_at=now)


def _enter(release: Release, phase: Phase, reason: str = "") -> Release:
    return replace(release, phase=phase, reason=reason, in_phase_s=0.0, held_from=None)


def _go_on(release: Release) -> Release:
    """Enter the phase that comes next on the way of the plan's strategy."""
    path = PATHS[release.plan.strategy]
    phase = path[path.index(release.phase) + 1]
    entered = _enter(release, phase)
    if phase is Phase.CUTOVER:
        return replace(entered, split=100, exposed=True)
    return replace(entered, exposed=entered.exposed or phase is Phase.SHADOW)


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
    return release.phase is not Phase.ROLLING_BACK and release.active


def _package(release: Release, seen: Observation) -> Release:
    if seen.package_failure:
        return _reject(release, seen.package_failure)
    if seen.package is None:
        return _reject_late(release, release.plan.package_timeout_s, "the package was not built")
    if release.champion is not None and seen.package.digest == release.champion.digest:
        return _reject(release, f"{seen.package.tag} is the champion already")
    return replace(_go_on(release), candidate=seen.package)


def _deploy(release: Release, seen: Observation) -> Release:
    slot = seen.candidate
    if slot is not None and slot.digest == _digest(release):
        if slot.failure:
            return _reject(release, slot.failure)
        if slot.ready >= release.plan.replicas:
            return _go_on(release)
    ready = 0 if slot is None or slot.digest != _digest(release) else slot.ready
    return _reject_late(release, release.plan.ready_timeout_s, f"{ready} of {release.plan.replicas} replicas became ready")


def _smoke(release: Release, seen: Observation) -> Release:
    if harm := first_harm(seen.smoke):
        return _reject(release, harm.sentence)
    missing = missing_evidence(seen.smoke, SMOKE_GATES)
    if not missing and _serves(release, seen.candidate):
        return _go_on(release)
    return _reject_late(release, release.plan.smoke_timeout_s, f"no evidence from {', '.join(missing) or 'the slot'}")


def _cut_over(release: Release, seen: Observation) -> Release:
    if _is_down(release, seen.candidate):
        return _retreat(release, seen, "no replica of the candidate is ready")
    if seen.edge_share == 100:
        return _go_on(release)
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
        return _go_on(release)
    if release.in_phase_s < plan.max_bake_s:
        return release
    reason = f"no evidence from {', '.join(missing) or 'the edge'} within {plan.max_bake_s:g} s"
    return _hold(release, reason) if plan.on_unknown == "hold" else _retreat(release, seen, reason)


def _shadow(release: Release, seen: Observation) -> Release:
    plan = release.plan
    if reason := _end_of_candidate(release, seen):
        return _conclude(release, Verdict.HARM, reason)
    if harm := first_harm(seen.gates):
        return _conclude(release, Verdict.HARM, harm.sentence)
    if release.quiet_s >= plan.route_timeout_s:
        return _give_up(release, seen)
    lacking = _lacking(release, seen)
    if not lacking and release.in_phase_s >= plan.shadow_min_s:
        return _conclude(release, Verdict.SAFE, f"every gate is SAFE: {', '.join(plan.shadow_gates)}")
    if release.in_phase_s < plan.shadow_max_s:
        return release
    return _conclude(release, Verdict.UNKNOWN, f"{lacking} within {plan.shadow_max_s:g} s")


def _lacking(release: Release, seen: Observation) -> str:
    """What is not there yet for the verdict SAFE; empty if nothing is."""
    plan = release.plan
    if missing := missing_evidence(seen.gates, plan.shadow_gates):
        return f"no evidence from {', '.join(missing)}"
    if (seen.pairs or 0) < plan.shadow_min_pairs:
        return f"{seen.pairs or 0} of {plan.shadow_min_pairs} pairs"
    return "" if seen.edge_mirror == release.mirror_pct else "no confirmation of the copies by the edge"


def _end_of_candidate(release: Release, seen: Observation) -> str:
    """Why there is no candidate left to compare; empty while there is one or it is not known.

    Without a death it may be the edge that does not see its replicas for a moment.
    """
    slot = seen.candidate
    if slot is None or slot.digest != _digest(release):
        return ""
    return slot.failure or ("no replica of the candidate is ready" if slot.restarts and _fails_alone(release, seen) else "")


def _give_up(release: Release, seen: Observation) -> Release:
    limit = f"within {release.plan.route_timeout_s:g} s"
    if _fails_alone(release, seen):
        return _conclude(release, Verdict.HARM, f"no replica of the candidate answered {limit}")
    return _conclude(release, Verdict.UNKNOWN, f"the edge did not confirm the copies {limit}")


def _fails_alone(release: Release, seen: Observation) -> bool:
    """The candidate is known not to be ready, and it is not the edge's fault, since the champion is."""
    return _is_down(release, seen.candidate) and seen.champion is not None and seen.champion.ready > 0


def _conclude(release: Release, verdict: Verdict, reason: str) -> Release:
    return replace(_enter(release, Phase.CLOSING, reason), verdict=verdict)


def _close_evaluation(release: Release, seen: Observation) -> Release:
    return _enter(release, Phase.EVALUATED, release.reason) if _is_left_alone(release, seen) else release


def _roll_back(release: Release, seen: Observation) -> Release:
    return _enter(release, Phase.ROLLED_BACK, release.reason) if _is_left_alone(release, seen) else release


def _is_left_alone(release: Release, seen: Observation) -> bool:
    """The edge confirmed that the candidate gets no request any more, neither to answer nor as a copy."""
    return seen.edge_share == 0 and (seen.edge_mirror == 0 or not copies_requests(release.plan))


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
    """End before any request; a release that was exposed and resumed makes sure first that there are none left."""
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
    Phase.SHADOW: _shadow,
    Phase.CLOSING: _close_evaluation,
    Phase.EVALUATED: _stay,
    # No plan leads here yet; a release that stands there waits for a person.
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
