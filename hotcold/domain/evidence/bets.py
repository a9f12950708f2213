"""E-process for the mean of bounded values: bets of fixed size on every value, averaged over a grid of sizes.

For values v in [0, 1] and the null hypothesis "the mean is at most m", a bet of size c in (0, 1) multiplies its stake by

    1 + (c / m) (v - m) = (1 - c) + c v / m

whose expectation is 1 at m and less below it. The mean over several c of the product over the values is a supermartingale for
every mean up to m. It depends on the values only through how many there are of each, so that the state is counts, in any
order. The usual plug-in bets (Waudby-Smith and Ramdas, section 4) adapt their size to the values so far, which a merge of two
states could not reproduce; a mixture costs at most ln(number of sizes) of evidence and loses no more than that to the best
size in hindsight. Each factor falls as m grows, so that inversion gives a bound without holes. "At least m" is the same bet on
1 - v.

Only the conditional mean of each value has to obey the null hypothesis: spread, shape and rhythm of the values are free. The
price is that a value as large as 1 is reckoned with at any time: "the mean is below m" takes at least ln(1 / alpha) / m
values.

Source:
    Waudby-Smith and Ramdas (2024), Estimating means of bounded random variables by betting, JRSS B 86;
    Orabona and Jun (2023), Tight concentrations and confidence sequences from the regret of universal portfolio, for mixtures.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hotcold.domain.evidence.crossing import last_true
from hotcold.domain.evidence.odds_mixture import log_mean_exp

_SIZES = 16
_GREATEST, _COMMON_LEAST = 0.98, 0.01


def bet_sizes(mean: float) -> NDArray[np.float64]:
    """The grid of sizes for a limit, shape (16,).

    The best size against rare ones, a share mu of them, is (mu - m) / (1 - m): smaller than m where mu is twice m. So the
    smallest size is a twentieth of m, or a hundredth where m is large.

    Args:
        mean: m, in (0, 1).
    """
    return np.geomspace(min(_COMMON_LEAST, mean / 20), _GREATEST, _SIZES)


def log_gains(values: NDArray[np.float64], mean: float, sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log of what each bet gains by each value.

    Args:
        values: in [0, 1], shape (n,).
        mean: m, in (0, 1).
        sizes: of the bets, shape (k,).

    Returns:
        Shape (k, n), nats.
    """
    return np.log((1 - sizes)[:, np.newaxis] + (sizes / mean)[:, np.newaxis] * values)


def lower_bound(
    values: NDArray[np.float64], weights: NDArray[np.float64], sizes: NDArray[np.float64], threshold: float
) -> float:
    """The mean is above this, at every peek at the level of the threshold.

    Args:
        values: in [0, 1], shape (n,).
        weights: how often each was seen, shape (n,).
        sizes: of the bets, shape (k,). They stay as they are while the mean under test moves, or the bound could have holes.
        threshold: ln(1 / alpha).

    Returns:
        In [0, 1); 0 without evidence.
    """
    seen = weights > 0
    values, weights = values[seen], weights[seen]

    def rejected(mean: float) -> bool:
        return log_mean_exp(log_gains(values, mean, sizes) @ weights) >= threshold

    # Zero and one themselves cannot be tested; they are what is said without evidence.
    low, high = 1e-12, 1 - 1e-12
    bound = last_true(rejected, low, high)
    return 0.0 if bound <= low else bound
