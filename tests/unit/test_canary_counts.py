"""Counts of a canary: an entity counts once, merges add up, identical versions are hardly ever taken back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotcold.domain.canary.counting import Answers, Tally
from hotcold.domain.canary.counts import CanaryCounts
from hotcold.domain.canary.judgement import _segment_evidence, decide, error_ratio_test, judge, score_test
from hotcold.domain.canary.limits import CanaryLimits
from hotcold.domain.canary.spans import Span
from hotcold.domain.errors import EvidenceError, PlanError
from hotcold.domain.evidence.multiplicity import rejected_segments
from hotcold.domain.evidence.odds_mixture import log_mean_exp
from hotcold.domain.evidence.sample_ratio import SampleRatioTest
from hotcold.domain.gate import Verdict
from hotcold.domain.shadow.judgement import LABELS_UNREADABLE, MISSING, NOT_LOGGED, TORN, UNREADABLE, p99_test, slow_test
from hotcold.domain.shadow.limits import Limits

LIMITS, MORE, BUDGET_US = Limits(), CanaryLimits(), 50_000.0
# Entity, whether the candidate's, failed, seconds.
_ROWS = st.lists(st.tuples(st.integers(0, 12), st.booleans(), st.integers(0, 9)), max_size=40)


def answers(
    entity: np.ndarray,
    is_candidate: np.ndarray,
    share_pct: int = 10,
    good: np.ndarray | None = None,
    score: np.ndarray | None = None,
    second: np.ndarray | None = None,
    segment: np.ndarray | None = None,
    total_us: np.ndarray | None = None,
) -> Answers:
    n = len(entity)
    good = np.full(n, True) if good is None else good
    score = np.linspace(0.2, 0.8, n) if score is None else score
    return Answers(
        share_pct,
        (np.arange(n, dtype=np.int64) if second is None else np.asarray(second, dtype=np.int64)) * 1_000_000,
        entity.astype(np.uint64),
        np.zeros(n, dtype=np.int64) if segment is None else segment,
        ("", "new", "old"),
        is_candidate,
        good,
        np.where(good, score, np.nan),
        np.full(n, 900, dtype=np.int64) if total_us is None else total_us,
        np.where(np.arange(n) % 2 == 0, 1.0, np.nan),
    )


def tally(*windows: Answers) -> CanaryCounts:
    counted = Tally(LIMITS, MORE, BUDGET_US)
    for window in windows:
        counted.add(window, {}, {})
    return counted.counts


def verdicts(counts: CanaryCounts) -> dict[str, Verdict]:
    return {gate.name: gate.verdict for gate in judge(counts, LIMITS, MORE).gates}


def rows(found: list[tuple[int, bool, int]], share_pct: int = 10) -> Answers:
    """The side of an entity is that of its number; NO_ENTITY is on either."""
    found = sorted(found, key=lambda row: row[2])
    entity = np.array([row[0] for row in found], dtype=np.uint64)
    at = np.array([row[2] for row in found], dtype=np.int64)
    return answers(entity, entity % 3 == 1, share_pct, good=np.array([row[1] for row in found], dtype=np.bool_), second=at)


def cut(whole: Answers, at: int) -> tuple[Answers, Answers]:
    first = whole.second < at
    names = ("arrived_us", "entity", "segment", "is_candidate", "good", "score", "total_us", "label")
    parts = (replace(whole, **{name: getattr(whole, name)[chosen] for name in names}) for chosen in (first, ~first))
    before, after = parts
    return before, after


@given(_ROWS, st.integers(0, 10))
def test_windows_add_up_to_the_whole(found: list[tuple[int, bool, int]], at: int) -> None:
    whole = rows(found)
    parts = tally(*cut(whole, at))
    for name in ("answers", "entities", "errors", "slow", "scores", "loss", "wrong", "champion_range", "candidate_range"):
        assert getattr(tally(whole), name) == getattr(parts, name)
    assert tally(whole).champion_us == parts.champion_us


@given(_ROWS, _ROWS)
def test_counts_of_two_merge_to_those_of_both_where_they_share_no_entity(
    found: list[tuple[int, bool, int]], more: list[tuple[int, bool, int]]
) -> None:
    one, other = rows(found), rows([(entity + 30, good, second + 20) for entity, good, second in more], 25)
    assert tally(one, other) == tally(other).merge(tally(one))
    assert tally(one) == CanaryCounts().merge(tally(one))


@given(_ROWS)
def test_an_entity_is_answered_and_fails_once_and_each_request_without_one_does(found: list[tuple[int, bool, int]]) -> None:
    counts = tally(rows(found))
    nobody = [good for entity, good, _ in found if not entity]
    assert len({entity for entity, _, _ in found if entity}) + len(nobody) == counts.entities.total
    failing = {entity for entity, good, _ in found if entity and not good}
    assert len(failing) + nobody.count(False) == counts.errors.failures.total
    assert len(found) == counts.answers.total


def test_an_entity_that_fails_in_a_later_step_counts_under_the_share_of_that_time() -> None:
    entity, mine = np.array([5]), np.array([True])
    counts = tally(answers(entity, mine, 5), answers(entity, mine, 10, good=np.array([False])), answers(entity, mine, 25))
    assert {5: (1, 0)} == counts.entities.by_share
    assert {10: (1, 0)} == counts.errors.failures.by_share


@given(_ROWS, st.integers(0, 2))
@settings(deadline=None)
def test_one_more_failure_of_the_candidate_is_never_evidence_for_it(found: list[tuple[int, bool, int]], segment: int) -> None:
    whole = rows(found)
    failure = answers(
        np.array([99]), np.array([True]), good=np.array([False]), second=np.array([50]), segment=np.array([segment])
    )
    before, after = (judge(counts, LIMITS, MORE) for counts in (tally(whole), tally(whole, failure)))
    assert after.findings[0].log_evidence >= before.findings[0].log_evidence
    harmed = {gate.name for gate in before.gates if gate.verdict is Verdict.HARM} & {"error_ratio"}
    assert harmed <= {gate.name for gate in after.gates if gate.verdict is Verdict.HARM}


def steps(
    random: np.random.Generator, n: int, ratio: float = 1.0, shift: float = 0.0, slow_share: float = 0.0
) -> list[Answers]:
    """Four steps of n requests by heavy and light users, who fail as users do, in bursts; 50 requests/s, three segments."""
    windows, sides = [], random.random(4 * n)
    for step, share_pct in enumerate((5, 10, 25, 50)):
        entity = 1 + (random.pareto(1.2, n) * n / 8).astype(np.int64) % (2 * n)
        mine = sides[entity] < share_pct / 100
        second = step * n // 50 + np.arange(n) // 50
        burst = random.random(n // 50 + 1)[np.arange(n) // 50] < 0.05
        chance = np.where(burst, 0.1, 0.01) * np.where(mine, ratio, 1.0)
        score = np.clip(random.beta(2, 3, n) + 0.2 * step / 3 + shift * mine, 0, 1)
        slow = np.where(random.random(n) < slow_share * mine, 60_000, 2_000).astype(np.int64)
        windows.append(answers(entity, mine, share_pct, random.random(n) >= chance, score, second, entity % 3, slow))
    return windows


def release(random: np.random.Generator, n: int, **broken: float) -> CanaryCounts:
    """All four steps."""
    return tally(*steps(random, n, **broken))


def is_harm(counts: CanaryCounts) -> bool:
    """Whether any gate says so, without bounds and reasons."""
    found = (
        error_ratio_test(LIMITS, MORE).verdict(counts.errors),
        score_test(LIMITS, MORE).verdict(counts.scores),
        slow_test(LIMITS).verdict(counts.slow),
        p99_test(LIMITS).verdict(counts.candidate_us, counts.champion_us),
        SampleRatioTest().verdict(counts.entities),
    )
    logs = {name: log_mean_exp(np.array(list(own.values()))) for name, own in _segment_evidence(counts, LIMITS, MORE).items()}
    return Verdict.HARM in found or bool(rejected_segments(logs, LIMITS.alpha / 2))


def test_identical_versions_are_hardly_ever_taken_back() -> None:
    """200 releases, peeked at after each step, with users who fail again and again, bursts, and scores that drift."""
    taken_back = 0
    for seed in range(200):
        counted, harmed = Tally(LIMITS, MORE, BUDGET_US), False
        for window in steps(np.random.default_rng(seed), 1000):
            counted.add(window, {}, {})
            harmed = harmed or is_harm(counted.counts)
        taken_back += harmed
    assert taken_back <= 0.05 * 200


def test_good_versions_become_safe() -> None:
    found = verdicts(release(np.random.default_rng(1), n=20_000))
    needed = ("latency_budget", "score_shift", "sample_ratio")
    assert dict.fromkeys(needed, Verdict.SAFE) == {name: found[name] for name in needed}


@pytest.mark.parametrize(
    "gate,broken", [("error_ratio", {"ratio": 8.0}), ("score_shift", {"shift": 0.3}), ("latency_budget", {"slow_share": 0.3})]
)
def test_broken_versions_are_harm(gate: str, broken: dict[str, float]) -> None:
    assert Verdict.HARM is verdicts(release(np.random.default_rng(2), n=4000, **broken))[gate]


def test_a_segment_that_fails_stands_out() -> None:
    random, n = np.random.default_rng(3), 6000
    entity, segment = np.arange(1, n + 1), np.arange(n) % 3
    mine = random.random(n) < 0.5
    good = random.random(n) >= np.where(mine & (segment == 2), 0.3, 0.01)
    gate = judge(tally(answers(entity, mine, 50, good, segment=segment)), LIMITS, MORE).gates[-1]
    assert (Verdict.HARM, True) == (gate.verdict, gate.observed.startswith("old by error_ratio"))


def test_a_split_that_is_not_the_configured_one_makes_everything_unsafe() -> None:
    random, n = np.random.default_rng(4), 20_000
    entity, mine = np.arange(1, n + 1), random.random(n) < 0.05
    judged = judge(tally(answers(entity, mine, 10, score=random.random(n), second=np.arange(n) // 20)), LIMITS, MORE)
    found = {gate.name: gate for gate in judged.gates}
    assert Verdict.HARM is found["sample_ratio"].verdict
    assert Verdict.SAFE not in {gate.verdict for gate in judged.gates}
    assert all("sample_ratio is an alarm" in found[name].observed for name in ("score_shift", "error_ratio", "worst_segment"))
    assert {Verdict.UNKNOWN} == {found[name].verdict for name in ("score_shift", "error_ratio", "worst_segment")}


def test_nothing_is_unknown_and_equal_scores_are_never_safe() -> None:
    assert {Verdict.UNKNOWN} == set(verdicts(CanaryCounts()).values())
    random, n = np.random.default_rng(5), 20_000
    equal = tally(answers(np.arange(1, n + 1), random.random(n) < 0.5, 50, score=np.full(n, 0.3)))
    gate = next(gate for gate in judge(equal, LIMITS, MORE).gates if gate.name == "score_shift")
    assert (Verdict.UNKNOWN, True) == (gate.verdict, "all scores of the candidate are 0.3" in gate.observed)


@pytest.mark.parametrize("reason", [TORN, MISSING, UNREADABLE, NOT_LOGGED])
def test_a_damaged_log_is_named_and_never_safe_and_harm_stays_harm(reason: str) -> None:
    good = replace(release(np.random.default_rng(6), n=20_000), left_out={reason: 5000})
    gates = [gate for gate in judge(good, LIMITS, MORE).gates if gate.name != "worst_segment"]
    assert {Verdict.UNKNOWN} == {gate.verdict for gate in gates}
    assert all(f"5,000 {reason}" in gate.observed for gate in gates)
    bad = replace(release(np.random.default_rng(7), n=4000, ratio=8.0), left_out={reason: 5000})
    assert Verdict.HARM is verdicts(bad)["error_ratio"]


def test_labels_that_cannot_be_read_spoil_only_what_rests_on_labels() -> None:
    counts = replace(release(np.random.default_rng(8), n=20_000), left_out={LABELS_UNREADABLE: 1, NOT_LOGGED: 3})
    assert Verdict.SAFE is verdicts(counts)["score_shift"]
    gate = next(gate for gate in judge(counts, LIMITS, MORE).gates if gate.name == "log_loss")
    assert LABELS_UNREADABLE in gate.observed


def test_a_span_counts_whole_seconds_away_from_its_ends() -> None:
    assert [12, 13] == list(Span(5, 10.2, 15.0).seconds(1000.0))
    assert [12] == list(Span(5, 10.2, 15.0).seconds(13.9))
    assert [] == list(Span(5, 10.2).seconds(9.0))


def test_spans_and_limits_that_cannot_be_are_refused() -> None:
    with pytest.raises(EvidenceError, match="101 %"):
        Span(101, 1.0)
    with pytest.raises(EvidenceError, match="has to end later"):
        Span(5, 2.0, 1.0)
    with pytest.raises(PlanError, match="highest_score is 0"):
        CanaryLimits(highest_score=0.0)


@settings(deadline=None, max_examples=30)
@given(_ROWS, st.sampled_from([0, 5, 10_000]))
def test_verdicts_without_wording_are_those_with_it(found: list[tuple[int, bool, int]], dropped: int) -> None:
    counted = Tally(LIMITS, MORE, BUDGET_US)
    counted.add(rows(found), {NOT_LOGGED: dropped}, {})
    told = [(gate.name, gate.verdict) for gate in judge(counted.counts, LIMITS, MORE).gates]
    assert told == [(gate.name, gate.verdict) for gate in decide(counted.counts, LIMITS, MORE)]


def test_an_unequal_split_voids_verdicts_without_wording_too() -> None:
    n = 2000
    everyone = answers(np.arange(1, n + 1), np.arange(n) % 2 == 0, 10, good=np.arange(n) % 4 > 0)
    assert Verdict.HARM is {gate.name: gate.verdict for gate in decide(tally(everyone), LIMITS, MORE)}["sample_ratio"]
    assert verdicts(tally(everyone)) == {gate.name: gate.verdict for gate in decide(tally(everyone), LIMITS, MORE)}
