"""A picture of a score table: how its scores are distributed, and where the time went."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotcold.domain.score_histogram import ScoreHistogram, bin_edge
from hotcold.domain.scoring_progress import describe_seconds
from hotcold.domain.scoring_summary import ScoringSummary

_STEPS = 40
_LONGEST_NAME = 34
_SIZE_INCHES, _DPI = (7.0, 3.2), 100
_NEW, _SEEN = "#1f5fbf", "#9aa0a6"
_MOST = float(np.finfo(np.float32).max)
# Scores that lie this many times as far apart as the middle 99.8 % of them would press those into one step.
_FAR = 5.0
# Of a bin; more than the smallest float, so that dividing by it never overflows.
_LEAST_WIDTH = 1e-30


def draw_scores(summary: ScoringSummary) -> bytes:
    """Draw the scores of a table over those of the table that readers see, and the time by stage.

    Args:
        summary: of the finished run.

    Returns:
        A PNG picture, 700 pixels wide, smaller than 60 kB.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    scores, times = figure.subplots(1, 2, width_ratios=(3, 1))
    _draw_histogram(scores, summary)
    _draw_times(times, summary)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _draw_histogram(axes: Any, summary: ScoringSummary) -> None:
    new, seen = summary.histogram, summary.published.histogram if summary.published else ScoreHistogram()
    edges = step_edges([histogram for histogram in (seen, new) if histogram.total])
    if seen.total:
        axes.stairs(100 * shares(seen, edges), edges, fill=True, color=_SEEN, alpha=0.6, label="what readers see")
    if new.total:
        axes.stairs(100 * shares(new, edges), edges, color=_NEW, linewidth=1.8, label="this table")
    if seen.total or new.total:
        axes.legend(frameon=False, fontsize=9)
    compared = "nothing to compare with" if summary.psi is None else f"PSI {summary.psi:.4f}"
    name = summary.model if len(summary.model) <= _LONGEST_NAME else f"{summary.model[: _LONGEST_NAME - 1]}…"
    axes.set_title(f"{name} {summary.package.semver}\n{new.total:,} scores, {compared}", fontsize=10)
    beyond = any(h.total and (h.least < edges[0] or h.greatest > edges[-1]) for h in (seen, new))
    axes.set_xlabel("score; the outer steps hold all that lies beyond" if beyond else "score")
    axes.set_ylabel("share of the rows, %")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_times(axes: Any, summary: ScoringSummary) -> None:
    seconds = summary.totals.timings.stages
    bars = axes.barh(list(seconds), list(seconds.values()), color=_NEW)
    axes.bar_label(bars, [describe_seconds(value) for value in seconds.values()], padding=3, fontsize=9)
    axes.set_title("time, all threads", fontsize=10)
    # Room for the labels; a bar of nothing needs an axis, too.
    axes.set_xlim(0, 1.6 * max(seconds.values()) or 1.0)
    axes.invert_yaxis()
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def step_edges(histograms: list[ScoreHistogram]) -> NDArray[np.float64]:
    """Edges of equal steps from the smallest score to the greatest; single scores far out fall into the outer steps.

    Args:
        histograms: each with at least one score.

    Returns:
        Shape (41,), growing; from 0 to 1 if there is no histogram.
    """
    if not histograms:
        return np.linspace(0.0, 1.0, _STEPS + 1)
    least, greatest = min(h.least for h in histograms), max(h.greatest for h in histograms)
    low, high = min(h.quantile(0.001) for h in histograms), max(h.quantile(0.999) for h in histograms)
    if high > low and greatest - least > _FAR * (high - low):
        least, greatest = max(least, low - (high - low)), min(greatest, high + (high - low))
    if least == greatest:
        least, greatest = least - (abs(least) / 10 or 1.0), greatest + (abs(greatest) / 10 or 1.0)
    return np.linspace(least, greatest, _STEPS + 1)


def shares(histogram: ScoreHistogram, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the scores in each of n steps; scores inside a bin are taken to be spread evenly over it.

    Args:
        histogram: with at least one score.
        edges: shape (n + 1,), growing. What lies beyond the outer ones counts for the outer steps.

    Returns:
        Shape (n,), in [0, 1]; the sum is 1.
    """
    bins = sorted(histogram.counts)
    counts = np.array([histogram.counts[index] for index in bins], dtype=np.float64)
    low = np.clip([bin_edge(index) for index in bins], -_MOST, _MOST)
    high = np.clip([bin_edge(index + 1) for index in bins], -_MOST, _MOST)
    # No score lies beyond the greatest one; a bin keeps a width, lest it counts for two steps or for none.
    low, high = np.maximum(low, histogram.least), np.minimum(high, np.nextafter(histogram.greatest, np.inf))
    width = np.maximum(high - low, _LEAST_WIDTH)
    below = np.clip((edges[:, np.newaxis] - low) / width, 0.0, 1.0) @ counts / histogram.total
    below[0], below[-1] = 0.0, 1.0
    return np.diff(below)
