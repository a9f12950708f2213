"""E-processes for a share: were there more hits than allowed, mixed over all larger shares by a beta distribution.

For s hits in t observations, a share p under test and a prior Beta(p m, (1 - p) m) of mass m around it,

    log E = ln B(p m + s, (1 - p) m + t - s) - ln B(p m, (1 - p) m) - s ln p - (t - s) ln(1 - p)

is the evidence against "the share is p" in either direction. For "at most p" the prior is cut off below p, which multiplies E by
the posterior's mass above p over the prior's. That is the check of the side built in: each remaining share above p gives a factor
whose expectation is at most 1 for every true share up to p, so this is an e-value for all of them, which E with a check of the side
beside it is not, and it is about three times as large where p is small.

Only s and t matter, not the order. E falls as p grows, so that its inversion is a confidence bound.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

# Counts: integers, or scaled ones of a forecast; one or many.
Counts = float | NDArray[Any]


def log_evidence_above(hits: Counts, misses: Counts, share: float, mass: float) -> NDArray[np.float64]:
    """Evidence against "the share of hits is at most `share`", valid at every peek.

    Args:
        hits: s, one number or any shape.
        misses: t - s, of the same shape.
        share: p, in (0, 1).
        mass: m, in observations; larger waits longer and sees finer.

    Returns:
        Log of the e-value, nats, of the same shape; 0 without observations, minus infinity where it is too small to say.

    Source:
        Howard, Ramdas, McAuliffe and Sekhon (2021), Time-uniform, nonparametric, nonasymptotic confidence sequences,
        Proposition 7 (one-sided beta-binomial mixture).
    """
    a, b = share * mass, (1 - share) * mass
    # Far on the other side the posterior's mass above p vanishes, and with it the evidence.
    with np.errstate(divide="ignore"):
        above = np.log(special.betaincc(a + hits, b + misses, share)) - _log_prior_above(share, mass)
    return np.asarray(log_evidence_off(hits, misses, share, mass) + above)


def log_evidence_off(hits: Counts, misses: Counts, share: float, mass: float) -> NDArray[np.float64]:
    """Evidence against "the share of hits is exactly `share`"; arguments and source as for `log_evidence_above`."""
    a, b = share * mass, (1 - share) * mass
    posterior = special.betaln(a + hits, b + misses)
    return np.asarray(posterior - _log_beta(a, b) - hits * np.log(share) - misses * np.log1p(-share))


@lru_cache(maxsize=1024)
def _log_beta(a: float, b: float) -> float:
    return float(special.betaln(a, b))


@lru_cache(maxsize=1024)
def _log_prior_above(share: float, mass: float) -> float:
    return float(np.log(special.betaincc(share * mass, (1 - share) * mass, share)))
