"""What a real Envoy counts, and what is made of it: answers by cluster, latency, copies, and restarts."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hotcold.adapters.counter_database import CounterDatabase
from hotcold.adapters.edge_stats import EdgeStats, read_stats
from hotcold.domain.edge import EdgeModel, Endpoint
from hotcold.domain.edge_counters import ClusterCounters, Reading
from hotcold.domain.edge_listener import Listener, bootstrap_document
from hotcold.domain.errors import EvidenceError
from hotcold.domain.latency import LATENCY_EDGES_US, bound_below
from hotcold.domain.serving import Slot
from services.counting import EdgeCounting
from tests.fixtures.edge import Backend, Edge, wait_for

PREDICT = "/models/m/predict"


@contextmanager
def counted_edge(home: Path) -> Iterator[tuple[Edge, EdgeStats]]:
    with Edge(home) as edge:
        stats = EdgeStats(edge.record.admin_port)
        try:
            yield edge, stats
        finally:
            stats.close()


@pytest.fixture
def counted(tmp_path: Path) -> Iterator[tuple[Edge, EdgeStats]]:
    """An Envoy that has counted nothing yet."""
    with counted_edge(tmp_path / "home") as found:
        yield found


def clusters_of(stats: EdgeStats) -> dict[str, ClusterCounters]:
    reading = stats.read()
    assert reading is not None
    return dict(reading.clusters)


def settled(stats: EdgeStats, cluster: str, good: int) -> ClusterCounters:
    """The counters of a cluster, once the latency of all its good answers has arrived."""
    wait_for(lambda: clusters_of(stats).get(cluster, ClusterCounters()).measured == good, f"the latency of {good} answers")
    return clusters_of(stats)[cluster]


def statuses(edge: Edge, count: int, path: str = PREDICT, **headers: str) -> set[int]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return {edge.ask("POST", path, named, b"{}").status for _ in range(count)}


def test_consumers_scoring_requests_count_by_cluster_and_code_and_nobody_elses(counted: tuple[Edge, EdgeStats]) -> None:
    edge, stats = counted
    with Backend("blue") as blue, Backend("green") as green:
        edge.put(EdgeModel("m", 0, (blue.endpoint,), (green.endpoint,), Slot.BLUE))
        assert {} == clusters_of(stats)
        assert {200} == statuses(edge, 5) | statuses(edge, 2, "/v2/models/m/infer")
        # Tests and probes, and what is no scoring.
        assert {200} == statuses(edge, 3, x_hotcold_variant="green") | {edge.ask("GET", "/models/m").status}
        assert {404} == statuses(edge, 1, "/models/other/predict")
        seen = settled(stats, "m-blue", 7)
        assert (((200, 7),), 7, 0) == (seen.codes, seen.asked, seen.failed)
        assert {"m-blue"} == set(clusters_of(stats))
        edge.put(EdgeModel("m", 100, (blue.endpoint,), (green.endpoint,), Slot.BLUE))
        assert {200} == statuses(edge, 4)
        assert ((200, 4),) == settled(stats, "m-green", 4).codes
        assert seen == clusters_of(stats)["m-blue"]


def test_what_never_reached_a_replica_counts_for_the_cluster_that_was_meant(counted: tuple[Edge, EdgeStats]) -> None:
    edge, stats = counted
    edge.put(EdgeModel("m", 0, (), (), Slot.BLUE))
    assert {503} == statuses(edge, 3)
    with Backend("hung", delay_s=1000.0) as hung:
        edge.put(EdgeModel("m", 100, (), (hung.endpoint,), Slot.BLUE))
        assert {504} == statuses(edge, 1)
        assert 413 == edge.ask("POST", PREDICT, body=b"x" * 1_200_000).status
    seen = clusters_of(stats)
    assert ClusterCounters(((503, 3),)) == seen["m-blue"]
    assert ClusterCounters(((413, 1), (504, 1))) == seen["m-green"]
    assert (2, 1) == (seen["m-green"].asked, seen["m-green"].failed)


def test_a_request_that_is_tried_again_counts_once_with_all_its_time(counted: tuple[Edge, EdgeStats]) -> None:
    edge, stats = counted
    with Backend("hung", delay_s=1000.0) as hung, Backend("well") as well:
        edge.put(EdgeModel("m", 0, (hung.endpoint, well.endpoint), (), Slot.BLUE))
        asked = 0
        # The balancer draws; sooner or later it draws the one that hangs.
        while not hung.requests:
            assert {200} == statuses(edge, 1)
            asked += 1
        seen = settled(stats, "m-blue", asked)
    assert ((200, asked),) == seen.codes
    # A try is given up after two seconds, of which Envoy's timer may lack a moment.
    assert 1 == len(hung.requests) == seen.over(1000)


def test_whoever_goes_away_is_counted_apart(counted: tuple[Edge, EdgeStats]) -> None:
    edge, stats = counted
    with Backend("slow", delay_s=0.5) as slow:
        edge.put(EdgeModel("m", 0, (slow.endpoint,), (), Slot.BLUE))
        with socket.create_connection(("127.0.0.1", edge.record.edge_port)) as consumer:
            consumer.sendall(f"POST {PREDICT} HTTP/1.1\r\nhost: edge\r\ncontent-length: 2\r\n\r\n{{}}".encode())
            wait_for(lambda: slow.requests, "the request to arrive")
        wait_for(lambda: clusters_of(stats), "the count")
    assert {"m-blue": ClusterCounters(((0, 1),))} == clusters_of(stats)
    assert (0, 0) == (clusters_of(stats)["m-blue"].asked, clusters_of(stats)["m-blue"].failed)


def test_latency_is_counted_on_the_right_side_of_a_budget(counted: tuple[Edge, EdgeStats]) -> None:
    edge, stats = counted
    with Backend("blue", delay_s=0.055) as blue:
        edge.put(EdgeModel("m", 0, (blue.endpoint,), (), Slot.BLUE))
        assert {200} == statuses(edge, 20)
        seen = settled(stats, "m-blue", 20)
    assert (20, 20) == (seen.over(50), seen.over(25))
    assert 0 == seen.over(1000)


def test_what_takes_exactly_a_budget_is_over_it_for_every_budget(tmp_path: Path) -> None:
    """Bytes take the place of time, since nobody can make a request that takes exactly 50 ms."""
    edges_us = [us for us in LATENCY_EDGES_US if us < 1_000_000]
    sizes = [size for us in edges_us for size in (us - 1, us, us + 1)]
    with Backend("blue") as blue:
        edge = Edge(tmp_path / "home")
        bootstrap = json.dumps(edge.files.read("bootstrap.json"))
        duration = "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%"
        # Once in the log of errors, once in the statistics.
        assert 2 == bootstrap.count(duration)
        edge.files.write("bootstrap.json", json.loads(bootstrap.replace(duration, "%BYTES_RECEIVED%")))
        stats = EdgeStats(edge.record.admin_port)
        with edge:
            edge.put(EdgeModel("m", 0, (blue.endpoint,), (), Slot.BLUE))
            assert {200} == {edge.ask("POST", PREDICT, body=b"x" * size).status for size in sizes}
            seen = settled(stats, "m-blue", len(sizes))
        stats.close()
    for us in edges_us:
        assert sum(size >= us for size in sizes) == seen.over(us / 1000)


def copies(edge: Edge, stats: EdgeStats, count: int) -> ClusterCounters:
    """The shadow's counters after so many more requests to the champion, once every copy has come to its end."""
    assert {200} == statuses(edge, count)
    asked = clusters_of(stats)["m-blue"].asked

    def have_ended() -> bool:
        seen = clusters_of(stats).get("m-green-shadow", ClusterCounters())
        return seen.copied == asked == seen.timed_out + sum(count for _, count in seen.codes)

    wait_for(have_ended, f"{asked} copies to come to their end")
    return clusters_of(stats)["m-green-shadow"]


