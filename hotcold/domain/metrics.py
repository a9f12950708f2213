"""How good probabilities are, in NumPy: ranking (AUC), sharpness (log-loss, Brier score) and calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotcold.domain.errors import TrainingError

_EPSILON = 1e-7


@dataclass(frozen=True)
class Metrics:
    """Quality of n scores against labels.

    Args:
        auc: probability that a random positive scores above a random negative; 0.5 is chance, 1 is perfect.
        log_loss: mean negative log-likelihood, nats.
        brier: mean squared difference of score and label.
        calibration_error: mean absolute difference of score and observed share over the bins, weighted by rows.
        positive_rate: share of positive labels.
        rows: n.
    """

    auc: float
    log_loss: float
    brier: float
    calibration_error: float
    positive_rate: float
    rows: int


@dataclass(frozen=True)
class CalibrationBin:
    """Scores that lie close together: their mean, the share of positive labels among them, and how many they are."""

    mean_score: float
    observed: float
    rows: int


def evaluate_scores(labels: NDArray[Any], scores: NDArray[Any]) -> Metrics:
    """All metrics at once.

    Args:
        labels: 0 or 1, shape (n,).
        scores: probabilities of label 1, shape (n,).

    Returns:
        The metrics.

    Raises:
        TrainingError: no rows, only one class, lengths that differ, or a score outside [0, 1].
    """
    labels, scores = _checked(labels, scores)
    bins = calibration_bins(labels, scores)
    clipped = np.clip(scores, _EPSILON, 1 - _EPSILON)
    return Metrics(
        auc=_auc(labels, scores),
        log_loss=float(-np.mean(np.where(labels == 1, np.log(clipped), np.log1p(-clipped)))),
        brier=float(np.mean((scores - labels) ** 2)),
        calibration_error=sum(abs(b.mean_score - b.observed) * b.rows for b in bins) / len(labels),
        positive_rate=float(labels.mean()),
        rows=len(labels),
    )


def calibration_bins(labels: NDArray[Any], scores: NDArray[Any], bins: int = 10) -> tuple[CalibrationBin, ...]:
    """Group rows by score into bins of about equal size.

    Args:
        labels: 0 or 1, shape (n,).
        scores: probabilities of label 1, shape (n,).
        bins: wanted number of bins; fewer come back if there are fewer rows.

    Returns:
        Bins by growing score.
    """
    order = np.argsort(scores, kind="stable")
    return tuple(
        CalibrationBin(float(scores[part].mean()), float(labels[part].mean()), len(part))
        for part in np.array_split(order, bins)
        if len(part)
    )


def _checked(labels: NDArray[Any], scores: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    labels, scores = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise TrainingError(f"labels have shape {labels.shape} and scores {scores.shape}; both need the same (n,)")
    if set(np.unique(labels)) != {0.0, 1.0}:
        raise TrainingError(f"{len(labels)} labels hold not both 0 and 1; take a longer window for evaluation")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise TrainingError("a score lies outside [0, 1]; the model has to answer with probabilities")
    return labels, scores


def _auc(labels: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
    """Mann-Whitney U over the number of pairs; a tie counts half."""
    _, group, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last_rank = np.cumsum(counts)
    mean_rank = last_rank - (counts - 1) / 2
    positives = labels.sum()
    rank_sum = mean_rank[group] @ labels
    return float((rank_sum - positives * (positives + 1) / 2) / (positives * (len(labels) - positives)))
