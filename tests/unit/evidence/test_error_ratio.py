import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotcold.domain.errors import EvidenceError
from hotcold.domain.evidence.error_ratio import ErrorCounts, ErrorRatioTest, growth_per_request
from hotcold.domain.evidence.odds_mixture import log_evidence_above, log_factors
from hotcold.domain.evidence.split_counts import SplitCounts
from hotcold.domain.gate import Verdict

TEST = ErrorRatioTest()
failures = st.dictionaries(st.sampled_from([5, 10, 50]), st.tuples(st.integers(0, 80), st.integers(0, 80)), max_size=3)


def seen(found: dict[int, tuple[int, int]], times: int = 100) -> ErrorCounts:
    """These failures, among so many times as many answers."""
    answers = {share: (candidate * times + 1, champion * times + 1) for share, (candidate, champion) in found.items()}
    return ErrorCounts(SplitCounts(found), SplitCounts(answers))


def test_a_candidate_that_fails_far_more_often_is_harm() -> None:
    finding = TEST.judge(seen({5: (12, 20)}))
    assert Verdict.HARM is finding.verdict
    assert finding.effect == pytest.approx(12 / 20 * 19)
    assert 1 < finding.lower < 11.4 < finding.upper


def test_a_candidate_that_fails_less_often_is_safe_once_there_are_enough_failures() -> None:
    assert Verdict.SAFE is TEST.verdict(seen({50: (30, 70)}))
    assert Verdict.UNKNOWN is TEST.verdict(seen({50: (3, 7)}))


def test_as_many_failures_as_the_share_lets_expect_are_no_harm() -> None:
    assert Verdict.UNKNOWN is TEST.verdict(seen({5: (1, 19), 10: (2, 18)}))
    assert Verdict.SAFE is TEST.verdict(seen({50: (500, 500)}))


def test_evidence_of_several_shares_adds_up() -> None:
    """Neither step alone suffices."""
    assert Verdict.UNKNOWN is TEST.verdict(seen({5: (3, 6)}))
    assert Verdict.UNKNOWN is TEST.verdict(seen({10: (5, 9)}))
    assert Verdict.HARM is TEST.verdict(seen({5: (3, 6), 10: (5, 9)}))


def test_without_failures_it_is_unknown_and_says_how_many_it_takes() -> None:
    finding = TEST.judge(ErrorCounts(SplitCounts(), SplitCounts({5: (500, 9500)})))
    assert (Verdict.UNKNOWN, None, 0.0, math.inf) == (finding.verdict, finding.effect, finding.lower, finding.upper)
    assert "at 5 % it takes 2 failures at least" in finding.sentence
    assert "no evidence" in finding.sentence


def test_the_fewest_failures_that_tell_do_tell_and_one_less_does_not() -> None:
    assert 2 == TEST.failures_needed(5)
    assert Verdict.HARM is TEST.verdict(seen({5: (2, 0)}))
    assert Verdict.UNKNOWN is TEST.verdict(seen({5: (1, 0)}))
    assert None is TEST.failures_needed(100)


def test_with_nothing_at_all_it_is_unknown() -> None:
    finding = TEST.judge(ErrorCounts())
    assert (Verdict.UNKNOWN, 0, None, 0.0) == (finding.verdict, finding.observations, finding.needed, finding.log_evidence)


@pytest.mark.parametrize("side", [0, 1])
def test_failures_while_only_one_side_has_traffic_say_nothing(side: int) -> None:
    share_pct = (100, 0)[side]
    counts = (1000, 0) if side == 0 else (0, 1000)
    finding = TEST.judge(seen({share_pct: counts}))
    assert (Verdict.UNKNOWN, None) == (finding.verdict, finding.effect)


@given(failures, failures)
def test_merging_is_judging_everything_at_once(one: dict[int, tuple[int, int]], two: dict[int, tuple[int, int]]) -> None:
    merged = seen(one).merge(seen(two))
    assert merged == seen(two).merge(seen(one))
    both = {
        share: (one.get(share, (0, 0))[0] + two.get(share, (0, 0))[0], one.get(share, (0, 0))[1] + two.get(share, (0, 0))[1])
        for share in {*one, *two}
    }
    assert TEST.log_harm(merged.failures.by_share) == pytest.approx(TEST.log_harm(both))


@given(failures)
def test_counts_survive_json(found: dict[int, tuple[int, int]]) -> None:
    counts = seen(found)
    assert counts == ErrorCounts.from_json(json.loads(json.dumps(counts.to_json())))


@given(failures, st.sampled_from([5, 50]))
def test_one_more_failure_of_the_candidate_never_turns_harm_into_anything_else(
    found: dict[int, tuple[int, int]], share_pct: int
) -> None:
    candidate, champion = found.get(share_pct, (0, 0))
    worse = {**found, share_pct: (candidate + 1, champion)}
    assert TEST.log_harm(found) <= TEST.log_harm(worse)
    assert TEST.log_safe(found) >= TEST.log_safe(worse)
    if TEST.verdict(seen(found)) is Verdict.HARM:
        assert Verdict.HARM is TEST.verdict(seen(worse))


