"""What there is to say about a batch run: a finished one in full, one under way in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from hotcold.domain.errors import BatchError
from hotcold.domain.gate import Gate, Verdict, first_harm
from hotcold.domain.package import PackageRef
from hotcold.domain.receipt import Problem, Timings, Totals
from hotcold.domain.score_histogram import ScoreHistogram, population_stability_index
from hotcold.domain.score_quality import Duplicates, Published

# What a lineage says of the run that scored; a run that finds the table complete has nothing to add.
_OF_THE_RUN = ("flow_run", "parts_now", "rows_now", "seconds", "rows_per_s")


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
        overruled: why the table is shown although a gate says no; empty if nobody said so.
        found: lineage of the table as this run found it, complete already; empty if it was not.
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
    overruled: str = ""
    found: Mapping[str, Any] = field(default_factory=dict)

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

    @property
    def refused_by(self) -> Gate | None:
        """The gate for which readers do not get the table; None if they may."""
        return None if self.overruled else first_harm(self.gates)

    def to_lineage(self) -> dict[str, Any]:
        """The content of `SCORES.json`, as plain JSON values. What is about the run is about the one that scored."""
        scored_before = {name: self.found[name] for name in _OF_THE_RUN if name in self.found} if not self.parts_now else {}
        return self._to_lineage() | scored_before

    def _to_lineage(self) -> dict[str, Any]:
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
            "overruled": self.overruled,
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
                overruled=lineage.get("overruled", ""),
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
