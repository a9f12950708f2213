"""E-process for "this side's latency quantile is above a multiple of the other side's", on histograms.

The quantile q of a side is above x exactly if fewer than q of its latencies lie at or below x, so each threshold x has the
e-process of a share. "The quantile of one side is at most f times that of the other" means that there is an x, the first
side's quantile, with

    P(first <= x) >= q    and    P(second < x / f) <= q

Both are statements about shares. The product of their e-values is one too, since what each side answers does not depend on the
other, given the past. The hypothesis is rejected when the product is large at every x, whatever the quantile is. Bins cannot
say where in them x lies, so the first side is given the upper end of the bin and the second the lower one.

Half of each side's stake is not bet. A long history of one side would otherwise use up, at thresholds just beside its own
quantile, what the other side has won there; now it costs a factor of two at most.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hotcold.domain.evidence.latency_counts import LatencyCounts
from hotcold.domain.evidence.odds_mixture import log_factors, log_mixture

KEPT = 0.5


def log_slower(first: LatencyCounts, second: LatencyCounts, quantile: float, factor: float, times: float = 1.0) -> float:
    """Evidence against "the first side's quantile is at most `factor` times the second's", valid at every peek.

    Args:
        first: latencies of the side that may be slower.
        second: of the other, in the same bins.
        quantile: q, in (0, 1).
        factor: f, more than 0.
        times: take a multiple of all counts, for forecasts.

    Returns:
        Log of the e-value, nats: the least over all bins.

    Source:
        Howard and Ramdas (2022), Sequential estimation of quantiles with applications to A/B testing and best-arm
        identification, Bernoulli 28; Vovk and Wang (2021), E-values: calibration, combination and applications, for products.
    """
    of_first, of_second = _factors(1 - quantile)[:, ::-1] @ first.sums, _factors(quantile) @ second.sums
    wealth = np.concatenate((of_first, of_second), axis=1)
    if times != 1.0:
        wealth *= times
    logs = log_mixture(wealth, KEPT)
    bins = len(first.counts)
    of_first, of_second = logs[:bins], logs[bins:]
    # Above all edges lies any share, and below all edges none: that takes no evidence and gives none.
    of_first[-1] = of_second[-1] = 0.0
    return float(np.minimum.reduce(of_first + of_second[_edge_below(first.edges_us, factor)]))


def is_slower(
    first: LatencyCounts, second: LatencyCounts, quantile: float, factor: float, needed: float, times: float = 1.0
) -> bool:
    """Whether that evidence reaches `needed`; where it cannot, this is seen without computing it. Arguments as above."""
    edges = _edge_below(first.edges_us, factor)
    own, others = first.quantile_bin(quantile), second.quantile_bin(quantile)
    # The first side's quantile is not above the second's: in the first side's own bin neither has any evidence.
    if own < len(edges) - 1 and edges[own] < others:
        return False
    return log_slower(first, second, quantile, factor, times) >= needed


@lru_cache(maxsize=64)
def _factors(share: float) -> NDArray[np.float64]:
    """What each bet gains by a hit and by a miss, shape (16, 2)."""
    return np.ascontiguousarray(log_factors((100 * share,)))


@lru_cache(maxsize=256)
def _edge_below(edges_us: tuple[int, ...], factor: float) -> NDArray[np.int64]:
    """For each bin, the last edge at or below its lower end over the factor, shape (bins + 1,); -1 where there is none."""
    edges = np.asarray(edges_us, dtype=np.float64)
    # The first bin has no lower end. A hair more, so that an edge that equals the quotient counts; latencies are whole µs.
    lower_ends = np.concatenate([[-1.0], edges])
    return np.asarray(np.searchsorted(edges, lower_ends / factor * (1 + 1e-12), side="right") - 1)
