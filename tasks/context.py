"""What tasks and flows need from around them: settings, the release database, the registry, and who is asking."""

import os

from prefect.runtime import flow_run

from hotcold.adapters.registry import Registry
from hotcold.adapters.release_database import ReleaseDatabase
from hotcold.domain.errors import StackError
from hotcold.settings import Settings


def open_database(settings: Settings) -> ReleaseDatabase:
    """The release database, its tables made if they are missing."""
    database = ReleaseDatabase(settings.release_database_url)
    database.prepare()
    return database


def open_registry() -> Registry:
    """The registry that MLFLOW_TRACKING_URI names."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        raise StackError("MLFLOW_TRACKING_URI is not set; start the stack with `hotcold up`, or set it to your MLflow server")
    return Registry(uri)


def controller_name() -> str:
    """Who drives, for people: the flow run, or this process where none is."""
    return f"flow run {flow_run.name} ({flow_run.id})" if flow_run.id else f"process {os.getpid()}"
