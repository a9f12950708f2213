"""Copies of live requests on a node: desired in the database, made so by the agent; agent, Envoy and replicas are real."""

from __future__ import annotations

import json
import signal
import time

import pytest

from hotcold.adapters.counter_database import CounterDatabase
from hotcold.adapters.replay_client import LoadClient
from hotcold.domain.edge import cluster_name, shadow_name
from hotcold.domain.edge_counters import Mark, increments
from hotcold.domain.errors import EvidenceError
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


def test_what_the_edge_counts_reaches_the_database_and_matches_what_was_asked(
    data_plane: DataPlane, small_package: Manifest, other_package: Manifest
) -> None:
    model = small_package.model
    blue, copied = cluster_name(model, Slot.BLUE), shadow_name(model, Slot.GREEN)
    sums = CounterDatabase(data_plane.settings.release_database_url)
    shadow(data_plane, small_package, other_package)
    mark = Mark.from_json(json.loads(json.dumps(resting_mark(sums, model).to_json())))
    with data_plane.load(model) as load:
        wait_until(lambda: len(load.results()) > 300, "requests")
    asked = len(load.results())
    wait_until(lambda: increments(mark, sums.read_mark(model, time.time()))[blue].measured == asked, "all are counted")
    came = increments(mark, sums.read_mark(model, time.time()))
    assert ((200, asked),) == came[blue].codes
    assert ((200, data_plane.copies(model, Slot.GREEN, "upstream_rq_200")),) == came[copied].codes
    slow = sum(exchange.done_at - exchange.sent_at >= 0.05 for exchange in load.results())
    # The client's clock runs for longer than the edge's.
    assert came[blue].over(50) <= slow
    assert came[blue].over(0.1) == asked

    data_plane.kill("envoy")
    data_plane.start("envoy")
    wait_until(lambda: data_plane.share(model, Slot.BLUE) is None, "the agent sees that the edge is away")
    wait_until(lambda: data_plane.share(model, Slot.BLUE) == 100, "the edge is back")
    wait_until(lambda: data_plane.status(model).blue.ready == 1, "the edge finds the champion well")
    with data_plane.load(model) as load:
        wait_until(lambda: len(load.results()) > 50, "requests")
    check_champion_s_traffic(load)
    asked += len(load.results())
    wait_until(lambda: increments(mark, sums.read_mark(model, time.time()))[blue].measured == asked, "all are counted")
    data_plane.kill("agent")
    wait_until(lambda: is_refused(sums, model), "nobody counts any more, and nobody says that nothing was")
    sums.close()


def resting_mark(sums: CounterDatabase, model: str) -> Mark:
    """A mark behind everything that was asked before: counts come up to two seconds late."""
    before, now = None, sums.read_mark(model, time.time())
    while now != before:
        time.sleep(2.5)
        before, now = now, sums.read_mark(model, time.time())
    return now


def is_refused(sums: CounterDatabase, model: str) -> bool:
    try:
        sums.read_mark(model, time.time())
    except EvidenceError:
        return True
    return False


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
