import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotcold.domain.errors import EvidenceError
from hotcold.domain.evidence.latency_counts import LatencyCounts, count_latencies, no_latencies

EDGES = (100, 200, 400, 1000)
latencies = st.lists(st.floats(0, 5000) | st.sampled_from([100.0, 1000.0, math.inf, math.nan, -1.0]), max_size=30)


def test_a_latency_that_equals_an_edge_lies_below_it() -> None:
    counts = count_latencies(np.array([0, 100, 101, 200, 1000, 1001, math.inf]), EDGES)
    assert [2, 2, 0, 1, 2] == counts.counts.tolist()
    assert [2, 4, 4, 5, 7] == counts.below.tolist()
    assert [5, 3, 3, 2, 0] == counts.above.tolist()
    assert (7, 0) == (counts.total, counts.invalid)


def test_what_is_no_latency_is_counted_apart() -> None:
    counts = count_latencies(np.array([math.nan, -1.0, 150.0]), EDGES)
    assert (1, 2) == (counts.total, counts.invalid)


@given(latencies, latencies)
def test_merging_is_counting_everything_at_once_in_any_order(one: list[float], two: list[float]) -> None:
    at_once = count_latencies(np.array(one + two), EDGES)
    assert at_once == count_latencies(np.array(one), EDGES).merge(count_latencies(np.array(two), EDGES))
    assert at_once == count_latencies(np.array(two), EDGES).merge(count_latencies(np.array(one), EDGES))
    assert hash(at_once) == hash(count_latencies(np.array(two + one), EDGES))


@given(latencies)
def test_they_survive_json(found: list[float]) -> None:
    counts = count_latencies(np.array(found), EDGES)
    assert counts == LatencyCounts.from_json(json.loads(json.dumps(counts.to_json())))


@pytest.mark.parametrize("quantile,expected", [(0.1, 0), (0.5, 1), (0.9, 3), (0.99, 4)])
def test_the_bin_of_a_quantile(quantile: float, expected: int) -> None:
    counts = LatencyCounts(EDGES, np.array([20, 40, 20, 12, 8]))
    assert expected == counts.quantile_bin(quantile)


def test_other_bins_cannot_be_added() -> None:
    with pytest.raises(EvidenceError, match="edges of the bins"):
        no_latencies(EDGES).merge(no_latencies((100, 200)))


def test_counts_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="read-only"):
        no_latencies(EDGES).counts[0] = 1
    assert no_latencies(EDGES) != "nothing"


@pytest.mark.parametrize("edges", [(), (100, 100), (200, 100), (-5, 100), (1.5, 2.5)])
def test_edges_that_are_none_are_refused(edges: tuple[int, ...]) -> None:
    with pytest.raises(EvidenceError, match="edge"):
        no_latencies(edges)


@pytest.mark.parametrize("counts", [np.zeros(4, dtype=np.int64), np.array([1, 2, 3, 4, -1]), np.zeros(5)])
def test_counts_that_cannot_be_are_refused(counts: np.ndarray) -> None:
    with pytest.raises(EvidenceError):
        LatencyCounts(EDGES, counts)


@pytest.mark.parametrize(
    "document",
    [
        {"edges_us": [1, 2], "counts": {}},
        {"edges_us": [1, 2], "counts": {"3": 1}, "invalid": 0},
        {"edges_us": [1, 2], "counts": {"a": 1}, "invalid": 0},
        {"edges_us": [1, 2], "counts": {"1": -1}, "invalid": 0},
        {"edges_us": [2, 1], "counts": {}, "invalid": 0},
        {"edges_us": 5, "counts": {}, "invalid": 0},
    ],
)
def test_a_document_that_cannot_be_is_refused(document: dict[str, object]) -> None:
    with pytest.raises(EvidenceError):
        LatencyCounts.from_json(document)
