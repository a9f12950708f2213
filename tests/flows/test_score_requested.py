"""score-requested in a real Prefect: what a promotion or an undo left to be scored is started once, whoever dies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId

from flows.score_batch import score_batch
from flows.score_requested import score_requested
from hotcold.adapters.release_database import ReleaseDatabase
from hotcold.adapters.score_database import ScoreDatabase
from hotcold.domain.errors import DatabaseError, StackError
from hotcold.settings import Settings
from tests.fixtures.release_steps import LEASE_S, promote
from tests.fixtures.score_tables import OUT, score, table

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def prefect() -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScoreDatabase]:
    """Version 2 was promoted and taken back, so the output of version 1 waits to be scored."""
    monkeypatch.setenv("HOTCOLD_HOME", str(tmp_path))
    url = Settings().release_database_url
    releases, opened = ReleaseDatabase(url), ScoreDatabase(url)
    releases.prepare()
    promote(releases, 1, now=100.0)
    score(opened, table(1, 110.0))
    promote(releases, 2, now=200.0)
    releases.undo("m", "me", "worse", 300.0, LEASE_S)
    releases.close()
    yield opened
    opened.close()


@pytest.fixture
def deployment(prefect: SyncPrefectClient) -> Iterator[str]:
    """`score-batch`, with nobody who would run it."""
    flow_id = prefect.create_flow_from_name("score-batch")
    deployment_id = prefect.create_deployment(flow_id, "score-batch")
    yield str(deployment_id)
    prefect.delete_deployment(deployment_id)


def runs(prefect: SyncPrefectClient, deployment: str) -> list[dict[str, object]]:
    """Parameters of the runs that were started."""
    mine = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
    return [dict(run.parameters) for run in prefect.read_flow_runs(deployment_filter=mine)]


def test_an_open_request_starts_one_run_with_the_champion(
    scores: ScoreDatabase, prefect: SyncPrefectClient, deployment: str
) -> None:
    (request,) = scores.read_requests()
    assert (1, 0) == (score_requested(), score_requested())
    (parameters,) = runs(prefect, deployment)
    assert request.parameters == parameters
    assert ("m", OUT, None) == tuple(parameters[name] for name in ("model", "output_url", "version"))
    assert () == scores.read_requests()


def test_a_run_that_was_started_but_not_written_down_is_not_started_again(
    scores: ScoreDatabase, prefect: SyncPrefectClient, deployment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise DatabaseError("gone")

    with monkeypatch.context() as patch:
        # The moment between the two writes cannot be hit from outside.
        patch.setattr(ScoreDatabase, "close_request", die)
        with pytest.raises(DatabaseError):
            score_requested()
    assert 1 == len(scores.read_requests())
    assert 1 == score_requested()
    assert 1 == len(runs(prefect, deployment))


def test_a_request_waits_while_there_is_nobody_to_take_it(scores: ScoreDatabase) -> None:
    with pytest.raises(StackError, match="1 of 1 requested batch runs were not started: Prefect does not know score-batch"):
        score_requested()
    assert 1 == len(scores.read_requests())


def test_the_nightly_run_starts_one_run_for_each_output_of_each_model(
    scores: ScoreDatabase, prefect: SyncPrefectClient, deployment: str
) -> None:
    score(scores, table(1, 120.0, output="s3://other/place"))
    state = score_batch(model="", return_state=True)
    assert "2 runs started, one for each output" == state.message
    assert {OUT, "s3://other/place"} == {str(parameters["output_url"]) for parameters in runs(prefect, deployment)}
    assert () == scores.read_requests()
