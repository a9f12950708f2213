"""Logs a trained model as an MLflow run: parameters, metrics, calibration picture, the model, and what packaging needs."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hotcold.adapters.mlflow_client import connect, find_experiment, talking
from hotcold.adapters.training import Trained, Trainer
from hotcold.domain.metrics import CalibrationBin, Metrics
from hotcold.domain.schema import Matrix
from hotcold.domain.semver import Recipe

# What packaging needs of a run lies in this folder of its artifacts.
ARTIFACT_FOLDER = "hotcold"
SCHEMA_FILE, RECIPE_FILE, SAMPLE_FILE = "schema.json", "recipe.json", "reference_sample.npy"
WINDOW_TAG, FINGERPRINT_TAG, COMMIT_TAG = "hotcold.training_window", "hotcold.dataset_fingerprint", "hotcold.git_commit"
_EXAMPLE_ROWS = 5


@dataclass(frozen=True)
class TrainingReport:
    """Everything worth keeping about one training, apart from the model.

    Args:
        model: name under which it will be registered.
        recipe: how it was made.
        training_window: first and last day, ISO 8601.
        evaluation_window: first and last day, ISO 8601.
        training_rows: rows learned from.
        metrics: on the evaluation window.
        calibration: likewise, by growing score.
        dataset_fingerprint: SHA-256 of the training data.
        git_commit: of the checkout; empty if unknown.
        sample: rows on which all engines have to agree.
    """

    model: str
    recipe: Recipe
    training_window: tuple[str, str]
    evaluation_window: tuple[str, str]
    training_rows: int
    metrics: Metrics
    calibration: tuple[CalibrationBin, ...]
    dataset_fingerprint: str
    git_commit: str
    sample: Matrix

    @property
    def tags(self) -> dict[str, str]:
        """What makes a model traceable, as tags of a run and of a registry version."""
        return {
            "hotcold.recipe": self.recipe.fingerprint,
            WINDOW_TAG: "/".join(self.training_window),
            FINGERPRINT_TAG: self.dataset_fingerprint,
            COMMIT_TAG: self.git_commit,
        }


@dataclass(frozen=True)
class LoggedRun:
    """A run and its model.

    Args:
        run_id: MLflow's id of the run.
        model_id: MLflow's id of the logged model.
        model_uri: where the model's files are.
    """

    run_id: str
    model_id: str
    model_uri: str


class ExperimentLog:
    """Writes runs to one MLflow server or database.

    Args:
        tracking_uri: where MLflow is.
    """

    def __init__(self, tracking_uri: str) -> None:
        self._uri = tracking_uri

    def write(self, report: TrainingReport, trainer: Trainer, trained: Trained) -> LoggedRun:
        """Log a training as a run of the experiment that is named like the model.

        Args:
            report: what to log.
            trainer: what made the model.
            trained: the model.

        Returns:
            Ids of the run and of the logged model.

        Raises:
            RegistryError: MLflow cannot be reached or refuses. A run that was begun is marked as failed.
        """
        with talking(self._uri, f"log a run of {report.model}"):
            client = connect(self._uri)
            run = client.create_run(find_experiment(client, report.model), tags=report.tags)
            try:
                logged = _write_run(client, run.info, report, trainer, trained)
            except BaseException:
                client.set_terminated(run.info.run_id, "FAILED")
                raise
            client.set_terminated(run.info.run_id)
        return LoggedRun(run.info.run_id, logged.model_id, logged.artifact_location)


def _write_run(client: Any, run: Any, report: TrainingReport, trainer: Trainer, trained: Trained) -> Any:
    from mlflow.entities import LoggedModelOutput

    params, metrics = _params(report), _metrics(report)
    _log_batch(client, run.run_id, params, metrics)
    with tempfile.TemporaryDirectory(prefix="hotcold-run-") as name:
        folder = Path(name)
        _write_artifacts(folder / "artifacts", report)
        client.log_artifacts(run.run_id, str(folder / "artifacts"))
        logged = client.create_logged_model(
            run.experiment_id, report.model, source_run_id=run.run_id, params=params, tags=report.tags, model_type="classifier"
        )
        trainer.save(trained, folder / "model", **_description(report, trained, run.run_id, logged))
        client.log_model_artifacts(logged.model_id, str(folder / "model"))
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run.run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return logged


def _description(report: TrainingReport, trained: Trained, run_id: str, logged: Any) -> dict[str, Any]:
    """Signature, example and identity of the model, as every flavor's `save_model` takes them."""
    import pandas as pd
    from mlflow.models import Model, infer_signature

    # Rows at the end of the sample: the first ones have gaps that were put in on purpose.
    example = pd.DataFrame(report.sample[-_EXAMPLE_ROWS:], columns=list(report.recipe.schema.names))
    return {
        "signature": infer_signature(example, trained.score(report.sample[-_EXAMPLE_ROWS:])),
        "input_example": example,
        "mlflow_model": Model(artifact_path=logged.artifact_location, run_id=run_id, model_id=logged.model_id),
    }


def _params(report: TrainingReport) -> dict[str, str]:
    return {
        "flavor": report.recipe.flavor,
        "train_from": report.training_window[0],
        "train_until": report.training_window[1],
        "evaluate_from": report.evaluation_window[0],
        "evaluate_until": report.evaluation_window[1],
        "training_rows": str(report.training_rows),
        "schema": report.recipe.schema.fingerprint,
        "dataset_fingerprint": report.dataset_fingerprint,
        "git_commit": report.git_commit,
        **{name: json.dumps(value) for name, value in report.recipe.hyperparameters.items()},
    }


def _metrics(report: TrainingReport) -> dict[str, float]:
    return {name: float(value) for name, value in asdict(report.metrics).items()}


def _log_batch(client: Any, run_id: str, params: dict[str, str], metrics: dict[str, float]) -> None:
    from mlflow.entities import Metric, Param

    now_ms = int(time.time() * 1000)
    client.log_batch(
        run_id,
        metrics=[Metric(name, value, now_ms, 0) for name, value in metrics.items()],
        params=[Param(name, value) for name, value in params.items()],
    )


def _write_artifacts(folder: Path, report: TrainingReport) -> None:
    own = folder / ARTIFACT_FOLDER
    own.mkdir(parents=True)
    (own / SCHEMA_FILE).write_text(json.dumps(report.recipe.schema.to_json(), indent=1))
    (own / RECIPE_FILE).write_text(json.dumps(report.recipe.to_json(), indent=1))
    np.save(own / SAMPLE_FILE, report.sample, allow_pickle=False)
    draw_calibration(report.calibration, f"{report.model}, {' to '.join(report.evaluation_window)}", folder / "calibration.png")


def draw_calibration(bins: Sequence[CalibrationBin], title: str, path: Path) -> None:
    """Draw observed share over mean score, with the diagonal on which perfect scores lie.

    Args:
        bins: by growing score.
        title: above the picture.
        path: PNG file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    top = 1.05 * max(max(b.mean_score, b.observed) for b in bins)
    axes.plot([0, top], [0, top], color="0.7", linewidth=1, label="perfect")
    axes.plot([b.mean_score for b in bins], [b.observed for b in bins], marker="o", label="model")
    axes.set(xlabel="mean score", ylabel="observed share", title=title, xlim=(0, top), ylim=(0, top))
    axes.legend()
    figure.savefig(path, dpi=110)
