import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotcold.domain.evidence.odds_mixture import (
    MULTIPLES,
    excess,
    likely_ratio,
    log_evidence_above,
    log_evidence_below,
    log_mixture,
    log_share_evidence,
    ratio_bounds,
)

counts = st.integers(0, 60)
hits = st.dictionaries(st.sampled_from([1, 5, 10, 25, 50, 90]), st.tuples(counts, counts), max_size=4)
ratios = st.floats(0.05, 20)


def share_of_candidate(share_pct: int, ratio: float) -> float:
    share = share_pct / 100
    return share * ratio / (share * ratio + 1 - share)


def product_of_factors(sequence: list[tuple[int, bool]], ratio: float) -> float:
    """The process as its definition says: for each multiple, factor by factor, in the order of the failures."""
    gains = []
    for multiple in MULTIPLES:
        gain = 1.0
        for share_pct, is_candidate in sequence:
            p0, p1 = share_of_candidate(share_pct, ratio), share_of_candidate(share_pct, ratio * multiple)
            gain *= p1 / p0 if is_candidate else (1 - p1) / (1 - p0)
        gains.append(gain)
    return float(np.mean(gains))


def counted(sequence: list[tuple[int, bool]]) -> dict[int, tuple[int, int]]:
    found: dict[int, tuple[int, int]] = {}
    for share_pct, is_candidate in sequence:
        before = found.get(share_pct, (0, 0))
        found[share_pct] = (before[0] + is_candidate, before[1] + (not is_candidate))
    return found


@given(st.lists(st.tuples(st.sampled_from([5, 25, 50]), st.booleans()), max_size=40), ratios)
def test_it_is_the_mean_of_the_products_over_all_failures(sequence: list[tuple[int, bool]], ratio: float) -> None:
    expected = math.log(product_of_factors(sequence, ratio))
    assert pytest.approx(expected, abs=1e-9) == log_evidence_above(counted(sequence), ratio)


@pytest.mark.parametrize("truth", [2.0, 1.9, 1.0, 0.1])
def test_its_expectation_is_one_at_the_tested_ratio_and_less_below(truth: float) -> None:
    """All 256 outcomes of eight failures, while the share grows under way."""
    shares = [5, 5, 10, 10, 25, 25, 50, 50]
    expectation = 0.0
    for outcome in itertools.product([True, False], repeat=len(shares)):
        sequence = list(zip(shares, outcome, strict=True))
        chance = math.prod(
            share_of_candidate(share, truth) if hit else 1 - share_of_candidate(share, truth) for share, hit in sequence
        )
        expectation += chance * math.exp(log_evidence_above(counted(sequence), 2.0))
    assert expectation == pytest.approx(1.0) if truth == 2.0 else expectation < 1.0


def test_whoever_peeks_at_every_failure_is_fooled_with_the_promised_chance_at_most() -> None:
    """The chance that the evidence reaches 10 at any of 12 failures, over all 4,096 outcomes, is at most a tenth."""
    share_pct, ever = 25, 0.0
    for outcome in itertools.product([True, False], repeat=12):
        path = [log_evidence_above(counted([(share_pct, hit) for hit in outcome[:n]]), 1.0) for n in range(1, 13)]
        chance = 0.25 ** sum(outcome) * 0.75 ** (12 - sum(outcome))
        ever += chance * (max(path) >= math.log(10))
    assert 0.01 < ever <= 0.1


@given(hits, ratios)
def test_below_is_above_with_the_sides_swapped(found: dict[int, tuple[int, int]], ratio: float) -> None:
    swapped = {100 - share: (champion, candidate) for share, (candidate, champion) in found.items()}
    assert log_evidence_below(found, ratio) == log_evidence_above(swapped, 1 / ratio)


@given(hits, ratios, st.sampled_from([1, 5, 50]))
def test_one_more_failure_of_the_candidate_never_lowers_the_evidence_of_harm(
    found: dict[int, tuple[int, int]], ratio: float, share_pct: int
) -> None:
    candidate, champion = found.get(share_pct, (0, 0))
    worse = {**found, share_pct: (candidate + 1, champion)}
    better = {**found, share_pct: (candidate, champion + 1)}
    assert log_evidence_above(better, ratio) <= log_evidence_above(found, ratio) <= log_evidence_above(worse, ratio)


