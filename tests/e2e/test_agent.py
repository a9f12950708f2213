"""A node under faults: the agent, Envoy and replicas are real, and so are the kills."""

from __future__ import annotations

import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hotcold.adapters.package_files import package_dir
from hotcold.domain.package import Manifest
from hotcold.domain.plan import Plan
from hotcold.domain.release import Phase
from hotcold.domain.serving import Slot
from hotcold.domain.traffic import last_answer_after, summarise
from hotcold.rollback import roll_back
from tests.fixtures.data_plane import DataPlane, wait_until

pytestmark = pytest.mark.e2e


def test_a_switch_under_load_loses_no_request_and_an_undo_takes_a_moment(
    data_plane: DataPlane, small_package: Manifest, other_package: Manifest
) -> None:
    model = small_package.model
    data_plane.promote(small_package)
    with data_plane.load(model) as load:
        wait_until(lambda: len(load.results()) > 50, "the first requests")
        promoted = data_plane.promote(other_package)
        switched_at = next(e.at for e in data_plane.database.read_events(promoted.id) if e.phase is Phase.CUTOVER)
        undone = roll_back(data_plane.database, model, "test", "because")
        answered = len(load.results())
        wait_until(lambda: len(load.results()) > answered + 50, "requests after the undo")
    exchanges = load.results()
    assert Phase.ROLLED_BACK is undone.release.phase
    assert {"1.0.0", "1.0.1"} == set(summarise(exchanges).versions)
    assert [] == [exchange for exchange in exchanges if exchange.failed]
    before_undo = [exchange for exchange in exchanges if exchange.sent_at < undone.decided_at]
    assert last_answer_after(before_undo, "1.0.0", switched_at) < 1.0
    assert last_answer_after(exchanges, "1.0.1", undone.decided_at) < 1.0
    wait_until(lambda: not data_plane.replicas(Slot.GREEN), "the slot taken back is emptied")
    assert 2 == len(data_plane.replicas(Slot.BLUE))


def test_a_killed_replica_of_two_costs_no_client_error_and_is_replaced(data_plane: DataPlane, small_package: Manifest) -> None:
    model = small_package.model
    data_plane.promote(small_package)
    with data_plane.load(model) as load:
        wait_until(lambda: len(load.results()) > 50, "the first requests")
        for kills in range(1, 5):
            # The elder one: all requests then depend on the one that has just become ready.
            victim = min(data_plane.replicas(), key=lambda replica: replica.process.create_time()).process
            victim.kill()
            wait_until(lambda kills=kills: data_plane.status(model).blue.restarts == kills, "the death is seen")
            wait_until(lambda: data_plane.status(model).blue.ready == 2, "the replica is replaced")
            assert victim.pid not in {survivor.process.pid for survivor in data_plane.replicas()}
    assert [] == [exchange for exchange in load.results() if exchange.failed]


def test_after_a_kill_of_envoy_the_split_is_the_same(
    data_plane: DataPlane, small_package: Manifest, other_package: Manifest
) -> None:
    model = small_package.model
    data_plane.promote(small_package)
    data_plane.promote(other_package)
    data_plane.kill("envoy")
    wait_until(lambda: data_plane.share(model, Slot.GREEN) is None, "the agent sees that Envoy does not answer")
    assert {0} == niceness(data_plane, Slot.GREEN)
    data_plane.start("envoy")
    wait_until(lambda: data_plane.share(model, Slot.GREEN) == 100, "the split is confirmed again")
    with data_plane.load(model) as load:
        wait_until(lambda: len(load.results()) > 100, "requests")
    assert {"1.0.1"} == set(summarise(load.results()).versions)


