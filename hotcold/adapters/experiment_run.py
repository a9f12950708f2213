"""Runs of MLflow that tell of one thing each, a score table or a comparison: found again by a tag, and written anew."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hotcold.adapters.mlflow_client import find_experiment
from hotcold.domain.errors import RegistryError

_DONE = "FINISHED"


@dataclass(frozen=True)
class RunKey:
    """What a run tells of.

    Args:
        experiment: its name; it is made if it is new.
        tag: by which the run is found again.
        value: of that tag.
        name: of the run, for people.
        began_s: start of what it tells of, seconds since the epoch.
        ended_s: end of it, likewise.
    """

    experiment: str
    tag: str
    value: str
    name: str
    began_s: float
    ended_s: float


@dataclass(frozen=True)
class RunContent:
    """What a run holds.

    Args:
        metrics: finite numbers by name.
        tags: by name.
        files: contents by name.
        params: by name; what the run has already stays, since MLflow never changes a parameter.
    """

    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    files: Mapping[str, bytes]
    params: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def open_run(client: Any, key: RunKey) -> Iterator[Any]:
    """The run of a key, to be written: finished at the end, or failed where that was not to be. One that was finished stays so.

    Args:
        client: from `mlflow_client.connect`, within `mlflow_client.talking`.
        key: what the run tells of.

    Raises:
        RegistryError: the key has a quote, which would end the text in MLflow's search.
    """
    if "'" in key.value:
        raise RegistryError(f"{key.tag} is {key.value!r}; a quote is not allowed there")
    run = _find_or_create(client, key)
    try:
        yield run
    except BaseException:
        if run.info.status != _DONE:
            client.set_terminated(run.info.run_id, "FAILED")
        raise
    client.set_terminated(run.info.run_id, _DONE, _ms(key.ended_s))


def _find_or_create(client: Any, key: RunKey) -> Any:
    experiment = find_experiment(client, key.experiment)
    found = client.search_runs([experiment], f"tags.`{key.tag}` = '{key.value}'", max_results=1)
    return found[0] if found else client.create_run(experiment, _ms(key.began_s), {key.tag: key.value}, run_name=key.name)


def write_content(client: Any, run: Any, content: RunContent, now_s: float) -> None:
    """Write what a run holds, in place of what it held.

    Args:
        client: from `mlflow_client.connect`, within `mlflow_client.talking`.
        run: from `open_run`.
        content: of the run.
        now_s: seconds since the epoch. Of values with the same time, MLflow shows the greatest and not the last.
    """
    from mlflow.entities import Metric, Param, RunTag

    known = run.data.params
    client.log_batch(
        run.info.run_id,
        metrics=[Metric(name, value, _ms(now_s), 0) for name, value in content.metrics.items()],
        params=[Param(name, value) for name, value in content.params.items() if name not in known],
        tags=[RunTag(name, value) for name, value in content.tags.items()],
    )
    with tempfile.TemporaryDirectory(prefix="hotcold-run-") as folder:
        for name, content_bytes in content.files.items():
            (Path(folder) / name).write_bytes(content_bytes)
        client.log_artifacts(run.info.run_id, folder)


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
