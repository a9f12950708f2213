"""The grid in which the edge counts how long answers took: integers per bucket, which add up over time, nodes and restarts."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from hotcold.domain.errors import EvidenceError

# Envoy's histograms know two significant digits, so only an edge with at most two divides exactly.
LATENCY_EDGES_US = (
    *(100, 150, 200, 300, 500, 700),
    *(1_000, 1_500, 2_000, 2_500, 3_000, 4_000, 5_000, 7_000),
    *(10_000, 15_000, 20_000, 25_000, 30_000, 40_000, 50_000, 70_000),
    *(100_000, 150_000, 200_000, 250_000, 300_000, 500_000, 700_000),
    *(1_000_000, 2_000_000, 5_000_000),
)
# One bucket below each edge, and one for all that is slower.
LATENCY_BUCKETS = len(LATENCY_EDGES_US) + 1
NO_LATENCY = (0,) * LATENCY_BUCKETS
LATENCY_BUDGETS_MS = tuple(edge / 1000 for edge in LATENCY_EDGES_US)


def bound_below(edge: int) -> float:
    """Where Envoy has to be given a bound, so that it divides at an edge of the grid.

    Envoy's histograms know two significant digits, and what shares them with a bound counts as below it: 109 ms as below
    100 ms. So the bound is in the middle of the last step below the edge; at the beginning of it, rounding would decide.
    """
    unit = float(f"1e{len(str(edge)) - 2}")
    return edge - (unit if edge > 10 * unit else unit / 10) / 2


def refuse_budget(budget_ms: float) -> str:
    """Why answers over this budget cannot be counted; empty if they can."""
    if budget_ms in LATENCY_BUDGETS_MS:
        return ""
    allowed = ", ".join(f"{edge:g}" for edge in LATENCY_BUDGETS_MS)
    return f"the latency budget is {budget_ms} ms; answers are counted by these limits only: {allowed} ms"


def count_over(latency_us: Sequence[int], budget_ms: float) -> int:
    """Answers that took as long as a budget or longer.

    Args:
        latency_us: answers per bucket; a bucket holds what took its lower edge or longer, and less than its upper one.
        budget_ms: one of `LATENCY_BUDGETS_MS`.

    Raises:
        EvidenceError: the budget is no edge of the grid, or there are other buckets than those of the grid.
    """
    if reason := refuse_budget(budget_ms):
        raise EvidenceError(reason)
    if len(latency_us) != LATENCY_BUCKETS:
        raise EvidenceError(f"there are {len(latency_us)} latency buckets; the grid has {LATENCY_BUCKETS}: start Envoy anew")
    return sum(latency_us[bisect_left(LATENCY_EDGES_US, budget_ms * 1000) + 1 :])
