"""How one step of a canary leads to the next: set, verified at the edge, then watched until the evidence suffices."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from hotcold.domain.gate import Gate, Verdict, first_harm, missing_evidence
from hotcold.domain.release_moves import enter, give_share, is_down, retreat
from hotcold.domain.release_state import Command, Observation, Phase, Release

# Its alarm says nothing bad of the candidate: it says that the evidence means nothing.
VOIDS_EVIDENCE = "sample_ratio"


def watch_step(release: Release, seen: Observation) -> Release:
    """Stay at this share, go on to the next one, ask a person, or give the traffic back."""
    if harm := _harm(release, seen):
        return retreat(release, seen, harm)
    if not release.settled:
        return _settle(release, seen)
    return _wait(release, seen) if release.waiting else _judge(release, seen)


def _harm(release: Release, seen: Observation) -> str:
    """Why the candidate may have no request any more; empty if nothing is known against it."""
    if release.split and is_down(release, seen.candidate):
        return "no replica of the candidate is ready"
    harm = candidate_harm(seen.gates)
    return harm.sentence if harm else ""


def candidate_harm(gates: Iterable[Gate]) -> Gate | None:
    """The first gate that says something against the candidate itself; None if none does."""
    return first_harm(gate for gate in gates if gate.name != VOIDS_EVIDENCE)


def _judge(release: Release, seen: Observation) -> Release:
    if alarm := _alarm(seen):
        return _ask(release, alarm.sentence)
    if not (lacking := _lacking(release, seen)):
        return _next_step(release)
    # Also while the edge confirms nothing, and the clock of the step stands still.
    if release.in_phase_s + release.quiet_s < release.plan.canary.step_max_s:
        return release
    reason = f"{lacking} within {release.plan.canary.step_max_s:g} s at {release.split} %"
    return _ask(release, reason) if release.plan.on_unknown == "hold" else retreat(release, seen, reason)


def _settle(release: Release, seen: Observation) -> Release:
    """The clock of a step, and its evidence, begin when the edge has confirmed the share."""
    if seen.edge_share == release.split:
        return replace(release, settled=True, in_phase_s=0.0, quiet_s=0.0)
    limit_s = release.plan.route_timeout_s
    if release.quiet_s >= limit_s:
        return retreat(release, seen, f"the edge did not confirm {release.split} % within {limit_s:g} s")
    return release


def _lacking(release: Release, seen: Observation) -> str:
    """What is not there yet for the next step; empty if nothing is."""
    canary = release.plan.canary
    if not release.step:
        return ""
    if missing := missing_evidence(seen.gates, canary.gates):
        return f"no evidence from {', '.join(missing)}"
    if (seen.requests or 0) < canary.step_min_requests:
        return f"{seen.requests or 0} of {canary.step_min_requests} answers of the candidate"
    if release.in_phase_s < canary.step_min_s:
        return f"{release.in_phase_s:.0f} of {canary.step_min_s:g} s"
    return "" if seen.edge_share == release.split else "no confirmation of the share by the edge"


def _next_step(release: Release) -> Release:
    if _next_needs_approval(release):
        return _ask(release, f"{release.plan.canary.share(release.step + 1)} % needs an approval")
    return _advance(release)


def _next_needs_approval(release: Release) -> bool:
    return release.plan.canary.share(release.step + 1) in release.plan.canary.approvals


def _advance(release: Release) -> Release:
    share_pct = release.plan.canary.share(release.step + 1)
    after = enter(release, Phase.CUTOVER if share_pct == 100 else Phase.CANARY)
    return give_share(replace(after, step=release.step + 1), share_pct)


def _ask(release: Release, why: str) -> Release:
    return replace(release, waiting=why, waited_s=0.0, reason=why)


def _wait(release: Release, seen: Observation) -> Release:
    """For the answer of a person. What the gates say goes on counting."""
    if seen.command is Command.APPROVE:
        return replace(_advance(release), reason=seen.command_reason)
    if seen.command is Command.HOLD:
        return replace(release, waited_s=0.0, reason=seen.command_reason)
    if _is_told(release, seen) and not _next_needs_approval(release):
        # What a person was asked for is there now.
        return _advance(release)
    return release if release.waited_s < release.plan.canary.answer_s else _do_without(release, seen)


def _do_without(release: Release, seen: Observation) -> Release:
    """Nobody answered in time."""
    plan = release.plan.canary
    late = f"nobody answered within {plan.answer_s:g} s: {release.waiting}"
    if plan.on_no_answer == "roll_back":
        return retreat(release, seen, late)
    # Nobody ever agreed to go on without evidence, or with evidence that means nothing.
    return replace(_advance(release), reason=late) if plan.on_no_answer == "promote" and _is_told(release, seen) else release


def _is_told(release: Release, seen: Observation) -> bool:
    """The evidence is there: of this step or, before the first one, of the copies, if there were any."""
    if not release.step:
        return release.verdict is not Verdict.UNKNOWN
    return not _lacking(release, seen) and not _alarm(seen)


def _alarm(seen: Observation) -> Gate | None:
    return first_harm(gate for gate in seen.gates if gate.name == VOIDS_EVIDENCE and gate.verdict is Verdict.HARM)
