"""How far scores have moved. Reported, not gated: a better model moves them too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hotcold.domain.score_histogram import ScoreHistogram, population_stability_index


@dataclass(frozen=True)
class Drift:
    """Distance of two distributions of scores; None if one side has no scores.

    Args:
        psi: population stability index of the candidate's scores against the champion's; above 0.25 is called a shift.
        ks: Kolmogorov-Smirnov distance, 0 to 1: the largest difference of the shares of scores up to some value.
    """

    psi: float | None
    ks: float | None


def compare_scores(champion: ScoreHistogram, candidate: ScoreHistogram) -> Drift:
    """Both distances."""
    return Drift(population_stability_index(champion, candidate), kolmogorov_smirnov(champion, candidate))


def kolmogorov_smirnov(champion: ScoreHistogram, candidate: ScoreHistogram) -> float | None:
    """Largest difference of the two distribution functions at the edges of the bins.

    Args:
        champion: its scores.
        candidate: the candidate's.

    Returns:
        0 to 1; None if one side has no scores. Within bins, which are 1.6 % wide, nothing is seen.
    """
    if not champion.total or not candidate.total:
        return None
    bins = sorted({*champion.counts, *candidate.counts})
    shares = [np.cumsum([side.counts.get(index, 0) for index in bins]) / side.total for side in (champion, candidate)]
    return float(np.abs(shares[0] - shares[1]).max())
