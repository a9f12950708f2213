"""Whether scores come true as often as they say, from the counts of a comparison: the same, however these were put together."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hotcold.domain.score_histogram import bin_edge, merge_histograms
from hotcold.domain.shadow.comparison import SideCounts
from hotcold.domain.shadow.report import CalibrationBin

BINS = 10
# A step of the histogram is 1 / 64 of its lower end at most, and a score counts as the middle of its step.
INEXACT = 1 / 128


def calibration(side: SideCounts) -> tuple[CalibrationBin, ...]:
    """Tenths of the scores' range: mean score, share of labels that say yes, and how many there are.

    A score counts as the middle of its step of the histogram. So means are exact to INEXACT of themselves, and a score that is
    no further than that from the border of two tenths may count in either; shares and numbers are exact otherwise.

    Args:
        side: with labelled scores.

    Returns:
        By score, ascending; none without labels, or where a score is no probability.
    """
    both = merge_histograms((side.positives, side.negatives))
    if not both.total or both.least < 0 or both.greatest > 1:
        return ()
    sums, numbers = np.zeros(BINS), np.zeros((BINS, 2), dtype=np.int64)
    # Floats are added in the order of the scores, or the sums would depend on who merged what first.
    for index in sorted(both.counts):
        middle = min(max((bin_edge(index) + bin_edge(index + 1)) / 2, both.least), both.greatest)
        tenth = min(int(middle * BINS), BINS - 1)
        sums[tenth] += both.counts[index] * middle
        numbers[tenth] += (side.positives.counts.get(index, 0), both.counts[index])
    return tuple(
        CalibrationBin(tenth / BINS, (tenth + 1) / BINS, float(sums[tenth] / n), float(yes / n), int(n))
        for tenth, (yes, n) in enumerate(numbers)
        if n
    )


def calibration_error(bins: Sequence[CalibrationBin]) -> float:
    """Expected calibration error: how far the mean score is from the share that came true, on average over the labels.

    Args:
        bins: see `calibration`.

    Returns:
        0 to 1, exact to INEXACT but for scores at the borders of tenths; NaN without bins. Chance makes it larger where labels
        are few: a share of n labels is off by about 0.5 / sqrt(n) by itself.

    Source:
        Naeini, Cooper and Hauskrecht (2015), Obtaining well calibrated probabilities using Bayesian binning.
    """
    labelled = sum(one.labelled for one in bins)
    if not labelled:
        return math.nan
    return sum(one.labelled * abs(one.mean_score - one.positive_share) for one in bins) / labelled
