"""Artifacts of a training, which the Prefect UI shows."""

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from hotcold.adapters.experiments import LoggedRun, TrainingReport
from hotcold.adapters.registry import Registered


def publish_training_report(report: TrainingReport, run: LoggedRun, registered: Registered) -> None:
    """One table of facts, and one page for a person who has to decide about a release."""
    facts = _facts(report, run, registered)
    create_table_artifact(
        key=f"train-{report.model}",
        description=f"Training of {report.model} {registered.semver}",
        table=[{"fact": name, "value": value} for name, value in facts.items()],
    )
    create_markdown_artifact(
        key=f"trained-{report.model}", description=f"{report.model} {registered.semver}", markdown=_page(report, registered)
    )


def _facts(report: TrainingReport, run: LoggedRun, registered: Registered) -> dict[str, str]:
    metrics = report.metrics
    return {
        "registry version": str(registered.version),
        "semantic version": registered.semver,
        "why": registered.reason,
        "kind of model": report.recipe.flavor,
        "hyperparameters": ", ".join(f"{name} {value}" for name, value in report.recipe.hyperparameters.items()),
        "trained on": f"{' to '.join(report.training_window)}, {report.training_rows:,} rows",
        "evaluated on": f"{' to '.join(report.evaluation_window)}, {metrics.rows:,} rows, {metrics.positive_rate:.1%} positive",
        "AUC": f"{metrics.auc:.4f}",
        "log-loss": f"{metrics.log_loss:.4f}",
        "Brier score": f"{metrics.brier:.4f}",
        "calibration error": f"{metrics.calibration_error:.4f}",
        "dataset fingerprint": report.dataset_fingerprint[:12],
        "git commit": report.git_commit[:12] or "unknown",
        "MLflow run": run.run_id,
    }


def _page(report: TrainingReport, registered: Registered) -> str:
    rows = "\n".join(f"| {b.mean_score:.3f} | {b.observed:.3f} | {b.rows:,} |" for b in report.calibration)
    return f"""# {report.model} {registered.semver}

Registry version {registered.version}, because {registered.reason}.

Trained on {" to ".join(report.training_window)}.
Evaluated on {" to ".join(report.evaluation_window)}, days that it never saw:
**AUC {report.metrics.auc:.3f}**, log-loss {report.metrics.log_loss:.3f}, Brier score {report.metrics.brier:.3f}.

## Calibration

| mean score | observed share | rows |
|---:|---:|---:|
{rows}
"""
