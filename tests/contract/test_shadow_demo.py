"""What goes wrong with the labels while the demo evaluates a version ends the demo with a message, and is not only printed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any, cast

import pytest

from hotcold import demo_shadow
from hotcold.adapters.prefect_api import FlowRun, PrefectApi
from hotcold.adapters.release_database import ReleaseDatabase
from hotcold.adapters.replay import FlightReplay
from hotcold.adapters.replay_client import LoadClient
from hotcold.cli import app as cli
from hotcold.demo_shadow import DEPLOYMENT, ShadowStory
from hotcold.domain.errors import StackError


class Prefect:
    """Stands in for a server, which would need a whole stack before a run of it goes wrong in a known way."""

    def __init__(self, **ends: str) -> None:
        self.ends = ends
        self.started: dict[str, dict[str, Any]] = {}

    def start(self, deployment: str, parameters: Mapping[str, Any]) -> FlowRun:
        self.started[deployment] = dict(parameters)
        return FlowRun(deployment, "", "RUNNING", "")

    def read(self, run_id: str) -> FlowRun:
        return FlowRun(run_id, "", self.ends.get(run_id.partition("/")[0].replace("-", "_"), "RUNNING"), "because")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[ReleaseDatabase]:
    """Without its tables, so that whoever reads fails."""
    made = ReleaseDatabase(f"sqlite:///{tmp_path / 'release.db'}")
    yield made
    made.close()


@pytest.fixture
def load() -> LoadClient:
    """Not started: there are no flights."""
    return LoadClient("http://127.0.0.1:9", lambda _: ("/", {}, b""), 1.0)


def story(tmp_path: Path, prefect: Prefect, database: ReleaseDatabase, said: list[str]) -> ShadowStory:
    replay = FlightReplay("flights", date(2013, 10, 1), date(2013, 10, 1), run="test")
    return ShadowStory(tmp_path, cast(PrefectApi, prefect), database, replay, "flights", said.append)


def test_an_error_of_the_label_thread_ends_the_evaluation_at_once(
    tmp_path: Path, database: ReleaseDatabase, load: LoadClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The evaluation itself would go on for ever."""
    monkeypatch.setattr(demo_shadow, "_LIMIT_S", 20.0)
    with pytest.raises(StackError, match=r"^the labels were not joined, so the demo ends: .*releases"):
        story(tmp_path, Prefect(), database, []).evaluate(load)


def test_a_run_that_does_not_join_the_labels_is_an_error_and_names_the_reason(
    tmp_path: Path, database: ReleaseDatabase, load: LoadClient
) -> None:
    said: list[str] = []
    with pytest.raises(StackError, match=r"join-labels ended failed: because; see `hotcold logs worker`"):
        story(tmp_path, Prefect(join_labels="FAILED"), database, said).join_labels(load)
    story(tmp_path, Prefect(join_labels="COMPLETED"), database, said).join_labels(load)
    assert "because" == said[-1]


def test_labels_that_nobody_waits_for_any_more_are_no_error(
    tmp_path: Path, database: ReleaseDatabase, load: LoadClient
) -> None:
    database.prepare()
    prefect = Prefect(evaluate_shadow="COMPLETED")
    with pytest.raises(IndexError):
        # There is no release to tell of; the label thread found nothing wrong.
        story(tmp_path, prefect, database, []).evaluate(load)
    assert {DEPLOYMENT} == prefect.started.keys()


def test_the_command_line_ends_with_a_message_and_not_with_zero(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise StackError("the labels were not joined, so the demo ends: because")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert 0 != ended.value.code
    assert "hotcold: the labels were not joined, so the demo ends: because\n" == capsys.readouterr().err
