"""A picture of a release: the candidate's share over time, and what each gate said meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hotcold.adapters.drawing import (
    CANDIDATE,
    FAINT,
    INK,
    VERDICT_COLOURS,
    VERDICT_MARKS,
    as_png,
    label_rows,
    new_figure,
    plain,
    tidy,
)
from hotcold.adapters.release_reader import Event
from hotcold.domain.gate import Verdict

_ROW_INCHES, _SHARE_INCHES = 0.26, 2.2
_LONGEST = 60


def draw_release(events: Sequence[Event], title: str) -> bytes:
    """Draw the story of a release.

    Args:
        events: its audit, oldest first.
        title: of the picture.

    Returns:
        A PNG picture.
    """
    names = tuple(dict.fromkeys(gate.name for event in events for gate in event.gates))
    figure = new_figure(_SHARE_INCHES + _ROW_INCHES * (len(names) + 1))
    heights = (_SHARE_INCHES, _ROW_INCHES * (len(names) + 1))
    share, verdicts = figure.subplots(2, 1, sharex=True, height_ratios=heights) if names else (figure.subplots(), None)
    began = events[0].at if events else 0.0
    times = [event.at - began for event in events]
    _draw_share(share, events, times)
    share.set_title(plain(title, _LONGEST), fontsize=10, loc="left", color=INK)
    if verdicts is not None:
        _draw_verdicts(verdicts, events, times, names)
    (share if verdicts is None else verdicts).set_xlabel("seconds since the start", fontsize=9)
    return as_png(figure)


def _draw_share(axes: Any, events: Sequence[Event], times: Sequence[float]) -> None:
    axes.step(times, [event.split for event in events], where="post", color=CANDIDATE, linewidth=1.8)
    last = ""
    for event, at in zip(events, times, strict=True):
        if event.phase.value != last:
            axes.axvline(at, color=FAINT, linewidth=0.8, zorder=0)
            axes.annotate(
                event.phase.value.replace("_", " "), (at, 104), rotation=45, fontsize=7, color=INK, annotation_clip=False
            )
            last = event.phase.value
        if event.waiting:
            axes.plot(at, event.split, marker="o", color=INK, markersize=4)
    axes.set_ylim(-3, 103)
    axes.set_ylabel("candidate's share, %", fontsize=9)
    tidy(axes, "left", "bottom")


def _draw_verdicts(axes: Any, events: Sequence[Event], times: Sequence[float], names: Sequence[str]) -> None:
    for verdict in Verdict:
        points = [
            (at, names.index(gate.name))
            for event, at in zip(events, times, strict=True)
            for gate in event.gates
            if gate.verdict is verdict
        ]
        if points:
            colour, mark = VERDICT_COLOURS[verdict], VERDICT_MARKS[verdict]
            axes.scatter(*zip(*points, strict=True), s=16, color=colour, marker=mark, label=verdict.value, linewidths=0)
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    label_rows(axes, [plain(name, _LONGEST) for name in names])
    tidy(axes, "bottom")
