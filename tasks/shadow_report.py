"""What a comparison of candidate and champion shows of itself: a page and a table in the Prefect UI, and a run in MLflow."""

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from hotcold.adapters.shadow_experiment import ShadowExperiment
from hotcold.adapters.shadow_markdown import shadow_markdown
from hotcold.domain.errors import RegistryError, StackError
from hotcold.domain.shadow.report import ShadowReport
from hotcold.domain.shadow.tables import gates_table
from hotcold.domain.shadow.wording import headline
from hotcold.domain.visible import visible
from tasks.context import open_registry, unsearched
from tasks.retries import retried_after

_LONGEST_DESCRIPTION = 400


@task(
    name="log comparison to MLflow",
    cache_policy=NO_CACHE,
    persist_result=False,
    **retried_after(RegistryError, pauses_s=(1, 3)),
)
def log_shadow_to_mlflow(report: ShadowReport) -> str:
    """Log a comparison as the MLflow run of its release, or update it, and tag the candidate's version; the id of the run.

    Raises:
        RegistryError: MLflow cannot be reached, refuses, or lacks the candidate's version.
        StackError: nobody said where MLflow is.
    """
    return ShadowExperiment(open_registry().tracking_uri).write(report)


def log_shadow_if_reachable(report: ShadowReport) -> str | None:
    """The same for an evaluation that has its verdict: what goes wrong here is a warning, and there is no id.

    Args:
        report: of the comparison.
    """
    try:
        return log_shadow_to_mlflow(unsearched(report))
    except (RegistryError, StackError) as error:
        get_run_logger().warning("the comparison of release %s is not in MLflow: %s", report.release, error)
        return None


def publish_shadow_report(report: ShadowReport) -> None:
    """One page for people, and one table of the gates."""
    told = visible(f"{headline(report)}. {report.reason}", _LONGEST_DESCRIPTION)
    create_markdown_artifact(key=f"shadow-{report.model}", description=told, markdown=shadow_markdown(report))
    gates = gates_table(report)
    create_table_artifact(
        key=f"shadow-gates-{report.model}",
        description=f"Gates of the comparison of release {visible(report.release, _LONGEST_DESCRIPTION)}",
        table=[dict(zip(gates.columns, map(str, row), strict=True)) for row in gates.rows],
    )
