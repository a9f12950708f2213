import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotcold.domain.errors import EvidenceError
from hotcold.domain.evidence.exceedance import ExceedanceTest, ShareCounts, exceedance_e_value, share_bounds
from hotcold.domain.gate import Verdict

TEST = ExceedanceTest(allowed=0.01)
counts = st.integers(0, 3000).flatmap(lambda total: st.builds(ShareCounts, st.integers(0, total), st.just(total)))


def test_three_times_the_allowed_share_is_harm() -> None:
    finding = TEST.judge(ShareCounts(30, 1000))
    assert (Verdict.HARM, 3.0, 1.0, "%") == (finding.verdict, finding.effect, finding.limit, finding.unit)
    assert 1.0 < finding.lower < 3.0 < finding.upper < 6.0
    assert finding.log_evidence > math.log(20)


def test_no_slow_answer_is_safe_after_some_hundred_answers_and_not_before() -> None:
    assert Verdict.UNKNOWN is TEST.verdict(ShareCounts(0, 300))
    assert Verdict.SAFE is TEST.verdict(ShareCounts(0, 400))


def test_just_the_allowed_share_is_unknown_however_many_answers_there_are() -> None:
    assert Verdict.UNKNOWN is TEST.verdict(ShareCounts(10, 1000))
    assert Verdict.UNKNOWN is TEST.verdict(ShareCounts(100_000, 10_000_000))


def test_with_nothing_it_is_unknown() -> None:
    finding = TEST.judge(ShareCounts())
    assert (Verdict.UNKNOWN, None, 0.0, 100.0, None) == (
        finding.verdict,
        finding.effect,
        finding.lower,
        finding.upper,
        finding.needed,
    )


def test_single_answers_prove_nothing() -> None:
    for answers in (ShareCounts(1, 1), ShareCounts(0, 1), ShareCounts(2, 2)):
        assert Verdict.UNKNOWN is TEST.verdict(answers)


@given(counts, counts)
def test_merging_adds_up(one: ShareCounts, two: ShareCounts) -> None:
    assert ShareCounts(one.hits + two.hits, one.total + two.total) == one.merge(two) == two.merge(one)
    assert one == ShareCounts.from_json(json.loads(json.dumps(one.to_json())))


@given(counts)
def test_the_verdict_is_what_the_bounds_say(found: ShareCounts) -> None:
    finding = TEST.judge(found)
    assert (finding.verdict is Verdict.HARM) == (finding.lower >= finding.limit - 1e-9)
    assert (finding.verdict is Verdict.SAFE) == (finding.upper <= finding.limit + 1e-9)


@given(counts)
def test_one_more_slow_answer_never_lowers_the_evidence_of_harm(found: ShareCounts) -> None:
    assert TEST.log_harm(found.hits, found.total) <= TEST.log_harm(found.hits + 1, found.total + 1) + 1e-9
    assert TEST.log_safe(found.hits, found.total) >= TEST.log_safe(found.hits + 1, found.total + 1) - 1e-9


class TestEValue:
    def test_it_grows_with_slow_answers_and_starts_at_one(self) -> None:
        assert 1.0 == pytest.approx(exceedance_e_value(0, 0, 0.01))
        assert 20 < exceedance_e_value(4, 20, 0.01) < exceedance_e_value(8, 40, 0.01)
        assert exceedance_e_value(0, 1000, 0.01) < 1

    def test_what_is_too_large_for_a_float_is_infinite(self) -> None:
        assert math.inf == exceedance_e_value(100_000, 100_000, 0.01)

    def test_counts_and_shares_that_cannot_be_are_refused(self) -> None:
        with pytest.raises(EvidenceError, match="hits is 11; allowed is at most the total, 10"):
            exceedance_e_value(11, 10, 0.01)
        with pytest.raises(EvidenceError, match="allowed"):
            exceedance_e_value(1, 10, 1.0)
        with pytest.raises(EvidenceError, match="hits"):
            exceedance_e_value(-1, 10, 0.01)


class TestBounds:
    @given(counts)
    def test_the_observed_share_lies_between_them(self, found: ShareCounts) -> None:
        lower, upper = share_bounds(found.hits, found.total, 0.05)
        assert 0.0 <= lower <= (found.hits / found.total if found.total else 0.5) <= upper <= 1.0

    def test_they_hold_at_every_peek_of_nearly_all_runs(self) -> None:
        """400 runs of 2,000 answers, a peek at each hundredth: fewer than 5 % are ever missed on either side."""
        random, missed = np.random.default_rng(0), 0
        for _ in range(400):
            hits = np.cumsum(random.random(2000) < 0.03)[99::100]
            evidence = [ExceedanceTest(0.03).log_harm(int(s), 100 * (n + 1)) for n, s in enumerate(hits)]
            missed += max(evidence) >= math.log(20)
        assert missed <= 20


class TestForecast:
    def test_so_many_more_answers_of_the_same_kind_tell(self) -> None:
        needed = TEST.judge(ShareCounts(6, 300)).needed
        assert needed is not None
        total = 300 + needed
        assert Verdict.HARM is TEST.verdict(ShareCounts(math.ceil(0.02 * total), total))
        assert Verdict.UNKNOWN is TEST.verdict(ShareCounts(math.ceil(0.02 * total * 0.8), math.ceil(total * 0.8)))

    def test_a_plan_is_told_how_many_answers_it_takes(self) -> None:
        assert 900 < (TEST.observations_to_tell(0.02) or 0) < 1200
        assert 300 < (TEST.observations_to_tell(0.0) or 0) < 400
        assert None is TEST.observations_to_tell(0.01)


@pytest.mark.parametrize(
    "arguments", [{"allowed": 0.0}, {"allowed": 1.0}, {"allowed": 0.1, "mass": 0.0}, {"allowed": math.nan}]
)
def test_limits_that_make_no_sense_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(EvidenceError, match="allowed is"):
        ExceedanceTest(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("hits,total", [(1.5, 3), (3, 2), (-1, 2), (True, 2)])
def test_counts_that_cannot_be_are_refused(hits: int, total: int) -> None:
    with pytest.raises(EvidenceError):
        ShareCounts(hits, total)
