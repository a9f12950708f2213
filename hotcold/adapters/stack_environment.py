"""Environment of the stack's processes: this installation's settings, nothing of the user's own Prefect or MLflow."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from hotcold.adapters.stack_record import StackRecord
from hotcold.adapters.survivors import MARKER, PROCESS_NAME, instance_of
from hotcold.settings import Settings

# A profile, a remote API or a store of the user's own must not leak into the stack.
_FOREIGN = ("PREFECT_", "MLFLOW_", "_MLFLOW_", "BENTOML_", "HOTCOLD_")
_LOOPBACK = "127.0.0.1,localhost"


def process_environment(
    settings: Settings, record: StackRecord, name: str, inherited: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Environment of one process of the stack.

    Args:
        settings: of this installation.
        record: ports and URLs.
        name: the process's name, for `hotcold status` and `hotcold down`.
        inherited: environment of the caller.
    """
    kept = {key: value for key, value in inherited.items() if not key.startswith(_FOREIGN)}
    return (
        kept
        | _hotcold(settings, name)
        | _prefect(settings, record)
        | _mlflow(record)
        | _bentoml(settings)
        | {
            # A proxy for the outside world is none for the loopback.
            "NO_PROXY": _with_loopback(kept.get("NO_PROXY", "")),
            "no_proxy": _with_loopback(kept.get("no_proxy", "")),
            "PYTHONUNBUFFERED": "1",
            # OpenMP threads that spin while they wait take the cores from everybody else on the machine.
            "OMP_WAIT_POLICY": "PASSIVE",
        }
    )


def checkout_root() -> Path:
    """Folder that holds `flows/`, `tasks/`, `services/` and `deployments/`."""
    return Path(__file__).resolve().parents[2]


def _hotcold(settings: Settings, name: str) -> dict[str, str]:
    values = {f"HOTCOLD_{key.upper()}": str(value) for key, value in settings.model_dump().items()}
    # Absolute, since processes do not share a working directory.
    return values | {"HOTCOLD_HOME": str(settings.root), MARKER: instance_of(settings.root), PROCESS_NAME: name}


def _prefect(settings: Settings, record: StackRecord) -> dict[str, str]:
    database = settings.prefect_database_url or f"sqlite+aiosqlite:///{settings.root / 'prefect' / 'prefect.db'}"
    return {
        "PREFECT_HOME": str(settings.root / "prefect"),
        "PREFECT_API_URL": record.prefect_api_url,
        "PREFECT_API_DATABASE_CONNECTION_URL": _asynchronous(database),
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        # The UI's pages are told from these where the API is.
        "PREFECT_SERVER_API_PORT": str(record.prefect_port),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_CLI_PROMPT": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "DO_NOT_TRACK": "1",
    }


def _asynchronous(url: str) -> str:
    """Prefect wants SQLAlchemy's asynchronous drivers; people write the plain names."""
    for plain, driver in (
        ("postgresql://", "postgresql+asyncpg://"),
        ("postgres://", "postgresql+asyncpg://"),
        ("sqlite://", "sqlite+aiosqlite://"),
    ):
        if url.startswith(plain):
            return driver + url.removeprefix(plain)
    return url


def _mlflow(record: StackRecord) -> dict[str, str]:
    return {
        "MLFLOW_TRACKING_URI": record.mlflow_url,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def _bentoml(settings: Settings) -> dict[str, str]:
    return {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(settings.bento_home)}


def _with_loopback(hosts: str) -> str:
    return f"{hosts},{_LOOPBACK}" if hosts else _LOOPBACK
