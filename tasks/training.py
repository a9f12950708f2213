"""Read flights, train on them, and bring the model into the registry."""

from dataclasses import dataclass
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from hotcold.adapters.experiments import ExperimentLog, LoggedRun, TrainingReport
from hotcold.adapters.flights import read_flights
from hotcold.adapters.registry import Registered
from hotcold.adapters.training import Trained, Trainer
from hotcold.domain.dataset import Labelled, Windows, check_classes
from hotcold.domain.errors import RegistryError
from hotcold.domain.flights import labelled
from hotcold.domain.metrics import CalibrationBin, Metrics, calibration_bins, evaluate_scores
from tasks.context import open_registry
from tasks.retries import retried_after

_LOCAL: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}
_TO_MLFLOW = {**_LOCAL, **retried_after(RegistryError, pauses_s=(1, 3, 10))}


@dataclass(frozen=True)
class TrainingData:
    """Rows to learn from and later rows to try the model on."""

    training: Labelled
    evaluation: Labelled


@task(name="read flights", retries=1, **_LOCAL)
def read_windows(windows: Windows) -> TrainingData:
    """Flights of both windows that arrived, as features known before departure.

    Raises:
        TrainingError: the data cannot be read, or a window has no rows or only one class.
    """
    flights = read_flights().arrived()
    data = TrainingData(
        check_classes(labelled(flights.between(windows.train_from, windows.train_until)), "training"),
        check_classes(labelled(flights.between(windows.evaluate_from, windows.evaluate_until)), "evaluation"),
    )
    get_run_logger().info("%d flights to train on, %d to evaluate on", len(data.training), len(data.evaluation))
    return data


@task(name="train", **_LOCAL)
def fit(trainer: Trainer, training: Labelled) -> Trained:
    """Learn from the training window."""
    return trainer.train(training.matrix, training.labels)


@task(name="evaluate", **_LOCAL)
def evaluate(trained: Trained, evaluation: Labelled) -> tuple[Metrics, tuple[CalibrationBin, ...]]:
    """Score the weeks after the training.

    Raises:
        TrainingError: the scores are not probabilities.
    """
    scores = trained.score(evaluation.matrix)
    metrics = evaluate_scores(evaluation.labels, scores)
    get_run_logger().info("AUC %.4f, log-loss %.4f, Brier %.4f", metrics.auc, metrics.log_loss, metrics.brier)
    return metrics, calibration_bins(evaluation.labels, scores)


@task(name="log to MLflow", **_TO_MLFLOW)
def log_run(report: TrainingReport, trainer: Trainer, trained: Trained) -> LoggedRun:
    """Log the run; a retry logs another one and leaves the first marked as failed.

    Raises:
        RegistryError: MLflow cannot be reached or refuses.
    """
    return ExperimentLog(open_registry().tracking_uri).write(report, trainer, trained)


@task(name="register", **_TO_MLFLOW)
def register_version(report: TrainingReport, run: LoggedRun) -> Registered:
    """Make the logged model a version; a retry finds it.

    Raises:
        RegistryError: MLflow cannot be reached or refuses.
    """
    registered = open_registry().register(report.model, run, report.recipe, report.tags)
    get_run_logger().info("version %d is %s: %s", registered.version, registered.semver, registered.reason)
    return registered


@task(name="name candidate", **_TO_MLFLOW)
def name_candidate(model: str, version: int) -> None:
    """Let the alias `candidate` point to the version.

    Raises:
        RegistryError: MLflow cannot be reached or refuses.
    """
    open_registry().set_alias(model, "candidate", version)
