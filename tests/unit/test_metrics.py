"""Quality of probabilities, on values that one can check by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotcold.domain.errors import TrainingError
from hotcold.domain.metrics import CalibrationBin, calibration_bins, evaluate_scores


def test_metrics_of_four_rows() -> None:
    """Three of the four pairs of a positive and a negative are ranked right."""
    metrics = evaluate_scores(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8]))
    assert 0.75 == metrics.auc
    assert math.isclose((0.01 + 0.16 + 0.65**2 + 0.04) / 4, metrics.brier)
    assert math.isclose(-sum(map(math.log, (0.9, 0.6, 0.35, 0.8))) / 4, metrics.log_loss)
    assert (0.5, 4) == (metrics.positive_rate, metrics.rows)


def test_a_tie_counts_half() -> None:
    assert 0.5 == evaluate_scores(np.array([0, 1]), np.array([0.3, 0.3])).auc


def test_a_certain_and_wrong_score_costs_much_but_not_infinitely() -> None:
    assert 16 < evaluate_scores(np.array([0, 1]), np.array([1.0, 0.0])).log_loss < 17


def test_scores_that_say_the_observed_share_are_calibrated() -> None:
    labels, scores = np.array([0, 0, 0, 1] * 25), np.full(100, 0.25)
    assert evaluate_scores(labels, scores).calibration_error < 0.2
    assert (CalibrationBin(0.25, 0.25, 100),) == calibration_bins(labels, scores, bins=1)


def test_bins_are_of_about_equal_size_and_ordered() -> None:
    bins = calibration_bins(np.array([1, 0, 1, 0, 1]), np.array([0.9, 0.1, 0.8, 0.2, 0.5]), bins=2)
    assert [(3, pytest.approx(0.8 / 3)), (2, pytest.approx(0.85))] == [(b.rows, b.mean_score) for b in bins]


@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0])), min_size=2, max_size=30))
def test_the_auc_is_the_share_of_pairs_in_the_right_order(rows: list[tuple[int, float]]) -> None:
    positives = [score for label, score in rows if label]
    negatives = [score for label, score in rows if not label]
    if not positives or not negatives:
        return
    wins = sum((p > n) + 0.5 * (p == n) for p in positives for n in negatives)
    metrics = evaluate_scores(np.array([row[0] for row in rows]), np.array([row[1] for row in rows]))
    assert metrics.auc == pytest.approx(wins / (len(positives) * len(negatives)))


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([], [], "hold not both"),
        ([1, 1], [0.5, 0.5], "hold not both"),
        ([0, 1], [0.5], "both need the same"),
        ([0, 1], [0.5, 1.5], "outside"),
        ([0, 1], [0.5, math.nan], "outside"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(labels: list[int], scores: list[float], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        evaluate_scores(np.array(labels), np.array(scores))
