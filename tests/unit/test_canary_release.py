"""The state machine of a canary: a growing share, each step on evidence, and people who may be asked."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotcold.domain.canary.plan import CANARY_NEEDED, CanaryPlan
from hotcold.domain.canary.spans import Span
from hotcold.domain.canary.timeline import spans_of
from hotcold.domain.gate import Gate, Verdict
from hotcold.domain.instructions import Deploy, Mirror, RetractScores, SetSplit
from hotcold.domain.package import PackageRef
from hotcold.domain.plan import GATES, SHADOW_NEEDED, Plan
from hotcold.domain.release import FINAL, MAX_TICK_S, SMOKE_GATES, Command, Observation, Phase, Release, advance, guard
from hotcold.domain.release_rules import broken_rules
from hotcold.domain.serving import Slot, SlotStatus

OLD = PackageRef("m", 1, "1.0.0", "a" * 64)
NEW = PackageRef("m", 2, "1.1.0", "b" * 64)
STEPS = CanaryPlan(steps=(5, 50), step_min_s=10, step_min_requests=100, step_max_s=30, answer_s=20)
PLAN = Plan("canary", bake_s=10, max_bake_s=20, canary=STEPS)
READY = SlotStatus(NEW.digest, ready=2, wanted=2)
CHAMPION = SlotStatus(OLD.digest, ready=2, wanted=2)
SAFE = tuple(Gate(name, Verdict.SAFE) for name in dict.fromkeys((*CANARY_NEEDED, *GATES, *SHADOW_NEEDED)))
SMOKE_SAFE = tuple(Gate(name, Verdict.SAFE) for name in SMOKE_GATES)
WELL = Observation(
    package=NEW, candidate=READY, champion=CHAMPION, smoke=SMOKE_SAFE, gates=SAFE, edge_mirror=0.0, requests=100, pairs=10**6
)


def at_step(step: int, **changes: object) -> Release:
    start = Release("r", "m", 2, PLAN, Slot.GREEN, OLD, NEW, Phase.CANARY, ticked_at=1000.0)
    plan = changes.get("plan", PLAN)
    assert isinstance(plan, Plan)
    share = plan.canary.share(step)
    return replace(start, **{"step": step, "split": share, "settled": True, "exposed": step > 0, **changes})  # type: ignore[arg-type]


def seen_at(share_pct: int | None, **changes: object) -> Observation:
    return replace(WELL, edge_share=share_pct, **changes)  # type: ignore[arg-type]


def test_a_good_version_goes_through_every_step_and_the_clock_of_each_starts_at_the_edge_s_confirmation() -> None:
    release = replace(at_step(0), phase=Phase.SMOKE, settled=False)
    release, asked = advance(release, seen_at(0), 1001.0)
    assert (Phase.CANARY, 0, 0, ()) == (release.phase, release.step, release.split, asked)
    release, _ = advance(release, seen_at(0), 1002.0)
    assert release.settled
    release, asked = advance(release, seen_at(0), 1003.0)
    assert (1, 5, False, (SetSplit(Slot.GREEN, 5),)) == (release.step, release.split, release.settled, asked)
    release, _ = advance(release, seen_at(0), 1006.0)
    assert (False, 0.0) == (release.settled, release.in_phase_s), "what was set is not so yet"
    release, _ = advance(release, seen_at(5), 1007.0)
    assert (True, 0.0) == (release.settled, release.in_phase_s)
    for now in (1011.0, 1016.0):
        release, asked = advance(release, seen_at(5), now)
        assert (1, ()) == (release.step, asked)
    release, asked = advance(release, seen_at(5), 1017.0)
    assert (2, 50, (SetSplit(Slot.GREEN, 50),)) == (release.step, release.split, asked)
    release, _ = advance(release, seen_at(50), 1018.0)
    for now in (1022.0, 1026.0, 1028.0):
        release, asked = advance(release, seen_at(50), now)
    assert (Phase.CUTOVER, 100, (SetSplit(Slot.GREEN, 100),)) == (release.phase, release.split, asked)
    release, _ = advance(release, seen_at(100), 1029.0)
    assert (Phase.BAKING, True) == (release.phase, release.settled)
    for now in (1033.0, 1037.0, 1039.0):
        release, asked = advance(release, seen_at(100), now)
    assert Phase.PROMOTED is release.phase


@pytest.mark.parametrize(
    ("seen", "lacking"),
    [
        (seen_at(5, gates=SAFE[1:]), "no evidence from replica_health"),
        (seen_at(5, gates=()), f"no evidence from {', '.join(CANARY_NEEDED)}"),
        (seen_at(5, requests=99), "99 of 100 answers of the candidate"),
        (seen_at(5, requests=None), "0 of 100 answers of the candidate"),
    ],
)
@pytest.mark.parametrize(("on_unknown", "phase"), [("hold", Phase.CANARY), ("roll_back", Phase.ROLLING_BACK)])
def test_without_the_evidence_a_step_lasts_and_at_its_end_the_plan_decides(
    seen: Observation, lacking: str, on_unknown: str, phase: Phase
) -> None:
    release = at_step(1, plan=replace(PLAN, on_unknown=on_unknown))
    for tick in range(1, 6):
        release, asked = advance(release, seen, 1000.0 + 5 * tick)
        assert (1, "", ()) == (release.step, release.waiting, asked)
    release, _ = advance(release, seen, 1030.0)
    reason = f"{lacking} within 30 s at 5 %"
    assert (phase, reason) == (release.phase, release.reason)
    assert (reason if phase is Phase.CANARY else "") == release.waiting


@pytest.mark.parametrize("settled", [True, False])
@pytest.mark.parametrize("waiting", ["", "50 % needs an approval"])
@pytest.mark.parametrize("name", ["replica_health", "error_rate", "worst_segment", "a gate that is not required"])
def test_harm_gives_the_traffic_back_at_once_whatever_the_step_waits_for(name: str, waiting: str, settled: bool) -> None:
    harm = Gate(name, Verdict.HARM, "9 %", "2 %")
    release, asked = advance(at_step(1, settled=settled, waiting=waiting), seen_at(None, gates=(*SAFE, harm)), 1001.0)
    expected = (SetSplit(Slot.GREEN, 0), RetractScores("m", NEW, OLD, harm.sentence))
    assert (Phase.ROLLING_BACK, 0, "", expected) == (release.phase, release.split, release.waiting, asked)


def test_a_split_that_is_not_as_configured_asks_a_person_and_says_nothing_of_the_candidate() -> None:
    alarm = Gate("sample_ratio", Verdict.HARM, "1.4", "1.25")
    gates = tuple(alarm if gate.name == "sample_ratio" else gate for gate in SAFE)
    release, asked = advance(at_step(1), seen_at(5, gates=gates), 1011.0)
    assert (Phase.CANARY, 1, alarm.sentence, ()) == (release.phase, release.step, release.waiting, asked)
    release, _ = advance(release, seen_at(5, gates=gates), 1100.0)
    assert 1 == release.step


APPROVALS = replace(PLAN, canary=replace(STEPS, approvals=(50, 100)))


def test_at_an_approval_point_a_person_is_asked_and_the_step_goes_on_when_they_agree() -> None:
    release = at_step(1, plan=APPROVALS, in_phase_s=10.0)
    release, asked = advance(release, seen_at(5), 1001.0)
    assert (1, 5, "50 % needs an approval", ()) == (release.step, release.split, release.waiting, asked)
    for now in (1005.0, 1010.0):
        release, asked = advance(release, seen_at(5), now)
        assert (1, ()) == (release.step, asked), "evidence does not replace the person"
    release, asked = advance(release, seen_at(5, command=Command.APPROVE, command_reason="looks good (me)"), 1011.0)
    assert (2, 50, "", "looks good (me)") == (release.step, release.split, release.waiting, release.reason)
    assert (SetSplit(Slot.GREEN, 50),) == asked


def test_nobody_is_approved_for_what_was_not_asked() -> None:
    release, asked = advance(at_step(1), seen_at(5, command=Command.APPROVE), 1001.0)
    assert (1, "", ()) == (release.step, release.waiting, asked)


def test_a_person_who_holds_is_asked_again_and_the_time_to_answer_begins_anew() -> None:
    release = at_step(1, plan=APPROVALS, waiting="50 % needs an approval", waited_s=19.0)
    release, _ = advance(release, seen_at(5, command=Command.HOLD, command_reason="later (me)"), 1000.5)
    assert ("50 % needs an approval", 0.0, "later (me)") == (release.waiting, release.waited_s, release.reason)


@pytest.mark.parametrize(
    ("on_no_answer", "phase", "step"),
    [("hold", Phase.CANARY, 1), ("roll_back", Phase.ROLLING_BACK, 1), ("promote", Phase.CANARY, 2)],
)
def test_without_an_answer_the_plan_decides(on_no_answer: str, phase: Phase, step: int) -> None:
    plan = replace(APPROVALS, canary=replace(APPROVALS.canary, on_no_answer=on_no_answer))
    release = at_step(1, plan=plan, waiting="50 % needs an approval", in_phase_s=10.0)
    for now in (1005.0, 1010.0, 1015.0):
        release, _ = advance(release, seen_at(5), now)
        assert (1, Phase.CANARY) == (release.step, release.phase)
    release, _ = advance(release, seen_at(5), 1020.0)
    assert (phase, step) == (release.phase, release.step)


def test_nobody_s_silence_promotes_without_evidence() -> None:
    plan = replace(APPROVALS, canary=replace(APPROVALS.canary, on_no_answer="promote"))
    release = at_step(1, plan=plan, waiting="no evidence", waited_s=1000.0, in_phase_s=1000.0)
    release, _ = advance(release, seen_at(5, gates=()), 1001.0)
    assert 1 == release.step


def test_evidence_that_comes_late_ends_the_wait_for_it() -> None:
    release = at_step(1, waiting="no evidence from error_rate within 30 s at 5 %", in_phase_s=40.0)
    release, _ = advance(release, seen_at(5), 1001.0)
    assert (2, "") == (release.step, release.waiting)


COPIES_FIRST = replace(PLAN, shadow_first=True, shadow_min_s=0, shadow_min_pairs=0, shadow_max_s=20)


@pytest.mark.parametrize(
    ("verdict", "on_unknown", "phase"),
    [
        (Verdict.SAFE, "hold", Phase.CANARY),
        (Verdict.HARM, "hold", Phase.ROLLING_BACK),
        (Verdict.UNKNOWN, "hold", Phase.CANARY),
        (Verdict.UNKNOWN, "roll_back", Phase.ROLLING_BACK),
    ],
)
def test_copies_tell_whether_live_requests_may_come(verdict: Verdict, on_unknown: str, phase: Phase) -> None:
    plan = replace(COPIES_FIRST, on_unknown=on_unknown)
    release = at_step(0, phase=Phase.SHADOW, plan=plan, in_phase_s=15.0)
    gates = tuple(Gate(name, verdict) for name in SHADOW_NEEDED)
    release, asked = advance(release, seen_at(0, gates=gates, edge_mirror=100.0), 1005.0)
    assert (phase, verdict, 0) == (release.phase, release.verdict, release.split)
    assert Mirror(Slot.GREEN, 0.0) in asked
    if phase is Phase.CANARY:
        assert bool(release.waiting) == (verdict is Verdict.UNKNOWN), "who begins without evidence is a person"
        release, _ = advance(replace(release, settled=True), seen_at(0), 1006.0)
        assert (0 if release.waiting else 1) == release.step


def test_the_guard_takes_a_canary_s_traffic_away_and_the_next_driver_goes_on_at_its_step() -> None:
    release, asked = guard(at_step(2, plan=COPIES_FIRST), CHAMPION, 50)
    assert (Phase.HELD, 2, 0, (SetSplit(Slot.GREEN, 0),)) == (release.phase, release.step, release.split, asked)
    release, asked = advance(release, Observation(command=Command.RESUME), 1001.0)
    assert (Phase.DEPLOYING, Deploy(Slot.GREEN, NEW, 2)) == (release.phase, asked[0])
    release, _ = advance(release, seen_at(0), 1002.0)
    release, asked = advance(release, seen_at(0), 1003.0)
    assert (Phase.CANARY, 2, 50, False) == (release.phase, release.step, release.split, release.settled)


def test_an_edge_that_never_confirms_a_share_ends_the_canary() -> None:
    release = at_step(1, settled=False)
    for now in (1005.0, 1010.0):
        release, _ = advance(release, seen_at(0), now)
        assert Phase.CANARY is release.phase
    release, _ = advance(release, seen_at(0), 1015.0)
    assert (Phase.ROLLING_BACK, "the edge did not confirm 5 % within 15 s") == (release.phase, release.reason)


def test_spans_begin_with_the_edge_s_confirmation_and_end_with_the_next_decision() -> None:
    story = [
        (1.0, 0, False),
        (2.0, 0, True),
        (3.0, 5, False),
        (4.0, 5, True),
        (5.0, 5, True),
        (9.0, 10, False),
        (10.0, 10, True),
    ]
    assert (Span(5, 4.0, 9.0), Span(10, 10.0, None)) == spans_of(story)
    assert (Span(5, 4.0, 9.0), Span(10, 10.0, 10.0)) == spans_of([*story, (9.5, 0, False)]), "a clock was set back"
    assert () == spans_of([])


# Random histories

gates = st.lists(
    st.builds(Gate, name=st.sampled_from([*CANARY_NEEDED, *GATES]), verdict=st.sampled_from(Verdict)), max_size=4
).map(tuple)
slots = st.builds(
    SlotStatus,
    digest=st.sampled_from([OLD.digest, NEW.digest, NEW.digest, ""]),
    ready=st.integers(0, 2),
    wanted=st.just(2),
    failure=st.sampled_from(["", "", "", "refused"]),
    restarts=st.integers(0, 1),
)
observations = st.builds(
    Observation,
    package=st.sampled_from([None, NEW, NEW]),
    candidate=st.one_of(st.just(READY), st.just(READY), st.none(), slots),
    champion=st.one_of(st.just(CHAMPION), st.just(CHAMPION), st.none(), slots),
    edge_share=st.sampled_from([None, 0, 5, 50, 100]),
    smoke=st.sampled_from([(), SMOKE_SAFE, SMOKE_SAFE]),
    gates=st.one_of(st.just(SAFE), st.just(SAFE), gates),
    command=st.sampled_from([None] * 5 + [Command.APPROVE, Command.HOLD, Command.RESUME, Command.ROLL_BACK]),
    edge_mirror=st.sampled_from([None, 0.0, 100.0]),
    pairs=st.sampled_from([None, 10**6]),
    requests=st.sampled_from([None, 99, 100, 100]),
)
moves = st.tuples(
    observations,
    st.booleans(),
    st.sampled_from([0.2, 3.0, 5.0, 3600.0, -3600.0]),
    st.sampled_from(["tick"] * 6 + ["guard"]),
)
plans = st.builds(
    lambda first, unknown, asks, answer: replace(
        COPIES_FIRST, shadow_first=first, on_unknown=unknown, canary=replace(STEPS, approvals=asks, on_no_answer=answer)
    ),
    st.booleans(),
    st.sampled_from(["hold", "roll_back"]),
    st.sampled_from([(), (5,), (50, 100)]),
    st.sampled_from(["hold", "roll_back", "promote"]),
)


def run_history(release: Release, history: list[tuple[Observation, bool, float, str]]) -> Release:
    now = 1000.0
    for observed, follows, elapsed_s, move in history:
        now += elapsed_s
        # An edge that does what it is told is seen often, or histories would never get far.
        seen = replace(observed, edge_share=release.split, edge_mirror=release.mirror_pct) if follows else observed
        if move == "guard":
            seen = Observation(champion=seen.champion, edge_share=seen.edge_share, edge_mirror=seen.edge_mirror)
            after, asked = guard(release, seen.champion, seen.edge_share, seen.edge_mirror)
        else:
            after, asked = advance(release, seen, now)
            assert (after, asked) == advance(release, seen, now), "the same question has the same answer"
        assert () == broken_rules(release, after, asked, seen)
        release = after
    return release


@settings(max_examples=800, deadline=None)
@given(plans, st.integers(0, 2), st.sampled_from(["", "a reason"]), st.booleans(), st.lists(moves, min_size=1, max_size=15))
def test_the_rules_hold_over_random_histories(
    plan: Plan, step: int, waiting: str, settled: bool, history: list[tuple[Observation, bool, float, str]]
) -> None:
    run_history(at_step(step, plan=plan, waiting=waiting, settled=settled, in_phase_s=9.0), history)


@settings(max_examples=200, deadline=None)
@given(plans, st.lists(moves, min_size=10, max_size=40))
def test_the_rules_hold_from_the_beginning(plan: Plan, history: list[tuple[Observation, bool, float, str]]) -> None:
    run_history(Release("r", "m", 2, plan, Slot.GREEN, OLD, ticked_at=1000.0), history)


@settings(max_examples=200, deadline=None)
@given(plans, st.lists(moves, max_size=15))
def test_a_canary_ends_whatever_was_before_where_people_answer(
    plan: Plan, history: list[tuple[Observation, bool, float, str]]
) -> None:
    release = run_history(Release("r", "m", 2, plan, Slot.GREEN, OLD, ticked_at=1000.0), history)
    now = 10_000.0
    for _ in range(200):
        now += MAX_TICK_S
        command = Command.RESUME if release.phase is Phase.HELD else Command.APPROVE if release.waiting else None
        seen = replace(WELL, edge_share=release.split, edge_mirror=release.mirror_pct, command=command)
        release, _ = advance(release, seen, now)
    assert release.phase in FINAL
