"""Runs of MLflow that tell of one thing each: found again, finished, failed; on a database and on a server."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from hotcold.adapters.experiment_run import RunContent, RunKey, open_run, write_content
from hotcold.adapters.mlflow_client import connect, talking
from hotcold.domain.errors import RegistryError


@pytest.fixture
def key() -> RunKey:
    """Of an experiment of its own, because all tests share one server."""
    return RunKey(f"e{uuid.uuid4().hex[:10]}", "hotcold.thing", "one", "the first", began_s=1000.5, ended_s=1002.25)


def runs_of(uri: str, key: RunKey) -> list[Any]:
    client = connect(uri)
    experiment = client.get_experiment_by_name(key.experiment)
    return list(client.search_runs([experiment.experiment_id])) if experiment else []


def write(uri: str, key: RunKey, now_s: float = 2000.0, **params: str) -> str:
    client = connect(uri)
    content = RunContent({"rows": now_s}, {"said": str(now_s)}, {"file.txt": b"\x00\xff"}, params)
    with talking(uri, "write"), open_run(client, key) as run:
        write_content(client, run, content, now_s)
    return str(run.info.run_id)


def test_a_run_has_the_times_of_what_it_tells_of_and_all_that_was_given(mlflow_uri: str, key: RunKey, tmp_path: Path) -> None:
    run_id = write(mlflow_uri, key, depth="3")
    (run,) = runs_of(mlflow_uri, key)
    file = connect(mlflow_uri).download_artifacts(run_id, "file.txt", str(tmp_path))
    assert ("FINISHED", "the first", 1_000_500, 1_002_250) == (
        *(run.info.status, run.info.run_name),
        *(run.info.start_time, run.info.end_time),
    )
    assert ("one", "2000.0", 2000.0, {"depth": "3"}) == (
        *(run.data.tags["hotcold.thing"], run.data.tags["said"]),
        *(run.data.metrics["rows"], run.data.params),
    )
    assert b"\x00\xff" == Path(file).read_bytes()


def test_the_same_key_is_the_same_run_and_its_parameters_stay(mlflow_uri: str, key: RunKey) -> None:
    first = write(mlflow_uri, key, depth="3")
    assert first == write(mlflow_uri, key, now_s=1999.0, depth="4", trees="7")
    (run,) = runs_of(mlflow_uri, key)
    assert ("1999.0", {"depth": "3", "trees": "7"}) == (run.data.tags["said"], run.data.params)


def test_a_run_that_cannot_be_written_is_marked_but_a_finished_one_stays(mlflow_sqlite: str, key: RunKey) -> None:
    def fail() -> None:
        with talking(mlflow_sqlite, "write"), open_run(connect(mlflow_sqlite), key):
            raise OSError("no space left on device")

    with pytest.raises(RegistryError, match="cannot write: no space left"):
        fail()
    assert ["FAILED"] == [run.info.status for run in runs_of(mlflow_sqlite, key)]
    write(mlflow_sqlite, key)
    assert ["FINISHED"] == [run.info.status for run in runs_of(mlflow_sqlite, key)]
    with pytest.raises(RegistryError, match="cannot write: no space left"):
        fail()
    assert ["FINISHED"] == [run.info.status for run in runs_of(mlflow_sqlite, key)]
