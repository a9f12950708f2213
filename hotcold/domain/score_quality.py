"""The quality gate of a score table: what has to hold before readers see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hotcold.domain.errors import BatchError
from hotcold.domain.gate import Gate, Verdict
from hotcold.domain.receipt import Totals
from hotcold.domain.score_histogram import ScoreHistogram, population_stability_index


@dataclass(frozen=True)
class QualityLimits:
    """What a table may look like.

    Args:
        max_quarantined_pct: rows set aside, in percent of all rows; and files set aside whole, in percent of all files.
        min_rows_pct: rows with a score, in percent of those of the table that readers see.
        max_psi: population stability index against the table that readers see; 0.25 is commonly called a shift.
        lowest: smallest allowed score; None allows any.
        highest: greatest allowed score; None allows any.
        unique_ids: no id may occur twice.
    """

    max_quarantined_pct: float = 1.0
    min_rows_pct: float = 50.0
    max_psi: float = 0.25
    lowest: float | None = None
    highest: float | None = None
    unique_ids: bool = True

    def __post_init__(self) -> None:
        for name in ("max_quarantined_pct", "min_rows_pct"):
            if not 0 <= getattr(self, name) <= 100:
                raise BatchError(f"{name} is {getattr(self, name)}; allowed is 0 to 100")
        if self.max_psi < 0:
            raise BatchError(f"max_psi is {self.max_psi}; allowed is 0 or more")


@dataclass(frozen=True)
class Duplicates:
    """Ids that occur more than once.

    Args:
        rows: rows beyond the first of their id.
        examples: some of the ids, each with where it was seen.
    """

    rows: int = 0
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Published:
    """The table that readers see, as far as the gate needs it.

    Args:
        id: its name.
        rows: its rows.
        histogram: of its scores.
    """

    id: str
    rows: int
    histogram: ScoreHistogram

    @classmethod
    def from_lineage(cls, lineage: Mapping[str, Any]) -> Published:
        """From the content of its `SCORES.json`."""
        return cls(str(lineage["table"]), int(lineage["rows"]), ScoreHistogram.from_json(lineage["histogram"]))


def judge_table(totals: Totals, duplicates: Duplicates, published: Published | None, limits: QualityLimits) -> tuple[Gate, ...]:
    """Judge a complete table.

    Args:
        totals: of the run; rows in equal rows out plus rows quarantined, which `summarise` made sure of.
        duplicates: of its ids.
        published: the table that readers see; None for the first one of an output.
        limits: what is allowed.

    Returns:
        One gate per check. A table may be published if none reports HARM; UNKNOWN means that there is nothing to compare with.
    """
    return (
        _rows(totals, published, limits),
        _quarantined(totals, limits),
        _finite(totals),
        _in_range(totals.histogram, limits),
        _unique(duplicates, limits),
        _stable(totals.histogram, published, limits),
    )


def _gate(name: str, holds: bool, observed: str, limit: str) -> Gate:
    return Gate(name, Verdict.SAFE if holds else Verdict.HARM, observed, limit)


def _rows(totals: Totals, published: Published | None, limits: QualityLimits) -> Gate:
    if not totals.rows_out or published is None:
        return _gate("row_count", totals.rows_out > 0, f"{totals.rows_out:,} rows", "at least 1 row")
    share_pct = 100.0 * totals.rows_out / max(published.rows, 1)
    observed = f"{totals.rows_out:,} rows, {share_pct:.1f} % of the {published.rows:,} that readers see"
    return _gate("row_count", share_pct >= limits.min_rows_pct, observed, f"at least {limits.min_rows_pct:g} %")


def _quarantined(totals: Totals, limits: QualityLimits) -> Gate:
    share_pct = 100.0 * totals.rows_quarantined / max(totals.rows_in, 1)
    observed = f"{totals.rows_quarantined:,} of {totals.rows_in:,} rows, {share_pct:.2f} %"
    if totals.uncounted_files:
        # Nobody knows how many rows they held, so they count as files.
        share_pct = max(share_pct, 100.0 * totals.uncounted_files / totals.files)
        observed += f", and {totals.uncounted_files:,} of {totals.files:,} files, whose rows nobody can count"
    first = f"; the first: {totals.problems[0].file}: {totals.problems[0].what}" if totals.problems else ""
    return _gate(
        "quarantined", share_pct <= limits.max_quarantined_pct, observed + first, f"at most {limits.max_quarantined_pct:g} %"
    )


def _finite(totals: Totals) -> Gate:
    count = totals.histogram.not_finite
    return _gate("finite", count == 0, f"{count:,} scores are NaN or infinite", "none")


def _in_range(histogram: ScoreHistogram, limits: QualityLimits) -> Gate:
    lowest = float("-inf") if limits.lowest is None else limits.lowest
    highest = float("inf") if limits.highest is None else limits.highest
    observed = f"{histogram.least:.6g} to {histogram.greatest:.6g}" if histogram.total else "no score"
    holds = bool(histogram.total) and lowest <= histogram.least and histogram.greatest <= highest
    return _gate("range", holds, observed, f"{lowest:g} to {highest:g}")


def _unique(duplicates: Duplicates, limits: QualityLimits) -> Gate:
    examples = f": {'; '.join(duplicates.examples[:3])}" if duplicates.examples else ""
    observed = f"{duplicates.rows:,} rows repeat an id{examples}"
    allowed = "none" if limits.unique_ids else "any number"
    return _gate("unique_ids", duplicates.rows == 0 or not limits.unique_ids, observed, allowed)


def _stable(histogram: ScoreHistogram, published: Published | None, limits: QualityLimits) -> Gate:
    limit = f"PSI at most {limits.max_psi:g}"
    psi = population_stability_index(published.histogram, histogram) if published else None
    if published is None or psi is None:
        return Gate("stability", Verdict.UNKNOWN, "there is no published table to compare with", limit)
    return _gate("stability", psi <= limits.max_psi, f"PSI {psi:.4f} against table {published.id}", limit)
