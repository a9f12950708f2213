"""Evidence at every peek of many simulated runs at once, with the tests' own factors.

A path is what the log of the e-value would have been after each observation. Each function is checked against the test itself
by `benchmarks.evidence_calibration`, at the last observation of every run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from benchmarks.evidence_traffic import Bools, Floats, Ints, simulate_traffic
from hotcold.domain.evidence.beta_mixture import log_evidence_off
from hotcold.domain.evidence.bets import bet_sizes, log_gains
from hotcold.domain.evidence.latency_counts import LatencyCounts
from hotcold.domain.evidence.odds_mixture import log_factors, log_mixture
from hotcold.domain.evidence.paired_mean import MeanTest
from hotcold.domain.evidence.quantile_bounds import QuantileTest
from hotcold.domain.evidence.quantile_evidence import KEPT
from hotcold.domain.evidence.value_counts import NODES, ROUNDING

_EDGES = tuple(int(edge) for edge in np.geomspace(500, 50_000, 40))
_SECONDS = 800


def log_mean(wealth: Floats) -> Floats:
    """Log of the mean of exp over the last axis, which is that of the bets."""
    greatest = wealth.max(axis=-1)
    return np.asarray(greatest + np.log(np.exp(wealth - greatest[..., np.newaxis]).mean(axis=-1)))


def ratio_path(shares_pct: NDArray[Any], is_candidate: Bools, ratio: float) -> Floats:
    """Path of the odds mixture.

    Args:
        shares_pct: candidate's share at each failure, shape (n,).
        is_candidate: whose failure it was, shape (n,).
        ratio: tested ratio.

    Returns:
        Shape (n,).
    """
    shares = tuple(sorted({int(share) for share in shares_pct}))
    factors = log_factors(shares, ratio)
    column = 2 * np.searchsorted(shares, shares_pct) + ~is_candidate
    return log_mean(np.cumsum(factors.T[column], axis=0))


def first_counts(log_evidence: Callable[[int, int], float], observations: int, alpha: float) -> NDArray[np.int64]:
    """For each number of observations, the fewest hits at which the evidence suffices; it grows with the hits.

    Args:
        log_evidence: of hits and observations.
        observations: largest number.
        alpha: level.

    Returns:
        Shape (observations + 1,); more than the observations where no number of hits suffices.
    """
    first, needed = np.zeros(observations + 1, dtype=np.int64), -math.log(alpha)
    hits = 0
    for total in range(observations + 1):
        # One more miss never raises the evidence, so that the line never goes down.
        while hits <= total and log_evidence(hits, total) < needed:
            hits += 1
        first[total] = hits
    return first


def mean_path(values: Floats, test: MeanTest, limit: float, *, above: bool = True) -> Floats:
    """Path of the bets of a test against its limit, or minus that.

    Args:
        values: shape (n,) or (runs, n).
        test: with a scale of 1.
        limit: what the mean is tested against.
        above: bets that the mean is above; otherwise below.

    Returns:
        Of the shape of the values.
    """
    points, lowest = (NODES, -1.0) if test.signed else (NODES[NODES >= 0], 0.0)
    mean, at_limit = ((value - lowest) / (1 - lowest) for value in (limit + (ROUNDING if above else -ROUNDING), test.limit))
    shares = (points - lowest) / (1 - lowest)
    gains = log_gains(shares, mean, bet_sizes(at_limit)) if above else log_gains(1 - shares, 1 - mean, bet_sizes(1 - at_limit))
    # Between two points of the grid a value is shared out, so its gain lies between theirs.
    return log_mean(np.stack([np.cumsum(np.interp(values, points, gain), axis=-1) for gain in gains], axis=-1))


def off_table(observations: int, share: float, mass: float) -> Floats:
    """Log of the e-value against "the share of hits is exactly this", by hits and misses, shape (n + 1, n + 1)."""
    hits, misses = np.divmod(np.arange((observations + 1) ** 2, dtype=np.float64), observations + 1)
    return log_evidence_off(hits, misses, (share,), mass).reshape(observations + 1, -1)


def latency_paths(
    test: QuantileTest, variant: str, random: Generator, slower: float, *, every: bool = False
) -> tuple[Floats, Floats]:
    """Evidence of harm and of safety after each counted answer.

    Args:
        test: the test.
        variant: of the traffic.
        random: source of everything.
        slower: the candidate's latencies are this many times the champion's.
        every: count every answer, which one must not do, of busier traffic; otherwise those that are independent.
    """
    requests = _SECONDS if every else 2 * _SECONDS
    traffic = simulate_traffic(variant, random, requests, per_second=20 if every else 2)
    is_candidate = traffic.side < 0.5
    latency = 2000 * np.exp(0.4 * random.normal(size=requests)) * traffic.level * np.where(is_candidate, slower, 1)
    latency *= np.where(traffic.bad_second & (variant == "bursts"), 10, 1)
    latency *= np.where(traffic.bad_user & (variant == "heavy users"), 3, 1)
    counted = np.full(requests, fill_value=True) if every else traffic.counted(is_candidate)
    sides = [_side(latency[counted], is_candidate[counted] == mine) for mine in (True, False)]
    paths = (
        _slower_path(sides[0], sides[1], test.quantile, test.baseline),
        _slower_path(sides[1], sides[0], test.quantile, 1 / test.limit),
    )
    ends = [LatencyCounts(_EDGES, np.diff(below[-1], prepend=0)) for below, _ in sides]
    assert_same(test.log_harm(*ends), paths[0][-1])
    assert_same(test.log_safe(*ends), paths[1][-1])
    return paths


def _side(latency: Floats, mine: Bools) -> tuple[Ints, Ints]:
    """How many of one side's answers lie at or below each edge, and above it, after each answer; shape (n, bins + 1)."""
    below = np.cumsum((latency[:, np.newaxis] <= np.array([*_EDGES, math.inf])) & mine[:, np.newaxis], axis=0)
    return below, below[:, -1:] - below


def _slower_path(first: tuple[Ints, Ints], second: tuple[Ints, Ints], quantile: float, factor: float) -> Floats:
    """Evidence that the first side's quantile is above a multiple of the second's; see `quantile_evidence`."""
    of_first = _table(1 - quantile)[first[1], first[0]]
    of_second = _table(quantile)[second[0], second[1]]
    of_first[:, -1] = of_second[:, -1] = 0.0
    edges = np.searchsorted(_EDGES, np.array([-1.0, *_EDGES]) / factor * (1 + 1e-12), side="right") - 1
    return np.asarray((of_first + of_second[:, edges]).min(axis=1))


@cache
def _table(share: float) -> Floats:
    """Log of the e-value against "the share of hits is at most this", by hits and misses."""
    hits, misses = np.divmod(np.arange((_SECONDS + 1) ** 2), _SECONDS + 1)
    wealth = log_factors((100 * share,)) @ np.stack((hits, misses)).astype(np.float64)
    return log_mixture(wealth, KEPT).reshape(_SECONDS + 1, -1)


def assert_same(by_test: float, by_path: float) -> None:
    """The path ends where the test is.

    Raises:
        AssertionError: it does not, and its figures mean nothing.
    """
    assert abs(by_test - by_path) <= 1e-3 * max(1.0, abs(by_test)), f"the test says {by_test}, its path {by_path}"
