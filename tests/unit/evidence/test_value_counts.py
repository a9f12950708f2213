import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotcold.domain.errors import EvidenceError
from hotcold.domain.evidence.value_counts import NODES, ROUNDING, UNITS, ValueCounts, count_values

values = st.floats(-1.5, 1.5) | st.floats(-1e-4, 1e-4) | st.just(math.nan) | st.sampled_from([0.0, 1.0, -1.0])


@given(st.lists(values, max_size=30), st.lists(values, max_size=30))
def test_merging_is_counting_everything_at_once_in_any_order(first: list[float], second: list[float]) -> None:
    at_once = count_values(np.array(first + second))
    assert at_once == count_values(np.array(first)).merge(count_values(np.array(second)))
    assert at_once == count_values(np.array(second[::-1])).merge(count_values(np.array(first[::-1])))
    assert hash(at_once) == hash(count_values(np.array(second + first)))


@given(st.lists(values, max_size=30))
def test_it_survives_json(found: list[float]) -> None:
    counts = count_values(np.array(found))
    assert counts == ValueCounts.from_json(json.loads(json.dumps(counts.to_json())))


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=50))
def test_the_mean_stays_but_for_the_rounding_and_the_number_stays_exactly(found: list[float]) -> None:
    counts = count_values(np.array(found))
    assert len(found) == counts.total
    assert abs(counts.mean - float(np.mean(found))) <= ROUNDING * 1.000001


@given(st.floats(-1, 1))
def test_a_value_is_shared_out_to_its_two_neighbours(value: float) -> None:
    counts = count_values(np.array([value]))
    points = np.flatnonzero(counts.weights)
    assert len(points) in (1, 2)
    assert points[-1] - points[0] <= 1
    assert NODES[points[0]] - ROUNDING <= value <= NODES[points[-1]] + ROUNDING
    assert counts.weights.min() >= 0


def test_the_grid_is_fine_near_zero_and_symmetric() -> None:
    assert 259 == len(NODES)
    assert (-1.0, 0.0, 1.0) == (NODES[0], NODES[129], NODES[-1])
    assert np.array_equal(NODES, -NODES[::-1])
    positive = NODES[130:]
    assert 2.0**-16 == positive[0]
    assert (np.diff(positive) / positive[:-1]).max() <= 1 / 8


def test_points_of_the_grid_are_kept_as_they_are() -> None:
    assert {UNITS} == set(count_values(NODES).weights.tolist())
    assert {"weights": {"129": 2 * UNITS, "258": UNITS}, "clipped": 0, "invalid": 0} == count_values(
        np.array([0.0, -0.0, 1.0])
    ).to_json()


def test_values_beyond_the_scale_are_cut_off_and_counted() -> None:
    counts = count_values(np.array([0.3, -0.7, 0.5]), scale=0.5)
    assert (3, 1, 0) == (counts.total, counts.clipped, counts.invalid)
    assert counts.mean == pytest.approx((0.6 - 1.0 + 1.0) / 3, abs=ROUNDING)


def test_what_is_no_number_is_counted_apart_and_an_infinite_value_is_not_forgotten() -> None:
    counts = count_values(np.array([math.nan, math.inf, -math.inf, 0.0, math.inf]))
    assert (4, 3, 4) == (counts.total, counts.clipped, counts.invalid)
    assert counts.mean == pytest.approx(0.25)


def test_of_nothing_the_mean_is_not_a_number() -> None:
    assert math.isnan(ValueCounts().mean)
    assert 0 == ValueCounts().total
    assert ValueCounts() != "nothing"


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_a_scale_that_is_none_is_refused(scale: float) -> None:
    with pytest.raises(EvidenceError, match="scale"):
        count_values(np.zeros(1), scale)


@pytest.mark.parametrize(
    "document",
    [
        {"weights": {}, "clipped": 0},
        {"weights": {}, "clipped": 0, "invalid": 0, "more": 1},
        {"weights": {"259": UNITS}, "clipped": 0, "invalid": 0},
        {"weights": {"3": -UNITS}, "clipped": 0, "invalid": 0},
        {"weights": {"3": 5}, "clipped": 0, "invalid": 0},
        {"weights": [], "clipped": 0, "invalid": 0},
        {"weights": {}, "clipped": 0.5, "invalid": 0},
    ],
)
def test_a_document_that_cannot_be_is_refused(document: dict[str, object]) -> None:
    with pytest.raises(EvidenceError):
        ValueCounts.from_json(document)


def test_a_matrix_is_refused() -> None:
    with pytest.raises(EvidenceError, match="shape"):
        count_values(np.zeros((2, 2)))


def test_weights_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="read-only"):
        count_values(np.zeros(1)).weights[0] = 1