def test_copies_are_counted_with_what_became_of_them(counted: tuple[Edge, EdgeStats]) -> None:
    edge, stats = counted
    with Backend("blue") as blue, Backend("green") as green:
        model = EdgeModel("m", 0, (blue.endpoint,), (green.endpoint,), Slot.BLUE, 100.0)
        edge.put(model)
        assert ClusterCounters(((200, 20),), copied=20) == copies(edge, stats, 20)
        green.delay_s = 1000.0
        hung = copies(edge, stats, 100)
        assert hung.dropped > 0 < hung.timed_out == hung.failed, "what was dropped is not the candidate's failure"
        assert (120, 100, ((200, 20),)) == (hung.copied, hung.lost, hung.answers)
        edge.put(replace(model, green=()))
        nobody = copies(edge, stats, 10)
        assert (10, hung.failed) == (nobody.dropped - hung.dropped, nobody.failed)
        assert (130, 110, ((200, 20),)) == (nobody.copied, nobody.lost, nobody.answers)


def test_a_copy_under_way_is_made_and_neither_answered_nor_lost(counted: tuple[Edge, EdgeStats]) -> None:
    edge, stats = counted
    with Backend("blue") as blue, Backend("green", delay_s=0.5) as green:
        edge.put(EdgeModel("m", 0, (blue.endpoint,), (green.endpoint,), Slot.BLUE, 100.0))
        assert {200} == statuses(edge, 1)
        wait_for(lambda: green.requests, "the copy to arrive")
        assert ClusterCounters(copied=1) == clusters_of(stats)["m-green-shadow"]


