"""Calibration from counts: as brute force on the scores themselves has it, and the same whoever counted in whatever pieces."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hotcold.domain.score_histogram import count_scores
from hotcold.domain.shadow.calibration import BINS, INEXACT, calibration, calibration_error
from hotcold.domain.shadow.comparison import SideCounts
from hotcold.domain.shadow.report import CalibrationBin
from hotcold.domain.shadow.tables import calibration_table, labels_table
from tests.fixtures.shadow_reports import labelled_report, safe_report

_LABELLED = st.lists(st.tuples(st.floats(0, 1, width=32, allow_subnormal=False), st.booleans()), min_size=1, max_size=60)


def counted(scores: NDArray[np.float32], came_true: NDArray[np.bool_]) -> SideCounts:
    return SideCounts(positives=count_scores(scores[came_true]), negatives=count_scores(scores[~came_true]))


@given(_LABELLED)
def test_bins_are_those_of_the_scores_themselves(labelled: list[tuple[float, bool]]) -> None:
    scores, came_true = np.array([s for s, _ in labelled], dtype=np.float32), np.array([y for _, y in labelled])
    # Those at a border may be in either of two tenths.
    inside = np.array([all(abs(s - k / BINS) > 1.001 * INEXACT * s for k in range(1, BINS)) for s in scores.astype(float)])
    scores, came_true = scores[inside], came_true[inside]
    tenth = np.minimum((scores.astype(np.float64) * BINS).astype(int), BINS - 1)
    own = {t: tenth == t for t in sorted(set(tenth.tolist()))}
    found = calibration(counted(scores, came_true))
    assert [(t / BINS, (t + 1) / BINS, int(at.sum()), came_true[at].mean()) for t, at in own.items()] == [
        (one.lower, one.upper, one.labelled, one.positive_share) for one in found
    ]
    for one, at in zip(found, own.values(), strict=True):
        assert pytest.approx(scores[at].mean(dtype=np.float64), rel=1.001 * INEXACT, abs=1e-30) == one.mean_score
    if own:
        gaps = [at.sum() * abs(scores[at].mean(dtype=np.float64) - came_true[at].mean()) for at in own.values()]
        assert pytest.approx(sum(gaps) / len(scores), abs=1.001 * INEXACT) == calibration_error(found)


@given(_LABELLED, st.integers(0, 60))
def test_pieces_in_any_order_give_the_very_same_bins(labelled: list[tuple[float, bool]], cut: int) -> None:
    scores, came_true = np.array([s for s, _ in labelled], dtype=np.float32), np.array([y for _, y in labelled])
    parts = [counted(scores[own], came_true[own]) for own in (slice(cut), slice(cut, None))]
    whole = calibration(counted(scores, came_true))
    assert whole == calibration(parts[0].merge(parts[1])) == calibration(parts[1].merge(parts[0]))


def test_scores_of_zero_and_one_are_what_they_are() -> None:
    scores, came_true = np.array([0, 0, 1, 1], dtype=np.float32), np.array([False, False, True, False])
    found = calibration(counted(scores, came_true))
    assert (CalibrationBin(0.0, 0.1, pytest.approx(0.0, abs=1e-30), 0.0, 2), CalibrationBin(0.9, 1.0, 1.0, 0.5, 2)) == found  # type: ignore[arg-type]
    assert pytest.approx(0.25) == calibration_error(found)


@pytest.mark.parametrize("scores", [[], [-0.1, 0.5], [0.5, 1.5]], ids=["none", "below 0", "above 1"])
def test_what_is_no_probability_has_no_calibration(scores: list[float]) -> None:
    found = calibration(counted(np.array(scores, dtype=np.float32), np.full(len(scores), True)))
    assert ((), True) == (found, math.isnan(calibration_error(found)))


def test_the_table_has_each_tenth_of_both_sides() -> None:
    report = labelled_report()
    assert report.labels is not None
    bins = (CalibrationBin(0.3, 0.4, 0.34, 0.5, 1200),)
    sides = (replace(report.labels.champion, calibration=bins), replace(report.labels.candidate, calibration=()))
    table = calibration_table(replace(report, labels=replace(report.labels, champion=sides[0], candidate=sides[1])))
    assert table is not None
    assert (("0.3 to 0.4", "champion", "1,200", "0.34", "0.5"), ("0.3 to 0.4", "candidate", "0", "none", "none")) == table.rows
    assert "exact to 0.8 % of itself" in table.caption
    shown = labels_table(report)
    assert shown is not None
    assert "expected calibration error, less is better" == shown.rows[2][0]
    assert calibration_table(safe_report()) is None
