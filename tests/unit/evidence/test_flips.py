import math

import numpy as np
import pytest

from hotcold.domain.errors import EvidenceError
from hotcold.domain.evidence.flips import flip_test, price_flips
from hotcold.domain.evidence.paired_mean import MeanTest
from hotcold.domain.evidence.value_counts import ValueCounts
from hotcold.domain.gate import Verdict

TEST = flip_test(allowed_per_1000=10)


def flips(flipped: int, requests: int) -> ValueCounts:
    return TEST.count(np.repeat([1.0, 0.0], [flipped, requests - flipped]))


def test_the_rate_is_given_per_1000() -> None:
    finding = TEST.judge(flips(90, 3000))
    assert (Verdict.HARM, "per 1,000", 10.0) == (finding.verdict, finding.unit, finding.limit)
    assert finding.effect == pytest.approx(30.0)
    assert 10 < finding.lower < 30 < finding.upper < 45


def test_few_flips_among_many_requests_are_safe() -> None:
    assert Verdict.SAFE is TEST.verdict(flips(6, 3000))
    assert Verdict.UNKNOWN is TEST.verdict(flips(0, 100))
    assert Verdict.UNKNOWN is TEST.verdict(ValueCounts())


def test_an_entity_may_have_flipped_in_part() -> None:
    assert TEST.judge(TEST.count(np.array([0.25, 0.0]))).effect == pytest.approx(125.0)


def test_flips_have_a_price_with_the_same_bounds() -> None:
    finding = TEST.judge(flips(90, 3000))
    price = price_flips(finding, cost_per_flip=2.0)
    assert price.observed == pytest.approx(60.0)
    assert (2 * finding.lower, 2 * finding.upper) == (price.lower, price.upper)
    assert price.sentence.startswith("The flips among 1,000 requests cost 60, between ")


def test_without_requests_the_price_is_not_known() -> None:
    price = price_flips(TEST.judge(ValueCounts()), 2.0)
    assert (None, 0.0, 2000.0) == (price.observed, price.lower, price.upper)
    assert "not known" in price.sentence


@pytest.mark.parametrize("cost", [-1.0, math.nan, math.inf])
def test_a_price_that_is_none_is_refused(cost: float) -> None:
    with pytest.raises(EvidenceError, match="cost per flip"):
        price_flips(TEST.judge(flips(1, 10)), cost)


def test_a_finding_of_something_else_has_no_price() -> None:
    other = MeanTest(0.01)
    with pytest.raises(EvidenceError, match="flip_test"):
        price_flips(other.judge(ValueCounts()), 1.0)
