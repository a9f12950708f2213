"""The page of a comparison is one whole document that loads nothing, says the verdict first, and lets no input write in it."""

from __future__ import annotations

import base64
import re
from functools import cache
from html.parser import HTMLParser
from typing import Any

import pytest

from hotcold.adapters.shadow_markdown import shadow_markdown
from hotcold.adapters.shadow_page import shadow_page
from hotcold.domain.shadow.report import StageTimes
from hotcold.domain.shadow.report_json import report_document
from tests.fixtures.shadow_reports import HOSTILE, REPORTS, harm_report, labelled_report, safe_report, unknown_report

VOID = {"meta", "img", "br", "hr", "link", "input"}
ALLOWED = {
    *("html", "head", "meta", "title", "style", "body", "main", "header", "section", "h1", "h2", "h3", "p", "ul", "ol", "li"),
    *("div", "span", "bdi", "table", "caption", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "img"),
}


class Page(HTMLParser):
    """Reads a page and refuses elements that are not closed in order."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(document)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.open.pop(), f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.seen if name == tag]


@cache
def document_of(name: str) -> str:
    """Drawing takes longer than all that is done with it."""
    return shadow_page(REPORTS[name]())


@pytest.fixture(scope="module", params=list(REPORTS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_it_is_well_formed_and_has_only_known_elements(name: str) -> None:
    page = Page(document_of(name))
    assert [] == page.open
    assert set() == {tag for tag, _ in page.seen} - ALLOWED


def test_it_loads_nothing_and_runs_nothing(name: str) -> None:
    document = document_of(name)
    page = Page(document)
    for _, attributes in page.seen:
        assert not {"href", "srcset", "action", "style"} & attributes.keys()
        assert not [attribute for attribute in attributes if attribute.startswith("on")]
        assert (attributes.get("src") or "data:image/png;base64,").startswith("data:image/png;base64,")
    style = document.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style and "@import" not in style
    (policy,) = [meta["content"] for meta in page.attributes("meta") if "http-equiv" in meta]
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" == policy


def test_the_verdict_comes_first_then_why_then_checks_then_numbers(name: str) -> None:
    report = REPORTS[name]()
    text = Page(document_of(name)).text
    body = text.partition("Shadow comparison of")[2]
    order = [
        body.index(part)
        for part in (
            f" {report.verdict}",
            "Why",
            "What this means",
            "Checks;",
            "What was compared,",
            "How to read this",
            "Where it comes from",
        )
    ]
    assert sorted(order) == order
    assert body.index("Numbers") > body.index("Checks;")


def test_every_finding_and_gate_is_told(name: str) -> None:
    report = REPORTS[name]()
    text = Page(document_of(name)).text
    assert [] == [finding.sentence for finding in report.findings if finding.sentence not in text]
    assert [] == [gate.name for gate in report.gates if gate.name.replace("_", " ") not in text]
    assert [] == [reason for reason in report.left_out if reason not in text]


def test_tables_have_captions_and_pictures_have_words(name: str) -> None:
    page = Page(document_of(name))
    tags = [tag for tag, _ in page.seen]
    assert tags.count("table") == tags.count("caption") > 0
    assert all(len(image["alt"] or "") > 40 for image in page.attributes("img"))
    for image in page.attributes("img"):
        assert base64.b64decode((image["src"] or "").partition(",")[2]).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "pictures"), [("safe", 3), ("harm", 3), ("unknown", 0), ("early", 3), ("labelled", 5), ("replay", 3)]
)
def test_what_there_is_is_pictured(name: str, pictures: int) -> None:
    assert pictures == len(Page(document_of(name)).attributes("img"))
    assert min(pictures, 4) == len(re.findall(r"!\[[^\n]*\]\(data:image/png;base64,", shadow_markdown(REPORTS[name]())))


def test_where_labels_exist_the_calibration_of_both_is_a_table_and_in_the_twin_for_programs() -> None:
    report = labelled_report()
    text, page, document = Page(document_of("labelled")).text, shadow_markdown(report), report_document(report)
    assert report.labels is not None
    quality: Any = document["labels"]
    for name in ("champion", "candidate"):
        side = getattr(report.labels, name)
        assert len(side.calibration) == len(quality[name]["calibration"]) > 5
        assert side.calibration_error == quality[name]["calibration_error"]
        for one in side.calibration:
            assert f"| {one.lower:.1f} to {one.upper:.1f} | {name} | {one.labelled:,} |" in page
            assert f"{one.labelled:,}" in text
    assert "0.2 to 0.3" in text and "expected calibration error" in text
    assert "Calibration:" not in Page(document_of("safe")).text


def test_foreign_words_are_shown_as_they_are_and_never_markup() -> None:
    segments = tuple(row for row in labelled_report().segments if row.segment in HOSTILE)
    hostile = "<img src=x onerror=alert(1)> \"'&"
    report = labelled_report(
        segments=segments,
        left_out={hostile: 5},
        reason=hostile,
        model=hostile,
        release=hostile,
        champion_times=(StageTimes(hostile, 1.0, 2.0, 3.0),),
    )
    page = Page(shadow_page(report))
    assert set() == {tag for tag, _ in page.seen} - ALLOWED
    assert 6 <= page.text.count(hostile)
    for shown in (HOSTILE[0], HOSTILE[1], HOSTILE[2], HOSTILE[5], HOSTILE[6]):
        assert f"“{shown}”" in page.text
    assert "“日本語 é \\u202egnp.exe \\x00\\ud800 🛫”" in page.text
    assert f"“{'x' * 59}…”" in page.text
    assert "(no segment)" in page.text


def test_the_page_is_a_file() -> None:
    """Half a letter, which a header may hold, can be written."""
    assert shadow_page(labelled_report()).encode()
    assert shadow_markdown(labelled_report()).encode()


def test_a_verdict_is_a_word_and_not_a_colour() -> None:
    document = shadow_page(harm_report())
    assert 5 == document.count('<span class="badge harm">✕ HARM</span>')


def test_markdown_has_the_same_order_and_stays_small(name: str) -> None:
    report = REPORTS[name]()
    page = shadow_markdown(report)
    assert page.startswith(f"# {report.verdict}: ")
    parts = ("## Why", "## What this means", "## Checks", "## Numbers", "## How to read this", "## Where it comes from")
    assert sorted(page.index(part) for part in parts) == [page.index(part) for part in parts]
    assert len(page.encode()) < 300_000


def test_in_markdown_foreign_words_make_no_markup() -> None:
    page = shadow_markdown(labelled_report(reason="see <b>https://evil.example</b> or www.evil.example"))
    assert "&lt;script&gt;alert('segment')&lt;/script&gt;" in page
    assert "“a\\|b\\|\\|c”" in page
    assert "\\`code\\` \\*bold\\* \\_it\\_ \\[link\\](https\\://evil.example/x) \\~\\~no\\~\\~" in page
    assert "https\\://evil.example&lt;/b&gt; or www\\.evil.example" in page
    assert not re.search(r"<(script|b|img)|https?://|[^\\]www\.", page)


def test_cells_of_markdown_are_as_many_as_columns() -> None:
    for lines in re.findall(r"(?:^\|.*\n)+", shadow_markdown(labelled_report()), re.MULTILINE):
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in lines.splitlines()}
        assert 1 == len(counts), lines


def test_a_report_of_nothing_at_all_can_be_shown() -> None:
    report = unknown_report(gates=(), findings=(), left_out={}, reason="", champion_times=(), candidate_times=(), required=())
    text = Page(shadow_page(report)).text
    for said in ("Nothing was checked.", "No times were recorded.", "No outcomes are known", "The requests name no segments."):
        assert said in text
    assert shadow_markdown(report).startswith("# UNKNOWN: ")


def test_nothing_but_the_report_decides_what_the_page_says() -> None:
    assert shadow_page(safe_report()) == shadow_page(safe_report())
