"""E-processes for a share: were there more hits than allowed, or simply not the expected number?

For s hits in t observations, a share p under test and a prior Beta(p m, (1 - p) m) of mass m around it,

    log E = ln B(p m + s, (1 - p) m + t - s) - ln B(p m, (1 - p) m) - s ln p - (t - s) ln(1 - p)

is the evidence against "the share is p", in either direction. For "at most p" the prior is cut off below p, which multiplies E
by the posterior's mass above p over the prior's. That is the check of the side built in: each remaining share above p gives a
factor whose expectation is at most 1 for every true share up to p, so this is an e-value for all of them, which E with a check
of the side beside it is not; and it is about three times as large where p is small.

Only s and t matter, not the order. As p grows up to s / t, E falls, so that its inversion is a bound without holes: ln E is
convex in p for the two-sided form, and for the other one the tests look at it over a wide range of counts and masses.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

# Below this the tail of a beta distribution is not exact, or zero.
_LEAST_TAIL = 1e-280


def log_evidence_above(hits: float, misses: float, share: float, mass: float) -> float:
    """Evidence against "the share of hits is at most `share`", valid at every peek.

    Args:
        hits: s; an integer, or a scaled one of a forecast.
        misses: t - s.
        share: p, in (0, 1).
        mass: m, in observations; larger waits longer and sees finer.

    Returns:
        Log of the e-value, nats; 0 without observations.

    Source:
        Howard, Ramdas, McAuliffe and Sekhon (2021), Time-uniform, nonparametric, nonasymptotic confidence sequences,
        Proposition 7 (one-sided beta-binomial mixture).
    """
    a, b = share * mass + hits, (1 - share) * mass + misses
    norm, prior_above = _log_prior(share, mass)
    log_share, log_rest = math.log(share), math.log1p(-share)
    posterior = float(special.betaln(a, b))
    above = float(special.betaincc(a, b, share))
    # Far on the other side this is too small for a float. The first term of its series is a lower bound, and enough.
    log_above = math.log(above) if above > _LEAST_TAIL else a * log_share + b * log_rest - math.log(b) - posterior
    return posterior - norm + log_above - prior_above - hits * log_share - misses * log_rest


def log_evidence_off(
    hits: NDArray[np.float64], misses: NDArray[np.float64], shares: tuple[float, ...], mass: float
) -> NDArray[np.float64]:
    """Evidence against "the share of hits is exactly this", for several shares at once; otherwise as above.

    Args:
        hits: shape (n,).
        misses: shape (n,).
        shares: n shares in (0, 1), or one for all.
        mass: in observations.

    Returns:
        Logs of the e-values, nats, shape (n,).
    """
    a, b, norm, log_share, log_rest = _priors(shares, mass)
    return np.asarray(special.betaln(a + hits, b + misses) - norm - hits * log_share - misses * log_rest)


@lru_cache(maxsize=1024)
def _priors(shares: tuple[float, ...], mass: float) -> tuple[NDArray[np.float64], ...]:
    """Parameters of the priors, logs of their norms, and logs of the shares and of what is left to one."""
    share = np.array(shares)
    a, b = share * mass, (1 - share) * mass
    return a, b, special.betaln(a, b), np.log(share), np.log1p(-share)


@lru_cache(maxsize=1024)
def _log_prior(share: float, mass: float) -> tuple[float, float]:
    """Log of the prior's norm, and of its mass above the share."""
    a, b = share * mass, (1 - share) * mass
    return float(special.betaln(a, b)), math.log(special.betaincc(a, b, share))
