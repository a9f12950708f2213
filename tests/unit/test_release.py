"""The state machine of a release: the ten rules of the design, as far as blue-green releases and evaluations meet them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotcold.domain.gate import Gate, Verdict, first_harm, missing_evidence
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
from hotcold.domain.package import PackageRef
from hotcold.domain.plan import GATES, SHADOW_NEEDED, Plan
from hotcold.domain.release import (
    EXPOSED,
    FINAL,
    MAX_TICK_S,
    SMOKE_GATES,
    Command,
    Observation,
    Phase,
    Release,
    advance,
    guard,
)
from hotcold.domain.score_table import ScoreTable, TableState, choose_table, refuse_publication
from hotcold.domain.serving import Slot, SlotStatus

OLD = PackageRef("m", 1, "1.0.0", "a" * 64)
NEW = PackageRef("m", 2, "1.1.0", "b" * 64)
PLAN = Plan(replicas=2, bake_s=10, max_bake_s=20)
START = Release("r", "m", 2, PLAN, Slot.GREEN, OLD, ticked_at=1000.0)
READY = SlotStatus(NEW.digest, ready=2, wanted=2)
CHAMPION_READY = SlotStatus(OLD.digest, ready=2, wanted=2)
SMOKE_SAFE = (Gate("smoke", Verdict.SAFE), Gate("batch_parity", Verdict.SAFE))
SMOKE_HARM = [
    tuple(Gate(gate.name, verdict) if gate.name == name else gate for gate in SMOKE_SAFE)
    for name in ("smoke", "batch_parity")
    for verdict in (Verdict.HARM, Verdict.UNKNOWN)
]
ALL_SAFE = tuple(Gate(name, Verdict.SAFE) for name in GATES)
SHADOW = Plan("shadow", replicas=2, mirror_pct=25.0, shadow_min_s=10, shadow_min_pairs=100, shadow_max_s=20)
SHADOW_SAFE = tuple(Gate(name, Verdict.SAFE) for name in SHADOW_NEEDED)
COPYING = Observation(candidate=READY, champion=CHAMPION_READY, edge_share=0, edge_mirror=25.0, gates=SHADOW_SAFE, pairs=100)
EVALUATING = (Phase.SHADOW, Phase.CLOSING, Phase.EVALUATED)


def at(phase: Phase, **changes: object) -> Release:
    split = 100 if phase in EXPOSED | {Phase.PROMOTED} else 0
    packaged = None if phase is Phase.PACKAGING else NEW
    exposed = split > 0 or phase in EVALUATING
    return replace(START, **{"phase": phase, "candidate": packaged, "split": split, "exposed": exposed, **changes})  # type: ignore[arg-type]


def test_a_good_release_goes_through_every_phase_and_each_effect_is_asked_for_once() -> None:
    seen = Observation(champion=CHAMPION_READY, edge_share=0)
    release, asked = advance(START, seen, 1000.0)
    assert (Phase.PACKAGING, (Package("m", 2),)) == (release.phase, asked)

    release, asked = advance(release, replace(seen, package=NEW), 1001.0)
    assert (Phase.DEPLOYING, (Deploy(Slot.GREEN, NEW, 2), SetStage("m"))) == (release.phase, asked)

    release, asked = advance(release, replace(seen, package=NEW), 1002.0)
    assert (Phase.DEPLOYING, ()) == (release.phase, asked)

    seen = replace(seen, candidate=READY)
    release, asked = advance(release, seen, 1003.0)
    assert (Phase.SMOKE, (Smoke(Slot.GREEN, NEW),)) == (release.phase, asked)

    release, asked = advance(release, replace(seen, smoke=SMOKE_SAFE), 1004.0)
    assert (Phase.CUTOVER, 100, (SetSplit(Slot.GREEN, 100),)) == (release.phase, release.split, asked)

    release, asked = advance(release, replace(seen, edge_share=0), 1005.0)
    assert (Phase.CUTOVER, ()) == (release.phase, asked)

    seen = replace(seen, edge_share=100, gates=ALL_SAFE)
    release, asked = advance(release, seen, 1006.0)
    assert (Phase.BAKING, 0.0, ()) == (release.phase, release.in_phase_s, asked)

    for now in (1010.0, 1014.0):
        release, asked = advance(release, seen, now)
        assert (Phase.BAKING, ()) == (release.phase, asked)
    release, asked = advance(release, seen, 1016.0)
    expected = (Finish(Slot.GREEN, Slot.BLUE, True, False), PublishScores("m", NEW), SetStage("m"))
    assert (Phase.PROMOTED, expected) == (release.phase, asked)


@pytest.mark.parametrize(
    ("phase", "seen", "reason"),
    [
        (Phase.PACKAGING, Observation(package_failure="no schema"), "no schema"),
        (Phase.PACKAGING, Observation(package=OLD), "m:v1.0.0-aaaaaaaaaaaa is the champion already"),
        (Phase.DEPLOYING, Observation(candidate=replace(READY, ready=0, failure="a byte is wrong")), "a byte is wrong"),
        (
            Phase.SMOKE,
            Observation(smoke=(Gate("smoke", Verdict.HARM, "off by 1", "1e-05"),)),
            "smoke is HARM: off by 1 (allowed: 1e-05)",
        ),
    ],
)
def test_a_candidate_that_cannot_serve_is_rejected_with_the_reason_before_any_traffic(
    phase: Phase, seen: Observation, reason: str
) -> None:
    release, asked = advance(at(phase), seen, 1000.0)
    assert (Phase.REJECTED, reason, 0) == (release.phase, release.reason, release.split)
    assert Finish(Slot.GREEN, Slot.BLUE, promoted=False, retire=phase is not Phase.PACKAGING) in asked


def test_smoke_tests_without_a_verdict_are_asked_for_again() -> None:
    release, asked = advance(at(Phase.SMOKE), Observation(candidate=READY, smoke=(Gate("smoke", Verdict.UNKNOWN),)), 1000.0)
    assert (Phase.SMOKE, (Smoke(Slot.GREEN, NEW),)) == (release.phase, asked)


def test_before_a_package_was_built_the_slot_of_the_previous_champion_is_not_retired() -> None:
    _, asked = advance(at(Phase.PACKAGING), Observation(package_failure="x"), 1000.0)
    assert not any(isinstance(instruction, Finish) and instruction.retire for instruction in asked)


@pytest.mark.parametrize("phase", [Phase.CUTOVER, Phase.BAKING])
def test_harm_or_a_dead_candidate_gives_the_traffic_back_at_once(phase: Phase) -> None:
    dead = Observation(candidate=SlotStatus(NEW.digest, 0, 2), champion=CHAMPION_READY, edge_share=100)
    release, asked = advance(at(phase), dead, 1000.0)
    expected = (SetSplit(Slot.GREEN, 0), RetractScores("m", NEW, OLD, "no replica of the candidate is ready"))
    assert (Phase.ROLLING_BACK, 0, expected) == (release.phase, release.split, asked)


def test_the_candidate_is_closed_only_after_the_edge_confirmed_that_its_traffic_is_gone() -> None:
    waiting, asked = advance(at(Phase.ROLLING_BACK), Observation(edge_share=100), 1000.0)
    assert (Phase.ROLLING_BACK, ()) == (waiting.phase, asked)
    waiting, asked = advance(waiting, Observation(edge_share=None), 1001.0)
    assert (Phase.ROLLING_BACK, ()) == (waiting.phase, asked)
    ended, asked = advance(waiting, Observation(edge_share=0), 1002.0)
    assert (Phase.ROLLED_BACK, (Finish(Slot.GREEN, Slot.BLUE, False, True), SetStage("m"))) == (ended.phase, asked)


def test_traffic_is_not_rolled_back_onto_a_champion_that_is_not_ready() -> None:
    harm = Observation(
        candidate=READY, champion=SlotStatus(OLD.digest, 0, 2), edge_share=100, gates=(Gate("edge_probe", Verdict.HARM),)
    )
    release, asked = advance(at(Phase.BAKING), harm, 1000.0)
    assert (Phase.HELD, 100, ()) == (release.phase, release.split, asked)


def test_a_first_release_has_nothing_to_go_back_to_and_is_held() -> None:
    harm = Observation(candidate=READY, edge_share=100, gates=(Gate("edge_probe", Verdict.HARM),))
    release, _ = advance(at(Phase.BAKING, champion=None), harm, 1000.0)
    assert (Phase.HELD, 100) == (release.phase, release.split)


@pytest.mark.parametrize(("on_unknown", "phase"), [("hold", Phase.HELD), ("roll_back", Phase.ROLLING_BACK)])
def test_no_evidence_is_unknown_and_never_promotes(on_unknown: str, phase: Phase) -> None:
    plan = replace(PLAN, on_unknown=on_unknown)
    release = at(Phase.BAKING, plan=plan)
    seen = Observation(candidate=READY, champion=CHAMPION_READY, edge_share=100, gates=())
    for tick in range(1, 4):
        release, _ = advance(release, seen, 1000.0 + 5 * tick)
        assert release.phase is Phase.BAKING
    release, _ = advance(release, seen, 1020.0)
    assert release.phase is phase


def test_a_clock_that_jumps_ahead_does_not_end_a_bake_early() -> None:
    seen = Observation(candidate=READY, champion=CHAMPION_READY, edge_share=100, gates=ALL_SAFE)
    release, _ = advance(at(Phase.BAKING), seen, 1000.0 + 3600)
    assert (Phase.BAKING, MAX_TICK_S) == (release.phase, release.in_phase_s)
    release, _ = advance(release, seen, 1000.0 - 3600)
    assert (Phase.BAKING, MAX_TICK_S) == (release.phase, release.in_phase_s)


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase not in (Phase.REJECTED, Phase.ROLLED_BACK, *EVALUATING)])
def test_a_person_can_always_take_a_release_back(phase: Phase) -> None:
    undo = Observation(command=Command.ROLL_BACK, command_reason="because")
    release, asked = advance(at(phase), undo, 1000.0)
    assert (Phase.ROLLING_BACK, 0) == (release.phase, release.split)
    assert (SetSplit(Slot.GREEN, 0) in asked) == (phase in EXPOSED | {Phase.PROMOTED})
    if phase is not Phase.ROLLING_BACK:
        retracted = RetractScores("m", NEW, OLD, "because") in asked
        assert retracted == (phase is not Phase.PACKAGING), "its scores go with its traffic"


def test_a_promoted_first_release_is_not_taken_off_the_edge() -> None:
    release, asked = advance(at(Phase.PROMOTED, champion=None), Observation(command=Command.ROLL_BACK), 1000.0)
    assert (Phase.PROMOTED, ()) == (release.phase, asked)


def test_a_dead_controller_s_candidate_loses_its_traffic_and_the_release_is_held() -> None:
    release, asked = guard(at(Phase.BAKING), CHAMPION_READY, 100)
    assert (Phase.HELD, Phase.BAKING, 0) == (release.phase, release.held_from, release.split)
    assert (SetSplit(Slot.GREEN, 0),) == asked


@pytest.mark.parametrize("champion", [None, SlotStatus(OLD.digest, 0, 2)])
def test_the_guard_leaves_traffic_where_it_is_while_the_champion_is_not_known_to_be_ready(champion: SlotStatus | None) -> None:
    release, asked = guard(at(Phase.BAKING), champion, 100)
    assert (Phase.HELD, 100, ()) == (release.phase, release.split, asked)


def test_the_guard_ends_a_rollback_that_lost_its_controller() -> None:
    release, _ = guard(at(Phase.ROLLING_BACK), CHAMPION_READY, 0)
    assert release.phase is Phase.ROLLED_BACK


def test_a_release_that_was_held_goes_on_from_a_fresh_deployment() -> None:
    held, _ = guard(at(Phase.BAKING), CHAMPION_READY, 100)
    release, asked = advance(held, Observation(command=Command.RESUME), 1000.0)
    assert (Phase.DEPLOYING, (Deploy(Slot.GREEN, NEW, 2), SetStage("m"))) == (release.phase, asked)


def test_a_resumed_release_that_fails_makes_sure_of_its_traffic_first() -> None:
    resumed = at(Phase.DEPLOYING, exposed=True)
    release, _ = advance(resumed, Observation(candidate=replace(READY, ready=0, failure="gone")), 1000.0)
    assert release.phase is Phase.ROLLING_BACK


def shadowing(phase: Phase, **changes: object) -> Release:
    return at(phase, plan=SHADOW, **changes)


def test_an_evaluation_goes_through_every_phase_and_each_effect_is_asked_for_once() -> None:
    seen = Observation(package=NEW, candidate=READY, champion=CHAMPION_READY, edge_share=0, edge_mirror=0.0, smoke=SMOKE_SAFE)
    release, asked = advance(replace(shadowing(Phase.SMOKE), exposed=False), seen, 1001.0)
    assert (Phase.SHADOW, (Mirror(Slot.GREEN, 25.0),)) == (release.phase, asked)
    assert (25.0, True) == (release.mirror_pct, release.exposed)
    # Set, then verify at the edge, then start the clock.
    for edge_mirror, now in ((0.0, 1001.5), (None, 1002.0), (24.0, 1003.0)):
        release, asked = advance(release, replace(COPYING, edge_mirror=edge_mirror), now)
        assert (Phase.SHADOW, 0.0, now - 1001.0, ()) == (release.phase, release.in_phase_s, release.quiet_s, asked)

    for now in (1007.0, 1011.0):
        release, asked = advance(release, COPYING, now)
        assert (Phase.SHADOW, None, ()) == (release.phase, release.verdict, asked)
    release, asked = advance(release, COPYING, 1013.0)
    assert (Phase.CLOSING, Verdict.SAFE, (Mirror(Slot.GREEN, 0.0),)) == (release.phase, release.verdict, asked)
    assert f"every gate is SAFE: {', '.join(SHADOW_NEEDED)}" == release.reason

    for edge_mirror in (25.0, None):
        release, asked = advance(release, replace(COPYING, edge_mirror=edge_mirror), 1014.0)
        assert (Phase.CLOSING, ()) == (release.phase, asked)
    release, asked = advance(release, replace(COPYING, edge_mirror=0.0), 1015.0)
    expected = (Finish(Slot.GREEN, Slot.BLUE, promoted=False, retire=True), SetStage("m"))
    assert (Phase.EVALUATED, Verdict.SAFE, 0, expected) == (release.phase, release.verdict, release.split, asked)


def lacking(name: str) -> tuple[Gate, ...]:
    return tuple(gate for gate in SHADOW_SAFE if gate.name != name)


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (replace(COPYING, gates=lacking("score_change")), "no evidence from score_change within 20 s"),
        (replace(COPYING, gates=()), f"no evidence from {', '.join(SHADOW_NEEDED)} within 20 s"),
        (
            replace(COPYING, gates=(*lacking("error_rate"), Gate("error_rate", Verdict.UNKNOWN))),
            "no evidence from error_rate within 20 s",
        ),
        (replace(COPYING, pairs=99), "99 of 100 pairs within 20 s"),
        (replace(COPYING, pairs=None), "0 of 100 pairs within 20 s"),
    ],
)
def test_what_is_lacking_at_the_limit_is_named_and_the_verdict_is_unknown(seen: Observation, reason: str) -> None:
    release = shadowing(Phase.SHADOW)
    for now in (1005.0, 1010.0, 1015.0):
        release, asked = advance(release, seen, now)
        assert (Phase.SHADOW, ()) == (release.phase, asked)
    release, asked = advance(release, seen, 1020.0)
    assert (Phase.CLOSING, Verdict.UNKNOWN, (Mirror(Slot.GREEN, 0.0),)) == (release.phase, release.verdict, asked)
    assert release.reason.startswith(reason)


def test_at_the_limit_too_the_edge_has_to_confirm_the_copies_for_the_verdict_safe() -> None:
    release, _ = advance(shadowing(Phase.SHADOW, in_phase_s=20.0), replace(COPYING, edge_mirror=0.0), 1000.0)
    expected = (Verdict.UNKNOWN, "no confirmation of the copies by the edge within 20 s")
    assert expected == (release.verdict, release.reason)


DEAD = SlotStatus(NEW.digest, ready=0, wanted=2, restarts=1)


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [(DEAD, "no replica of the candidate is ready"), (replace(READY, failure="a byte is wrong"), "a byte is wrong")],
)
def test_a_candidate_that_dies_under_copies_does_harm_and_the_champion_is_left_as_it_is(
    candidate: SlotStatus, reason: str
) -> None:
    release, asked = advance(shadowing(Phase.SHADOW), replace(COPYING, candidate=candidate), 1000.0)
    assert (Phase.CLOSING, Verdict.HARM, reason) == (release.phase, release.verdict, release.reason)
    assert (Mirror(Slot.GREEN, 0.0),) == asked


@pytest.mark.parametrize("champion", [None, SlotStatus(OLD.digest, 0, 2)])
def test_a_candidate_is_not_blamed_where_the_champion_is_not_ready_either(champion: SlotStatus | None) -> None:
    release, _ = advance(shadowing(Phase.SHADOW), replace(COPYING, candidate=DEAD, champion=champion), 1000.0)
    assert (Phase.SHADOW, None) == (release.phase, release.verdict)


@pytest.mark.parametrize("name", [*SHADOW_NEEDED, "a gate that is not required"])
def test_harm_of_any_gate_ends_an_evaluation_at_once(name: str) -> None:
    harm = Gate(name, Verdict.HARM, "7", "1")
    seen = replace(COPYING, gates=(*lacking(name), harm), pairs=0, edge_mirror=None)
    release, asked = advance(shadowing(Phase.SHADOW), seen, 1000.0)
    assert (Phase.CLOSING, Verdict.HARM, harm.sentence) == (release.phase, release.verdict, release.reason)
    assert (Mirror(Slot.GREEN, 0.0),) == asked


HUNG = replace(READY, ready=0)


@pytest.mark.parametrize("edge_mirror", [0.0, None, 24.0])
@pytest.mark.parametrize(
    ("candidate", "champion", "verdict", "reason"),
    [
        (READY, CHAMPION_READY, Verdict.UNKNOWN, "the edge did not confirm the copies within 15 s"),
        (None, None, Verdict.UNKNOWN, "the edge did not confirm the copies within 15 s"),
        # The edge sees nobody, so it is not the candidate's fault.
        (HUNG, replace(CHAMPION_READY, ready=0), Verdict.UNKNOWN, "the edge did not confirm the copies within 15 s"),
        (HUNG, CHAMPION_READY, Verdict.HARM, "no replica of the candidate answered within 15 s"),
    ],
)
def test_copies_that_pause_for_too_long_end_an_evaluation(
    edge_mirror: float | None,
    candidate: SlotStatus | None,
    champion: SlotStatus | None,
    verdict: Verdict,
    reason: str,
) -> None:
    release = shadowing(Phase.SHADOW, in_phase_s=12.0)
    seen = replace(COPYING, edge_mirror=edge_mirror, candidate=candidate, champion=champion)
    for now in (1005.0, 1010.0):
        release, _ = advance(release, seen, now)
        assert (Phase.SHADOW, 12.0) == (release.phase, release.in_phase_s), "the clock stands still"
    release, _ = advance(release, seen, 1015.0)
    assert (Phase.CLOSING, verdict, reason) == (release.phase, release.verdict, release.reason)


def test_a_pause_of_the_copies_is_forgotten_when_they_go_on() -> None:
    release = shadowing(Phase.SHADOW)
    for now in (1005.0, 1010.0):
        release, _ = advance(release, replace(COPYING, candidate=HUNG, edge_mirror=0.0), now)
    release, _ = advance(release, replace(COPYING, gates=()), 1011.0)
    assert (Phase.SHADOW, 0.0, 1.0) == (release.phase, release.quiet_s, release.in_phase_s)


@pytest.mark.parametrize("phase", [Phase.PACKAGING, Phase.DEPLOYING, Phase.SMOKE, *EVALUATING[:-1], Phase.HELD])
def test_a_person_can_end_an_evaluation_at_any_time_and_no_scores_are_touched(phase: Phase) -> None:
    undo = Observation(command=Command.ROLL_BACK, command_reason="because")
    release, asked = advance(shadowing(phase), undo, 1000.0)
    assert (Phase.ROLLING_BACK, 0, 0.0) == (release.phase, release.split, release.mirror_pct)
    assert ((Mirror(Slot.GREEN, 0.0),) if phase is Phase.SHADOW else ()) == asked
    waiting, asked = advance(release, Observation(edge_share=0, edge_mirror=25.0), 1001.0)
    assert (Phase.ROLLING_BACK, ()) == (waiting.phase, asked)
    ended, asked = advance(waiting, Observation(edge_share=0, edge_mirror=0.0), 1002.0)
    assert (Phase.ROLLED_BACK, SetStage("m")) == (ended.phase, asked[-1])


def test_what_was_evaluated_cannot_be_taken_back() -> None:
    ended = replace(shadowing(Phase.EVALUATED), verdict=Verdict.HARM)
    assert (ended, ()) == advance(ended, Observation(command=Command.ROLL_BACK), 1000.0)


@pytest.mark.parametrize("champion", [None, CHAMPION_READY, SlotStatus(OLD.digest, 0, 2)])
def test_a_dead_controller_s_copies_end_whatever_the_champion_does(champion: SlotStatus | None) -> None:
    release, asked = guard(shadowing(Phase.SHADOW), champion, 0, 25.0)
    assert (Phase.HELD, Phase.SHADOW, 0.0) == (release.phase, release.held_from, release.mirror_pct)
    assert release.verdict is None
    assert (Mirror(Slot.GREEN, 0.0),) == asked
    resumed, asked = advance(release, Observation(command=Command.RESUME), 1000.0)
    assert (Phase.DEPLOYING, Deploy(Slot.GREEN, NEW, 2)) == (resumed.phase, asked[0])


def test_the_guard_ends_an_evaluation_that_has_its_verdict() -> None:
    closing = replace(shadowing(Phase.CLOSING), verdict=Verdict.SAFE)
    for edge_mirror, phase in ((25.0, Phase.CLOSING), (None, Phase.CLOSING), (0.0, Phase.EVALUATED)):
        release, _ = guard(closing, CHAMPION_READY, 0, edge_mirror)
        assert (phase, Verdict.SAFE) == (release.phase, release.verdict)


# Random histories

slots = st.one_of(
    st.none(),
    st.builds(
        SlotStatus,
        digest=st.sampled_from([OLD.digest, NEW.digest, ""]),
        ready=st.integers(0, 2),
        wanted=st.just(2),
        failure=st.sampled_from(["", "", "", "refused"]),
    ),
)
gates = st.lists(
    st.builds(Gate, name=st.sampled_from(GATES), verdict=st.sampled_from(Verdict)), max_size=2, unique_by=lambda gate: gate.name
).map(tuple)
observations = st.builds(
    Observation,
    package=st.sampled_from([None, NEW, NEW, OLD]),
    package_failure=st.sampled_from(["", "", "", "broken"]),
    candidate=st.one_of(st.just(READY), slots),
    champion=st.one_of(st.just(CHAMPION_READY), slots),
    edge_share=st.sampled_from([None, 0, 100, 100]),
    smoke=st.sampled_from([(), *[SMOKE_SAFE] * 3, SMOKE_SAFE[:1], SMOKE_SAFE[1:], *SMOKE_HARM]),
    gates=st.one_of(st.just(ALL_SAFE), gates),
    command=st.sampled_from([None, None, None, None, Command.RESUME, Command.ROLL_BACK]),
    edge_mirror=st.sampled_from([None, 0.0, 25.0, 25.0]),
    pairs=st.sampled_from([None, 0, 99, 100, 100]),
)
moves = st.tuples(
    observations, st.sampled_from([0.2, 3.0, 3.0, 30.0, 3600.0, -3600.0]), st.sampled_from(["tick"] * 5 + ["guard"])
)
histories = st.lists(moves, min_size=1, max_size=15)
# Histories start anywhere, since the deep phases are seldom reached by chance.
starts = st.builds(
    lambda phase, in_phase_s, was_exposed: replace(
        at(phase), in_phase_s=in_phase_s, exposed=at(phase).exposed or (was_exposed and phase is not Phase.REJECTED)
    ),
    st.sampled_from(
        [Phase.PACKAGING, Phase.DEPLOYING, Phase.SMOKE, Phase.CUTOVER, Phase.BAKING, Phase.ROLLING_BACK, Phase.PROMOTED]
    ),
    st.sampled_from([0.0, 9.0, 19.0, 1000.0]),
    st.booleans(),
)


def check_step(before: Release, after: Release, asked: tuple[Instruction, ...], seen: Observation) -> None:
    assert after.split in (0, 100)
    assert 0 <= after.in_phase_s <= before.in_phase_s + MAX_TICK_S
    if after.split > before.split:
        assert before.phase is Phase.SMOKE, "traffic rises only after the smoke tests"
        assert not missing_evidence(seen.smoke, SMOKE_GATES) and not first_harm(seen.smoke)
        assert seen.candidate and seen.candidate.ready and seen.candidate.digest == NEW.digest
    if after.split != before.split:
        assert SetSplit(after.slot, after.split) in asked
    assert not any(isinstance(instruction, Mirror) for instruction in asked), "nothing is copied in a blue-green release"
    if after.phase is Phase.PROMOTED and before.phase is not Phase.PROMOTED:
        assert {gate.name for gate in seen.gates if gate.verdict is Verdict.SAFE} >= set(PLAN.required_gates)
        assert not any(gate.verdict is Verdict.HARM for gate in seen.gates)
        assert before.phase is Phase.BAKING and seen.edge_share == 100 and after.split == 100
    if after.phase in (Phase.REJECTED, Phase.ROLLED_BACK) and before.phase is not after.phase:
        assert after.split == 0
        assert seen.edge_share == 0 if after.exposed else True, (
            "a candidate that was exposed is closed after its traffic is gone"
        )
    if any(
        isinstance(instruction, Deploy) or (isinstance(instruction, Finish) and instruction.retire) for instruction in asked
    ):
        assert after.split == 0, "a slot is changed only without traffic"
    harm = any(gate.verdict is Verdict.HARM for gate in seen.gates)
    if before.phase is Phase.BAKING and harm and seen.champion is not None:
        assert after.phase in (Phase.ROLLING_BACK, Phase.HELD)
    automatic = seen.command is None
    if automatic and after.split < before.split:
        assert seen.champion and seen.champion.ready, "nobody is sent to a champion that is not ready"
    if before.phase in FINAL and automatic:
        assert (before.phase, before.split) == (after.phase, after.split)


class Scores:
    """What readers of one output see while a release goes its way; batch runs of both packages end at any moment."""

    def __init__(self, release: Release) -> None:
        self.champion = NEW if release.phase is Phase.PROMOTED else release.champion
        self.tables: dict[str, ScoreTable] = {}
        self.current = ""
        self.score(OLD, 1.0, "a")

    def score(self, package: PackageRef, now: float, fingerprint: str) -> None:
        """A batch run ends and publishes what it made."""
        table_id = f"{package.version}{fingerprint}"
        table = ScoreTable(table_id, "m", "/out", package, "/in", fingerprint, 1, True, now)
        self.tables[table_id] = table
        if not refuse_publication(table, self.champion):
            self.show(table_id)

    def show(self, table_id: str) -> None:
        self.current = table_id
        if table_id:
            self.tables[table_id] = replace(self.tables[table_id], state=TableState.PUBLISHED)

    def retract(self) -> None:
        for table in self.tables.values():
            if table.package == NEW and table.usable:
                self.tables[table.id] = replace(table, state=TableState.RETRACTED)

    def follow(self, asked: tuple[Instruction, ...]) -> None:
        for instruction in asked:
            match instruction:
                case PublishScores(_, package):
                    self.champion = package
                case RetractScores(_, _, champion, _):
                    self.champion = champion
                    self.retract()
                case _:
                    continue
            self.show(choose_table(list(self.tables.values()), self.champion, self.current))

    def check(self, release: Release) -> None:
        shown = self.tables[self.current].package if self.current else None
        if release.phase is Phase.ROLLED_BACK or (release.phase is Phase.ROLLING_BACK and release.candidate):
            assert shown != NEW, "after a rollback no reader sees a table of the candidate"
        if shown == NEW:
            assert release.phase is Phase.PROMOTED, "scores of a candidate are not shown before it is the champion"
        if release.phase is Phase.PROMOTED and self.current:
            ours = [table for table in self.tables.values() if table.usable and table.package == NEW]
            same_input = [t for t in ours if t.input_fingerprint == self.tables[self.current].input_fingerprint]
            assert shown == NEW or not same_input, "readers of a promoted model see its scores as soon as there are some"


def check_history(release: Release, history: list[tuple[Observation, float, str]]) -> None:
    now = 1000.0
    scores = Scores(release)
    for observed, elapsed_s, move in history:
        now += elapsed_s
        seen = observed
        if move == "guard":
            seen = Observation(champion=seen.champion, edge_share=seen.edge_share)
            after, asked = guard(release, seen.champion, seen.edge_share)
        else:
            after, asked = advance(release, seen, now)
            assert (after, asked) == advance(release, seen, now), "the same question has the same answer"
        check_step(release, after, asked, seen)
        repeated, again = advance(after, replace(seen, command=None), now)
        if repeated.phase is after.phase:
            rows = (Deploy, SetSplit, Finish, PublishScores, RetractScores)
            assert not any(isinstance(instruction, rows) for instruction in again), "a row is written with its step only"
        # Taken from the history, so that a failure can be replayed: what was scored in the meantime.
        if scored := {3.0: NEW, 0.2: OLD}.get(elapsed_s):
            scores.score(scored, now, "a" if seen.edge_share is None else "b")
            scores.check(release)
        scores.follow(asked)
        scores.check(after)
        release = after


@settings(max_examples=600, deadline=None)
@given(starts, histories)
def test_the_rules_hold_over_random_histories_of_observations_crashes_and_clock_jumps(
    start: Release, history: list[tuple[Observation, float, str]]
) -> None:
    check_history(start, history)


@settings(max_examples=300, deadline=None)
@given(starts, histories)
def test_the_rules_hold_for_a_first_release(start: Release, history: list[tuple[Observation, float, str]]) -> None:
    check_history(replace(start, champion=None), history)


@settings(max_examples=100, deadline=None)
@given(st.lists(moves, min_size=15, max_size=40))
def test_the_rules_hold_from_the_beginning(history: list[tuple[Observation, float, str]]) -> None:
    check_history(START, history)


# Random histories of evaluations

shadow_gates = st.lists(
    st.builds(Gate, name=st.sampled_from(SHADOW_NEEDED), verdict=st.sampled_from(Verdict)),
    max_size=5,
    unique_by=lambda gate: gate.name,
).map(tuple)
shadow_slots = st.one_of(st.just(READY), st.just(READY), st.just(DEAD), st.just(HUNG), slots)
shadow_observations = st.builds(
    lambda seen, gates, candidate, edge_share: replace(seen, gates=gates, candidate=candidate, edge_share=edge_share),
    observations,
    st.one_of(st.just(SHADOW_SAFE), st.just(SHADOW_SAFE), shadow_gates),
    shadow_slots,
    st.sampled_from([None, 0, 0, 0]),
)
shadow_moves = st.tuples(
    shadow_observations, st.sampled_from([0.2, 3.0, 3.0, 30.0, 3600.0, -3600.0]), st.sampled_from(["tick"] * 5 + ["guard"])
)
shadow_starts = st.builds(
    lambda phase, in_phase_s, was_exposed: shadowing(
        phase,
        in_phase_s=in_phase_s,
        exposed=at(phase).exposed or was_exposed,
        verdict=Verdict.SAFE if phase in (Phase.CLOSING, Phase.EVALUATED) else None,
    ),
    st.sampled_from([Phase.PACKAGING, Phase.DEPLOYING, Phase.SMOKE, *EVALUATING, Phase.HELD, Phase.ROLLING_BACK]),
    st.sampled_from([0.0, 9.0, 19.0, 1000.0]),
    st.booleans(),
)


class EvaluationEdge:
    """What the edge was told and what it last confirmed: a slot may be changed only when nothing of the latter is left."""

    def __init__(self, release: Release) -> None:
        self.told = release.mirror_pct
        self.may_copy = release.exposed

    def follow(self, release: Release, asked: tuple[Instruction, ...], seen: Observation) -> None:
        if seen.edge_mirror == 0.0 and self.told == 0.0:
            self.may_copy = False
        for instruction in asked:
            if isinstance(instruction, Mirror):
                self.told = instruction.share_pct
                self.may_copy = self.may_copy or self.told > 0
            if isinstance(instruction, Finish):
                assert not instruction.promoted
                # A deployment after a hold is the same package again; the agent waits for the edge before it touches a replica.
                assert not (instruction.retire and self.may_copy), "copies are gone at the edge before the slot is emptied"
            if isinstance(instruction, Deploy | Finish):
                assert 0.0 == self.told, "copies are taken away before the slot is changed"
        assert release.mirror_pct == self.told, "what is desired is what was written"


def check_evaluation(release: Release, history: list[tuple[Observation, float, str]]) -> None:
    now, edge = 1000.0, EvaluationEdge(release)
    for seen, elapsed_s, move in history:
        now += elapsed_s
        if move == "guard":
            after, asked = guard(release, seen.champion, seen.edge_share, seen.edge_mirror)
        else:
            after, asked = advance(release, seen, now)
            assert (after, asked) == advance(release, seen, now), "the same question has the same answer"
        check_evaluation_step(release, after, asked, seen)
        edge.follow(after, asked, seen)
        release = after


def check_evaluation_step(before: Release, after: Release, asked: tuple[Instruction, ...], seen: Observation) -> None:
    forbidden = (SetSplit, PublishScores, RetractScores)
    assert 0 == after.split and not any(isinstance(instruction, forbidden) for instruction in asked), "live traffic never moves"
    assert (after.mirror_pct > 0) == (after.phase is Phase.SHADOW)
    if after.phase is Phase.SHADOW and before.phase is not Phase.SHADOW:
        assert before.phase is Phase.SMOKE and not missing_evidence(seen.smoke, SMOKE_GATES)
        assert seen.candidate and seen.candidate.ready and seen.candidate.digest == NEW.digest
    if after.phase is before.phase is Phase.SHADOW and after.in_phase_s > before.in_phase_s:
        assert seen.edge_mirror == SHADOW.mirror_pct, "the clock runs only while the edge confirms the copies"
    if after.verdict is not before.verdict:
        check_verdict(before, after, seen)
    if after.phase is Phase.EVALUATED and before.phase is not Phase.EVALUATED:
        assert before.phase is Phase.CLOSING and after.verdict and (0, 0.0) == (seen.edge_share, seen.edge_mirror)
    harm = first_harm(seen.gates)
    if before.phase is Phase.SHADOW and harm and after.phase is Phase.CLOSING:
        assert Verdict.HARM is after.verdict
    if before.phase in FINAL:
        assert (before.phase, before.verdict, ()) == (after.phase, after.verdict, asked)


def check_verdict(before: Release, after: Release, seen: Observation) -> None:
    assert before.verdict is None and after.phase is Phase.CLOSING and before.phase is Phase.SHADOW and after.reason
    if after.verdict is Verdict.SAFE:
        assert {gate.name for gate in seen.gates if gate.verdict is Verdict.SAFE} >= set(SHADOW.shadow_gates)
        assert not first_harm(seen.gates)
        assert (seen.pairs or 0) >= SHADOW.shadow_min_pairs and seen.edge_mirror == SHADOW.mirror_pct
        assert before.in_phase_s + MAX_TICK_S >= SHADOW.shadow_min_s
    if after.verdict is Verdict.UNKNOWN:
        assert not first_harm(seen.gates)


@settings(max_examples=800, deadline=None)
@given(shadow_starts, st.lists(shadow_moves, min_size=1, max_size=15))
def test_the_rules_hold_over_random_histories_of_evaluations(
    start: Release, history: list[tuple[Observation, float, str]]
) -> None:
    check_evaluation(start, history)


@settings(max_examples=100, deadline=None)
@given(st.lists(shadow_moves, min_size=15, max_size=40))
def test_the_rules_of_evaluations_hold_from_the_beginning(history: list[tuple[Observation, float, str]]) -> None:
    check_evaluation(replace(START, plan=SHADOW), history)


@settings(max_examples=200, deadline=None)
@given(shadow_starts, st.lists(shadow_moves, min_size=0, max_size=10))
def test_an_evaluation_comes_to_an_end_whatever_was_before(
    start: Release, history: list[tuple[Observation, float, str]]
) -> None:
    release, now = start, 1000.0
    for seen, elapsed_s, _ in history:
        now += elapsed_s
        release, _ = advance(release, seen, now)
    # From here on the world is well, but for the evidence, which never comes.
    for _ in range(400):
        now += MAX_TICK_S
        command = Command.RESUME if release.phase is Phase.HELD else None
        mirror = release.mirror_pct
        seen = replace(COPYING, package=NEW, smoke=SMOKE_SAFE, gates=(), edge_mirror=mirror, command=command)
        release, _ = advance(release, seen, now)
    assert release.phase in FINAL
