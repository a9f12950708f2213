"""Copies of live requests on a node: desired in the database, made so by the agent; agent, Envoy and replicas are real."""

from __future__ import annotations

import signal
import time

import pytest

from hotcold.adapters.replay_client import LoadClient
from hotcold.domain.gate import Gate, Verdict
from hotcold.domain.package import Manifest
from hotcold.domain.plan import SHADOW_GATES, Plan
from hotcold.domain.release import Phase, Release
from hotcold.domain.serving import Slot
from hotcold.domain.traffic import summarise
from hotcold.rollback import roll_back
from tests.fixtures.data_plane import DataPlane, wait_until

pytestmark = pytest.mark.e2e
ONE = Plan(replicas=1, bake_s=0)
EVALUATION = Plan("shadow", replicas=1, mirror_pct=50.0, shadow_min_s=0, shadow_min_pairs=0, shadow_max_s=60, route_timeout_s=5)


def shadow(plane: DataPlane, champion: Manifest, candidate: Manifest) -> Release:
    """A champion with a candidate that gets copies."""
    plane.promote(champion, ONE)
    release = plane.release(candidate, EVALUATION, until=Phase.SHADOW)
    wait_until(lambda: plane.status(champion.model).route.mirror == 50.0, "the edge confirms the copies")
    return release


def check_champion_s_traffic(load: LoadClient) -> None:
    exchanges = load.results()
    assert [] == [exchange for exchange in exchanges if exchange.failed]
    assert {"1.0.0"} == set(summarise(exchanges).versions), "live traffic never moves"


def test_an_evaluation_copies_requests_under_load_ends_with_its_verdict_and_empties_the_slot(
    data_plane: DataPlane, small_package: Manifest, other_package: Manifest
) -> None:
    model = small_package.model
    shadow(data_plane, small_package, other_package)
    champion = {survivor.process.pid for survivor in data_plane.replicas(Slot.BLUE)}
    with data_plane.load(model) as load:
        wait_until(lambda: len(load.results()) > 300, "requests")
        copied = data_plane.copies(model, Slot.GREEN, "upstream_rq_200")
        assert copied == pytest.approx(len(load.results()) / 2, rel=0.3)
        data_plane.shadow_gates = tuple(Gate(name, Verdict.SAFE) for name in SHADOW_GATES)
        ended = data_plane.release(other_package, EVALUATION)
        assert (Phase.EVALUATED, Verdict.SAFE) == (ended.phase, ended.verdict)
        assert 0.0 == data_plane.status(model).route.mirror
        copied, answered = data_plane.copies(model, Slot.GREEN), len(load.results())
        wait_until(lambda: len(load.results()) > answered + 50, "requests after the end")
        wait_until(lambda: not data_plane.replicas(Slot.GREEN), "the slot is emptied")
        assert copied == data_plane.copies(model, Slot.GREEN)
    check_champion_s_traffic(load)
    assert champion == {survivor.process.pid for survivor in data_plane.replicas(Slot.BLUE)}


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_candidate_that_dies_or_hangs_under_copies_costs_no_request_and_does_harm(
    data_plane: DataPlane, small_package: Manifest, other_package: Manifest, fault: signal.Signals
) -> None:
    shadow(data_plane, small_package, other_package)
    with data_plane.load(small_package.model) as load:
        wait_until(lambda: len(load.results()) > 50, "the first requests")
        [victim] = data_plane.replicas(Slot.GREEN)
        victim.process.send_signal(fault)
        ended = data_plane.release(other_package, EVALUATION)
        assert (Phase.EVALUATED, Verdict.HARM) == (ended.phase, ended.verdict)
        assert "no replica of the candidate" in ended.reason
        wait_until(lambda: not data_plane.replicas(Slot.GREEN), "the slot is emptied")
    check_champion_s_traffic(load)
    assert 100 == data_plane.share(small_package.model, Slot.BLUE)


def test_copies_go_on_through_a_kill_of_agent_and_edge_and_end_when_the_controller_is_dead(
    data_plane: DataPlane, small_package: Manifest, other_package: Manifest
) -> None:
    model = small_package.model
    release = shadow(data_plane, small_package, other_package)
    routes = (data_plane.settings.edge_dir / "rds.json").read_bytes()

    def renewed() -> bool:
        data_plane.database.renew(release, time.time(), 30)
        return True

    data_plane.kill("agent")
    data_plane.start("agent")
    adopted = lambda: "replica adopted" in (data_plane.settings.log_dir / "agent.log").read_text()  # noqa: E731
    wait_until(lambda: renewed() and adopted() and data_plane.status(model).green.ready == 1, "the next agent reports")
    assert routes == (data_plane.settings.edge_dir / "rds.json").read_bytes(), "the next agent finds all as it should be"
    data_plane.kill("envoy")
    wait_until(lambda: renewed() and data_plane.status(model).route.mirror is None, "nothing is confirmed")
    data_plane.start("envoy")
    wait_until(lambda: renewed() and data_plane.status(model).route.mirror == 50.0, "the copies are confirmed again")
    with data_plane.load(model) as load:
        wait_until(lambda: renewed() and data_plane.copies(model, Slot.GREEN, "upstream_rq_200") > 20, "copies")
        # From here nobody renews the lease, as after a kill -9 of the flow.
        wait_until(lambda: data_plane.database.read_release(release.id).phase is Phase.HELD, "the agent holds the release")
        wait_until(lambda: data_plane.status(model).route.mirror == 0.0, "the copies end")
    check_champion_s_traffic(load)
    assert "requests are no longer copied" in data_plane.database.read_release(release.id).reason
    assert 1 == len(data_plane.replicas(Slot.GREEN)), "the candidate stays for whoever goes on"
    undone = roll_back(data_plane.database, model, "test", "enough")
    assert (Phase.ROLLED_BACK, None) == (undone.release.phase, undone.release.verdict)
    wait_until(lambda: not data_plane.replicas(Slot.GREEN), "the slot is emptied")
