"""A client of MLflow that fails soon and clearly, and that changes no global state of the mlflow package."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hotcold.domain.errors import RegistryError, first_line

_ALIVE_TIMEOUT_S = 3.0
_DEFAULTS = {
    # MLflow's own values are 7 retries of 120 s each; these bound a server that accepts and then hangs.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # It would print two addresses at the end of each run.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def _set_defaults() -> None:
    """MLflow takes these from the environment only; what a person has set there wins."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)


def connect(tracking_uri: str) -> Any:
    """An MlflowClient for tracking and registry at the same address.

    Args:
        tracking_uri: `http://…` of a server, or a database URL such as `sqlite:///mlflow.db`.
    """
    _set_defaults()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


@contextmanager
def talking(tracking_uri: str, doing: str) -> Iterator[None]:
    """Turn whatever goes wrong between here and MLflow into one clear error.

    Args:
        tracking_uri: where MLflow is.
        doing: what is attempted, for the message: `MLflow cannot <doing>`.

    Raises:
        RegistryError: MLflow does not answer within seconds, or refuses.
    """
    _require_alive(tracking_uri)
    _set_defaults()
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with warnings.catch_warnings():
            # Stages are deprecated; this project uses them on purpose and in one place.
            warnings.filterwarnings("ignore", message=r"(?s).*stage.* is deprecated", category=FutureWarning)
            yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise RegistryError(f"MLflow at {_public(tracking_uri)} cannot {doing}: {_public(first_line(error))}") from error


def find_experiment(client: Any, name: str) -> str:
    """Id of the experiment of that name, which is made if it is new.

    Args:
        client: from `connect`.
        name: of the experiment.
    """
    from mlflow.exceptions import MlflowException

    if experiment := client.get_experiment_by_name(name):
        return str(experiment.experiment_id)
    try:
        return str(client.create_experiment(name))
    except MlflowException:
        # Somebody else may have made it in between.
        if experiment := client.get_experiment_by_name(name):
            return str(experiment.experiment_id)
        raise


def _require_alive(tracking_uri: str) -> None:
    """Ask a server for its health, once and briefly, because MLflow's client would first retry for a long time."""
    if not tracking_uri.startswith(("http://", "https://")):
        return
    import httpx

    try:
        httpx.get(f"{tracking_uri.rstrip('/')}/health", timeout=_ALIVE_TIMEOUT_S)
    except httpx.HTTPError as error:
        raise RegistryError(
            f"MLflow at {_public(tracking_uri)} does not answer ({type(error).__name__}); start it with `hotcold up`, "
            "or correct MLFLOW_TRACKING_URI"
        ) from error


def _public(uri: str) -> str:
    """The address without user name and password."""
    return re.sub(r"//[^/@]*@", "//", uri)
