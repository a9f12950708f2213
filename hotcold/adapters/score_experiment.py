"""Logs a score table as an MLflow run: what made it, how fast, how its scores are distributed, and the picture of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from hotcold.adapters.experiment_run import RunContent, RunKey, open_run, write_content
from hotcold.adapters.mlflow_client import connect, talking
from hotcold.adapters.score_pictures import draw_scores
from hotcold.adapters.table_folder import LINEAGE_FILE
from hotcold.domain.scoring_summary import ScoringSummary

TABLE_TAG = "hotcold.table"
PICTURE_FILE = "histogram.png"
_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
# MLflow refuses longer values.
_LONGEST_VALUE = 6000


class ScoreExperiment:
    """Writes the score tables of a model to the experiment `<model>-scoring` of one MLflow server or database.

    Args:
        tracking_uri: where MLflow is.
        clock: seconds since the epoch.
    """

    def __init__(self, tracking_uri: str, clock: Callable[[], float] = time.time) -> None:
        self._uri = tracking_uri
        self._clock = clock

    def write(self, summary: ScoringSummary) -> str:
        """Log a table as a run; a table that has a run already gets its new numbers there.

        Args:
            summary: of the finished batch run.

        Returns:
            MLflow's id of the run.

        Raises:
            RegistryError: MLflow cannot be reached or refuses. A run that was begun is marked as failed.
        """
        with talking(self._uri, f"log table {summary.table} of {summary.model}"):
            client = connect(self._uri)
            with open_run(client, _key(summary)) as run:
                write_content(client, run, _content(summary), self._clock())
            return str(run.info.run_id)


def _key(summary: ScoringSummary) -> RunKey:
    return RunKey(
        experiment=f"{summary.model}-scoring",
        tag=TABLE_TAG,
        value=summary.table,
        name=summary.table,
        began_s=summary.scored_at - summary.elapsed_s,
        ended_s=summary.scored_at,
    )


def _content(summary: ScoringSummary) -> RunContent:
    return RunContent(
        metrics=_metrics(summary),
        tags={name: value[:_LONGEST_VALUE] for name, value in _tags(summary).items()},
        # The first run's stay; SCORES.json has those of the last one.
        params={name: value[:_LONGEST_VALUE] for name, value in _params(summary).items()},
        files={
            PICTURE_FILE: draw_scores(summary),
            LINEAGE_FILE: json.dumps(summary.to_lineage(), indent=1).encode(),
        },
    )


def _params(summary: ScoringSummary) -> dict[str, str]:
    return {
        "model": summary.model,
        "version": summary.package.semver,
        "engine": summary.engine,
        "device": summary.device,
        "input": summary.input_url,
        "files": str(summary.totals.files),
        **{name: value if isinstance(value, str) else json.dumps(value) for name, value in summary.parameters.items()},
    }


def _metrics(summary: ScoringSummary) -> dict[str, float]:
    totals, histogram = summary.totals, summary.histogram
    metrics = {
        "rows": totals.rows_out,
        "rows_in": totals.rows_in,
        "rows_per_s": summary.rows_per_s,
        "seconds": summary.elapsed_s,
        "quarantined": totals.rows_quarantined,
        "uncounted_files": totals.uncounted_files,
        "duplicates": summary.duplicates.rows,
        "parts": totals.parts,
        "parts_now": summary.parts_now,
        **{f"stage_{name}": value for name, value in vars(totals.timings).items()},
    }
    if histogram.total:
        metrics["mean_score"] = histogram.mean
        metrics |= {f"score_p{100 * share:02.0f}": histogram.quantile(share) for share in _QUANTILES}
    if summary.psi is not None:
        metrics["psi"] = summary.psi
    return {name: float(value) for name, value in metrics.items()}


def _tags(summary: ScoringSummary) -> dict[str, str]:
    return {
        "hotcold.model_version": str(summary.package.version),
        "hotcold.digest": summary.package.digest,
        "hotcold.input_fingerprint": summary.input_fingerprint,
        "hotcold.device": summary.device,
        "hotcold.flow_run": summary.flow_run,
        "hotcold.model_run": summary.mlflow_run,
        "hotcold.content_sha256": summary.content_sha256,
        "hotcold.outcome": summary.outcome,
        "hotcold.compared_with": summary.published.id if summary.published else "",
    }
