"""A picture of the statistical checks: what was observed, its bounds, and the limit, one row each.

The checks have different units, so each row has a scale of its own, on which its limit is at the same place. What is tolerated
is shaded; the numbers stand beside the row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hotcold.adapters.drawing import INK, TOLERATED, VERDICT_COLOURS, VERDICT_MARKS, as_png, label_rows, new_figure, plain, tidy
from hotcold.domain.evidence.finding import Finding, number, quantity
from hotcold.domain.gate import Verdict
from hotcold.domain.shadow.wording import check_name, described_bounds

# How far a row reaches from its limit, in its own unit; what is beyond is cut off and ends in an arrow.
_REACH = 1.25
# Wide bounds may make a row's unit this many times as large, lest effect and limit fall together.
_WIDEST = 3.0
_LONGEST_NAME = 28


@dataclass(frozen=True)
class Row:
    """One check on the scale of the picture: 0 is its limit.

    Args:
        effect: where the effect is, cut off at the ends.
        lower: where the lower bound is, likewise.
        upper: where the upper bound is, likewise.
        floor: where the other limit is; None if there is none.
        baseline: where harm begins; None if at the limit.
        is_open_below: the lower bound was cut off.
        is_open_above: the upper bound was cut off.
    """

    effect: float
    lower: float
    upper: float
    floor: float | None
    baseline: float | None
    is_open_below: bool
    is_open_above: bool


def draw_findings(findings: Sequence[Finding]) -> bytes:
    """Draw what the checks rest on.

    Args:
        findings: at least one; each has an effect.

    Returns:
        A PNG picture.
    """
    figure = new_figure(1.0 + 0.42 * len(findings))
    axes, numbers = figure.subplots(1, 2, width_ratios=(3, 2))
    for place, finding in enumerate(findings):
        _draw_row(axes, place, place_on_scale(finding), finding.verdict)
    axes.axvline(0, color=INK, linewidth=1.2)
    axes.set_xlim(-_REACH - 0.1, _REACH + 0.1)
    label_rows(axes, [plain(check_name(finding.signal), _LONGEST_NAME) for finding in findings])
    axes.set_xticks([0], ["limit"])
    tidy(axes)
    _write_numbers(numbers, findings)
    _add_legend(figure, findings)
    return as_png(figure)


def place_on_scale(finding: Finding) -> Row:
    """Where a check's numbers are on the picture's scale.

    Args:
        finding: with an effect; bounds may be infinite.
    """
    assert finding.effect is not None  # noqa: S101 - for the type checker
    limit, effect = finding.limit, finding.effect if math.isfinite(finding.effect) else finding.limit
    marks = [mark for mark in (effect, finding.floor, finding.baseline) if mark is not None]
    unit = max([abs(mark - limit) for mark in marks] + [abs(limit) / 2]) or 1.0
    bounds = [bound for bound in (finding.lower, finding.upper) if math.isfinite(bound)]
    unit = max([unit, *(min(abs(bound - limit), _WIDEST * unit) for bound in bounds)])

    def place(value: float) -> float:
        if math.isnan(value):
            return 0.0
        return min(max((value - limit) / unit, -_REACH), _REACH)

    return Row(
        effect=place(finding.effect),
        lower=place(finding.lower),
        upper=place(finding.upper),
        floor=None if finding.floor is None else place(finding.floor),
        baseline=None if finding.baseline in (None, limit) else place(finding.baseline or 0.0),
        is_open_below=(finding.lower - limit) / unit < -_REACH,
        is_open_above=(finding.upper - limit) / unit > _REACH,
    )


def _draw_row(axes: Any, place: int, row: Row, verdict: Verdict) -> None:
    colour = VERDICT_COLOURS[verdict]
    begin = -_REACH - 0.1 if row.floor is None else row.floor
    axes.barh(place, -begin, 0.62, begin, color=TOLERATED, zorder=0)
    axes.plot([row.lower, row.upper], [place, place], color=colour, linewidth=4, alpha=0.55, solid_capstyle="butt")
    for is_open, end, mark in ((row.is_open_below, row.lower, "<"), (row.is_open_above, row.upper, ">")):
        if is_open:
            axes.plot(end, place, mark, color=colour, markersize=7)
    if row.baseline is not None:
        axes.plot([row.baseline] * 2, [place - 0.31, place + 0.31], color=INK, linewidth=1.2, linestyle=":")
    axes.plot(row.effect, place, VERDICT_MARKS[verdict], color=colour, markersize=8, markeredgecolor="white")


def _write_numbers(axes: Any, findings: Sequence[Finding]) -> None:
    """Effect, bounds and limit in their own unit, where the eye has just been."""
    axes.set_xlim(0, 1)
    label_rows(axes, [""] * len(findings))
    axes.set_xticks([])
    tidy(axes)
    for place, finding in enumerate(findings):
        told = f"{described_bounds(finding)}\n{_tell_limit(finding)}"
        axes.text(0, place, plain_lines(told), va="center", fontsize=8, color=INK)


def _tell_limit(finding: Finding) -> str:
    limit = quantity(finding.limit, finding.unit)
    return f"limit {limit}" if finding.floor is None else f"limits {number(finding.floor)} and {limit}"


def plain_lines(words: str) -> str:
    """As `plain`, keeping the line breaks."""
    return "\n".join(plain(line, 60) for line in words.split("\n"))


def _add_legend(figure: Any, findings: Sequence[Finding]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    verdicts = [verdict for verdict in VERDICT_COLOURS if any(finding.verdict is verdict for finding in findings)]
    marks: list[Any] = [
        Line2D([], [], marker=VERDICT_MARKS[verdict], color=VERDICT_COLOURS[verdict], linewidth=4, label=verdict.value)
        for verdict in verdicts
    ]
    if any(finding.baseline not in (None, finding.limit) for finding in findings):
        marks.append(Line2D([], [], color=INK, linewidth=1.2, linestyle=":", label="harm begins"))
    marks.append(Patch(color=TOLERATED, label="tolerated"))
    figure.legend(handles=marks, frameon=False, fontsize=9, ncols=len(marks), loc="outside upper center")
