"""E-process for "whose was it?": did the candidate get more than its share of something, given the split at each time?

Given that one of the two sides is hit, it is the candidate with probability p_w(r) = w r / (w r + 1 - w), where w is the
candidate's share and r how much more often it is hit than the champion, for equal traffic. Against "r is at most r0" the
process bets on every r of a grid above r0 at once:

    E(r0) = mean over k of the product over hits of  p_w(k r0) / p_w(r0)              if it was the candidate
                                                     (1 - p_w(k r0)) / (1 - p_w(r0))  if it was the champion

Each factor has the expectation 1 at r0 and less below it, whatever w was, so E(r0) is a supermartingale for every r up to r0.
Each factor also falls as r0 grows, so the set of rejected r0 has no holes and its end is a confidence bound. Only the number
of hits per side and share matters, not their order. Traffic that swings, bursts or differs between entities does no harm:
which entity is on which side is decided by a hash and has nothing to do with when it fails.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotcold.domain.evidence.crossing import last_true_ratio

# Multiples of the ratio that is tested. The smallest is the least excess that is worth finding, the largest a disaster; a grid
# twice as fine, or half, changes the median time to find a ratio by less than a tenth.
MULTIPLES = np.geomspace(1.1, 50.0, 16)
# Candidate's share in percent to (candidate's hits, champion's hits). Forecasts scale counts, so these need not be integers.
Hits = Mapping[int, tuple[float, float]]


def log_evidence_above(hits: Hits, ratio: float) -> float:
    """Evidence against "the candidate is hit at most `ratio` times as often as the champion", valid at every peek.

    Args:
        hits: by share; at 0 and 100 % the split says nothing, and they are left out.
        ratio: r0, more than 0.

    Returns:
        Log of the e-value, nats; 0 without any hit.

    Source:
        Wald (1945), Sequential tests of statistical hypotheses; Robbins (1970), Statistical methods related to the law of the
        iterated logarithm, for mixtures of them.
    """
    telling = tuple(share_pct for share_pct in hits if 0 < share_pct < 100)
    if not telling:
        return 0.0
    counts = np.array([count for share_pct in telling for count in hits[share_pct]], dtype=np.float64)
    return log_mean_exp(log_factors(telling, ratio) @ counts)


def log_evidence_below(hits: Hits, ratio: float) -> float:
    """The mirror: evidence against "the candidate is hit at least `ratio` times as often". It is the champion's case."""
    swapped = {100 - share_pct: (champion, candidate) for share_pct, (candidate, champion) in hits.items()}
    return log_evidence_above(swapped, 1 / ratio)


@lru_cache(maxsize=4096)
def log_factors(shares_pct: tuple[float, ...], ratio: float = 1.0) -> NDArray[np.float64]:
    """Log of what each bet of the grid gains by one hit of each side at each share.

    Args:
        shares_pct: n candidate's shares in percent, each in (0, 100).
        ratio: r0, more than 0.

    Returns:
        Shape (16, 2 n): for each share, the gain by a hit of the candidate and by one of the champion. Read-only.
    """
    share = np.array(shares_pct) / 100
    by_champion = np.log((share * ratio + 1 - share) / (share * ratio * MULTIPLES[:, np.newaxis] + 1 - share))
    by_candidate = np.log(MULTIPLES)[:, np.newaxis] + by_champion
    factors = np.stack((by_candidate, by_champion), axis=2).reshape(len(MULTIPLES), -1)
    factors.flags.writeable = False
    return factors


def log_share_evidence(hits: NDArray[Any], misses: NDArray[Any], share: float) -> NDArray[np.float64]:
    """Evidence against "the share of hits is at most `share`" for many pairs of counts at once.

    It is the same process, with one share and the ratio 1. For single pairs `beta_mixture` sees small excesses sooner; this one
    is ten times as fast.

    Args:
        hits: shape (n,).
        misses: shape (n,).
        share: in (0, 1).

    Returns:
        Logs of the e-values, nats, shape (n,).
    """
    return log_mixture(log_factors((100 * share,)) @ np.stack((hits, misses)).astype(np.float64))


def log_mixture(wealth: NDArray[np.float64], kept: float = 0.0) -> NDArray[np.float64]:
    """Log of the mean gain of all bets.

    Args:
        wealth: log of what each bet has gained, shape (16, n); is overwritten.
        kept: part of the stake that is not bet, in [0, 1); the mean never falls below it.

    Returns:
        Shape (n,).
    """
    greatest = np.maximum.reduce(wealth)
    if kept:
        greatest = np.maximum(greatest, 0.0)
    wealth -= greatest
    np.exp(wealth, out=wealth)
    mean = np.add.reduce(wealth) * ((1 - kept) / len(wealth))
    if kept:
        mean += kept * np.exp(-greatest)
    return np.asarray(np.log(mean) + greatest)


def log_mean_exp(logs: NDArray[np.float64]) -> float:
    """Log of the mean of exp(logs), shape (k,), without overflow."""
    greatest = float(np.maximum.reduce(logs))
    return greatest + math.log(float(np.add.reduce(np.exp(logs - greatest))) / len(logs))


def ratio_bounds(hits: Hits, threshold: float) -> tuple[float, float]:
    """All ratios that the hits do not speak against.

    Args:
        hits: by share.
        threshold: ln(1 / alpha).

    Returns:
        Lower and upper bound, each valid at every peek at level alpha; 0 and infinity without evidence.
    """
    lower = last_true_ratio(lambda ratio: log_evidence_above(hits, ratio) >= threshold)
    # Above the upper bound everything is rejected, so the search goes down from infinity by the inverse.
    inverse = last_true_ratio(lambda inverse: log_evidence_below(hits, 1 / inverse) >= threshold)
    return lower, 1 / inverse if inverse else math.inf


def likely_ratio(hits: Hits) -> float | None:
    """The ratio under which these hits are most likely; None if no hit says anything about it."""
    telling = {share_pct: pair for share_pct, pair in hits.items() if 0 < share_pct < 100}
    if not any(sum(pair) for pair in telling.values()):
        return None
    if not any(candidate for candidate, _ in telling.values()):
        return 0.0
    if not any(champion for _, champion in telling.values()):
        return math.inf
    return last_true_ratio(lambda ratio: excess(telling, ratio) >= 0)


def excess(hits: Hits, ratio: float) -> float:
    """Candidate's hits beyond those expected under a ratio. It falls as the ratio grows, and is 0 at the likeliest one."""
    total = 0.0
    for share_pct, (candidate, champion) in hits.items():
        if 0 < share_pct < 100:
            weight = ratio * share_pct
            total += candidate - (candidate + champion) * weight / (weight + 100 - share_pct)
    return total