def test_answers_of_a_shadow_are_told_from_those_of_the_edge(counted: tuple[Edge, EdgeStats]) -> None:
    """Both are a 503: the replica's own, and the edge's where the replica closed the connection."""
    edge, stats = counted
    with Backend("blue") as blue, Backend("green", status=503) as green:
        edge.put(EdgeModel("m", 0, (blue.endpoint,), (green.endpoint,), Slot.BLUE, 100.0))
        refused = copies(edge, stats, 6)
        assert (((503, 6),), 0, 6) == (refused.answers, refused.lost, refused.failed)
        green.breaks = "before"
        closed = copies(edge, stats, 4)
        assert (((503, 6),), 4, 10) == (closed.answers, closed.lost, closed.failed)


def test_a_copy_whose_answer_breaks_off_is_lost(counted: tuple[Edge, EdgeStats]) -> None:
    edge, stats = counted
    with Backend("blue") as blue, Backend("green", breaks="within") as green:
        edge.put(EdgeModel("m", 0, (blue.endpoint,), (green.endpoint,), Slot.BLUE, 100.0))
        assert ClusterCounters(((200, 3),), copied=3, broken=3) == copies(edge, stats, 3)


def test_a_shadow_that_refuses_connections_fails(counted: tuple[Edge, EdgeStats]) -> None:
    edge, stats = counted
    with Backend("blue") as blue, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = Endpoint("127.0.0.1", closed.getsockname()[1])
        edge.models["m"] = EdgeModel("m", 0, (blue.endpoint,), (endpoint,), Slot.BLUE, 100.0)
        wait_for(lambda: edge._tick() and edge.control.healthy("m", Slot.BLUE), "the routes")
        seen = copies(edge, stats, 5)
    assert ClusterCounters(((503, 5),), copied=5, broken=5) == seen
    assert (5, 5, ()) == (seen.failed, seen.lost, seen.answers)


def test_an_envoy_that_is_away_or_hangs_has_counted_nothing_that_is_known(tmp_path: Path) -> None:
    with counted_edge(tmp_path / "home") as (edge, stats):
        assert stats.read() is not None
        edge._process.send_signal(signal.SIGSTOP)
        began_s = time.monotonic()
        assert stats.read() is None
        assert time.monotonic() - began_s < 3
        edge._process.send_signal(signal.SIGCONT)
        wait_for(lambda: stats.read() is not None, "Envoy goes on")
        edge._process.kill()
        wait_for(lambda: stats.read() is None, "Envoy is gone")


def test_an_envoy_with_other_buckets_is_no_evidence(tmp_path: Path) -> None:
    with Backend("blue") as blue:
        edge = Edge(tmp_path / "home")
        bootstrap = edge.files.read("bootstrap.json")
        del bootstrap["stats_config"]
        edge.files.write("bootstrap.json", bootstrap)
        stats = EdgeStats(edge.record.admin_port)
        with edge:
            edge.put(EdgeModel("m", 0, (blue.endpoint,), (), Slot.BLUE))
            assert {200} == statuses(edge, 1)
            with pytest.raises(EvidenceError, match="in 19 other buckets than expected; start it anew"):
                stats.read()
        stats.close()


def test_an_envoy_that_an_older_hotcold_has_started_is_no_evidence(tmp_path: Path) -> None:
    """It knows no routes, so its counts would be overlooked, and nothing would seem to have happened."""
    with Backend("blue") as blue:
        edge = Edge(tmp_path / "home")
        bootstrap = edge.files.read("bootstrap.json")
        manager = bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
        for kind in ("counters", "histograms"):
            [one] = manager["access_log"][1]["typed_config"][kind]
            one["stat"]["tags"] = one["stat"]["tags"][: 2 if kind == "counters" else 1]
        edge.files.write("bootstrap.json", bootstrap)
        stats = EdgeStats(edge.record.admin_port)
        with edge:
            edge.put(EdgeModel("m", 0, (blue.endpoint,), (), Slot.BLUE))
            assert {200} == statuses(edge, 1)
            with pytest.raises(EvidenceError, match="as an older hotcold wanted; start it anew"):
                stats.read()
        stats.close()


