"""How many observations it takes until harm is found, beside a test whose sample size is fixed beforehand.

The fixed-sample test has the same level and finds the harm in 80 % of all runs, if one knows its size beforehand and looks only
once. The median of a test that may be looked at all the time is what it is compared with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy.stats import norm

from benchmarks.evidence_calibration import ACCURACY, CHANGE, ERRORS, FLIPS, LATENCY, LOSS, SLOW, SLOW_SECONDS
from benchmarks.evidence_peeks import Floats, first_counts, latency_paths, mean_path, ratio_path
from benchmarks.evidence_traffic import STEPS_PCT, simulate_changes, simulate_losses
from hotcold.domain.evidence.paired_mean import MeanTest

RUNS = 400
_BASE_RATE = 0.01
_POWER = 0.8
_PER_SECOND = 20


@dataclass(frozen=True)
class Detection:
    """How long one kind of harm takes to be found.

    Args:
        harm: what was wrong with the candidate.
        median: observations until HARM in half of the runs; infinity where fewer than half ended.
        fixed: observations that a fixed-sample test of the same level and 80 % power needs; None where there is no such test.
        counted: what an observation is.
    """

    harm: str
    median: float
    fixed: float | None
    counted: str


def detect_all(random: Generator) -> list[Detection]:
    """The whole table."""
    ratios, answers = _error_ratios(random), [*_slow_answers(random), *_slower_sides(random)]
    return [*ratios, *answers, *_changes(random), *_losses(random), *_lost_pairs(random)]


def _error_ratios(random: Generator) -> list[Detection]:
    rows = []
    for ratio in (10.0, 5.0, 3.0, 2.0):
        for share_pct in (5, 50):
            shares = np.full(120_000 if share_pct == 5 else 40_000, share_pct)
            fixed = _two_shares(_BASE_RATE, _BASE_RATE * ratio, share_pct / 100, ERRORS.alpha)
            name = f"errors {ratio:g} times the champion's 1 %, at {share_pct} %"
            rows.append(Detection(name, _until_error_harm(random, ratio, shares), fixed, "requests"))
        canary = np.repeat([*STEPS_PCT, STEPS_PCT[-1]], [5000] * len(STEPS_PCT) + [20_000])
        rows.append(Detection("  at 5, 10, 25, 50 %, 5,000 each", _until_error_harm(random, ratio, canary), None, "requests"))
    return rows


def _until_error_harm(random: Generator, ratio: float, shares_pct: np.ndarray) -> float:
    """Median number of requests on both sides."""
    taken = []
    for _ in range(RUNS):
        is_candidate = random.random(len(shares_pct)) < shares_pct / 100
        failed = np.flatnonzero(random.random(len(shares_pct)) < _BASE_RATE * np.where(is_candidate, ratio, 1.0))
        reached = _first(ratio_path(shares_pct[failed], is_candidate[failed], ERRORS.baseline), ERRORS.alpha)
        taken.append(failed[int(reached) - 1] + 1 if reached < math.inf else math.inf)
    return float(np.median(taken))


def _slow_answers(random: Generator) -> list[Detection]:
    line = first_counts(SLOW.log_harm, 5000, SLOW.alpha)
    rows = []
    for share in (0.05, 0.03, 0.02):
        hits = np.cumsum(random.random((RUNS, 5000)) < share, axis=1)
        median = float(np.median([_first_true(run >= line[1:]) for run in hits]))
        name = f"{share:.0%} of answers over a budget for 1 %"
        rows.append(Detection(name, median, _one_share(SLOW.allowed, share, SLOW.alpha), "answers"))
        seconds = random.binomial(_PER_SECOND, share, (RUNS, 1000)) / _PER_SECOND
        by_second = _until_mean_harm(SLOW_SECONDS, seconds, SLOW_SECONDS.alpha)
        rows.append(Detection(f"  by second of {_PER_SECOND} answers", _PER_SECOND * by_second, None, "answers"))
    flipped = (random.random((RUNS, 4000)) < 0.03).astype(np.float64)
    fixed = _one_share(FLIPS.limit, 0.03, FLIPS.alpha)
    rows.append(Detection("30 flips per 1,000, 10 tolerated", _until_mean_harm(FLIPS, flipped, FLIPS.alpha), fixed, "pairs"))
    return rows


def _slower_sides(random: Generator) -> list[Detection]:
    """Counted answers of both sides, half of them the candidate's."""
    rows = []
    for slower in (2.0, 1.5):
        paths = (latency_paths(LATENCY, "plain", random, slower)[0] for _ in range(RUNS))
        median = float(np.median([_first(path, LATENCY.alpha) for path in paths]))
        name = f"latencies {slower:g} times the champion's, seen at the {100 * LATENCY.quantile:g}th percentile"
        rows.append(Detection(name, median, None, "answers"))
    return rows


