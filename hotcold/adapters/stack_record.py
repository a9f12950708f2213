"""The running stack as a file: ports, URLs and supervisor, written by `hotcold up` before any process starts."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from hotcold.domain.errors import StackError
from hotcold.settings import Settings


@dataclass(frozen=True)
class StackRecord:
    """Where the processes of one installation listen.

    Args:
        edge_url: where consumers send requests.
        edge_port: port of the edge.
        admin_port: port of Envoy's admin page, loopback only.
        prefect_port: port of the Prefect server.
        mlflow_port: port of the MLflow server.
        prefect_api_url: Prefect's REST API.
        mlflow_url: MLflow's tracking and registry URI.
        supervisor_pid: process id of the supervisor; 0 until it is started.
        supervisor_created: its start time, seconds since the epoch: with the id, it names one process for ever.
        webhook_port: where MLflow's webhook is taken, loopback only.
    """

    edge_url: str
    edge_port: int
    admin_port: int
    prefect_port: int
    mlflow_port: int
    prefect_api_url: str
    mlflow_url: str
    supervisor_pid: int = 0
    supervisor_created: float = 0.0
    webhook_port: int = 0


def stack_file(settings: Settings) -> Path:
    """The file that holds the record."""
    return settings.run_dir / "stack.json"


def read_stack(settings: Settings) -> StackRecord:
    """The record of this installation's stack; it may be of one that has died.

    Raises:
        StackError: there is none, or the file is not a record.
    """
    path = stack_file(settings)
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise StackError(f"no stack runs in {settings.root}; start it with `hotcold up`") from None
    except (OSError, ValueError) as error:
        raise StackError(f"{path} cannot be read ({error}); run `hotcold down`, then `hotcold up`") from error
    known = [field.name for field in fields(StackRecord)]
    if not isinstance(document, dict) or sorted(document) != sorted(known):
        raise StackError(f"{path} was written by another release of hotcold; run `hotcold down`, then `hotcold up`")
    return StackRecord(**document)


def write_stack(settings: Settings, record: StackRecord) -> None:
    """Write the record; a reader sees the one before or this one, never half of it.

    Raises:
        StackError: the folder cannot be written.
    """
    write_json(stack_file(settings), asdict(record))


def remove_stack(settings: Settings) -> None:
    """Forget the record; nothing happens if there is none."""
    stack_file(settings).unlink(missing_ok=True)


def write_json(path: Path, document: Any) -> None:
    """Replace a JSON file as a whole, its folder made if it is missing.

    Raises:
        StackError: the file cannot be written; the one before is untouched.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(handle, "w") as file:
                json.dump(document, file, indent=2)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StackError(
            f"cannot write {path}: {error.strerror}; free the disk or set HOTCOLD_HOME to another folder"
        ) from error
