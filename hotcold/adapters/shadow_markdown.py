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
    when = text_markdown(described_window(report))
    return (
        f"# {text_markdown(headline(report))}",
        f"Shadow comparison of {text_markdown(report.model)}, from {text_markdown(report.source.value)}: {when}.",
        "## Why",
        text_markdown(tell_why(report)),
        "## What this means",
        _list(tell_consequences(report)),
    )


def _numbers(report: ShadowReport, pictures: Mapping[str, Picture]) -> tuple[str, ...]:
    return (
        "## Checks",
        table_markdown(gates_table(report)),
        _picture(pictures.get(CHECKS)),
        "## Numbers",
        table_markdown(facts_table(report)),
        _picture(pictures.get(SCORES)),
        table_markdown(times_table(report)),
        _picture(pictures.get(TIMES)),
        table_markdown(labels_table(report)),
        table_markdown(calibration_table(report)),
        table_markdown(segments_table(report, MOST_SEGMENTS)),
        _picture(pictures.get(SEGMENTS)),
        table_markdown(left_out_table(report)),
    )


def _background(report: ShadowReport) -> tuple[str, ...]:
    return (
        "## How to read this",
        _list(reading_guide(report)),
        "## Where it comes from",
        table_markdown(provenance_table(report)),
    )


def table_markdown(table: Table | None) -> str:
    """A table with its caption, which becomes a line above, since Markdown has none; empty for no table."""
    if table is None:
        return ""
    rule = ["---:" if place >= table.numeric else "---" for place in range(len(table.columns))]
    lines = (_row(table.columns), f"|{'|'.join(rule)}|", *(_row(row) for row in table.rows))
    return f"**{text_markdown(table.caption)}**\n\n" + "\n".join(lines)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(_MARKS[cell] if isinstance(cell, Verdict) else text_markdown(cell) for cell in cells)} |"


def _list(parts: Iterable[str]) -> str:
    return "\n".join(f"- {text_markdown(part)}" for part in parts)


def _picture(picture: Picture | None) -> str:
    if picture is None:
        return ""
    return f"![{text_markdown(picture.alt)}](data:image/png;base64,{base64.b64encode(picture.content).decode()})"


def text_markdown(words: object) -> str:
    """Words that may come from outside, so that the page shows them as they are, and makes no link of them."""
    shown = html.escape(visible(words), quote=False)
    for mark in ("\\", "|", "`", "*", "_", "[", "]", "~"):
        shown = shown.replace(mark, f"\\{mark}")
    return shown.replace("://", "\\://").replace("www.", "www\\.")
