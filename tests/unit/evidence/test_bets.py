import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotcold.domain.evidence.bets import bet_sizes, log_gains, lower_bound
from hotcold.domain.evidence.odds_mixture import log_mean_exp

in_unit = st.floats(0, 1)
means = st.floats(0.01, 0.99)


def product_of_bets(values: list[float], mean: float, sizes: np.ndarray) -> float:
    """The definition: for each size, stake after stake."""
    gains = []
    for size in sizes:
        stake = 1.0
        for value in values:
            stake *= 1 + size / mean * (value - mean)
        gains.append(stake)
    return float(np.mean(gains))


def log_evidence(values: list[float], mean: float, sizes: np.ndarray) -> float:
    return log_mean_exp(log_gains(np.array(values), mean, sizes) @ np.ones(len(values)))


@given(st.lists(in_unit, max_size=30), means)
def test_it_is_the_mean_of_the_products_over_all_values(values: list[float], mean: float) -> None:
    expected = math.log(product_of_bets(values, mean, bet_sizes(mean)))
    assert pytest.approx(expected, abs=1e-8) == log_evidence(values, mean, bet_sizes(mean))


@pytest.mark.parametrize("mean", [0.02, 0.3, 0.9])
def test_its_expectation_is_one_if_the_mean_is_the_tested_one(mean: float) -> None:
    """All 729 outcomes of six values out of three, whose chances give the mean."""
    values = (0.0, mean, 1.0)
    chances = (0.5 * (1 - mean), 0.5, 0.5 * mean)
    sizes, expectation = bet_sizes(mean), 0.0
    for outcome in itertools.product(range(3), repeat=6):
        chance = math.prod(chances[index] for index in outcome)
        expectation += chance * math.exp(log_evidence([values[index] for index in outcome], mean, sizes))
    assert pytest.approx(1.0) == expectation


def test_whoever_peeks_at_every_value_is_fooled_with_the_promised_chance_at_most() -> None:
    """Whatever the values are like: here they are 0.9 of the time a little below the mean, and sometimes 1."""
    mean, ever = 0.2, 0.0
    low = (mean - 0.1) / 0.9
    for outcome in itertools.product((low, 1.0), repeat=12):
        chance = math.prod(0.1 if value == 1.0 else 0.9 for value in outcome)
        path = [log_evidence(list(outcome[:n]), mean, bet_sizes(mean)) for n in range(1, 13)]
        ever += chance * (max(path) >= math.log(5))
    assert 0.01 < ever <= 0.2


@given(st.lists(in_unit, min_size=1, max_size=20), means, means)
def test_it_falls_as_the_tested_mean_grows(values: list[float], one: float, other: float) -> None:
    low, high = sorted((one, other))
    sizes = bet_sizes(0.3)
    assert log_evidence(values, high, sizes) <= log_evidence(values, low, sizes) + 1e-9


class TestLowerBound:
    @given(st.lists(in_unit, max_size=30), st.integers(1, 50))
    def test_it_is_where_the_evidence_begins_and_below_the_mean(self, values: list[float], times: int) -> None:
        sizes, weights = bet_sizes(0.3), np.full(len(values), float(times))
        bound = lower_bound(np.array(values), weights, sizes, math.log(20))
        if not bound:
            return
        logs = [log_mean_exp(log_gains(np.array(values), mean, sizes) @ weights) for mean in (bound, min(bound * 1.001, 1.0))]
        assert logs[0] >= math.log(20)
        assert bound < float(np.mean(values))

    def test_it_comes_close_to_the_mean_with_many_values(self) -> None:
        bound = lower_bound(np.array([0.0, 1.0]), np.array([7000.0, 3000.0]), bet_sizes(0.3), math.log(20))
        assert 0.28 < bound < 0.3

    def test_without_values_it_says_nothing(self) -> None:
        assert 0.0 == lower_bound(np.array([]), np.array([]), bet_sizes(0.3), math.log(20))
        assert 0.0 == lower_bound(np.array([0.0, 1.0]), np.array([0.0, 0.0]), bet_sizes(0.3), math.log(20))

    def test_zeros_alone_give_none(self) -> None:
        assert 0.0 == lower_bound(np.array([0.0]), np.array([1e6]), bet_sizes(0.3), math.log(20))


def test_sizes_reach_down_to_where_rare_ones_are_seen() -> None:
    assert (16,) == bet_sizes(0.001).shape
    assert 0.001 / 20 == pytest.approx(bet_sizes(0.001)[0])
    assert 0.01 == pytest.approx(bet_sizes(0.5)[0])
    assert bet_sizes(0.5).max() < 1
