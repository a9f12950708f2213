"""A shadow report as Markdown for the Prefect UI: as the page, in the same order, but shorter."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping

from hotcold.adapters.shadow_pictures import CHECKS, SCORES, SEGMENTS, TIMES, Picture, draw_pictures
from hotcold.domain.gate import Verdict
from hotcold.domain.shadow.report import ShadowReport
from hotcold.domain.shadow.tables import (
    Table,
    calibration_table,
    facts_table,
    gates_table,
    labels_table,
    left_out_table,
    provenance_table,
    segments_table,
    times_table,
)
from hotcold.domain.shadow.wording import described_window, headline, reading_guide, tell_consequences, tell_why
from hotcold.domain.visible import visible

MOST_SEGMENTS = 10
_MARKS = {Verdict.SAFE: "✓ SAFE", Verdict.HARM: "✕ HARM", Verdict.UNKNOWN: "? UNKNOWN"}


def shadow_markdown(report: ShadowReport) -> str:
    """The report as Markdown, with the pictures within it.

    Args:
        report: of a comparison; names and reasons in it may come from anywhere.

    Returns:
        At most about 300 kB.
    """
    pictures = draw_pictures(report)
    return "\n\n".join(part for part in (*_verdict(report), *_numbers(report, pictures), *_background(report)) if part) + "\n"


def _verdict(report: ShadowReport) -> tuple[str, ...]:
    return (
        f"# {_text(headline(report))}",
        f"Shadow comparison of {_text(report.model)}, from {_text(report.source.value)}: {_text(described_window(report))}.",
        "## Why",
        _text(tell_why(report)),
        "## What this means",
        _list(tell_consequences(report)),
    )


def _numbers(report: ShadowReport, pictures: Mapping[str, Picture]) -> tuple[str, ...]:
    return (
        "## Checks",
        _table(gates_table(report)),
        _picture(pictures.get(CHECKS)),
        "## Numbers",
        _table(facts_table(report)),
        _picture(pictures.get(SCORES)),
        _table(times_table(report)),
        _picture(pictures.get(TIMES)),
        _table(labels_table(report)),
        _table(calibration_table(report)),
        _table(segments_table(report, MOST_SEGMENTS)),
        _picture(pictures.get(SEGMENTS)),
        _table(left_out_table(report)),
    )


def _background(report: ShadowReport) -> tuple[str, ...]:
    return ("## How to read this", _list(reading_guide(report)), "## Where it comes from", _table(provenance_table(report)))


def _table(table: Table | None) -> str:
    """Markdown's tables have no captions; it becomes a line above."""
    if table is None:
        return ""
    rule = ["---:" if place >= table.numeric else "---" for place in range(len(table.columns))]
    lines = (_row(table.columns), f"|{'|'.join(rule)}|", *(_row(row) for row in table.rows))
    return f"**{_text(table.caption)}**\n\n" + "\n".join(lines)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(_MARKS[cell] if isinstance(cell, Verdict) else _text(cell) for cell in cells)} |"


def _list(parts: Iterable[str]) -> str:
    return "\n".join(f"- {_text(part)}" for part in parts)


def _picture(picture: Picture | None) -> str:
    if picture is None:
        return ""
    return f"![{_text(picture.alt)}](data:image/png;base64,{base64.b64encode(picture.content).decode()})"


def _text(words: object) -> str:
    """Words that may come from outside, so that the page shows them as they are, and makes no link of them."""
    shown = html.escape(visible(words), quote=False)
    for mark in ("\\", "|", "`", "*", "_", "[", "]", "~"):
        shown = shown.replace(mark, f"\\{mark}")
    return shown.replace("://", "\\://").replace("www.", "www\\.")
