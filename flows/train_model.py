"""Train a model on a window of time, try it on the weeks after, and register it as a version."""

from prefect import flow
from pydantic import BaseModel

from hotcold.adapters.checkout import read_commit
from hotcold.adapters.experiments import TrainingReport
from hotcold.adapters.registry import Registered
from hotcold.adapters.training import make_trainer
from hotcold.domain.dataset import reference_sample
from hotcold.domain.flights import FLIGHTS_SCHEMA
from hotcold.domain.semver import Recipe
from tasks.forms import ModelName
from tasks.training import evaluate, fit, log_run, name_candidate, read_windows, register_version
from tasks.training_recipe import TrainingRecipe
from tasks.training_report import publish_training_report


class TrainedVersion(BaseModel):
    """What a training brought into the registry."""

    model: str
    version: int
    semver: str
    reason: str
    run_id: str
    auc: float
    log_loss: float
    brier: float
    training_rows: int
    evaluation_rows: int


@flow(name="train-model", flow_run_name="train {model}", persist_result=False)
def train_model(model: ModelName = "flights", recipe: TrainingRecipe = TrainingRecipe()) -> TrainedVersion:
    """Train a model that says how likely a flight arrives more than 15 minutes late, and register it.

    The data are the flights that left New York in 2013. The model learns from what is known before departure and is evaluated
    on the weeks right after the training. The semantic version follows from what changed: the input schema broke (major),
    features or hyperparameters changed (minor), or only the data did (patch).

    Args:
        model: Registered model name; made if it is new.
        recipe: Kind of model, hyperparameters and days of training.
    """
    windows = recipe.windows()
    made_by = Recipe(recipe.flavor, recipe.hyperparameters(), FLIGHTS_SCHEMA)
    trainer = make_trainer(made_by.flavor, made_by.hyperparameters)

    data = read_windows(windows)
    trained = fit(trainer, data.training)
    metrics, calibration = evaluate(trained, data.evaluation)
    report = TrainingReport(
        model=model,
        recipe=made_by,
        training_window=windows.training,
        evaluation_window=windows.evaluation,
        training_rows=len(data.training),
        metrics=metrics,
        calibration=calibration,
        dataset_fingerprint=data.training.fingerprint,
        git_commit=read_commit(),
        sample=reference_sample(data.evaluation.matrix, FLIGHTS_SCHEMA),
    )
    run = log_run(report, trainer, trained)
    registered = register_version(report, run)
    if recipe.set_candidate_alias:
        name_candidate(model, registered.version)
    publish_training_report(report, run, registered)
    return _result(report, run.run_id, registered)


def _result(report: TrainingReport, run_id: str, registered: Registered) -> TrainedVersion:
    return TrainedVersion(
        model=report.model,
        version=registered.version,
        semver=registered.semver,
        reason=registered.reason,
        run_id=run_id,
        auc=report.metrics.auc,
        log_loss=report.metrics.log_loss,
        brier=report.metrics.brier,
        training_rows=report.training_rows,
        evaluation_rows=report.metrics.rows,
    )
