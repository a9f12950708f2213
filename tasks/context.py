"""What tasks and flows need from around them: settings, the release database, the registry, and who is asking."""

import os
from typing import TypeVar, cast

from prefect.runtime import flow_run
from prefect.utilities.annotations import opaque

from hotcold.adapters.registry import Registry
from hotcold.adapters.release_database import ReleaseDatabase
from hotcold.domain.errors import StackError
from hotcold.settings import Settings

_T = TypeVar("_T")


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


def unsearched(value: _T) -> _T:
    """An argument of a task in which Prefect is not to look for futures: it would visit every part and receipt of a table.

    The task gets the value itself; Prefect takes the wrapper off.
    """
    return cast("_T", opaque(value))
