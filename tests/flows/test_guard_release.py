"""guard-release in a real Prefect: a release whose driver is gone gets one run that goes on with it, and nothing else does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prefect import State
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.states import Failed
from prefect.testing.utilities import prefect_test_harness

from flows.guard_release import guard_release
from hotcold.adapters.prefect_api import PrefectApi
from hotcold.adapters.release_database import ReleaseDatabase
from hotcold.domain.driverless import MOST_TAKEOVERS_PER_H
from hotcold.domain.plan import Plan
from hotcold.domain.release import Phase, Release, guard
from hotcold.domain.serving import SlotStatus
from hotcold.settings import Settings
from tasks.context import open_prefect
from tasks.driverless import start_successor
from tests.fixtures.promotion_scene import deployed, runs
from tests.fixtures.release_steps import LEASE_S, PLAN, bake, promote

GONE_S = 60.0


@pytest.fixture(scope="module", autouse=True)
def _prefect() -> Iterator[None]:
    with prefect_test_harness():
        yield


@pytest.fixture
def prefect() -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def successors(prefect: SyncPrefectClient) -> Iterator[str]:
    with deployed(prefect, "cut-over") as deployment:
        yield deployment


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReleaseDatabase]:
    """Version 1 serves since long ago."""
    monkeypatch.setenv("HOTCOLD_HOME", str(tmp_path))
    opened = ReleaseDatabase(Settings().release_database_url)
    opened.prepare()
    promote(opened, 1, now=100.0)
    yield opened
    opened.close()


def start(database: ReleaseDatabase, driver_seen: float, plan: Plan = PLAN) -> Release:
    return database.start("m", 2, plan, "driver", driver_seen, LEASE_S)


def look() -> State:
    return guard_release(return_state=True)


def test_a_release_without_a_driver_gets_one_run_however_often_one_looks(
    database: ReleaseDatabase, prefect: SyncPrefectClient, successors: str
) -> None:
    release = start(database, time.time() - GONE_S)
    assert "goes on with it" in str(look().message)
    look()
    (run,) = runs(prefect, successors)
    assert {"model": "m", "version": 2, "continues": release.id} == run.parameters


def test_many_looks_at_once_start_one_run(database: ReleaseDatabase, prefect: SyncPrefectClient, successors: str) -> None:
    release, api = start(database, time.time() - GONE_S), open_prefect()
    with ThreadPoolExecutor(8) as threads:
        found = {run.id for run in threads.map(lambda _: start_successor(api, release), range(16))}
    api.close()
    assert found == {str(run.id) for run in runs(prefect, successors)}
    assert 1 == len(found)


def test_the_next_driver_that_is_lost_gets_a_successor_of_its_own(
    database: ReleaseDatabase, prefect: SyncPrefectClient, successors: str
) -> None:
    start(database, time.time() - 2 * GONE_S)
    look()
    start(database, time.time() - GONE_S)
    look()
    assert 2 == len(runs(prefect, successors))


def test_a_run_that_ended_before_it_took_over_makes_room_for_the_next(
    database: ReleaseDatabase, prefect: SyncPrefectClient, successors: str
) -> None:
    """MLflow was away, for instance."""
    start(database, time.time() - GONE_S)
    look()
    (first,) = runs(prefect, successors)
    prefect.set_flow_run_state(first.id, Failed(message="MLflow does not answer"), force=True)
    look()
    look()
    assert 2 == len(runs(prefect, successors))


def test_a_release_with_a_driver_is_left_alone(database: ReleaseDatabase, prefect: SyncPrefectClient, successors: str) -> None:
    start(database, time.time())
    assert "every release has a driver" == look().message
    assert [] == runs(prefect, successors)


@pytest.mark.parametrize(("agent", "expected"), [(True, 1), (False, 0)])
def test_what_an_agent_held_goes_on_and_what_waits_for_a_person_does_not(
    database: ReleaseDatabase, prefect: SyncPrefectClient, successors: str, agent: bool, expected: int
) -> None:
    from dataclasses import replace

    baking = bake(database, 2, time.time() - GONE_S)
    champion = SlotStatus(str(baking.champion and baking.champion.digest), 1, 1)
    held, instructions = guard(baking, champion, 100)
    if not agent:
        held = replace(held, reason="no evidence from edge_probe within 300 s")
    database.commit(baking, held, instructions, "agent", time.time() - GONE_S)
    assert look().is_completed()
    assert expected == len(runs(prefect, successors))


def test_a_release_that_loses_its_driver_again_and_again_is_taken_back(
    database: ReleaseDatabase, prefect: SyncPrefectClient, successors: str
) -> None:
    release = start(database, time.time() - GONE_S)
    for _ in range(MOST_TAKEOVERS_PER_H):
        start(database, time.time() - GONE_S)
    assert "it was ended" in str(look().message)
    assert Phase.ROLLING_BACK is database.read_release(release.id).phase
    assert [] == runs(prefect, successors)
    # The champion keeps its traffic: it is this release that was taken back, not the promotion before.
    assert 1 == database.read_plan("m").slot(release.slot.other).package.version


def test_without_the_deployment_the_run_says_so_and_the_next_one_makes_up_for_it(
    database: ReleaseDatabase, prefect: SyncPrefectClient
) -> None:
    start(database, time.time() - GONE_S)
    state = look()
    assert state.is_failed()
    assert "1 releases need somebody: release " in str(state.message)
    with deployed(prefect, "cut-over") as deployment:
        assert look().is_completed()
        assert 1 == len(runs(prefect, deployment))


def test_a_key_is_for_one_run_only(prefect: SyncPrefectClient, successors: str) -> None:
    api: PrefectApi = open_prefect()
    first = api.start("cut-over/cut-over", {"model": "m"}, "k")
    assert (first.id, "SCHEDULED") == ((again := api.start("cut-over/cut-over", {"model": "n"}, "k")).id, again.state)
    assert first.id != api.start("cut-over/cut-over", {"model": "m"}).id
    api.close()
