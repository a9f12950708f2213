"""Receipts: what became of each part, and the sum over a run. Every row of the input is accounted for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any

from hotcold.domain.batch_plan import BatchPlan, Part
from hotcold.domain.errors import BatchError
from hotcold.domain.score_histogram import ScoreHistogram, merge_histograms

SHOWN_PROBLEMS = 20


@dataclass(frozen=True)
class Problem:
    """Rows that were set aside.

    Args:
        file: URL of the input file.
        rows: how many; None if the file is such that nobody can count them.
        what: what is wrong, with the first row and its value where one row is at fault.
    """

    file: str
    rows: int | None
    what: str


@dataclass(frozen=True)
class Timings:
    """Seconds that one thread spent on each stage of a part, or a run's sum of them.

    Args:
        read_s: from a file to columns; where a GPU unpacks them, the way of the packed bytes to it is in it.
        encode_s: from columns to the matrix.
        score_s: from the matrix to scores; on a GPU the kernel alone.
        write_s: from scores to the part's files.
        transfer_s: of values between the host and a GPU, both ways; 0 on the CPU.
    """

    read_s: float = 0.0
    encode_s: float = 0.0
    score_s: float = 0.0
    write_s: float = 0.0
    transfer_s: float = 0.0

    def __add__(self, other: Timings) -> Timings:
        return Timings(
            self.read_s + other.read_s,
            self.encode_s + other.encode_s,
            self.score_s + other.score_s,
            self.write_s + other.write_s,
            self.transfer_s + other.transfer_s,
        )

    @property
    def total_s(self) -> float:
        """Seconds in all stages."""
        return self.read_s + self.encode_s + self.score_s + self.write_s + self.transfer_s

    @property
    def stages(self) -> dict[str, float]:
        """By name, those that there were."""
        stages = {"read": self.read_s, "encode": self.encode_s, "score": self.score_s, "write": self.write_s}
        return stages | ({"transfer": self.transfer_s} if self.transfer_s else {})


@dataclass(frozen=True)
class Receipt:
    """What became of one part; written after its file is in place.

    Args:
        part: index of the part.
        rows_in: rows that the part had, counted by the format and not by the reader where it can tell.
        rows_out: rows with a score.
        rows_quarantined: rows set aside.
        sha256: of the part's file, in hexadecimal.
        size_bytes: of the part's file.
        histogram: of its scores.
        problems: what was set aside, and why; the first ones of many.
        timings: seconds by stage.
        where: worker that did it, for people.
        ids: first and last id, if each is greater than the one before it; None if they are not, or there is none.
    """

    part: int
    rows_in: int
    rows_out: int
    rows_quarantined: int
    sha256: str
    size_bytes: int
    histogram: ScoreHistogram
    problems: tuple[Problem, ...] = ()
    timings: Timings = Timings()
    where: str = ""
    ids: tuple[int, int] | tuple[str, str] | None = None

    def __post_init__(self) -> None:
        if self.rows_in != self.rows_out + self.rows_quarantined or min(self.rows_out, self.rows_quarantined) < 0:
            raise BatchError(
                f"part {self.part} does not add up: {self.rows_in} rows in, {self.rows_out} out, "
                f"{self.rows_quarantined} quarantined"
            )

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "histogram": self.histogram.to_json()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Receipt:
        """Inverse of `to_json`.

        Raises:
            BatchError: it is none, or it does not add up.
        """
        try:
            values = dict(document)
            values["histogram"] = ScoreHistogram.from_json(values["histogram"])
            values["problems"] = tuple(Problem(**problem) for problem in values["problems"])
            values["timings"] = Timings(**values["timings"])
            values["ids"] = tuple(values["ids"]) if values.get("ids") else None
            return cls(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise BatchError(f"not a receipt: {error}; the part is scored again") from error


@dataclass(frozen=True)
class Totals:
    """A run in numbers.

    Args:
        files: input files.
        parts: parts with a receipt.
        rows_in: rows of the input that could be counted.
        rows_out: rows with a score.
        rows_quarantined: rows set aside.
        uncounted_files: files set aside whose rows nobody can count.
        size_bytes: of all parts' files.
        histogram: of all scores.
        problems: what was set aside; the first ones of many.
        problem_count: how many there were.
        timings: seconds by stage, summed over threads.
    """

    files: int = 0
    parts: int = 0
    rows_in: int = 0
    rows_out: int = 0
    rows_quarantined: int = 0
    uncounted_files: int = 0
    size_bytes: int = 0
    histogram: ScoreHistogram = field(default_factory=ScoreHistogram)
    problems: tuple[Problem, ...] = ()
    problem_count: int = 0
    timings: Timings = Timings()

    def with_receipt(self, receipt: Receipt) -> Totals:
        """These totals and one part more; the histogram is left for `summarise`."""
        return replace(
            self,
            parts=self.parts + 1,
            rows_in=self.rows_in + receipt.rows_in,
            rows_out=self.rows_out + receipt.rows_out,
            rows_quarantined=self.rows_quarantined + receipt.rows_quarantined,
            size_bytes=self.size_bytes + receipt.size_bytes,
            problems=(self.problems + receipt.problems)[:SHOWN_PROBLEMS],
            problem_count=self.problem_count + len(receipt.problems),
            timings=self.timings + receipt.timings,
        )


def missing_parts(parts: Sequence[Part], receipts: Iterable[Receipt]) -> tuple[Part, ...]:
    """Parts without a receipt, in order.

    Raises:
        BatchError: a receipt is of no part, or of another one than planned.
    """
    done = set()
    for receipt in receipts:
        planned = parts[receipt.part].rows if 0 <= receipt.part < len(parts) else -1
        if planned == -1 or (planned is not None and planned != receipt.rows_in):
            raise BatchError(
                f"the receipt of part {receipt.part} counts {receipt.rows_in} rows; planned are "
                f"{'no such part' if planned == -1 else planned}; delete the table's folder and run again"
            )
        done.add(receipt.part)
    return tuple(part for part in parts if part.index not in done)


def summarise(plan: BatchPlan, parts: Sequence[Part], receipts: Iterable[Receipt]) -> Totals:
    """Add up a finished run and make sure that nothing was lost or doubled.

    Args:
        plan: of the run.
        parts: its parts.
        receipts: one per part, in any order.

    Raises:
        BatchError: a part has no receipt or two, or rows in differ from rows out plus rows quarantined.
    """
    by_part = sorted(receipts, key=lambda receipt: receipt.part)
    if [receipt.part for receipt in by_part] != [part.index for part in parts]:
        missing = sorted({part.index for part in parts} - {receipt.part for receipt in by_part})
        raise BatchError(
            f"{len(by_part)} receipts for {len(parts)} parts; missing are {missing[:10]}. Run again: what is done is kept"
        )
    problems = tuple(Problem(file.url, None, file.problem) for file in plan.unreadable)
    totals = Totals(
        files=len(plan.files),
        uncounted_files=len(problems),
        problems=problems[:SHOWN_PROBLEMS],
        problem_count=len(problems),
    )
    for receipt in by_part:
        totals = totals.with_receipt(receipt)
    _require_balance(plan, totals)
    return replace(totals, histogram=merge_histograms(receipt.histogram for receipt in by_part))


def _require_balance(plan: BatchPlan, totals: Totals) -> None:
    planned = sum(rows for file in plan.files for rows in file.units) if plan.format == "parquet" else totals.rows_in
    if not planned == totals.rows_in == totals.rows_out + totals.rows_quarantined:
        raise BatchError(
            f"the run does not add up: {planned} rows planned, {totals.rows_in} read, {totals.rows_out} scored, "
            f"{totals.rows_quarantined} quarantined. Nothing is published; delete the table's folder and run again"
        )


def ids_are_unique(receipts: Iterable[Receipt]) -> bool:
    """Whether the receipts alone prove that no id occurs twice, as they do where rows are sorted by id.

    Returns:
        True if all parts have ascending ids and their ranges do not overlap; false says nothing about the ids.
    """
    ranges = [receipt.ids for receipt in receipts if receipt.rows_out]
    if None in ranges:
        return False
    ordered = sorted(ids for ids in ranges if ids is not None)
    return all(before[1] < after[0] for before, after in pairwise(ordered))  # type: ignore[operator]


def content_digest(receipts: Iterable[Receipt]) -> str:
    """SHA-256 over the digests of all parts in order: equal for two runs exactly if all their files are equal."""
    ordered = sorted(receipts, key=lambda receipt: receipt.part)
    return hashlib.sha256("".join(receipt.sha256 for receipt in ordered).encode()).hexdigest()
