"""Moves from one phase of a release to another that several phases have in common."""

from __future__ import annotations

from dataclasses import replace

from hotcold.domain.release_state import Observation, Phase, Release, copies_requests, phases_of
from hotcold.domain.serving import SlotStatus


def enter(release: Release, phase: Phase, reason: str = "") -> Release:
    """Begin a phase, with its clock at 0 and nobody asked."""
    return replace(release, phase=phase, reason=reason, in_phase_s=0.0, held_from=None, waiting="", waited_s=0.0)


def go_on(release: Release) -> Release:
    """Enter the phase that comes next on the way of the plan."""
    path = phases_of(release.plan)
    phase = path[path.index(release.phase) + 1]
    if phase is Phase.SHADOW and release.step:
        # It was resumed in the middle of a canary, whose copies have been judged before.
        phase = Phase.CANARY
    entered = enter(release, phase)
    if phase is Phase.CUTOVER:
        return give_share(entered, 100)
    if phase is Phase.CANARY:
        # One that was on its way to 100 % goes on from its last step.
        step = min(release.step, len(release.plan.canary.shares))
        return give_share(replace(entered, step=step), release.plan.canary.share(step))
    return replace(entered, exposed=entered.exposed or phase is Phase.SHADOW)


def give_share(release: Release, share_pct: int) -> Release:
    """Give the candidate this share of the entities, which the edge has yet to confirm."""
    return replace(release, split=share_pct, settled=False, exposed=release.exposed or share_pct > 0)


def hold(release: Release, reason: str) -> Release:
    """Leave all as it is, for a person."""
    return replace(enter(release, Phase.HELD, reason), held_from=release.phase)


def retreat(release: Release, seen: Observation, reason: str) -> Release:
    """Give the traffic back to the champion, unless that would make it worse."""
    if release.champion is None:
        return hold(release, f"{reason}; there is no champion to go back to")
    if seen.champion is None:
        return release
    if seen.champion.ready == 0:
        return hold(release, f"{reason}; the champion is not ready either, so traffic stays")
    return take_back(release, reason)


def take_back(release: Release, reason: str) -> Release:
    """Give the traffic back to the champion, whatever it is like."""
    return give_share(enter(release, Phase.ROLLING_BACK, reason), 0)


def reject(release: Release, reason: str) -> Release:
    """End before any request; a release that was exposed and resumed makes sure first that there are none left."""
    return enter(release, Phase.ROLLING_BACK if release.exposed else Phase.REJECTED, reason)


def reject_late(release: Release, limit_s: float, reason: str) -> Release:
    """End before any request once the phase has taken longer than it may."""
    return reject(release, f"{reason} within {limit_s:g} s") if release.in_phase_s >= limit_s else release


def is_left_alone(release: Release, seen: Observation) -> bool:
    """The edge confirmed that the candidate gets no request any more, neither to answer nor as a copy."""
    return seen.edge_share == 0 and (seen.edge_mirror == 0 or not copies_requests(release.plan))


def digest_of(release: Release) -> str:
    """The candidate's package, empty before there is one."""
    return release.candidate.digest if release.candidate else ""


def serves(release: Release, slot: SlotStatus | None) -> bool:
    """The slot is known to answer with the candidate."""
    return slot is not None and slot.digest == digest_of(release) and slot.ready > 0 and not slot.failure


def is_down(release: Release, slot: SlotStatus | None) -> bool:
    """The slot is known not to answer with the candidate."""
    return slot is not None and not serves(release, slot)


def fails_alone(release: Release, seen: Observation) -> bool:
    """The candidate is known not to be ready, and it is not the edge's fault, since the champion is."""
    return is_down(release, seen.candidate) and seen.champion is not None and seen.champion.ready > 0