def niceness(data_plane: DataPlane, slot: Slot) -> set[int]:
    """Priorities of a slot's replicas among the sessions of this machine."""
    processes = [survivor.process for survivor in data_plane.replicas(slot)]
    return {int(Path(f"/proc/{process.pid}/autogroup").read_text().split()[-1]) for process in processes}


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="the kernel does not divide time between sessions")
def test_replicas_that_start_take_no_time_from_those_that_answer(
    data_plane: DataPlane, small_package: Manifest, other_package: Manifest
) -> None:
    model = small_package.model
    data_plane.promote(small_package)
    data_plane.promote(other_package)
    wait_until(lambda: niceness(data_plane, Slot.GREEN) == {0}, "the champion has what it needs")
    wait_until(lambda: niceness(data_plane, Slot.BLUE) == {0}, "the one before is kept warm, and may be needed at once")
    data_plane.replicas(Slot.BLUE)[0].process.kill()
    wait_until(lambda: 10 in niceness(data_plane, Slot.BLUE), "what starts where nobody waits for it yields")
    wait_until(lambda: data_plane.status(model).blue.ready == 2, "it is ready")
    wait_until(lambda: niceness(data_plane, Slot.BLUE) == {0}, "it has what it needs")
    data_plane.replicas(Slot.GREEN)[0].process.kill()
    wait_until(lambda: len(data_plane.replicas(Slot.GREEN)) == 2, "the champion's replica is replaced")
    assert 10 not in niceness(data_plane, Slot.GREEN), "where requests are answered, nothing waits"


def test_a_killed_agent_leaves_traffic_alone_and_the_next_one_adopts_the_replicas(
    data_plane: DataPlane, small_package: Manifest
) -> None:
    model = small_package.model
    data_plane.promote(small_package)
    before = {survivor.process.pid for survivor in data_plane.replicas()}
    with data_plane.load(model) as load:
        data_plane.kill("agent")
        time_of_death = time.time()
        wait_until(lambda: len(load.results()) > 100, "requests without an agent")
        data_plane.start("agent")
        wait_until(
            lambda: data_plane.database.read_edges(time.time()) and data_plane.status(model).blue.ready == 2,
            "the next agent reports",
        )
        wait_until(
            lambda: data_plane.settings.log_dir.joinpath("agent.log").read_text().count("replica adopted") == 2, "adoption"
        )
    assert [] == [exchange for exchange in load.results() if exchange.failed]
    assert any(exchange.sent_at > time_of_death for exchange in load.results())
    assert before == {survivor.process.pid for survivor in data_plane.replicas()}


def test_a_replica_that_died_while_no_agent_ran_is_replaced_and_a_stray_is_ended(
    data_plane: DataPlane, small_package: Manifest
) -> None:
    model = small_package.model
    data_plane.promote(small_package)
    data_plane.kill("agent")
    dead, stray = data_plane.replicas()
    dead.process.kill()
    stray_id = stray.name.rpartition("/")[2]
    (data_plane.settings.run_dir / "replicas" / f"{stray_id}.json").unlink()
    data_plane.start("agent")
    wait_until(lambda: not stray.process.is_running() or stray.process.status() == "zombie", "the stray is ended")
    wait_until(lambda: len(data_plane.replicas()) == 2 and data_plane.status(model).blue.ready == 2, "two new replicas")


def test_a_second_agent_of_a_node_refuses_to_start(data_plane: DataPlane) -> None:
    first = data_plane._processes["agent"]
    data_plane.start("agent")
    second = data_plane._processes["agent"]
    assert 0 != second.wait(timeout=30)
    assert "another agent holds" in (data_plane.settings.log_dir / "agent.log").read_text()
    data_plane._processes["agent"] = first


def test_a_replica_that_hangs_is_replaced(data_plane: DataPlane, small_package: Manifest) -> None:
    model = small_package.model
    data_plane.promote(small_package)
    hung = data_plane.replicas()[0].process
    hung.send_signal(signal.SIGSTOP)
    wait_until(
        lambda: hung.pid not in {survivor.process.pid for survivor in data_plane.replicas()}, "the hung replica is ended"
    )
    wait_until(lambda: data_plane.status(model).blue.ready == 2, "it is replaced")


