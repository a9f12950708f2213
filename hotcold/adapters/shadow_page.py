"""A shadow report as one HTML file that needs nothing else: verdict first, then why, then numbers."""

from __future__ import annotations

from collections.abc import Mapping

from hotcold.adapters.html_parts import POLICY, STYLE, badge, show_list, show_picture, show_table, words
from hotcold.adapters.shadow_pictures import CALIBRATION, CHECKS, SCORES, SEGMENTS, TIMES, Picture, draw_pictures
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
from hotcold.domain.shadow.wording import described_window, headline, order_findings, reading_guide, tell_consequences, tell_why

MOST_SEGMENTS = 20
_CHECKS_CAPTION = (
    "Each row has a scale of its own, with its limit at the same place: the mark is what was observed, the bar lies between "
    "the bounds. A check is SAFE once the whole bar is within what is tolerated, and HARM once it is beyond where harm begins."
)


def shadow_page(report: ShadowReport) -> str:
    """The whole report as an HTML document.

    Args:
        report: of a comparison; names and reasons in it may come from anywhere.

    Returns:
        A document without scripts and without any request to anywhere; pictures are within it. About 250 kB.
    """
    pictures = draw_pictures(report)
    parts = (
        _header(report),
        _section("Why", f"<p>{words(tell_why(report))}</p>"),
        _section("What this means", show_list(tell_consequences(report))),
        _section("Checks", _checks(report, pictures)),
        _section("Numbers", _numbers(report, pictures)),
        _section("How to read this", show_list(reading_guide(report), "ol")),
        _section("Where it comes from", show_table(provenance_table(report), is_stacked=True)),
    )
    body = "\n".join(parts)
    title = words(f"{report.model}: {headline(report)}")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
<main class="{report.verdict.lower()}">
{body}
</main>
</body>
</html>
"""


def _header(report: ShadowReport) -> str:
    _, _, follows = headline(report).partition(": ")
    return f"""<header>
<p class="over">Shadow comparison of <bdi>{words(report.model)}</bdi>, from {words(report.source.value)}</p>
<h1>{badge(report.verdict)} {words(follows[:1].upper() + follows[1:])}</h1>
<p>{words(described_window(report))}; {report.pairs:,} requests with an answer by both; release {words(report.release)}.</p>
</header>"""


def _section(title: str, *parts: str) -> str:
    return "\n".join((f"<section>\n<h2>{title}</h2>", *(part for part in parts if part), "</section>"))


def _checks(report: ShadowReport, pictures: Mapping[str, Picture]) -> str:
    if not report.gates:
        return "<p>Nothing was checked.</p>"
    table = show_table(gates_table(report), is_stacked=True)
    sentences = [finding.sentence for finding in order_findings(report)]
    told = f'<h3>In whole sentences</h3><div class="sentences">{show_list(sentences)}</div>' if sentences else ""
    return f"{table}\n{show_picture(pictures.get(CHECKS), _CHECKS_CAPTION)}\n{told}"


def _numbers(report: ShadowReport, pictures: Mapping[str, Picture]) -> str:
    parts = (
        show_table(facts_table(report)),
        show_picture(pictures.get(SCORES), "Distribution of the scores of both, on the same requests."),
        _part("Speed", times_table(report), "No times were recorded."),
        show_picture(pictures.get(TIMES), "Further left is faster; each step of the scale is a multiple."),
        _part("What happened in the end", labels_table(report), "No outcomes are known for these requests."),
        show_table(by_score) if (by_score := calibration_table(report)) else "",
        show_picture(pictures.get(CALIBRATION), "On the dashed line, what is predicted comes true just as often."),
        _part("Worst segments", segments_table(report, MOST_SEGMENTS), "The requests name no segments.", is_stacked=True),
        show_picture(pictures.get(SEGMENTS), "The segments with the most evidence of harm; ▲ and red: it stands out."),
        _part("What was left out", left_out_table(report), "Nothing: every row found its partner.", is_stacked=True),
    )
    return "\n".join(part for part in parts if part)


def _part(title: str, table: Table | None, instead: str, is_stacked: bool = False) -> str:
    """A heading with its table, or with a sentence that says why there is none."""
    return f"<h3>{title}</h3>\n{show_table(table, is_stacked) if table else f'<p>{instead}</p>'}"
