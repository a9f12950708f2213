"""What tasks and flows need from around them: settings, the release database, the registry, and who is asking."""

import os
from typing import TypeVar, cast

from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL
from prefect.utilities.annotations import opaque

from hotcold.adapters.prefect_api import PrefectApi
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


def candidate_version(model: str, version: int | None, continues: str = "") -> int:
    """The version to release: the one that is named, or the one with the alias `candidate`.

    A release that goes on is of a version that is known; it does not wait for MLflow.

    Raises:
        RegistryError: there is no such version, or MLflow cannot be reached.
    """
    if continues and version is not None:
        return version
    return open_registry().resolve(model, version, alias="candidate")


def open_prefect() -> PrefectApi:
    """The REST API of the server that this run belongs to."""
    url = PREFECT_API_URL.value()
    if not url:
        raise StackError("PREFECT_API_URL is not set; start the stack with `hotcold up`, or set it to your Prefect server")
    return PrefectApi(url)


def controller_name() -> str:
    """Who drives, for people: the flow run, or this process where none is."""
    return f"flow run {flow_run.name} ({flow_run.id})" if flow_run.id else f"process {os.getpid()}"


def unsearched(value: _T) -> _T:
    """An argument of a task in which Prefect is not to look for futures: it would visit every part and receipt of a table.

    The task gets the value itself; Prefect takes the wrapper off.
    """
    return cast("_T", opaque(value))