@pytest.mark.parametrize("damage", ["flipped byte", "missing file", "another schema"])
def test_a_damaged_package_never_serves_and_the_release_is_rejected_with_the_reason(
    damage: str, tmp_path: Path, bento_home: Path, small_package: Manifest, other_package: Manifest
) -> None:
    own_home = tmp_path / "bentoml"
    shutil.copytree(bento_home, own_home)
    src = package_dir(other_package.ref, own_home)
    if damage == "flipped byte":
        victim = src / "model" / "model.onnx"
        content = bytearray(victim.read_bytes())
        content[len(content) // 2] ^= 1
        victim.write_bytes(content)
    elif damage == "missing file":
        (src / "reference" / "sample.npy").unlink()
    else:
        manifest = (src / "manifest.json").read_text()
        (src / "manifest.json").write_text(manifest.replace('"mile"', '"kilometre"'))
    plane = DataPlane(tmp_path / "home", own_home)
    plane.start("envoy", "agent")
    try:
        wait_until(lambda: plane.database.read_edges(time.time()), "the agent's first report")
        plane.promote(small_package)
        rejected = plane.release(other_package)
        assert Phase.REJECTED is rejected.phase
        expected = {"flipped byte": "model.onnx", "missing file": "sample.npy", "another schema": "manifest.json was changed"}
        assert expected[damage] in rejected.reason
        assert 0 == plane.share(small_package.model, Slot.GREEN)
        wait_until(lambda: not plane.replicas(Slot.GREEN), "no replica of it runs")
    finally:
        plane.close()


def test_a_candidate_whose_controller_died_loses_its_traffic_and_can_be_resumed(
    data_plane: DataPlane, small_package: Manifest, other_package: Manifest
) -> None:
    model = small_package.model
    data_plane.promote(small_package)
    baking = data_plane.release(other_package, Plan(replicas=1, bake_s=60, max_bake_s=60), until=Phase.BAKING)
    # From here nobody renews the lease, as after a kill -9 of the flow.
    with data_plane.load(model) as load:
        wait_until(lambda: data_plane.database.read_release(baking.id).phase is Phase.HELD, "the agent holds the release")
        wait_until(lambda: data_plane.share(model, Slot.BLUE) == 100, "traffic is back")
    assert [] == [exchange for exchange in load.results() if exchange.failed]
    assert "lease ran out" in data_plane.database.read_release(baking.id).reason
    resumed = data_plane.database.start(model, 2, Plan(), "next", time.time() + 60, 30)
    assert (baking.id, Phase.DEPLOYING) == (resumed.id, resumed.phase)


def test_the_agent_goes_on_while_the_database_is_away(data_plane: DataPlane, small_package: Manifest) -> None:
    model = small_package.model
    data_plane.promote(small_package)
    file = data_plane.settings.root / "db" / "release.db"
    hidden = file.with_suffix(".hidden")
    data_plane.kill("agent", signal.SIGTERM)
    file.rename(hidden)
    file.mkdir()
    data_plane.start("agent")
    log = data_plane.settings.log_dir / "agent.log"
    wait_until(lambda: "database is away" in log.read_text(), "the agent says that the database is away")
    with data_plane.load(model) as load:
        wait_until(lambda: len(load.results()) > 100, "requests")
    assert [] == [exchange for exchange in load.results() if exchange.failed]
    file.rmdir()
    hidden.rename(file)
    wait_until(lambda: data_plane.share(model, Slot.BLUE) == 100, "the agent reports again")


def test_two_models_are_live_at_once(
    data_plane: DataPlane, small_package: Manifest, bento_home: Path, small_source: object
) -> None:
    from hotcold.adapters.packages import build_package

    second = build_package(small_source(version=1, model="other-flights"), bento_home)  # type: ignore[operator]
    one = Plan(replicas=1, bake_s=0)
    data_plane.promote(small_package, one)
    data_plane.promote(second, one)
    for manifest in (small_package, second):
        with data_plane.load(manifest.model) as load:
            wait_until(lambda load=load: len(load.results()) > 20, "requests")
        assert [] == [exchange for exchange in load.results() if exchange.failed]
    assert replace(small_package.ref, model="other-flights").model == second.model
