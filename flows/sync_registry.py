"""Bring MLflow in line with the release database for every model; runs on schedule."""

from prefect import flow

from hotcold.settings import Settings
from tasks.context import open_database
from tasks.registry import project_to_registry


@flow(name="sync-registry", persist_result=False)
def sync_registry() -> int:
    """Set stages and aliases that MLflow missed, for instance because it was down when a release moved.

    Returns:
        Number of models looked at.
    """
    database = open_database(Settings())
    try:
        models = [plan.model for plan in database.read_plans()]
    finally:
        database.close()
    for model in models:
        project_to_registry(model)
    return len(models)
