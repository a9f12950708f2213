"""What a benchmark measured, against what is promised."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One measured value.

    Args:
        name: what was measured.
        value: what came out.
        unit: of value and limit.
        limit: what is promised; None where nothing is.
        holds: the promise is kept; True where nothing is promised.
        sign: how value and limit have to compare.
    """

    name: str
    value: float
    unit: str
    limit: float | None = None
    holds: bool = True
    sign: str = "≤"


def at_most(name: str, value: float, unit: str, limit: float) -> Figure:
    """A figure that has to be at most its limit."""
    return Figure(name, round(value, 4), unit, limit, value <= limit)


def at_least(name: str, value: float, unit: str, limit: float) -> Figure:
    """A figure that has to be at least its limit."""
    return Figure(name, round(value, 4), unit, limit, value >= limit, "≥")


def observed(name: str, value: float, unit: str) -> Figure:
    """A figure without a promise."""
    return Figure(name, round(value, 4), unit)


def publish(title: str, figures: Sequence[Figure], path: Path) -> bool:
    """Print the table and write the file.

    Args:
        title: above the table.
        figures: in the order of the table.
        path: the JSON file.

    Returns:
        Whether every promise is kept.
    """
    table = Table(title=title)
    for column in ("what", "value", "unit", "promised", "holds"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for figure in figures:
        limit, holds = "", ""
        if figure.limit is not None:
            limit, holds = f"{figure.sign} {figure.limit:g}", "yes" if figure.holds else "NO"
        table.add_row(figure.name, f"{figure.value:g}", figure.unit, limit, holds)
    Console(width=140).print(table)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([_entry(figure) for figure in figures], indent=1) + "\n")
    return all(figure.holds for figure in figures)


def _entry(figure: Figure) -> dict[str, Any]:
    """As plain JSON values; what is infinite, as a time until something that never came, is null."""
    entry = asdict(figure)
    del entry["sign"]
    return {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in entry.items()}
