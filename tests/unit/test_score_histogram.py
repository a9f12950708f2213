import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotcold.domain.score_histogram import (
    ScoreHistogram,
    bin_edge,
    count_scores,
    merge_histograms,
    population_stability_index,
)

# Some library in the environment flushes subnormal numbers to zero.
floats = st.floats(width=32, allow_nan=True, allow_infinity=True, allow_subnormal=False)


def as_array(values: list[float]) -> np.ndarray:
    return np.array(values, dtype=np.float32)


@given(st.lists(floats, max_size=50), st.lists(floats, max_size=50))
def test_merging_is_counting_everything_at_once(first: list[float], second: list[float]) -> None:
    merged = merge_histograms([count_scores(as_array(first)), count_scores(as_array(second))])
    at_once = count_scores(as_array(first + second))
    assert (at_once.counts, at_once.total, at_once.not_finite) == (merged.counts, merged.total, merged.not_finite)
    assert (at_once.least, at_once.greatest) == (merged.least, merged.greatest)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False), min_size=1, max_size=30))
def test_bins_are_ordered_as_the_scores_are(values: list[float]) -> None:
    ordered = sorted(values)
    bins = [next(iter(count_scores(as_array([value])).counts)) for value in ordered]
    assert sorted(bins) == bins


@given(st.floats(width=32, min_value=2**-100, max_value=2**100), st.booleans())
def test_a_score_lies_in_its_bin_which_is_narrow(value: float, negative: bool) -> None:
    score = -value if negative else value
    index = next(iter(count_scores(as_array([score])).counts))
    low, high = sorted([bin_edge(index), bin_edge(index + 1)])
    assert low <= score <= high
    assert high - low <= abs(score) / 32


def test_scores_that_are_not_finite_are_counted_apart() -> None:
    histogram = count_scores(as_array([0.5, math.nan, math.inf, -math.inf]))
    assert (1, 3, 0.5) == (histogram.total, histogram.not_finite, histogram.mean)


def test_quantiles_are_close_to_those_of_the_scores() -> None:
    scores = np.random.default_rng(0).beta(2, 5, 100_000).astype(np.float32)
    histogram = count_scores(scores)
    for share in (0.01, 0.25, 0.5, 0.75, 0.99):
        assert pytest.approx(float(np.quantile(scores, share)), rel=0.02) == histogram.quantile(share)


def test_a_histogram_survives_json() -> None:
    histogram = count_scores(as_array([0.1, 0.2, 0.2, math.nan, -3.0]))
    assert histogram == ScoreHistogram.from_json(json.loads(json.dumps(histogram.to_json())))
    assert ScoreHistogram() == ScoreHistogram.from_json(json.loads(json.dumps(ScoreHistogram().to_json())))


class TestPopulationStabilityIndex:
    def test_it_is_zero_for_equal_scores(self) -> None:
        histogram = count_scores(np.random.default_rng(0).random(1000, dtype=np.float32))
        assert 0.0 == population_stability_index(histogram, histogram)

    def test_it_is_what_the_formula_gives_for_groups_counted_by_hand(self) -> None:
        before = count_scores(as_array([0.25] * 50 + [0.75] * 50))
        after = count_scores(as_array([0.25] * 20 + [0.75] * 80))
        expected = (0.2 - 0.5) * math.log(0.2 / 0.5) + (0.8 - 0.5) * math.log(0.8 / 0.5)
        assert pytest.approx(expected) == population_stability_index(before, after, groups=2)

    def test_a_sample_of_the_same_distribution_is_stable_and_a_moved_one_is_not(self) -> None:
        random = np.random.default_rng(0)
        before = count_scores(random.beta(2, 5, 20_000).astype(np.float32))
        same = count_scores(random.beta(2, 5, 20_000).astype(np.float32))
        moved = count_scores(random.beta(3, 3, 20_000).astype(np.float32))
        assert (population_stability_index(before, same) or 1) < 0.01
        assert (population_stability_index(before, moved) or 0) > 0.25

    def test_a_group_that_is_empty_on_one_side_does_not_make_it_infinite(self) -> None:
        index = population_stability_index(count_scores(as_array([0.1] * 99)), count_scores(as_array([0.9] * 99)))
        assert index is not None
        assert 1 < index < 100

    def test_without_scores_there_is_none(self) -> None:
        assert population_stability_index(ScoreHistogram(), count_scores(as_array([1.0]))) is None
        assert population_stability_index(count_scores(as_array([1.0])), ScoreHistogram()) is None

    @given(
        st.lists(st.floats(0, 1, width=32, allow_subnormal=False), min_size=1, max_size=60),
        st.lists(st.floats(0, 1, width=32, allow_subnormal=False), min_size=1),
    )
    def test_it_is_never_negative(self, before: list[float], after: list[float]) -> None:
        index = population_stability_index(count_scores(as_array(before)), count_scores(as_array(after)))
        assert index is not None
        assert index >= -1e-12
