"""A batch run under way, in a sentence."""

from __future__ import annotations

from dataclasses import dataclass, replace

_MINUTE_S, _HOUR_S = 60.0, 3600.0
_MILLION = 1_000_000


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    What an earlier run of the same table has done counts as done, but not for the speed.

    Args:
        rows_done: rows read, whether scored or set aside.
        rows_total: rows of the input; None where only reading tells, as in a CSV file.
        parts_done: parts with a receipt.
        parts_total: parts of the table.
        elapsed_s: seconds since this run began.
        rows_before: of the rows done, those of earlier runs.
        parts_before: of the parts done, those of earlier runs.
    """

    rows_done: int
    rows_total: int | None
    parts_done: int
    parts_total: int
    elapsed_s: float
    rows_before: int = 0
    parts_before: int = 0

    def with_part(self, rows: int, elapsed_s: float) -> Progress:
        """This progress, one part later."""
        return replace(self, rows_done=self.rows_done + rows, parts_done=self.parts_done + 1, elapsed_s=elapsed_s)

    @property
    def percent(self) -> float:
        """Share of the rows, or of the parts where nobody knows the rows yet, in percent; 100 if there is nothing to do."""
        return 100.0 * self._share(self.rows_done, self.parts_done)

    @property
    def rows_per_s(self) -> float:
        """Speed of this run; 0 before its first part."""
        return (self.rows_done - self.rows_before) / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Time left at the speed so far; None before the first part."""
        done = self._share(self.rows_done, self.parts_done)
        done_now = done - self._share(self.rows_before, self.parts_before)
        if done >= 1.0:
            return 0.0
        return self.elapsed_s * (1.0 - done) / done_now if done_now > 0 and self.elapsed_s > 0 else None

    @property
    def sentence(self) -> str:
        """For people: `12.4 of 50.0 M rows, 462,000 rows/s, 81 s left`."""
        said = [_rows(self.rows_done, self.rows_total)]
        if self.rows_total is None:
            said.append(f"{self.parts_done:,} of {self.parts_total:,} parts")
        if self.rows_per_s > 0:
            said.append(describe_rate(self.rows_per_s))
        if self.seconds_left is not None and self.percent < 100:
            said.append(f"{describe_seconds(self.seconds_left)} left")
        return ", ".join(said)

    def _share(self, rows: int, parts: int) -> float:
        done, total = (parts, self.parts_total) if self.rows_total is None else (rows, self.rows_total)
        return min(done / total, 1.0) if total else 1.0


def _rows(done: int, total: int | None) -> str:
    if max(done, total or 0) < _MILLION:
        return f"{done:,} rows" if total is None else f"{done:,} of {total:,} rows"
    return f"{done / _MILLION:,.1f} M rows" if total is None else f"{done / _MILLION:,.1f} of {total / _MILLION:,.1f} M rows"


def describe_rate(rows_per_s: float) -> str:
    """Speed for people, to three digits: `462,000 rows/s`."""
    return f"{float(f'{rows_per_s:.3g}'):,.0f} rows/s" if rows_per_s >= 10 else f"{rows_per_s:.2g} rows/s"


def describe_seconds(seconds: float) -> str:
    """A duration for people: `0.42 s`, `81 s`, `12 min` or `3.4 h`."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 2 * _MINUTE_S:
        return f"{seconds:.0f} s"
    return f"{seconds / _MINUTE_S:.0f} min" if seconds < 2 * _HOUR_S else f"{seconds / _HOUR_S:.1f} h"
