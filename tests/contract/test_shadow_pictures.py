"""Pictures of a comparison are small PNGs that can be drawn of any values, and that say what the values say."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread
from numpy.typing import NDArray

from hotcold.adapters.drawing import plain
from hotcold.adapters.findings_picture import draw_findings, place_on_scale
from hotcold.adapters.shadow_pictures import (
    draw_calibration,
    draw_pictures,
    draw_score_distributions,
    draw_segments,
    draw_stage_times,
)
from hotcold.domain.evidence.finding import Finding
from hotcold.domain.gate import Verdict
from hotcold.domain.score_histogram import ScoreHistogram
from hotcold.domain.shadow.report import CalibrationBin, LabelledPairs, SegmentRow, SideQuality, StageTimes
from tests.fixtures.shadow_reports import HOSTILE, REPORTS, harm_report, labelled_report, safe_report
from tests.fixtures.summaries import histogram_of

NOTHING = ScoreHistogram()
LARGEST = float(np.finfo(np.float32).max)
SCORES = {
    "both": (histogram_of([0.1, 0.2, 0.9]), histogram_of([0.3, 0.4])),
    "champion only": (histogram_of([0.1, 0.2]), NOTHING),
    "candidate only": (NOTHING, histogram_of([0.1, 0.2])),
    "none": (NOTHING, NOTHING),
    "all equal": (histogram_of([0.5] * 9), histogram_of([0.5] * 9)),
    "not finite": (histogram_of([math.nan, math.inf]), histogram_of([0.5, math.nan])),
    "far apart": (histogram_of([-LARGEST, 0.0]), histogram_of([1e-45, LARGEST])),
}
TIMES = {
    "usual": (120.0, 900.0, 4000.0),
    "none": (math.nan, math.nan, math.nan),
    "no end": (120.0, math.inf, math.inf),
    "beyond": (math.inf, math.inf, math.inf),
    "zero": (0.0, 0.0, 0.0),
    "equal": (5.0, 5.0, 5.0),
}


def decode(content: bytes) -> NDArray[np.float32]:
    pixels: NDArray[np.float32] = imread(io.BytesIO(content), format="png")
    return pixels


def has_colour(content: bytes, colour: str) -> bool:
    wanted = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)])
    return bool((np.abs(decode(content)[..., :3] * 255 - wanted).max(axis=-1) < 3).any())


def assert_small(content: bytes) -> None:
    assert 1260 == decode(content).shape[1]
    assert len(content) < 60_000


@pytest.mark.parametrize("name", REPORTS)
def test_all_pictures_of_a_report_are_small(name: str) -> None:
    for picture in draw_pictures(REPORTS[name]()).values():
        assert_small(picture.content)


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("threshold", [0.5, math.inf, math.nan])
def test_any_scores_can_be_drawn(name: str, threshold: float) -> None:
    content = draw_score_distributions(*SCORES[name], threshold)
    assert_small(content)
    assert bool(SCORES[name][1].total) == has_colour(content, "#1f5fbf")


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("is_one_sided", [False, True])
def test_any_times_can_be_drawn(name: str, is_one_sided: bool) -> None:
    times = tuple(StageTimes(stage, *TIMES[name]) for stage in ("pre", "$infer$", "total"))
    assert_small(draw_stage_times((), times) if is_one_sided else draw_stage_times(times, times[:2]))


def a_finding(lower: float, effect: float, upper: float, limit: float, **changes: object) -> Finding:
    made = safe_report().findings[0]
    return replace(made, lower=lower, effect=effect, upper=upper, limit=limit, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lower", "effect", "upper", "limit"),
    [
        (0.5, 0.9, 1.2, 2.0),
        (0.0, 0.9, math.inf, 2.0),
        (-math.inf, 0.0, math.inf, 0.0),
        (math.nan, math.nan, math.nan, 1.0),
        (0.0, math.inf, math.inf, 1.0),
        (0.0, 0.0, 0.0, 0.0),
        (-1e300, 1e-300, 1e300, 1e-300),
        (1.0, 1.0, 1.0, math.inf),
    ],
)
def test_any_finding_can_be_drawn(lower: float, effect: float, upper: float, limit: float) -> None:
    finding = a_finding(lower, effect, upper, limit, signal="$a_b$ 日本語" + "x" * 90)
    assert_small(draw_findings([finding, replace(finding, floor=-limit, baseline=limit / 2)]))


def test_the_picture_agrees_with_the_verdict() -> None:
    """A bar within what is tolerated is SAFE; one beyond where harm begins is HARM, on either side."""
    drawn = 0
    for report in (safe_report(), harm_report(), labelled_report()):
        for finding in (finding for finding in report.findings if finding.effect is not None):
            row, drawn = place_on_scale(finding), drawn + 1
            is_within = row.upper < 0 and (row.floor is None or row.lower > row.floor)
            begins = row.baseline if row.baseline is not None else 0.0
            is_beyond = row.lower > begins or (row.floor is not None and row.upper < row.floor)
            assert (finding.verdict is Verdict.SAFE) == is_within, finding.sentence
            assert (finding.verdict is Verdict.HARM) == is_beyond, finding.sentence
    assert drawn > 15


def test_a_verdict_has_its_colour() -> None:
    safe = next(finding for finding in safe_report().findings if finding.verdict is Verdict.SAFE)
    harm = next(finding for finding in harm_report().findings if finding.verdict is Verdict.HARM)
    assert (True, False) == (has_colour(draw_findings([safe]), "#1a7f5a"), has_colour(draw_findings([safe]), "#c0271d"))
    assert (False, True) == (has_colour(draw_findings([harm]), "#1a7f5a"), has_colour(draw_findings([harm]), "#c0271d"))


def test_bounds_that_are_cut_off_are_open() -> None:
    row = place_on_scale(a_finding(0.0, 0.9, math.inf, 2.0))
    assert (False, True) == (row.is_open_below, row.is_open_above)


@pytest.mark.parametrize(
    "bins",
    [
        (CalibrationBin(0.1, 0.2, 0.1, 0.2, 10), CalibrationBin(0.9, 1.0, 0.9, 0.8, 1)),
        (CalibrationBin(0.1, 0.2, 0.1, 0.2, 10),),
        (CalibrationBin(0.0, 0.1, math.nan, 0.2, 0), CalibrationBin(0.3, 0.4, 0.3, math.inf, 0)),
        (),
    ],
)
def test_any_calibration_can_be_drawn(bins: tuple[CalibrationBin, ...]) -> None:
    sides = (SideQuality(0.5, math.nan, bins, math.nan), SideQuality(0.5, 0.7, (), math.nan))
    assert_small(draw_calibration(LabelledPairs(11, 5.0, 1.0, 2.0, *sides)))


def test_any_segments_can_be_drawn() -> None:
    """Whatever callers call them, and whatever is known of them."""
    values = (0.1, -0.2, math.nan, math.inf, 0.0)
    rows = [SegmentRow(name, 3, values[n % 5], values[n % 5], -math.inf, n == 0) for n, name in enumerate(HOSTILE)]
    assert_small(draw_segments(rows))
    assert_small(draw_segments([SegmentRow("one", 0, math.nan, math.nan, math.nan, False)]))
    assert_small(draw_segments(rows * 40))


def test_labels_are_no_formulas_and_have_only_letters_that_can_be_drawn() -> None:
    assert r"\$x\$ é □" == plain("$x$ é 🛫", 20)
    assert "ab…" == plain("abcd", 3)
