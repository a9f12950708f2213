"""The grid in which latency is counted."""

from __future__ import annotations

import itertools

import pytest

from hotcold.domain.errors import EvidenceError
from hotcold.domain.latency import (
    LATENCY_BUCKETS,
    LATENCY_BUDGETS_MS,
    LATENCY_EDGES_US,
    NO_LATENCY,
    bound_below,
    count_over,
    refuse_budget,
)


def test_the_grid_ascends_from_100_us_to_5_s_in_about_equal_ratios() -> None:
    assert (100, 5_000_000) == (LATENCY_EDGES_US[0], LATENCY_EDGES_US[-1])
    ratios = [upper / lower for lower, upper in itertools.pairwise(LATENCY_EDGES_US)]
    assert all(1 < ratio <= 2.5 for ratio in ratios)
    assert len(NO_LATENCY) == LATENCY_BUCKETS == len(LATENCY_EDGES_US) + 1


@pytest.mark.parametrize("edge", LATENCY_EDGES_US)
def test_an_edge_has_two_digits_at_most_since_envoy_knows_no_more(edge: int) -> None:
    assert float(f"{edge:.1e}") == edge


@pytest.mark.parametrize(
    ("edge", "bound"),
    [(100, 99.5), (150, 145), (1_000, 995), (10_000, 9_950), (25_000, 24_500), (50_000, 49_500), (500_000, 495_000)],
)
def test_a_bound_is_in_the_last_step_of_two_digits_below_its_edge(edge: int, bound: float) -> None:
    assert bound == bound_below(edge)


@pytest.mark.parametrize("budget_ms", [5, 10, 20, 25, 50, 100, 200, 250, 500, 1000])
def test_the_usual_budgets_are_edges(budget_ms: float) -> None:
    assert "" == refuse_budget(budget_ms)


@pytest.mark.parametrize("budget_ms", [0, 60, 50.1, -50, 10_000, float("nan")])
def test_another_budget_is_refused_with_those_that_are_allowed(budget_ms: float) -> None:
    reason = refuse_budget(budget_ms)
    assert reason.startswith(f"the latency budget is {budget_ms} ms; answers are counted by these limits only: 0.1, 0.15, 0.2,")
    with pytest.raises(EvidenceError, match="these limits only"):
        count_over(NO_LATENCY, budget_ms)


@pytest.mark.parametrize("bucket", range(LATENCY_BUCKETS))
def test_what_is_in_a_bucket_is_over_each_budget_up_to_its_lower_edge(bucket: int) -> None:
    latency_us = [0] * LATENCY_BUCKETS
    latency_us[bucket] = 7
    lower_us = 0 if bucket == 0 else LATENCY_EDGES_US[bucket - 1]
    for budget_ms in LATENCY_BUDGETS_MS:
        assert (7 if lower_us >= budget_ms * 1000 else 0) == count_over(latency_us, budget_ms)


def test_other_buckets_are_no_evidence() -> None:
    with pytest.raises(EvidenceError, match="there are 19 latency buckets; the grid has 33"):
        count_over([0] * 19, 50)
