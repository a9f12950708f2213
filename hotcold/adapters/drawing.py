"""What all pictures of a report have in common: colours, size, and words that Matplotlib takes as they are."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from typing import Any

from hotcold.domain.gate import Verdict
from hotcold.domain.visible import visible

WIDTH_INCHES, _DPI = 7.0, 180
CHAMPION, CANDIDATE, FAINT, INK = "#8a929c", "#1f5fbf", "#d5d9de", "#24292f"
TOLERATED = "#e6f2ec"
VERDICT_COLOURS = {Verdict.SAFE: "#1a7f5a", Verdict.HARM: "#c0271d", Verdict.UNKNOWN: "#6b7280"}
# Not by colour alone: some people see none, and paper has none.
VERDICT_MARKS = {Verdict.SAFE: "o", Verdict.HARM: "X", Verdict.UNKNOWN: "D"}


def new_figure(height_inches: float) -> Any:
    """An empty figure of the width of all pictures, which no global state of Matplotlib knows of."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_INCHES, height_inches), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def as_png(figure: Any) -> bytes:
    """The figure as a PNG picture with few colours: half the size, and nobody sees it."""
    from PIL import Image

    file = io.BytesIO()
    figure.savefig(file, format="png")
    small = io.BytesIO()
    Image.open(file).convert("RGB").quantize(96).save(small, format="png", optimize=True)
    return small.getvalue()


def plain(words: str, longest: int) -> str:
    """Words that may come from outside, for a label: no formulas, and no letters that the font lacks.

    Args:
        words: any.
        longest: characters.
    """
    shown = "".join(letter if ord(letter) in _letters() else "□" for letter in visible(words, longest))
    return shown.replace("$", r"\$")


def tidy(axes: Any, *sides: str) -> None:
    """Leave only the axes that say something.

    Args:
        axes: of a figure.
        sides: whose lines stay: `left`, `bottom`.
    """
    axes.spines[[side for side in ("top", "right", "left", "bottom") if side not in sides]].set_visible(False)
    axes.tick_params(length=0, labelsize=9)


def label_rows(axes: Any, names: Sequence[str]) -> None:
    """Name rows 0, 1, 2, … from the top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)


@cache
def _letters() -> frozenset[int]:
    """What the font can draw; for others Matplotlib would warn at each letter."""
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())
