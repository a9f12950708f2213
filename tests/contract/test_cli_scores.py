"""`hotcold scores`, `hotcold status` and what a rollback says of scores: without Prefect, MLflow or an agent."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hotcold.adapters.release_database import ReleaseDatabase
from hotcold.adapters.score_database import ScoreDatabase
from hotcold.adapters.score_pointer import project_scores, read_pointer
from hotcold.cli.app import app
from hotcold.domain.errors import ScoresError
from hotcold.domain.serving import ModelStatus, RouteStatus
from hotcold.settings import Settings
from tests.fixtures.release_steps import promote
from tests.fixtures.score_tables import score, table


@pytest.fixture
def output(tmp_path: Path) -> str:
    (tmp_path / "out").mkdir()
    return str(tmp_path / "out")


@pytest.fixture
def releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReleaseDatabase]:
    """Version 1 serves."""
    monkeypatch.setenv("HOTCOLD_HOME", str(tmp_path / "var"))
    opened = ReleaseDatabase(Settings().release_database_url)
    opened.prepare()
    promote(opened, 1, now=100.0)
    yield opened
    opened.close()


@pytest.fixture
def scores(releases: ReleaseDatabase, output: str) -> Iterator[ScoreDatabase]:
    """Two tables of the champion; readers see the second."""
    opened = ScoreDatabase(Settings().release_database_url)
    quality = [{"name": "psi", "verdict": "SAFE", "observed": "0.01", "limit": "0.25"}]
    score(opened, table(1, 110.0, output=output, in_store=False))
    score(opened, table(1, 120.0, "tuesday", output=output, in_store=False, lineage={"files": 1200, "quality": quality}))
    project_scores(opened, "m")
    yield opened
    opened.close()


def hotcold(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_list_marks_what_readers_see(scores: ScoreDatabase, output: str) -> None:
    scores.record(table(2, 130.0, output=output), "run", 130.0)
    lines = hotcold("scores", "list").stdout.splitlines()
    assert [" ", "*", " "] == [line[0] for line in lines]
    assert ["v2-monday", "v1-tuesday", "v1-monday"] == [line[2:].split()[0] for line in lines]
    assert "m:v1.1.0-111111111111" in lines[1] and "published" in lines[1] and "10 rows" in lines[1]
    assert "no score tables yet" in hotcold("scores", "list", "another").stdout


def test_show_tells_the_lineage_the_state_and_what_the_gate_said(scores: ScoreDatabase, output: str) -> None:
    shown = hotcold("scores", "show", "v1-tues").stdout
    for said in ("published: scored by the champion", "see it", "1,200", "psi is SAFE: 0.01 (allowed: 0.25)", output):
        assert said in shown
    assert isinstance(hotcold("scores", "show", "v7-x").exception, ScoresError)


def test_retract_moves_readers_at_once_and_has_the_output_scored_again(scores: ScoreDatabase, output: str) -> None:
    first = hotcold("scores", "retract", "v1-tuesday", "--reason", "half of the flights were missing")
    assert 0 == first.exit_code, first.output
    assert f"readers of {output} see table v1-monday" in first.stdout
    assert "v1-monday" == read_pointer(output).table
    assert 1 == len(scores.read_requests())
    second = hotcold("scores", "retract", "v1-monday", "--reason", "all of it is wrong")
    assert f"readers of {output} see no table" in second.stdout
    assert "all of it is wrong" in hotcold("scores", "list", "m").stdout


def test_status_says_what_readers_see(scores: ScoreDatabase, output: str) -> None:
    assert f"readers of {output} see table v1-tuesday by m:v1.1.0-111111111111" in hotcold("status").stdout
    (model,) = json.loads(hotcold("status", "--json").stdout)["models"]
    assert ["v1-tuesday"] == [shown["table"] for shown in model["scores"]]


def test_a_rollback_says_what_readers_see_now(releases: ReleaseDatabase, scores: ScoreDatabase, output: str) -> None:
    promote(releases, 2, now=time.time())
    score(scores, table(2, time.time(), output=output, in_store=False))
    project_scores(scores, "m")
    assert "v2-monday" == read_pointer(output).table
    stopped = threading.Event()

    def report() -> None:
        """An agent that confirms whatever is desired."""
        while not stopped.wait(0.05):
            route = releases.read_plan("m").route
            releases.write_status("n", [ModelStatus("m", RouteStatus(route.green_pct, route.generation))], time.time())

    agent = threading.Thread(target=report)
    agent.start()
    try:
        answer = hotcold("rollback", "m", "--reason", "worse")
    finally:
        stopped.set()
        agent.join()
    assert 0 == answer.exit_code, answer.output
    assert "m:v1.1.0-111111111111 has the traffic" in answer.stdout
    assert f"readers of {output} see table v1-tuesday" in answer.stdout
    assert "v1-tuesday" == read_pointer(output).table
