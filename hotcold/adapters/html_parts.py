"""Pieces of an HTML page that needs nothing from anywhere: its style, tables, pictures, and words that cannot become markup."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable

from hotcold.adapters.shadow_pictures import Picture
from hotcold.domain.gate import Verdict
from hotcold.domain.shadow.tables import Table
from hotcold.domain.visible import visible

# Even if something foreign became markup, a browser would run, load and send nothing.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_MARKS = {Verdict.SAFE: "✓", Verdict.HARM: "✕", Verdict.UNKNOWN: "?"}

STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --page: #f5f6f8; --ink: #1d2329; --soft: #57606a; --line: #d8dde3;
  --safe: #14694a; --safe-soft: #e3f3ec; --harm: #a61b12; --harm-soft: #fbe7e5; --unknown: #4b5563; --unknown-soft: #e9ebef; }
@media (prefers-color-scheme: dark) { :root { --paper: #171b21; --page: #0e1116; --ink: #e4e8ed; --soft: #a2abb6;
  --line: #323a44; --safe: #66d1a4; --safe-soft: #12372a; --harm: #ff9d94; --harm-soft: #45191a; --unknown: #c3cad3;
  --unknown-soft: #2b323b; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", Roboto, "DejaVu Sans",
  sans-serif; overflow-wrap: break-word; -webkit-text-size-adjust: 100%; }
main { max-width: 860px; margin: 0 auto; padding: 24px 16px 56px; }
header, section { background: var(--paper); border: 1px solid var(--line); border-radius: 10px; padding: 20px 24px;
  margin: 0 0 16px; }
header { border-left: 8px solid var(--tone); }
.safe { --tone: var(--safe); --tone-soft: var(--safe-soft); } .harm { --tone: var(--harm); --tone-soft: var(--harm-soft); }
.unknown { --tone: var(--unknown); --tone-soft: var(--unknown-soft); }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 4px 0 10px; } h2 { font-size: 1.2rem; margin: 0 0 10px; }
h3 { font-size: 1rem; margin: 24px 0 8px; } p { margin: 0 0 10px; } li { margin: 0 0 6px; } ul, ol { padding-left: 1.3em; }
section > :last-child, header > :last-child { margin-bottom: 0; }
.over { color: var(--soft); margin: 0; font-size: .9rem; }
.badge { display: inline-block; padding: 1px 9px; border-radius: 999px; font-weight: 700; font-size: .82em; white-space: nowrap;
  background: var(--tone-soft); color: var(--tone); border: 1px solid var(--tone); overflow-wrap: normal; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; margin: 0 0 6px; }
caption { text-align: left; color: var(--soft); font-size: .88rem; padding: 0 0 6px; }
th, td { text-align: left; vertical-align: top; padding: 6px 10px 6px 0; border-bottom: 1px solid var(--line); }
thead th { color: var(--soft); font-weight: 600; white-space: nowrap; overflow-wrap: normal; }
tbody th { font-weight: 600; } .stack th { min-width: 6.5em; } .stack td:last-child { min-width: 10em; }
.stack tbody th, .stack td { overflow-wrap: anywhere; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
figure { margin: 12px 0; } figcaption { color: var(--soft); font-size: .88rem; padding-top: 4px; }
img { display: block; width: 100%; height: auto; background: #fff; border-radius: 6px; padding: 4px; }
.sentences { font-size: .9rem; } footer { color: var(--soft); font-size: .85rem; padding: 0 4px; }
@media (max-width: 640px) {
  main { padding: 10px 8px 32px; } header, section { padding: 16px 14px; } h1 { font-size: 1.35rem; }
  .stack thead { position: absolute; left: -9999px; } .stack tr { display: block; padding: 8px 0; border-bottom: 1px solid
  var(--line); } .stack th, .stack td, .stack td.number { display: block; border: 0; padding: 1px 0; text-align: left;
  white-space: normal; } .wide img { min-width: 480px; }
  .stack td::before { content: attr(data-column) ": "; color: var(--soft); }
}
@media print { :root { --paper: #fff; --page: #fff; --ink: #000; --soft: #444; --line: #bbb; --safe: #14694a; --harm: #a61b12;
  --unknown: #4b5563; --safe-soft: #fff; --harm-soft: #fff; --unknown-soft: #fff; } main { max-width: none; padding: 0; }
  header, section { border-radius: 0; border-width: 0 0 1px; padding: 10px 0; }
  header { border-left-width: 8px; padding-left: 12px; }
  figure, tr { break-inside: avoid; } h2, h3, caption { break-after: avoid; } img { max-width: 15cm; } }
"""


def words(text: object) -> str:
    """Words that may come from outside, as text that is no markup and that turns no direction.

    Args:
        text: anything.
    """
    return html.escape(visible(text), quote=True)


def badge(verdict: Verdict) -> str:
    """A verdict as a word with a mark; the colour only repeats it."""
    return f'<span class="badge {verdict.lower()}">{_MARKS[verdict]} {verdict}</span>'


def show_table(table: Table, is_stacked: bool = False) -> str:
    """A table with its caption; the first cell of a row is the row's heading.

    Args:
        table: to be shown.
        is_stacked: on a narrow screen each row becomes a block, since its words would not fit beside each other.
    """
    heads = "".join(f'<th scope="col"{_align(table, place)}>{words(name)}</th>' for place, name in enumerate(table.columns))
    head = f"<thead><tr>{heads}</tr></thead>" if any(table.columns) else ""
    rows = "\n".join(_show_row(table, row) for row in table.rows)
    kind = ' class="stack"' if is_stacked else ""
    caption = f"<caption>{words(table.caption)}</caption>"
    return f'<div class="wide"><table{kind}>{caption}{head}\n<tbody>\n{rows}\n</tbody></table></div>'


def _show_row(table: Table, row: tuple[str, ...]) -> str:
    cells = "".join(
        f'<td data-column="{words(table.columns[place])}"{_align(table, place)}>{_show_cell(cell)}</td>'
        for place, cell in enumerate(row)
        if place
    )
    return f'<tr><th scope="row">{_show_cell(row[0])}</th>{cells}</tr>'


def _align(table: Table, place: int) -> str:
    return ' class="number"' if place >= table.numeric else ""


def _show_cell(cell: str) -> str:
    # Apart from the rest of the line, because letters that run from right to left would turn what is beside them.
    return badge(cell) if isinstance(cell, Verdict) else f"<bdi>{words(cell)}</bdi>"


def show_picture(picture: Picture | None, caption: str) -> str:
    """A picture within the page itself; nothing if there is none.

    Args:
        picture: with its words for those who do not see it.
        caption: below it.
    """
    if picture is None:
        return ""
    source = f"data:image/png;base64,{base64.b64encode(picture.content).decode()}"
    image = f'<div class="wide"><img src="{source}" alt="{words(picture.alt)}"></div>'
    return f"<figure>{image}<figcaption>{words(caption)}</figcaption></figure>"


def show_list(parts: Iterable[str], kind: str = "ul") -> str:
    """Sentences as a list.

    Args:
        parts: may come from outside.
        kind: `ul`, or `ol` for numbers before them.
    """
    return f"<{kind}>\n" + "\n".join(f"<li>{words(part)}</li>" for part in parts) + f"\n</{kind}>"
