"""What there is to say about a batch run: a finished one in full, one under way in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from hotcold.domain.errors import BatchError
from hotcold.domain.gate import Gate, Verdict
from hotcold.domain.package import PackageRef
from hotcold.domain.receipt import Problem, Timings, Totals
from hotcold.domain.score_histogram import ScoreHistogram, population_stability_index
from hotcold.domain.score_quality import Duplicates, Published

_MINUTE_S, _HOUR_S = 60.0, 3600.0
_MILLION = 1_000_000


@dataclass(frozen=True)
class ScoringSummary:
    """A complete score table, how it came about and what became of it.

    Args:
        package: what scored; its model, semantic version and registry version.
        mlflow_run: MLflow run that trained the model.
        flow_run: Prefect's id of the flow run; empty outside of one.
        engine: engine that scored.
        device: `cpu` or `cuda`.
        table: id of the table.
        input_url: what was scored.
        input_fingerprint: SHA-256 of names, sizes and versions of the input's files.
        parts_now: parts that this run scored; the others were done before.
        rows_now: rows of those parts that got a score.
        totals: of the whole table.
        duplicates: of its ids.
        content_sha256: see `content_digest`.
        elapsed_s: seconds that this run took.
        scored_at: when the table was complete, seconds since the epoch.
        gates: what the quality gate says.
        published: the table that readers saw when this one was judged; None for the first one of an output.
        outcome: one sentence: `published`, `kept: …` or `refused: …`.
        parameters: of the run, as JSON values.
    """

    package: PackageRef
    mlflow_run: str
    flow_run: str
    engine: str
    device: str
    table: str
    input_url: str
    input_fingerprint: str
    parts_now: int
    rows_now: int
    totals: Totals
    duplicates: Duplicates
    content_sha256: str
    elapsed_s: float
    scored_at: float
    gates: tuple[Gate, ...] = ()
    published: Published | None = None
    outcome: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """Registered model name."""
        return self.package.model

    @property
    def rows_per_s(self) -> float:
        """Rows that this run scored, per second of it; 0 if all was done before."""
        return self.rows_now / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def histogram(self) -> ScoreHistogram:
        """Of all scores of the table."""
        return self.totals.histogram

    @cached_property
    def psi(self) -> float | None:
        """Population stability index against the published table; None if there is none, or one of them has no scores."""
        return population_stability_index(self.published.histogram, self.histogram) if self.published else None

    def to_lineage(self) -> dict[str, Any]:
        """The content of `SCORES.json`, as plain JSON values."""
        totals = self.totals
        return {
            "table": self.table,
            "model": self.model,
            "version": self.package.semver,
            "registry_version": self.package.version,
            "digest": self.package.digest,
            "engine": self.engine,
            "device": self.device,
            "mlflow_run": self.mlflow_run,
            "flow_run": self.flow_run,
            "input": self.input_url,
            "input_fingerprint": self.input_fingerprint,
            "files": totals.files,
            "parts": totals.parts,
            "parts_now": self.parts_now,
            "rows_in": totals.rows_in,
            "rows": totals.rows_out,
            "rows_now": self.rows_now,
            "rows_quarantined": totals.rows_quarantined,
            "uncounted_files": totals.uncounted_files,
            "problems": [asdict(problem) for problem in totals.problems],
            "problem_count": totals.problem_count,
            "size_bytes": totals.size_bytes,
            "seconds": self.elapsed_s,
            "rows_per_s": self.rows_per_s,
            "stage_seconds": asdict(totals.timings),
            "scored_at": datetime.fromtimestamp(self.scored_at, UTC).isoformat(timespec="milliseconds"),
            "content_sha256": self.content_sha256,
            "histogram": self.histogram.to_json(),
            "duplicates": {"rows": self.duplicates.rows, "examples": list(self.duplicates.examples)},
            "compared_with": self.published.id if self.published else None,
            "psi": self.psi,
            "quality": [{**asdict(gate), "verdict": gate.verdict.value} for gate in self.gates],
            "parameters": dict(self.parameters),
        }

    @classmethod
    def from_lineage(cls, lineage: Mapping[str, Any], published: Published | None = None, outcome: str = "") -> ScoringSummary:
        """Inverse of `to_lineage`, which keeps neither what the table was compared with nor what became of it.

        Args:
            lineage: the content of `SCORES.json`.
            published: see the class.
            outcome: see the class.

        Raises:
            BatchError: it is none.
        """
        try:
            return cls(
                package=PackageRef(lineage["model"], lineage["registry_version"], lineage["version"], lineage["digest"]),
                mlflow_run=lineage["mlflow_run"],
                flow_run=lineage["flow_run"],
                engine=lineage["engine"],
                device=lineage["device"],
                table=lineage["table"],
                input_url=lineage["input"],
                input_fingerprint=lineage["input_fingerprint"],
                parts_now=lineage["parts_now"],
                rows_now=lineage["rows_now"],
                totals=_totals(lineage),
                duplicates=Duplicates(lineage["duplicates"]["rows"], tuple(lineage["duplicates"]["examples"])),
                content_sha256=lineage["content_sha256"],
                elapsed_s=lineage["seconds"],
                scored_at=datetime.fromisoformat(lineage["scored_at"]).timestamp(),
                gates=tuple(Gate(**{**gate, "verdict": Verdict(gate["verdict"])}) for gate in lineage["quality"]),
                published=published,
                outcome=outcome,
                parameters=lineage["parameters"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BatchError(f"not the lineage of a score table: {error}; score the input again") from error


def _totals(lineage: Mapping[str, Any]) -> Totals:
    return Totals(
        files=lineage["files"],
        parts=lineage["parts"],
        rows_in=lineage["rows_in"],
        rows_out=lineage["rows"],
        rows_quarantined=lineage["rows_quarantined"],
        uncounted_files=lineage["uncounted_files"],
        size_bytes=lineage["size_bytes"],
        histogram=ScoreHistogram.from_json(lineage["histogram"]),
        problems=tuple(Problem(**problem) for problem in lineage["problems"]),
        problem_count=lineage["problem_count"],
        timings=Timings(**lineage["stage_seconds"]),
    )


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