def _changes(random: Generator) -> list[Detection]:
    rows = []
    for scale in (1.0, 0.25):
        test = MeanTest(CHANGE.limit / scale, two_sided=True)
        shifted = np.clip((0.03 + simulate_changes("plain", random, (RUNS, 3000), spread=0.05)) / scale, -1, 1)
        fixed = _mean(0.05, 0.02, CHANGE.alpha / 2)
        name = f"score shifted by 0.03, 0.01 tolerated, scale {scale:g}"
        rows.append(Detection(name, _until_mean_harm(test, shifted, test.alpha / 2), fixed, "pairs"))
    return rows


def _losses(random: Generator) -> list[Detection]:
    rows = []
    for excess in (0.05, 0.03):
        losses = excess + simulate_losses("plain", random, (RUNS, 6000))
        fixed = _mean(float(losses.std()), excess - LOSS.limit, LOSS.alpha)
        name = f"log-loss higher by {excess:g}, {LOSS.limit:g} tolerated"
        rows.append(Detection(name, _until_mean_harm(LOSS, losses, LOSS.alpha), fixed, "labels"))
    return rows


def _lost_pairs(random: Generator) -> list[Detection]:
    line = first_counts(lambda lost, total: ACCURACY.log_harm(lost, total - lost), 4000, ACCURACY.alpha)
    rows = []
    for share in (0.7, 0.6):
        lost = np.cumsum(random.random((RUNS, 4000)) < share, axis=1)
        median = float(np.median([_first_true(run >= line[1:]) for run in lost]))
        name = f"{share:.0%} of discordant pairs lost"
        rows.append(Detection(name, median, _one_share(0.5, share, ACCURACY.alpha), "discordant pairs"))
    return rows


def _until_mean_harm(test: MeanTest, values: Floats, alpha: float) -> float:
    parts = np.array_split(values, len(values) // 50)
    paths = [path for part in parts for path in mean_path(part, test, test.limit)]
    return float(np.median([_first(path, alpha) for path in paths]))


def _first(path: Floats, alpha: float) -> float:
    """The observation at which the evidence suffices, counted from 1."""
    return _first_true(path >= -math.log(alpha))


def _first_true(reached: Sequence[bool] | np.ndarray) -> float:
    return float(np.argmax(reached)) + 1 if np.any(reached) else math.inf


def _two_shares(before: float, after: float, share: float, alpha: float) -> float:
    """Fixed-sample test of two proportions, one-sided, normal approximation; observations on both sides."""
    pooled = share * after + (1 - share) * before
    null = norm.isf(alpha) * math.sqrt(pooled * (1 - pooled) / (share * (1 - share)))
    true = norm.ppf(_POWER) * math.sqrt(after * (1 - after) / share + before * (1 - before) / (1 - share))
    return ((null + true) / (after - before)) ** 2


def _one_share(before: float, after: float, alpha: float) -> float:
    """Fixed-sample test of one proportion, one-sided, normal approximation."""
    null, true = norm.isf(alpha) * math.sqrt(before * (1 - before)), norm.ppf(_POWER) * math.sqrt(after * (1 - after))
    return ((null + true) / (after - before)) ** 2


def _mean(spread: float, excess: float, alpha: float) -> float:
    """Fixed-sample test of a mean, one-sided, known spread."""
    return ((norm.isf(alpha) + norm.ppf(_POWER)) * spread / excess) ** 2
