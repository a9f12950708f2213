"""Windows in time, fingerprints, and the sample on which engines have to agree."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotcold.domain.dataset import Labelled, check_classes, plan_windows, reference_sample
from hotcold.domain.errors import TrainingError
from hotcold.domain.field import Field
from hotcold.domain.schema import Schema

FIRST, LAST = date(2013, 1, 1), date(2013, 12, 31)
SCHEMA = Schema((Field("a"), Field("b", nullable=True), Field("c", nullable=True)))


def days(year: int = 2013) -> st.SearchStrategy[date]:
    return st.dates(date(year, 1, 1), date(year, 12, 30))


@given(days(), days(), st.integers(1, 60))
def test_the_evaluation_lies_right_after_the_training_and_inside_the_data(one: date, other: date, weeks: int) -> None:
    windows = plan_windows(min(one, other), max(one, other), weeks, FIRST, LAST)
    assert windows.train_until + timedelta(days=1) == windows.evaluate_from
    assert windows.evaluate_from <= windows.evaluate_until <= LAST
    assert (windows.evaluate_until - windows.train_until).days <= 7 * weeks


def test_windows_as_text() -> None:
    windows = plan_windows(date(2013, 1, 1), date(2013, 8, 31), 4, FIRST, LAST)
    assert (("2013-01-01", "2013-08-31"), ("2013-09-01", "2013-09-28")) == (windows.training, windows.evaluation)


@pytest.mark.parametrize(
    ("train_from", "train_until", "weeks", "message"),
    [
        (date(2013, 5, 2), date(2013, 5, 1), 4, "is empty"),
        (date(2012, 12, 31), date(2013, 5, 1), 4, "outside the data; the data covers 2013-01-01 to 2013-12-31"),
        (date(2013, 5, 2), date(2014, 1, 1), 4, "outside the data"),
        (date(2013, 5, 2), date(2013, 12, 31), 4, "nothing is left to evaluate on"),
        (date(2013, 5, 2), date(2013, 6, 1), 0, "has no rows"),
    ],
)
def test_an_impossible_window_is_refused(train_from: date, train_until: date, weeks: int, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        plan_windows(train_from, train_until, weeks, FIRST, LAST)


def data(*labels: int) -> Labelled:
    return Labelled(np.zeros((len(labels), 3), dtype=np.float32), np.array(labels, dtype=np.int8))


@pytest.mark.parametrize(("labels", "message"), [((), "has no rows"), ((1, 1), "all 2 labels"), ((0,), "all 1 labels")])
def test_nothing_is_trained_without_rows_of_both_classes(labels: tuple[int, ...], message: str) -> None:
    with pytest.raises(TrainingError, match=f"training window {message}|{message} of the training window"):
        check_classes(data(*labels), "training")


def test_rows_of_both_classes_pass() -> None:
    assert 2 == len(check_classes(data(0, 1), "training"))


def test_the_fingerprint_sees_every_value() -> None:
    base = Labelled(np.arange(6, dtype=np.float32).reshape(2, 3), np.array([0, 1], dtype=np.int8))
    other = Labelled(base.matrix + np.float32(1e-3), base.labels)
    flipped = Labelled(base.matrix, base.labels[::-1])
    reshaped = Labelled(base.matrix.reshape(3, 2), base.labels)
    assert 4 == len({base.fingerprint, other.fingerprint, flipped.fingerprint, reshaped.fingerprint})
    assert base.fingerprint == Labelled(np.asfortranarray(base.matrix), base.labels).fingerprint


@pytest.mark.parametrize("available", [1, 5, 1000])
def test_the_sample_is_deterministic_and_tries_each_gap(available: int) -> None:
    """Each nullable feature is missing in a row of its own and all are in another; the rest is never missing."""
    matrix = np.random.default_rng(1).random((available, 3)).astype(np.float32)
    sample = reference_sample(matrix, SCHEMA, rows=64)
    np.testing.assert_array_equal(sample, reference_sample(matrix, SCHEMA, rows=64))
    assert [[False, True, True], [False, True, False], [False, False, True]] == np.isnan(sample[:3]).tolist()
    assert ((64, 3), np.float32, False) == (sample.shape, sample.dtype, bool(np.isnan(sample[3:]).any()))
