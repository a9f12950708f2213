"""The processes of a stack, as values: what is run, with which environment, and how long it may take to end."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from hotcold.adapters.envoy import envoy_command
from hotcold.adapters.stack_environment import checkout_root, process_environment
from hotcold.adapters.stack_record import StackRecord
from hotcold.adapters.webhook_secrets import webhook_secrets
from hotcold.settings import Settings

WORK_POOL = "hotcold"
WEBHOOK = "registry-webhook"


@dataclass(frozen=True)
class ProcessSpec:
    """One supervised process. It is a single process, so that killing it leaves no half of it on the port.

    Args:
        name: its name in `hotcold status` and `hotcold logs`.
        argv: program and arguments.
        environment: the whole environment.
        folder: working directory.
        log: file that takes its output.
    """

    name: str
    argv: tuple[str, ...]
    environment: dict[str, str] = field(repr=False)
    folder: Path
    log: Path


def stack_processes(settings: Settings, record: StackRecord) -> tuple[ProcessSpec, ...]:
    """All supervised processes, the slowest to start first.

    Raises:
        StackError: the secrets of MLflow's webhook cannot be read or made.
    """
    webhook = (_spec(settings, record, WEBHOOK, (sys.executable, "-m", "services.registry_webhook")),)
    return (
        _spec(settings, record, "prefect-server", _prefect_server(record)),
        _spec(settings, record, "mlflow-server", _mlflow_server(record), _mlflow_environment(settings)),
        _spec(settings, record, "worker", _worker(settings, record)),
        _spec(settings, record, "agent", (sys.executable, "-m", "services.agent")),
        _spec(settings, record, "envoy", envoy_command(settings, record)),
        *(webhook if settings.promote_on_alias else ()),
    )


def deployer(settings: Settings, record: StackRecord) -> ProcessSpec:
    """The process that brings all of `deployments/prefect.yaml` to the server, and ends."""
    file = checkout_root() / "deployments" / "prefect.yaml"
    pool = f"{record.prefect_api_url}/work_pools/{WORK_POOL}"
    argv = _launch(pool, ("prefect.cli.deploy",), "deploy", "--all", "--prefect-file", str(file))
    return _spec(settings, record, "deploy", argv)


def _spec(
    settings: Settings, record: StackRecord, name: str, argv: tuple[str, ...], extra: dict[str, str] | None = None
) -> ProcessSpec:
    environment = process_environment(settings, record, name) | (extra or {})
    return ProcessSpec(name, argv, environment, checkout_root(), settings.log_dir / f"{name}.log")


def _launch(url: str, modules: tuple[str, ...], *command: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "hotcold.adapters.prefect_launch", url, *modules, "--", *command)


def _prefect_server(record: StackRecord) -> tuple[str, ...]:
    return (sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(record.prefect_port))


def _worker(settings: Settings, record: StackRecord) -> tuple[str, ...]:
    health = f"{record.prefect_api_url}/health"
    options = ("--pool", WORK_POOL, "--type", "process", "--name", f"{WORK_POOL}-{settings.node}", "--install-policy", "never")
    return _launch(health, (), "worker", "start", *options)


def _mlflow_server(record: StackRecord) -> tuple[str, ...]:
    """MLflow's application, run as `mlflow server` runs it.

    The command itself imports all of MLflow twice, and stays as a parent: killed, it would leave its child on the port.
    """
    server = ("uvicorn", "--host", "127.0.0.1", "--port", str(record.mlflow_port), "--workers", "1", "--no-access-log")
    return (sys.executable, "-m", *server, "mlflow.server.fastapi_app:app")


def _mlflow_environment(settings: Settings) -> dict[str, str]:
    """What `mlflow server` tells its application; a contract test holds the names against the installed MLflow."""
    database = settings.mlflow_database_url or f"sqlite:///{settings.root / 'mlflow' / 'mlflow.db'}"
    artifacts = settings.mlflow_artifacts or str(settings.root / "mlflow" / "artifacts")
    return {
        "_MLFLOW_SERVER_FILE_STORE": database,
        "_MLFLOW_SERVER_REGISTRY_STORE": database,
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": artifacts,
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "_MLFLOW_SGI_NAME": "uvicorn",
        # Noise of MLflow's own imports, in a log that people read.
        "PYTHONWARNINGS": "ignore::DeprecationWarning",
        **(_webhook_environment(settings) if settings.promote_on_alias else {}),
    }


def _webhook_environment(settings: Settings) -> dict[str, str]:
    """By itself MLflow sends to public addresses only, and by https; the receiver is on this machine's loopback."""
    return {
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "https,http",
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": webhook_secrets(settings).encryption_key,
    }