@given(failures)
def test_the_verdict_is_what_the_bounds_say(found: dict[int, tuple[int, int]]) -> None:
    finding = TEST.judge(seen(found))
    assert (finding.verdict is Verdict.HARM) == (finding.lower >= 1.0 - 1e-9)
    if finding.verdict is not Verdict.HARM:
        assert (finding.verdict is Verdict.SAFE) == (finding.upper <= 2.0 + 1e-9)


class TestForecast:
    def test_so_many_more_answers_of_the_same_kind_tell(self) -> None:
        counts = seen({10: (4, 9)})
        needed = TEST.judge(counts).needed
        assert needed is not None
        times = 1 + needed / counts.answers.total
        more = {10: (round(4 * times + 0.5), round(9 * times))}
        fewer = {10: (round(4 * (1 + 0.5 * (times - 1))), round(9 * (1 + 0.5 * (times - 1))))}
        assert Verdict.HARM is TEST.verdict(seen(more))
        assert Verdict.UNKNOWN is TEST.verdict(seen(fewer))

    def test_where_the_ratio_lies_between_the_limits_it_cannot_be_said(self) -> None:
        test = ErrorRatioTest(baseline=1.4, limit=1.45)
        assert None is test.judge(seen({50: (71, 50)})).needed

    @pytest.mark.parametrize("ratio,share_pct", [(10.0, 5), (3.0, 50), (2.0, 50), (5.0, 25)])
    def test_the_plan_is_told_about_the_number_that_a_simulation_takes(self, ratio: float, share_pct: int) -> None:
        planned = TEST.requests_to_tell(ratio, 0.01, share_pct)
        assert planned is not None
        taken = simulate_requests_until_harm(ratio, share_pct)
        assert 0.4 < float((taken <= planned).mean()) < 0.9
        assert 0.5 < float(np.median(taken)) / planned < 1.2

    def test_no_test_is_faster_than_the_growth_rate_allows(self) -> None:
        planned = TEST.requests_to_tell(3.0, 0.01, 25)
        assert planned is not None
        assert math.log(20) / growth_per_request(3.0, 0.01, 25) < planned

    def test_an_equal_candidate_is_told_to_be_safe_in_the_end(self) -> None:
        assert 8000 < (TEST.requests_to_tell(1.0, 0.01, 50) or 0) < 9000

    def test_with_all_traffic_on_one_side_nothing_is_ever_told(self) -> None:
        assert None is TEST.requests_to_tell(3.0, 0.01, 100)
        assert None is TEST.requests_to_tell(3.0, 0.01, 0)

    def test_the_growth_is_the_mean_gain_of_the_bet_on_the_true_ratio(self) -> None:
        """With w = 50 %, r = 3: a failure in 50 answers, the candidate's in 3 of 4; KL(0.75 || 0.5) = 0.1308."""
        assert growth_per_request(3.0, 0.01, 50) == pytest.approx(0.02 * 0.130812, rel=1e-4)
        assert 0.0 == growth_per_request(1.0, 0.01, 50)


def simulate_requests_until_harm(ratio: float, share_pct: int, runs: int = 200, base_rate: float = 0.01) -> np.ndarray:
    """Answers until HARM, with a peek at every failure."""
    random = np.random.default_rng(4)
    share = share_pct / 100
    rate = base_rate * (share * ratio + 1 - share)
    answers = np.cumsum(random.geometric(rate, (runs, 1000)), axis=1)
    is_candidate = random.random(answers.shape) < share * ratio / (share * ratio + 1 - share)
    gain, loss = log_factors((share_pct,)).T
    wealth = np.cumsum(np.where(is_candidate[..., np.newaxis], gain, loss), axis=1)
    evidence = np.log(np.exp(np.minimum(wealth, 500)).mean(axis=2))
    reached = evidence >= math.log(20)
    assert reached.any(axis=1).all()
    first = reached.argmax(axis=1)
    last_run = {share_pct: (int(is_candidate[0, : first[0] + 1].sum()), int((~is_candidate[0, : first[0] + 1]).sum()))}
    assert log_evidence_above(last_run, 1.0) == pytest.approx(evidence[0, first[0]])
    return answers[np.arange(runs), first]


class TestNonsense:
    def test_more_failures_than_answers_are_refused(self) -> None:
        with pytest.raises(EvidenceError, match="at most the answers"):
            ErrorCounts(SplitCounts({5: (3, 0)}), SplitCounts({5: (2, 100)}))

    @pytest.mark.parametrize(
        "arguments",
        [{"alpha": 0.0}, {"alpha": 1.0}, {"alpha": math.nan}, {"limit": 0.5}, {"baseline": 0.0}, {"limit": math.inf}],
    )
    def test_limits_that_make_no_sense_are_refused(self, arguments: dict[str, float]) -> None:
        with pytest.raises(EvidenceError, match="allowed is"):
            ErrorRatioTest(**arguments)  # type: ignore[arg-type]

    def test_a_plan_that_makes_no_sense_is_refused(self) -> None:
        with pytest.raises(EvidenceError, match="ratio"):
            TEST.requests_to_tell(200.0, 0.01, 50)
        with pytest.raises(EvidenceError, match="base_rate"):
            TEST.requests_to_tell(2.0, 0.0, 50)
        with pytest.raises(EvidenceError, match="share"):
            growth_per_request(2.0, 0.01, 100)
        with pytest.raises(EvidenceError, match="ratio"):
            growth_per_request(0.0, 0.01, 10)
