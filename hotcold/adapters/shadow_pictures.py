"""Pictures of a shadow report: scores and times of both sides, checks with bounds and limit, calibration, worst segments."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hotcold.adapters.drawing import (
    CANDIDATE,
    CHAMPION,
    FAINT,
    INK,
    VERDICT_COLOURS,
    as_png,
    label_rows,
    new_figure,
    plain,
    tidy,
)
from hotcold.adapters.findings_picture import draw_findings
from hotcold.adapters.score_pictures import shares, step_edges
from hotcold.domain.evidence.finding import number
from hotcold.domain.gate import Verdict
from hotcold.domain.score_histogram import ScoreHistogram
from hotcold.domain.shadow.report import LabelledPairs, SegmentRow, ShadowReport, SideQuality, StageTimes
from hotcold.domain.shadow.wording import described_bounds, duration, order_findings, segment_name

CHECKS, SCORES, TIMES, CALIBRATION, SEGMENTS = "checks", "scores", "times", "calibration", "segments"
_SHOWN_SEGMENTS = 10
_LONGEST_NAME = 28


@dataclass(frozen=True)
class Picture:
    """One picture.

    Args:
        name: what it shows, one word.
        alt: the same in words, for those who do not see it.
        content: PNG.
    """

    name: str
    alt: str
    content: bytes


def draw_pictures(report: ShadowReport) -> dict[str, Picture]:
    """All pictures that there is something to show for, by name.

    Args:
        report: of a comparison.

    Returns:
        Each smaller than 60 kB; without scores, times, labels or segments, the picture of these is missing.
    """
    findings = tuple(finding for finding in order_findings(report) if finding.effect is not None)
    candidates: tuple[tuple[bool, Callable[[], Picture]], ...] = (
        (bool(findings), lambda: Picture(CHECKS, _tell_checks(report), draw_findings(findings))),
        (bool(report.champion_scores.total or report.candidate_scores.total), lambda: _picture_scores(report)),
        (_has_times(report), lambda: _picture_times(report)),
        (_has_calibration(report.labels), lambda: _picture_calibration(report)),
        (bool(report.segments), lambda: _picture_segments(report)),
    )
    return {picture.name: picture for there, draw in candidates if there for picture in (draw(),)}


def draw_score_distributions(champion: ScoreHistogram, candidate: ScoreHistogram, threshold: float) -> bytes:
    """Draw the scores of both sides over each other, with the threshold of the decision.

    Args:
        champion: its scores; may be none.
        candidate: its scores; may be none.
        threshold: score from which on the decision is yes; left out where it is beyond all scores.

    Returns:
        A PNG picture.
    """
    figure = new_figure(2.9)
    axes = figure.subplots()
    edges = step_edges([side for side in (champion, candidate) if side.total])
    if champion.total:
        axes.stairs(100 * shares(champion, edges), edges, fill=True, color=CHAMPION, alpha=0.6, label="champion")
    if candidate.total:
        axes.stairs(100 * shares(candidate, edges), edges, color=CANDIDATE, linewidth=1.8, label="candidate")
    if edges[0] < threshold < edges[-1]:
        axes.axvline(threshold, color=INK, linewidth=1, linestyle=":", label=f"threshold {threshold:g}")
    if champion.total or candidate.total:
        axes.legend(frameon=False, fontsize=9)
    beyond = any(side.total and (side.least < edges[0] or side.greatest > edges[-1]) for side in (champion, candidate))
    axes.set_xlabel("score; the outer steps hold all that lies beyond" if beyond else "score", fontsize=9)
    axes.set_ylabel("share of the scores, %", fontsize=9)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(bottom=0)
    tidy(axes, "left", "bottom")
    return as_png(figure)


def draw_stage_times(champion: Sequence[StageTimes], candidate: Sequence[StageTimes]) -> bytes:
    """Draw the latencies by stage: for each side a line from p50 over p95 to p99, on one logarithmic scale.

    Args:
        champion: its latencies by stage; values that are NaN or infinite are left out.
        candidate: the candidate's.

    Returns:
        A PNG picture.
    """
    from matplotlib.ticker import LogLocator, NullLocator

    stages = list(dict.fromkeys(one.stage for one in (*champion, *candidate)))
    figure = new_figure(1.0 + 0.55 * len(stages))
    axes = figure.subplots()
    axes.set_xscale("log")
    for side, colour, shift, name in ((champion, CHAMPION, -0.14, "champion"), (candidate, CANDIDATE, 0.14, "candidate")):
        rows = [(stages.index(one.stage) + shift, _milliseconds(one)) for one in side]
        _draw_times(axes, rows, colour, name)
    label_rows(axes, [plain(stage, _LONGEST_NAME) for stage in stages])
    axes.set_xlabel("time, ms: circle p50, bar p95, triangle p99", fontsize=9)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: number(value))
    axes.grid(axis="x", color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    figure.legend(*axes.get_legend_handles_labels(), frameon=False, fontsize=9, ncols=2, loc="outside upper center")
    tidy(axes, "bottom")
    return as_png(figure)


def _draw_times(axes: Any, rows: list[tuple[float, list[float]]], colour: str, name: str) -> None:
    for row, times in rows:
        axes.plot([min(times), max(times)], [row, row], color=colour, linewidth=2)
    for place, mark in enumerate(("o", "|", ">")):
        seen = [(times[place], row) for row, times in rows if not math.isnan(times[place])]
        axes.plot(*zip(*seen, strict=True) if seen else ([], []), mark, color=colour, markersize=7, markeredgewidth=2)
    axes.plot([], [], color=colour, linewidth=2, label=name)


def _milliseconds(times: StageTimes) -> list[float]:
    """A logarithmic scale knows neither zero nor infinity."""
    return [max(time, 1.0) / 1000 if math.isfinite(time) else math.nan for time in (times.p50_us, times.p95_us, times.p99_us)]


def draw_calibration(labels: LabelledPairs) -> bytes:
    """Draw how often what a side predicts comes true; on the diagonal, it is right.

    Args:
        labels: with calibration of at least one side.

    Returns:
        A PNG picture.
    """
    figure = new_figure(3.4)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1.5, linestyle="--", label="as predicted", zorder=1)
    most = max((one.labelled for side in (labels.champion, labels.candidate) for one in side.calibration), default=1)
    for side, colour, mark, name in (
        (labels.champion, CHAMPION, "s", "champion"),
        (labels.candidate, CANDIDATE, "o", "candidate"),
    ):
        points = _finite_bins(side)
        axes.plot([x for x, _, _ in points], [y for _, y, _ in points], color=colour, linewidth=1.5, label=name)
        sizes = [15 + 70 * n / most for _, _, n in points]
        axes.scatter([x for x, _, _ in points], [y for _, y, _ in points], sizes, color=colour, marker=mark, zorder=3)
    axes.set_xlabel("mean score of a tenth; larger marks hold more requests", fontsize=9)
    axes.set_ylabel("share that came true", fontsize=9)
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    axes.set_ylim(-0.03, 1.03)
    tidy(axes, "left", "bottom")
    return as_png(figure)


def _finite_bins(side: SideQuality) -> list[tuple[float, float, int]]:
    return [
        (one.mean_score, one.positive_share, one.labelled)
        for one in side.calibration
        if math.isfinite(one.mean_score) and math.isfinite(one.positive_share)
    ]


def draw_segments(segments: Sequence[SegmentRow]) -> bytes:
    """Draw score change and decision flips of the first ten segments; those that stand out are marked.

    Args:
        segments: at least one; those with the most evidence of harm first.

    Returns:
        A PNG picture.
    """
    shown = segments[:_SHOWN_SEGMENTS]
    figure = new_figure(0.9 + 0.28 * len(shown))
    changes, flips = figure.subplots(1, 2, sharey=True)
    _draw_bars(changes, shown, [row.score_change for row in shown], "change of the mean score")
    _draw_bars(flips, shown, [row.flips_per_1000 for row in shown], "decisions that differ, per 1,000")
    # The mark comes first, because the end of a long name is cut off.
    names = [f"{'▲ ' if row.stands_out else ''}{segment_name(row.segment)}" for row in shown]
    label_rows(changes, [plain(name, _LONGEST_NAME) for name in names])
    return as_png(figure)


def _draw_bars(axes: Any, shown: Sequence[SegmentRow], values: list[float], title: str) -> None:
    colours = [VERDICT_COLOURS[Verdict.HARM] if row.stands_out else CHAMPION for row in shown]
    finite = [value if math.isfinite(value) else 0.0 for value in values]
    bars = axes.barh(range(len(shown)), finite, color=colours, height=0.6)
    axes.bar_label(bars, [number(value) for value in values], padding=3, fontsize=8)
    reach = max(map(abs, finite), default=0.0) or 1.0
    axes.set_xlim(-1.35 * reach if min(finite) < 0 else 0.0, 1.35 * reach)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_title(title, fontsize=9)
    axes.set_xticks([])
    tidy(axes)


def _picture_scores(report: ShadowReport) -> Picture:
    champion, candidate = report.champion_scores, report.candidate_scores
    alt = f"Distribution of the scores. {_tell_side('Champion', champion)} {_tell_side('Candidate', candidate)}"
    return Picture(SCORES, alt, draw_score_distributions(champion, candidate, report.threshold))


def _tell_side(name: str, scores: ScoreHistogram) -> str:
    if not scores.total:
        return f"{name}: no scores."
    quarters = (number(scores.quantile(share)) for share in (0.05, 0.5, 0.95))
    return f"{name}: {scores.total:,} scores; 5 %, 50 % and 95 % lie at {', '.join(quarters)}."


def _picture_times(report: ShadowReport) -> Picture:
    sides = (("champion", report.champion_times), ("candidate", report.candidate_times))
    told = "; ".join(f"{name} {one.stage} p99 {duration(one.p99_us)}" for name, times in sides for one in times)
    return Picture(TIMES, f"Latency by stage: {told}.", draw_stage_times(report.champion_times, report.candidate_times))


def _has_times(report: ShadowReport) -> bool:
    return any(math.isfinite(one.p50_us) for one in (*report.champion_times, *report.candidate_times))


def _has_calibration(labels: LabelledPairs | None) -> bool:
    return labels is not None and any(_finite_bins(side) for side in (labels.champion, labels.candidate))


def _picture_calibration(report: ShadowReport) -> Picture:
    assert report.labels is not None  # noqa: S101 - for the type checker
    sides = (("champion", report.labels.champion), ("candidate", report.labels.candidate))
    told = (
        f"{name}: " + ", ".join(f"at {number(x)} it came true in {100 * y:.0f} % of {n:,}" for x, y, n in _finite_bins(side))
        for name, side in sides
    )
    return Picture(CALIBRATION, f"Calibration by mean score. {'; '.join(told)}.", draw_calibration(report.labels))


def _picture_segments(report: ShadowReport) -> Picture:
    shown = report.segments[:_SHOWN_SEGMENTS]
    alt = f"Score change and decision flips of the {len(shown)} segments with the most evidence of harm, as in the table."
    return Picture(SEGMENTS, alt, draw_segments(shown))


def _tell_checks(report: ShadowReport) -> str:
    told = (f"{f.signal} {described_bounds(f)}, {f.verdict}" for f in order_findings(report) if f.effect is not None)
    return f"Effect of each check with its bounds, beside its limit: {'; '.join(told)}."
