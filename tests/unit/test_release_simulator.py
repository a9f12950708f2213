"""Simulated releases keep the rules, and a rule that is broken is found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.release import candidate_of, simulate_one
from benchmarks.release_faults import KINDS
from benchmarks.release_history import Event, History, broken_history
from benchmarks.release_simulator import PLAN, simulate
from benchmarks.release_traffic import BROKEN, IDENTICAL
from hotcold.domain.canary.plan import CANARY_NEEDED
from hotcold.domain.gate import Gate, Verdict
from hotcold.domain.instructions import Deploy, Finish, SetSplit
from hotcold.domain.package import PackageRef
from hotcold.domain.plan import GATES
from hotcold.domain.release import FINAL, Observation, Phase, Release
from hotcold.domain.release_rules import broken_rules
from hotcold.domain.serving import Slot, SlotStatus

OLD, NEW = PackageRef("m", 1, "1.0.0", "a" * 64), PackageRef("m", 2, "1.1.0", "b" * 64)
SAFE = tuple(Gate(name, Verdict.SAFE) for name in dict.fromkeys((*CANARY_NEEDED, *GATES)))
HARM = Gate("error_rate", Verdict.HARM, "9 %", "2 %")
AT_5 = Release("r", "m", 2, PLAN, Slot.GREEN, OLD, NEW, Phase.CANARY, split=5, step=1, settled=True, in_phase_s=60.0)
AT_10 = replace(AT_5, split=10, step=2, settled=False, in_phase_s=0.0)
BACK = replace(AT_5, phase=Phase.ROLLING_BACK, split=0, settled=False)
WELL = Observation(
    candidate=SlotStatus(NEW.digest, 2, 2), champion=SlotStatus(OLD.digest, 2, 2), edge_share=5, gates=SAFE, requests=200
)


def test_twenty_releases_come_to_an_end_and_keep_the_rules() -> None:
    stories = [simulate_one(seed) for seed in range(20)]
    assert [()] * 20 == [story.broken for story in stories]
    assert all(story.phase in FINAL for story in stories)
    assert {Phase.PROMOTED, Phase.ROLLED_BACK} <= {story.phase for story in stories}
    assert any(story.taken_over for story in stories), "nobody was killed, so nothing was shown"
    assert {candidate.kind for candidate in (IDENTICAL, *BROKEN)} == {candidate_of(seed).kind for seed in range(20)}


def test_a_seed_is_one_release() -> None:
    slow = next(candidate for candidate in BROKEN if candidate.kind == "slow")
    assert simulate(5, slow) == simulate(5, slow)


def test_a_database_that_refuses_no_stale_controller_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "driver paused", (1.0, 30, 40))
    fenced, open_to_all = ([simulate(seed, fenced=fenced) for seed in range(1, 6)] for fenced in (True, False))
    assert [()] * 5 == [story.broken for story in fenced]
    assert any("after version" in sentence for story in open_to_all for sentence in story.broken)


def test_a_step_that_keeps_the_rules_breaks_none() -> None:
    assert () == broken_rules(AT_5, AT_10, (SetSplit(Slot.GREEN, 10),), WELL)


@pytest.mark.parametrize(
    ("after", "asked", "seen", "told"),
    [
        (AT_10, (), WELL, "the edge was not told"),
        (AT_10, (SetSplit(Slot.GREEN, 10),), replace(WELL, gates=SAFE[1:]), "came without replica_health"),
        (AT_10, (SetSplit(Slot.GREEN, 10),), replace(WELL, requests=199), "came after 199 answers"),
        (AT_10, (SetSplit(Slot.GREEN, 10),), replace(WELL, edge_share=0), "the edge had confirmed 0"),
        (AT_5, (), replace(WELL, gates=(*SAFE, HARM)), "and the release went on to canary"),
        (replace(AT_5, in_phase_s=66.0), (), WELL, "one tick took the clock"),
        (BACK, (SetSplit(Slot.GREEN, 0),), replace(WELL, champion=None), "a champion that is not known to be ready"),
        (AT_5, (Deploy(Slot.GREEN, NEW, 2),), WELL, "a slot was changed"),
        (replace(AT_5, phase=Phase.PROMOTED), (), WELL, "promoted from canary"),
    ],
)
def test_a_step_that_breaks_a_rule_is_told(after: Release, asked: tuple, seen: Observation, told: str) -> None:
    assert any(told in sentence for sentence in broken_rules(AT_5, after, asked, seen))


def test_a_slot_that_is_retired_under_requests_and_a_step_that_is_too_short_are_told() -> None:
    settled, early = replace(AT_5, in_phase_s=0.0, row_version=1), replace(AT_10, row_version=2)
    back = replace(AT_5, phase=Phase.ROLLED_BACK, split=0, settled=False, row_version=3)
    history = History(
        events=[
            Event(10.0, "driver 1", replace(settled, settled=False), settled, (), edge_share=5),
            Event(30.0, "driver 1", settled, early, (), edge_share=5),
            Event(40.0, "driver 1", early, back, (Finish(Slot.GREEN, Slot.BLUE, False, True),), edge_share=10),
        ]
    )
    assert [
        "the candidate's slot was retired while the edge gave it 10 %",
        "step 1 lasted 20 s, not 60 s",
        "the release is rolled_back, and the edge gives its candidate 10 %",
    ] == list(broken_history(history, last_share=10))