@given(hits, ratios, ratios)
def test_the_evidence_falls_as_the_tested_ratio_grows(found: dict[int, tuple[int, int]], one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert log_evidence_above(found, high) <= log_evidence_above(found, low) + 1e-9


def test_at_0_and_100_percent_the_split_says_nothing() -> None:
    assert 0.0 == log_evidence_above({0: (5, 3), 100: (7, 0)}, 1.0)
    assert None is likely_ratio({0: (5, 3), 100: (7, 0)})


class TestRatioBounds:
    @given(hits)
    def test_they_are_where_the_evidence_begins(self, found: dict[int, tuple[int, int]]) -> None:
        lower, upper = ratio_bounds(found, math.log(20))
        if lower:
            assert log_evidence_above(found, lower) >= math.log(20)
            assert log_evidence_above(found, lower * 1.0001) < math.log(20)
        if upper < math.inf:
            assert log_evidence_below(found, upper) >= math.log(20)
            assert log_evidence_below(found, upper / 1.0001) < math.log(20)

    @given(hits)
    def test_the_likeliest_ratio_lies_between_them(self, found: dict[int, tuple[int, int]]) -> None:
        lower, upper = ratio_bounds(found, math.log(20))
        likely = likely_ratio(found)
        if likely is None:
            assert (0.0, math.inf) == (lower, upper)
        else:
            assert lower <= likely <= upper

    def test_many_failures_make_them_narrow(self) -> None:
        lower, upper = ratio_bounds({50: (2000, 1000)}, math.log(20))
        assert 1.7 < lower < 2.0 < upper < 2.35

    def test_without_failures_they_say_nothing(self) -> None:
        assert (0.0, math.inf) == ratio_bounds({}, math.log(20))


def test_the_likeliest_ratio_is_the_one_of_the_rates_where_the_share_is_fixed() -> None:
    assert likely_ratio({20: (10, 10)}) == pytest.approx(4.0)
    assert 0.0 == likely_ratio({20: (0, 10)})
    assert math.inf == likely_ratio({20: (10, 0)})


def test_the_excess_vanishes_at_the_likeliest_ratio_over_several_shares() -> None:
    found = {5: (3, 20), 50: (30, 22)}
    likely = likely_ratio(found)
    assert likely is not None
    assert pytest.approx(0.0, abs=1e-4) == excess(found, likely)
    assert excess(found, likely) == excess({**found, 0: (7, 0), 100: (0, 7)}, likely)


class TestManyPairsAtOnce:
    @given(st.lists(st.tuples(counts, counts), min_size=1, max_size=8), st.sampled_from([1, 10, 50]))
    def test_each_is_what_the_process_gives_for_it_alone(self, pairs: list[tuple[int, int]], share_pct: int) -> None:
        found = log_share_evidence(*np.array(pairs).T, share_pct / 100)
        expected = [log_evidence_above({share_pct: pair}, 1.0) for pair in pairs]
        assert pytest.approx(expected, abs=1e-9) == found.tolist()

    def test_far_on_the_other_side_it_is_a_number(self) -> None:
        assert -1e6 < log_share_evidence(np.array([0]), np.array([1_000_000]), 0.5)[0] < -1e4


def test_what_is_kept_is_never_lost_and_lessens_what_is_won() -> None:
    wealth = np.array([[-1e5, 3.0, 800.0], [-1e6, 4.0, 0.0]])
    kept = log_mixture(wealth.copy(), kept=0.5)
    assert pytest.approx([math.log(0.5), math.log(0.5 + 0.25 * (math.exp(3) + math.exp(4))), 800 + math.log(0.25)]) == kept
    assert pytest.approx([-1e5 - math.log(2), math.log((math.exp(3) + math.exp(4)) / 2), 800 - math.log(2)]) == log_mixture(
        wealth
    )
