"""What a batch run is asked for: the form's values, completed by those of the model's last table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from hotcold.domain.batch_plan import Columns, OnBadPart
from hotcold.domain.errors import BatchError
from hotcold.domain.score_quality import QualityLimits
from hotcold.domain.score_table import ScoreTable, choose_example

DEFAULT_ID_COLUMN = "id"
DEFAULT_ROWS_PER_PART = 500_000
_LIMITS = QualityLimits()


class Quality(BaseModel):
    """What a table may look like to be shown to readers; see `hotcold.domain.score_quality.QualityLimits`."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="Quality gate")

    max_quarantined_pct: float = Field(
        _LIMITS.max_quarantined_pct, ge=0, le=100, description="Most rows that may be set aside, in percent of all."
    )
    min_rows_pct: float = Field(
        _LIMITS.min_rows_pct, ge=0, le=100, description="Fewest rows, in percent of those of the table that readers see now."
    )
    max_psi: float = Field(
        _LIMITS.max_psi,
        ge=0,
        description="How far the scores may have moved from those that readers see now: population stability index; above 0.25 "
        "is commonly called a shift. A single table that moved for a good reason is shown with `overrule`.",
    )
    lowest: float | None = Field(None, description="Smallest allowed score; empty: 0 for a model that gives probabilities.")
    highest: float | None = Field(None, description="Greatest allowed score; empty: 1 for a model that gives probabilities.")
    unique_ids: bool = Field(True, description="Refuse a table in which an id occurs twice.")

    def limits(self, gives_probabilities: bool) -> QualityLimits:
        """The limits, with the bounds of a probability where none are given."""
        bounds = (0.0, 1.0) if gives_probabilities else (None, None)
        return QualityLimits(
            max_quarantined_pct=self.max_quarantined_pct,
            min_rows_pct=self.min_rows_pct,
            max_psi=self.max_psi,
            lowest=bounds[0] if self.lowest is None else self.lowest,
            highest=bounds[1] if self.highest is None else self.highest,
            unique_ids=self.unique_ids,
        )


@dataclass(frozen=True)
class ScoringRequest:
    """A complete request.

    Args:
        model: registered model name.
        version: registry version; None takes the champion.
        input_url: files to score.
        output_url: folder that readers know.
        columns: id and columns to pass through.
        on_bad_part: see `BatchPlan`.
        rows_per_part: wanted rows of a part.
        cluster: see `open_cluster`.
        score_store: build the store for live lookups, too.
        quality: what the table may look like.
        overrule: why this table is shown although it does not; empty if nobody said so.
    """

    model: str
    version: int | None
    input_url: str
    output_url: str
    columns: Columns
    on_bad_part: OnBadPart
    rows_per_part: int
    cluster: str
    score_store: bool
    quality: Quality
    overrule: str = ""

    def parameters(self) -> dict[str, Any]:
        """Parameters of `score-batch` that ask for the same with the champion of that time; an overruling is for one table."""
        return {
            "model": self.model,
            "version": None,
            "input_url": self.input_url,
            "output_url": self.output_url,
            "id_column": self.columns.entity,
            "passthrough": list(self.columns.passthrough),
            "on_bad_part": self.on_bad_part,
            "rows_per_part": self.rows_per_part,
            "cluster": self.cluster,
            "score_store": self.score_store,
            "quality": self.quality.model_dump(),
        }


def complete_request(given: Mapping[str, Any], tables: Sequence[ScoreTable], default_output: str) -> ScoringRequest | None:
    """Fill in what was left empty from the model's last good table, then from the defaults.

    Args:
        given: parameters of the flow; None, or an empty text for a URL or a column, is left empty.
        tables: tables of the model, in any order.
        default_output: folder for a model that was never scored.

    Returns:
        The request; None if no input was named, now or ever.
    """
    wanted = {name: value for name, value in given.items() if value not in (None, "")}
    same_output = [table for table in tables if wanted.get("output_url") in (None, table.output)]
    example = choose_example(same_output)
    known = dict(example.parameters) if example else {}
    values = {**known, "version": None, **wanted}
    if not values.get("input_url"):
        return None
    quality = values.get("quality") or Quality()
    output_url = values.get("output_url") or default_output
    return ScoringRequest(
        model=given["model"],
        version=values["version"],
        input_url=values["input_url"],
        output_url=output_url,
        columns=Columns(values.get("id_column") or DEFAULT_ID_COLUMN, tuple(values.get("passthrough") or ())),
        on_bad_part=values.get("on_bad_part") or "fail",
        rows_per_part=_within(values.get("rows_per_part") or DEFAULT_ROWS_PER_PART),
        cluster=values.get("cluster") or "auto",
        score_store=values.get("score_store", not _feeds_store(tables, output_url)),
        quality=quality if isinstance(quality, Quality) else Quality(**quality),
        overrule=given.get("overrule") or "",
    )


def _feeds_store(tables: Sequence[ScoreTable], but_for: str) -> bool:
    """Whether another output is what live lookups of the model read; a sample scored beside it must not take its place."""
    return any(table.in_store and table.output != but_for for table in tables)


def _within(rows_per_part: int) -> int:
    if rows_per_part < 1:
        raise BatchError(f"rows_per_part is {rows_per_part}; allowed is 1 or more")
    return rows_per_part