GOOD: dict[str, Any] = {
    "stats": [
        {"name": "server.uptime", "value": 40},
        {"name": "hotcold.answers.cluster.m-blue.code.200.route.score", "value": 3e05},
        {"name": "hotcold.answers.cluster..code.404.route.no-such-path", "value": 9},
        {"name": "hotcold.answers.cluster.m-blue.code.200.route.tester", "value": 9},
        {"name": "cluster.m-blue.upstream_rq_503", "value": 9},
    ]
}


def test_statistics_of_others_are_left_out() -> None:
    assert Reading(60.0, {"m-blue": ClusterCounters(((200, 300_000),))}) == read_stats(GOOD, 100.0)


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        {"stats": []},
        {"stats": None},
        {"stats": GOOD["stats"][1:]},
        {"stats": [*GOOD["stats"], {"name": "hotcold.answers.cluster.m-blue.code.503.route.score"}]},
        {"stats": [*GOOD["stats"], {"name": "hotcold.answers.cluster.m-blue.code.503.route.score", "value": -1}]},
        {"stats": [*GOOD["stats"], {"name": "hotcold.answers.cluster.m-blue.code.503.route.score", "value": "many"}]},
        {"stats": [*GOOD["stats"], {"name": "hotcold.answers.cluster.m-blue.code.503.route.score", "value": 1.5}]},
        {"stats": [*GOOD["stats"], {"histograms": [{"name": "hotcold.latency_us.cluster.m-blue.code.200.route.score"}]}]},
        {"stats": [*GOOD["stats"], {"histograms": {"computed_quantiles": []}}]},
    ],
)
def test_what_is_not_understood_is_an_error_and_never_a_zero(document: Any) -> None:
    with pytest.raises((EvidenceError, KeyError, TypeError, ValueError, AttributeError)):
        read_stats(document, 100.0)


def test_the_bootstrap_counts_in_the_grid() -> None:
    document = bootstrap_document(Listener("127.0.0.1", 1, 2, "/edge", "/log", "n"))
    [settings] = document["stats_config"]["histogram_bucket_settings"]
    assert [bound_below(edge) for edge in LATENCY_EDGES_US] == settings["buckets"][:-1]


def test_sums_go_on_through_a_restart_of_envoy_and_of_the_agent(tmp_path: Path) -> None:
    sums = CounterDatabase(f"sqlite:///{tmp_path}/release.db")
    sums.prepare()
    with Backend("blue") as blue, counted_edge(tmp_path / "home") as (edge, stats):
        edge.put(EdgeModel("m", 0, (blue.endpoint,), (), Slot.BLUE))
        assert {200} == statuses(edge, 9), "from before anybody counted"
        settled(stats, "m-blue", 9)
        counting = EdgeCounting(stats, sums, "n")
        counting.tick()
        assert {200} == statuses(edge, 5)
        settled(stats, "m-blue", 14)
        counting.tick()
        assert ((200, 5),) == sums.read_running("n")["m-blue"].total.codes

        # Another agent takes over; what came in between is not lost.
        assert {200} == statuses(edge, 2)
        settled(stats, "m-blue", 16)
        counting = EdgeCounting(stats, sums, "n")
        counting.tick()
        assert ((200, 7),) == sums.read_running("n")["m-blue"].total.codes

        edge._process.kill()
        edge._process.wait(timeout=10)
        counted_at = counting.counted_at
        counting.tick()
        assert counted_at == counting.counted_at, "an Envoy that is away was not counted"
        # Its start is told in whole seconds, so that it has to be some seconds later to be another one.
        wait_for(lambda: time.time() - (counted_at or 0) > 4, "some seconds")
        edge.__enter__()
        edge.put(EdgeModel("m", 0, (blue.endpoint,), (), Slot.BLUE))
        assert {200} == statuses(edge, 3)
        settled(stats, "m-blue", 3)
        counting.tick()
        total = sums.read_running("n")["m-blue"].total
        assert (((200, 10),), 10) == (total.codes, total.measured)
    sums.close()
