"""Bring MLflow's stages and aliases in line with the release database."""

from prefect import get_run_logger, task

from hotcold.domain.projection import project
from hotcold.settings import Settings
from tasks.context import open_database, open_registry


@task(
    name="project to registry",
    task_run_name="registry of {model}",
    retries=3,
    retry_delay_seconds=[1, 3, 10],
    persist_result=False,
)
def project_to_registry(model: str) -> None:
    """Idempotent: reads what MLflow says and writes the differences.

    Raises:
        RegistryError: MLflow cannot be reached; `sync-registry` repeats it on schedule.
    """
    database = open_database(Settings())
    try:
        view = project(database.read_plan(model), database.read_releases(model))
    finally:
        database.close()
    open_registry().project(view)
    get_run_logger().info("champion %s, previous %s, candidate %s", view.champion, view.previous, view.candidate)
