"""Logs a score table as an MLflow run: what made it, how fast, how its scores are distributed, and the picture of them."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hotcold.adapters.mlflow_client import connect, find_experiment, talking
from hotcold.adapters.score_pictures import draw_scores
from hotcold.adapters.table_folder import LINEAGE_FILE
from hotcold.domain.scoring_summary import ScoringSummary

TABLE_TAG = "hotcold.table"
PICTURE_FILE = "histogram.png"
_DONE = "FINISHED"
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
            run = self._open_run(client, summary)
            try:
                self._write(client, run, summary)
            except BaseException:
                if run.info.status != _DONE:
                    client.set_terminated(run.info.run_id, "FAILED")
                raise
            client.set_terminated(run.info.run_id, _DONE, _ms(summary.scored_at))
            return str(run.info.run_id)

    def _open_run(self, client: Any, summary: ScoringSummary) -> Any:
        experiment = find_experiment(client, f"{summary.model}-scoring")
        found = client.search_runs([experiment], f"tags.`{TABLE_TAG}` = '{summary.table}'", max_results=1)
        if found:
            return found[0]
        began_ms = _ms(summary.scored_at - summary.elapsed_s)
        return client.create_run(experiment, began_ms, {TABLE_TAG: summary.table}, run_name=summary.table)

    def _write(self, client: Any, run: Any, summary: ScoringSummary) -> None:
        from mlflow.entities import Metric, Param, RunTag

        # Of values with the same time, MLflow shows the greatest and not the last.
        now_ms, known = _ms(self._clock()), run.data.params
        client.log_batch(
            run.info.run_id,
            metrics=[Metric(name, value, now_ms, 0) for name, value in _metrics(summary).items()],
            # MLflow never changes a parameter, so the first run's stay; SCORES.json has those of the last one.
            params=[Param(name, value[:_LONGEST_VALUE]) for name, value in _params(summary).items() if name not in known],
            tags=[RunTag(name, value[:_LONGEST_VALUE]) for name, value in _tags(summary).items()],
        )
        with tempfile.TemporaryDirectory(prefix="hotcold-scores-") as folder:
            (Path(folder) / PICTURE_FILE).write_bytes(draw_scores(summary))
            (Path(folder) / LINEAGE_FILE).write_text(json.dumps(summary.to_lineage(), indent=1))
            client.log_artifacts(run.info.run_id, folder)


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


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
