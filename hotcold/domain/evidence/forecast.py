"""How many more observations it takes until a test can tell, if things go on as they are or as assumed.

A test's evidence is a function of counts. If things go on, the counts grow in proportion, so the forecast is the multiple of
them at which the verdict is no longer UNKNOWN. That has every cost of the test in it, and needs no formula of its own for
each.
"""

from __future__ import annotations

import math
from collections.abc import Callable

# Beyond this many times what was seen, or planned, nobody would believe the number.
_MOST_TIMES = 2**14
_MOST_OBSERVATIONS = 10**9
_PRECISION = 1.01


def observations_needed(decides: Callable[[float], bool], seen: int) -> int | None:
    """More observations until the verdict, if they are like those seen.

    Args:
        decides: whether a multiple of all counts gives a verdict.
        seen: observations so far.

    Returns:
        0 if they decide already; None if nothing was seen, or if even 16,384 times as much would not tell.
    """
    if not seen:
        return None
    if decides(1.0):
        return 0
    times = _first(decides, 1.0, _MOST_TIMES)
    return None if times is None else math.ceil((times - 1) * seen)


def first_decisive(decides: Callable[[float], bool]) -> int | None:
    """The number of observations, of an assumed kind, at which a test gives its verdict.

    Args:
        decides: whether so many observations give a verdict.

    Returns:
        The number to about 1 %; None if a billion would not tell.
    """
    found = _first(decides, 0.5, _MOST_OBSERVATIONS)
    return None if found is None else math.ceil(found)


def _first(decides: Callable[[float], bool], low: float, most: float) -> float | None:
    """Doubles, then halves the interval."""
    high = 2 * low
    while not decides(high):
        low, high = high, 2 * high
        if high > most:
            return None
    while high > low * _PRECISION and high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return high
