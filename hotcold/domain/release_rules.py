"""The rules that every step of a release keeps, whatever was observed: what histories are checked against.

One step is the state before, what was seen, the state after and what was asked for with it. It does not matter who made it: a
driver, the agent's watchdog or a person's undo. The rules are those of the design's section 5, as far as one step shows them;
what takes a whole history, as stale controllers do, is checked where histories are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hotcold.domain.canary.rules import VOIDS_EVIDENCE
from hotcold.domain.gate import Gate, first_harm, missing_evidence
from hotcold.domain.instructions import Deploy, Finish, Instruction, SetSplit
from hotcold.domain.release import FINAL, MAX_TICK_S, Command, Observation, Phase, Release


def broken_rules(before: Release, after: Release, asked: Sequence[Instruction], seen: Observation) -> tuple[str, ...]:
    """Check one step.

    Args:
        before: the state that it began with.
        after: the state that it led to.
        asked: what was asked for with it.
        seen: what was observed.

    Returns:
        A sentence for each rule that it breaks; none if it keeps all.
    """
    return (
        *_clock(before, after, seen),
        *_split(before, after, asked),
        *_rise(before, after, seen),
        *_slots(after, asked),
        *_safety(before, after, seen),
        *_end(before, after, seen),
    )


def _clock(before: Release, after: Release, seen: Observation) -> Iterator[str]:
    if not 0 <= after.in_phase_s <= before.in_phase_s + MAX_TICK_S:
        yield f"one tick took the clock from {before.in_phase_s:g} to {after.in_phase_s:g} s"
    if after.settled and not before.settled and seen.edge_share != after.split:
        yield f"{after.split} % was taken for settled while the edge had confirmed {seen.edge_share}"
    if before.phase is Phase.CANARY and after.in_phase_s > before.in_phase_s and seen.edge_share != before.split:
        yield f"the clock of {before.split} % ran while the edge had confirmed {seen.edge_share}"


def _split(before: Release, after: Release, asked: Sequence[Instruction]) -> Iterator[str]:
    if after.split not in (0, *after.plan.canary.shares, 100):
        yield f"{after.split} % is no share of the plan"
    if after.split == before.split:
        return
    if SetSplit(after.slot, after.split) not in asked:
        yield f"the split became {after.split} % and the edge was not told"
    if after.settled:
        yield f"{after.split} % was taken for settled when it was asked for"


def _rise(before: Release, after: Release, seen: Observation) -> Iterator[str]:
    if after.step > before.step:
        yield from _next_step(before, after, seen)
    elif after.split > before.split:
        # A plan without steps goes to all at once, and a resumed canary back to its step: after the smoke tests, both.
        if before.phase not in (Phase.SMOKE, Phase.SHADOW):
            yield f"the split rose to {after.split} % from {before.phase}"
        canary = before.plan.canary
        if before.plan.strategy == "canary" and after.split != canary.share(min(before.step, len(canary.shares))):
            yield f"a resumed canary came to {after.split} %, which is not its step"


def _next_step(before: Release, after: Release, seen: Observation) -> Iterator[str]:
    canary = before.plan.canary
    if before.phase is not Phase.CANARY or after.step != before.step + 1 or not before.settled:
        yield f"step {after.step} came after {before.phase}, step {before.step}, settled: {before.settled}"
    if not canary.share(after.step) == after.split > before.split:
        yield f"step {after.step} has {after.split} %"
    by_person = seen.command is Command.APPROVE and bool(before.waiting)
    if before.step and not by_person:
        yield from _unproven(before, after, seen)
    if after.split in canary.approvals and not by_person and not _silence_agrees(before):
        yield f"{after.split} % came without the approval that it needs"
    if harm := _first_harm(seen.gates):
        yield f"{after.split} % came while {harm.sentence}"


def _unproven(before: Release, after: Release, seen: Observation) -> Iterator[str]:
    canary = before.plan.canary
    if missing := missing_evidence(seen.gates, canary.gates):
        yield f"{after.split} % came without {', '.join(missing)}"
    if (seen.requests or 0) < canary.step_min_requests:
        yield f"{after.split} % came after {seen.requests} answers"
    if before.in_phase_s + MAX_TICK_S < canary.step_min_s:
        yield f"{after.split} % came after {before.in_phase_s:g} s"
    if seen.edge_share != before.split:
        yield f"{after.split} % came while the edge had confirmed {seen.edge_share}"


def _silence_agrees(before: Release) -> bool:
    canary = before.plan.canary
    return canary.on_no_answer == "promote" and before.waited_s + MAX_TICK_S >= canary.answer_s


def _slots(after: Release, asked: Sequence[Instruction]) -> Iterator[str]:
    for one in asked:
        changes = isinstance(one, Deploy) or (isinstance(one, Finish) and one.retire)
        if changes and (after.split, after.mirror_pct) != (0, 0.0):
            yield f"a slot was changed while it was to have {after.split} % of requests, {after.mirror_pct:g} % of copies"
        if isinstance(one, Deploy) and one.slot is not after.slot:
            yield "the champion's slot was changed"
    if (after.mirror_pct > 0) != (after.phase is Phase.SHADOW) or (after.mirror_pct and after.split):
        yield f"copies of {after.mirror_pct:g} % in {after.phase}, at {after.split} %"


def _safety(before: Release, after: Release, seen: Observation) -> Iterator[str]:
    harm = _first_harm(seen.gates)
    if before.phase is Phase.CANARY and harm and seen.champion is not None and after.phase not in _STOPPED:
        yield f"{harm.sentence}, and the release went on to {after.phase}"
    if seen.command is None and after.split < before.split and not (seen.champion and seen.champion.ready):
        yield "requests went back to a champion that is not known to be ready"
    if seen.command is Command.ROLL_BACK and before.active and (after.split or after.phase not in _GOING_BACK):
        yield f"a person's undo led to {after.phase} at {after.split} %"


def _end(before: Release, after: Release, seen: Observation) -> Iterator[str]:
    if before.phase in FINAL and seen.command is None and (after.phase, after.split) != (before.phase, before.split):
        yield f"a release that was {before.phase} became {after.phase}"
    if after.phase is Phase.PROMOTED and before.phase is not Phase.PROMOTED:
        missing = missing_evidence(seen.gates, before.plan.required_gates)
        if before.phase is not Phase.BAKING or missing or _first_harm(seen.gates) or seen.edge_share != 100:
            yield f"promoted from {before.phase} at {seen.edge_share} %, without {', '.join(missing) or 'nothing'}"


_STOPPED = (Phase.ROLLING_BACK, Phase.HELD)
_GOING_BACK = (Phase.ROLLING_BACK, Phase.ROLLED_BACK)


def _first_harm(gates: Sequence[Gate]) -> Gate | None:
    """Of the candidate; an unequal split says that the evidence means nothing."""
    return first_harm(gate for gate in gates if gate.name != VOIDS_EVIDENCE)
