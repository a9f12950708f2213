"""What a node's surroundings may do to it: a database that is lost or full, a folder in the way, a name nobody expects."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hotcold.adapters.release_database import ReleaseDatabase
from hotcold.domain.package import Manifest
from hotcold.domain.plan import Plan
from hotcold.domain.release import Phase
from hotcold.domain.serving import Slot
from tests.fixtures.data_plane import DataPlane, wait_until

pytestmark = pytest.mark.e2e
ONE = Plan(replicas=1, bake_s=0)


def log_of(plane: DataPlane) -> str:
    return (plane.settings.log_dir / "agent.log").read_text()


@contextmanager
def release_file(plane: DataPlane) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(plane.settings.root / "db" / "release.db")
    try:
        with connection:
            yield connection
    finally:
        connection.close()


def test_an_agent_that_finds_an_empty_database_takes_no_traffic_away_and_replaces_the_dead(
    data_plane: DataPlane, small_package: Manifest
) -> None:
    data_plane.promote(small_package)
    data_plane.kill("agent")
    folder = data_plane.settings.root / "db"
    folder.rename(folder.with_name("lost"))
    with data_plane.load(small_package.model) as load:
        data_plane.start("agent")
        wait_until(folder.joinpath("release.db").exists, "the agent makes a new database")
        fresh = ReleaseDatabase(data_plane.settings.release_database_url)
        # The file is there a moment before its tables.
        fresh.prepare()
        wait_until(lambda: fresh.read_edges(time.time()), "the agent's report")
        victim = data_plane.replicas()[0].process
        victim.kill()
        wait_until(
            lambda: (
                (status := fresh.read_status(small_package.model, time.time()))
                and (status.blue.restarts, status.blue.ready) == (1, 2)
            ),
            "the dead replica is replaced",
        )
        fresh.close()
    assert [] == [exchange for exchange in load.results() if exchange.failed]
    assert 1 == log_of(data_plane).count("does not know late-flights; it is kept as it was")


def test_a_database_that_cannot_be_written_is_said_once_and_traffic_goes_on(
    data_plane: DataPlane, small_package: Manifest
) -> None:
    data_plane.promote(small_package, ONE)
    with release_file(data_plane) as database:
        # Plans can still be read, as on a full disk.
        database.execute("ALTER TABLE nodes RENAME TO hidden")
    wait_until(lambda: "takes no status" in log_of(data_plane), "the agent says so")
    with data_plane.load(small_package.model) as load:
        wait_until(lambda: len(load.results()) > 200, "requests")
    assert [] == [exchange for exchange in load.results() if exchange.failed]
    assert 1 == log_of(data_plane).count("takes no status")
    with release_file(data_plane) as database:
        database.execute("ALTER TABLE hidden RENAME TO nodes")
    wait_until(lambda: "takes the status again" in log_of(data_plane), "the agent reports again")


def test_a_run_folder_that_cannot_be_written_does_not_end_the_agent(data_plane: DataPlane, small_package: Manifest) -> None:
    scratch = data_plane.settings.run_dir / "bentohome"
    scratch.write_text("a file is in the way")
    release = data_plane.release(small_package, ONE, until=Phase.DEPLOYING)
    wait_until(lambda: "replica not started" in log_of(data_plane), "the agent says why")
    assert data_plane._processes["agent"].poll() is None
    scratch.unlink()
    wait_until(lambda: data_plane.status(small_package.model).slot(release.slot).ready == 1, "it starts when the way is free")


def test_a_model_whose_name_the_edge_cannot_take_hurts_no_other(data_plane: DataPlane, small_package: Manifest) -> None:
    with release_file(data_plane) as database:
        # hotcold itself refuses such a name; a row of another origin must not stop the node.
        database.execute("INSERT INTO routes (model, generation, epoch) VALUES ('Bad_Name', 0, 0)")
    wait_until(lambda: "Bad_Name cannot be served" in log_of(data_plane), "the agent says so")
    data_plane.promote(small_package, ONE)
    assert data_plane._processes["agent"].poll() is None


def test_a_hung_replica_costs_no_client_error(data_plane: DataPlane, small_package: Manifest) -> None:
    data_plane.promote(small_package)
    with data_plane.load(small_package.model) as load:
        wait_until(lambda: len(load.results()) > 50, "the first requests")
        hung = data_plane.replicas()[0].process
        hung.send_signal(signal.SIGSTOP)
        wait_until(lambda: data_plane.status(small_package.model).blue.restarts == 1, "the hung replica is ended")
    assert [] == [exchange for exchange in load.results() if exchange.failed]


def test_a_split_is_in_force_soon_after_its_row(
    data_plane: DataPlane, small_package: Manifest, other_package: Manifest
) -> None:
    model = small_package.model
    data_plane.promote(small_package, ONE)
    data_plane.promote(other_package, ONE)

    def seconds_until(green_pct: int) -> float:
        with release_file(data_plane) as database:
            database.execute("UPDATE routes SET green_pct = ?, generation = generation + 1", (green_pct,))
        began = time.monotonic()
        wait_until(lambda: data_plane.share(model, Slot.GREEN) == green_pct, "the split is confirmed")
        return time.monotonic() - began

    times_s = sorted(seconds_until(green_pct) for green_pct in (70, 0, 100, 50, 100, 20, 100))
    # The middle one: on a machine with other work to do, one of them may wait for a core.
    assert times_s[len(times_s) // 2] < 1.0, times_s
