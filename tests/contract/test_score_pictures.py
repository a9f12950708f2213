"""The picture of a table is a small PNG that can be drawn of any scores."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.image import imread
from numpy.typing import NDArray

from hotcold.adapters.score_pictures import draw_scores, shares
from hotcold.domain.receipt import Timings, Totals
from hotcold.domain.score_histogram import bin_edge
from hotcold.domain.scoring_summary import ScoringSummary
from tests.fixtures.summaries import histogram_of, make_published, make_summary

LARGEST = float(np.finfo(np.float32).max)
SCORES = {
    "probabilities": np.random.default_rng(0).beta(2, 6, 50_000),
    "one score": [0.3],
    "all equal": [0.5] * 1000,
    "all zero": [0.0] * 1000,
    "two zeros": [-0.0, 0.0],
    "negative": np.random.default_rng(0).normal(-40.0, 3.0, 5000),
    "both signs": np.random.default_rng(0).normal(0.0, 1.0, 5000),
    "one far out": [*np.linspace(0.1, 0.9, 5000), 1e9],
    "tiny beside huge": [1e-45, -1e-45, LARGEST, -LARGEST],
    "up to zero": [-1e30, 0.0],
    "not finite": [0.5, float("nan"), float("inf")],
    "nothing but NaN": [float("nan")],
    "none": [],
}


def decode(content: bytes) -> NDArray[np.float32]:
    pixels: NDArray[np.float32] = imread(io.BytesIO(content), format="png")
    return pixels


def has_colour(pixels: NDArray[np.float32], colour: tuple[int, int, int]) -> bool:
    return bool((np.abs(pixels[..., :3] * 255 - colour).max(axis=-1) < 3).any())


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("name", SCORES)
def test_any_scores_give_a_small_picture(name: str, published: bool) -> None:
    content = draw_scores(make_summary(SCORES[name], make_published() if published else None))
    assert (320, 700) == decode(content).shape[:2]
    assert len(content) < 60_000


def test_both_tables_are_in_it() -> None:
    new, seen = (31, 95, 191), (194, 197, 200)
    pixels = decode(draw_scores(make_summary(published=make_published())))
    assert has_colour(pixels, new) and has_colour(pixels, seen)
    pixels = decode(draw_scores(make_summary()))
    assert has_colour(pixels, new) and not has_colour(pixels, seen)


def test_a_run_without_any_time_can_be_drawn() -> None:
    totals = Totals(histogram=histogram_of([0.5]), timings=Timings())
    assert decode(draw_scores(make_summary(totals=totals))).size


def test_a_long_name_fits() -> None:
    """The longest name that the forms allow neither widens the picture nor pushes the axes together."""
    summary: ScoringSummary = make_summary(model="m" * 61)
    pixels = decode(draw_scores(summary))
    assert (320, 700) == pixels.shape[:2]
    assert (pixels[:, :2, :3] > 0.99).all() and (pixels[:, -2:, :3] > 0.99).all()


@pytest.mark.parametrize("name", [name for name in SCORES if name not in {"none", "nothing but NaN"}])
def test_shares_add_up_wherever_the_steps_are_cut(name: str) -> None:
    histogram = histogram_of(SCORES[name])
    for low, high in ((0.0, 1.0), (histogram.least - 1.0, histogram.greatest + 1.0), (-1e30, 1e30)):
        found = shares(histogram, np.linspace(low, high, 41))
        assert found.min() >= 0.0
        assert 1.0 == pytest.approx(found.sum())


def test_shares_are_those_of_the_scores_where_steps_end_with_bins() -> None:
    scores = np.random.default_rng(1).random(20_000).astype(np.float32)
    histogram = histogram_of(scores)
    inner = [bin_edge(index) for index in sorted(histogram.counts)[40::40]]
    edges = np.array([0.0, *inner, 1.0])
    np.testing.assert_allclose(np.histogram(scores, edges)[0] / len(scores), shares(histogram, edges), atol=1e-12)


def test_equal_scores_fall_into_one_step() -> None:
    found = shares(histogram_of([0.5] * 10), np.linspace(0.45, 0.55, 41))
    assert [1.0] == found[found > 0].tolist()
