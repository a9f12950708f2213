import math

import numpy as np
import pytest
from scipy import stats

from hotcold.domain.evidence.drift import Drift, compare_scores, kolmogorov_smirnov
from hotcold.domain.evidence.score_spread import judge_spread
from hotcold.domain.gate import Verdict
from hotcold.domain.score_histogram import ScoreHistogram, bin_edge, count_scores, population_stability_index


def histogram(*scores: float) -> ScoreHistogram:
    return count_scores(np.array(scores, dtype=np.float32))


VARIED, OTHERS = histogram(0.1, 0.2, 0.3), histogram(0.6, 0.7)


def test_scores_that_do_not_overlap_are_as_far_apart_as_can_be() -> None:
    assert 1.0 == kolmogorov_smirnov(VARIED, OTHERS) == kolmogorov_smirnov(OTHERS, VARIED)
    assert 0.0 == kolmogorov_smirnov(VARIED, VARIED)


def test_it_is_the_distance_that_scipy_finds_for_scores_on_edges_of_bins() -> None:
    random = np.random.default_rng(0)
    edges = np.array(
        [bin_edge(index) for index in range(next(iter(histogram(0.25).counts)), next(iter(histogram(0.99).counts)))]
    )
    one, two = (random.choice(edges, 500, p=random.dirichlet(np.ones(len(edges)))) for _ in range(2))
    assert kolmogorov_smirnov(histogram(*one), histogram(*two)) == pytest.approx(stats.ks_2samp(one, two).statistic)


def test_both_distances_are_reported_and_neither_without_scores() -> None:
    assert Drift(population_stability_index(VARIED, OTHERS), 1.0) == compare_scores(VARIED, OTHERS)
    assert Drift(None, None) == compare_scores(VARIED, ScoreHistogram()) == compare_scores(ScoreHistogram(), VARIED)


class TestSpread:
    def test_scores_that_vary_on_both_sides_can_be_compared(self) -> None:
        assert Verdict.SAFE is judge_spread(VARIED, OTHERS).verdict

    @pytest.mark.parametrize(
        "champion,candidate,said",
        [
            (VARIED, histogram(0.5, 0.5, 0.5), "all 3 scores of the candidate are 0.5"),
            (histogram(0.5, 0.5), VARIED, "all 2 scores of the champion are 0.5"),
            (VARIED, histogram(0.1, 0.2, math.nan), "1 scores of the candidate are not numbers"),
            (histogram(math.inf, 0.3, 0.4), VARIED, "1 scores of the champion are not numbers"),
            (VARIED, ScoreHistogram(), "there are no scores of the candidate"),
            (ScoreHistogram(), ScoreHistogram(), "there are no scores of the candidate; there are no scores of the champion"),
        ],
    )
    def test_anything_else_is_unknown_and_named(self, champion: ScoreHistogram, candidate: ScoreHistogram, said: str) -> None:
        gate = judge_spread(champion, candidate)
        assert (Verdict.UNKNOWN, said) == (gate.verdict, gate.observed)
