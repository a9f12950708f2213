"""Where something that is true below and false above changes."""

from __future__ import annotations

import math
from collections.abc import Callable

_STEPS = 48
# Ratios outside are printed as they are: "a million times" says it.
LEAST_RATIO, GREATEST_RATIO = 1e-6, 1e6


def last_true(holds: Callable[[float], bool], low: float, high: float, steps: int = _STEPS) -> float:
    """The largest value, up to the precision, at which something still holds.

    Args:
        holds: true up to some value, false above it.
        low: lower end of the search.
        high: upper end of the search.
        steps: each halves what is left of it.

    Returns:
        A value at which it holds, so that a bound errs towards saying less; `low` if it holds nowhere, `high` if everywhere.
    """
    if not holds(low):
        return low
    if holds(high):
        return high
    for _ in range(steps):
        middle = (low + high) / 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low


def last_true_ratio(holds: Callable[[float], bool]) -> float:
    """The same for a ratio, searched on its logarithm; 0 if it holds nowhere."""
    if not holds(LEAST_RATIO):
        return 0.0
    return math.exp(last_true(lambda log: holds(math.exp(log)), math.log(LEAST_RATIO), math.log(GREATEST_RATIO)))
