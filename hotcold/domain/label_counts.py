"""What a join of labels has found, as counts that add up over files and pieces of files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from hotcold.domain.score_histogram import ScoreHistogram, merge_histograms


@dataclass(frozen=True)
class LabelCounts:
    """Counts of a run.

    Args:
        rows: rows of labels that were read.
        invalid: rows that cannot be used, by the reason.
        unknown: rows whose request is not in the prediction log, or not yet.
        joined: requests that have a label now and had none.
        repeated: labels that say what another one of this run says.
        known: requests that had the same label already, from an earlier run.
        contradicting: requests with different labels; none of these is used.
        early: of the joined, those whose label was known before the request arrived, which clocks that differ make so.
    """

    rows: int = 0
    invalid: Mapping[str, int] = field(default_factory=dict)
    unknown: int = 0
    joined: int = 0
    repeated: int = 0
    known: int = 0
    contradicting: int = 0
    early: int = 0

    def __add__(self, other: LabelCounts) -> LabelCounts:
        sums = {one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(self) if one.name != "invalid"}
        reasons = {**self.invalid, **other.invalid}
        invalid = {reason: self.invalid.get(reason, 0) + other.invalid.get(reason, 0) for reason in reasons}
        return LabelCounts(**sums, invalid=invalid)

    @property
    def unusable(self) -> int:
        """Rows that cannot be used, for whatever reason."""
        return sum(self.invalid.values())


@dataclass(frozen=True)
class LabelJoin:
    """What a run did.

    Args:
        files: that there are.
        files_done: of them, those that need not be read again.
        counts: of what was read now.
        problems: files that cannot be read, or not to their end, with the reason.
    """

    files: int
    files_done: int
    counts: LabelCounts
    problems: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DayCoverage:
    """How many answers of a day have a label.

    Args:
        day: by the arrival of the requests, UTC, as in `2026-11-24`.
        served: answers that a consumer got; copies and tests are none.
        labelled: of them, those with a label that nothing contradicts.
        contradicting: requests that are left out, since their labels differ.
        delays: seconds from the arrival until the label was known.
    """

    day: str
    served: int
    labelled: int
    contradicting: int = 0
    delays: ScoreHistogram = field(default_factory=ScoreHistogram)

    @property
    def pct(self) -> float | None:
        """Labelled answers in percent; None if there is no answer."""
        return 100.0 * self.labelled / self.served if self.served else None


def total_coverage(days: tuple[DayCoverage, ...]) -> DayCoverage:
    """All days as one, which is named by the first and the last of them."""
    return DayCoverage(
        " to ".join(dict.fromkeys((days[0].day, days[-1].day))) if days else "",
        sum(day.served for day in days),
        sum(day.labelled for day in days),
        sum(day.contradicting for day in days),
        merge_histograms(day.delays for day in days),
    )
