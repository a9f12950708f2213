"""Copies of requests at a real Envoy: how many, which, as what, and that whoever asks never notices."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from scipy.stats import binom

from hotcold.adapters.replay_client import LoadClient
from hotcold.domain.edge import EdgeModel, Endpoint, shadow_name
from hotcold.domain.edge_clusters import SHADOW_REQUESTS
from hotcold.domain.serving import Slot
from services.edge_control import EdgeControl
from tests.fixtures.edge import Backend, Edge, ask_on, wait_for

PREDICT = "/models/m/predict"


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with Edge(tmp_path_factory.mktemp("edge") / "home") as running:
        yield running


@pytest.fixture
def champion() -> Iterator[Backend]:
    with Backend("champion") as backend:
        yield backend


@pytest.fixture
def shadow() -> Iterator[Backend]:
    with Backend("shadow") as backend:
        yield backend


def mirrored(champion: Backend, shadow: Backend, mirror_pct: float = 100.0, name: str = "m") -> EdgeModel:
    return EdgeModel(name, 0, (champion.endpoint,), (shadow.endpoint,), Slot.BLUE, mirror_pct)


def send(edge: Edge, count: int, path: str = PREDICT) -> list[str]:
    """Requests on one connection; their ids."""
    connection = edge.connect()
    ids = [f"{path}-{number}" for number in range(count)]
    for request_id in ids:
        answer = ask_on(connection, "POST", path, {"x-request-id": request_id, "x-entity-id": request_id}, request_id.encode())
        assert (200, "champion", request_id) == (answer.status, answer.text, answer.headers["x-request-id"])
    connection.close()
    return ids


def under_way(edge: Edge, name: str = "m") -> int:
    """Copies that wait for a connection or for an answer."""
    return gauge(edge, "upstream_rq_active", name) + gauge(edge, "upstream_rq_pending_active", name)


def await_copies(edge: Edge, shadow: Backend, name: str = "m") -> None:
    """Wait until no copy is under way any more."""
    wait_for(lambda: not under_way(edge, name), "the copies to arrive")
    assert len(shadow.requests) == len({asked.headers["x-request-id"] for asked in shadow.requests})


def gauge(edge: Edge, stat: str, name: str = "m") -> int:
    """One of Envoy's numbers about the shadow of green."""
    name = f"cluster.{shadow_name(name, Slot.GREEN)}.{stat}"
    text = edge.admin._client.get("/stats", params={"filter": f"^{name}$"}).text
    return int(text.rpartition(": ")[2])


@pytest.mark.parametrize("mirror_pct", [0.0, 0.5, 10.0, 50.0, 99.5, 100.0])
def test_the_share_that_is_copied_is_the_desired_one(edge: Edge, champion: Backend, shadow: Backend, mirror_pct: float) -> None:
    edge.put(mirrored(champion, shadow, mirror_pct))
    ids = send(edge, 1000)
    await_copies(edge, shadow)
    assert ids == [asked.headers["x-request-id"] for asked in champion.requests]
    # One false alarm in a million for a right share; one that is off by a tenth is seen.
    low, high = (binom.ppf(q, len(ids), mirror_pct / 100) for q in (5e-7, 1 - 5e-7))
    assert low <= len(shadow.requests) <= high


def test_a_copy_is_the_request_itself_but_for_the_header_that_says_so(edge: Edge, champion: Backend, shadow: Backend) -> None:
    edge.put(mirrored(champion, shadow))
    for path in (PREDICT, "/v2/models/m/infer"):
        send(edge, 30, path)
    await_copies(edge, shadow)
    own = {asked.headers["x-request-id"]: asked for asked in champion.requests}
    copies = {asked.headers["x-request-id"]: asked for asked in shadow.requests}
    assert 60 == len(own) == len(copies)
    for request_id, asked in own.items():
        copy = copies[request_id]
        assert (asked.path, request_id.encode()) == (copy.path, copy.body)
        assert asked.body == copy.body
        assert "1" == copy.headers["x-hotcold-shadow"]
        assert "x-hotcold-shadow" not in asked.headers
        added = ("x-hotcold-shadow", "x-forwarded-for", "x-envoy-internal")
        assert asked.headers == {name: value for name, value in copy.headers.items() if name not in added}


@pytest.mark.parametrize("variant", ["", "green", "candidate", "blue"])
def test_nobody_can_pretend_to_be_a_copy(edge: Edge, champion: Backend, shadow: Backend, variant: str) -> None:
    edge.put(mirrored(champion, shadow, 0.0))
    for header in ("x-hotcold-shadow", "X-Hotcold-Shadow"):
        headers = {header: "1"} | ({"x-hotcold-variant": variant} if variant else {})
        assert 200 == edge.ask("POST", PREDICT, headers, b"{}").status
        assert 200 == edge.ask("GET", "/models/m", headers).status
    seen = [*champion.requests, *shadow.requests]
    assert 4 == len(seen)
    assert [] == [asked for asked in seen if "x-hotcold-shadow" in asked.headers]


def test_a_copy_says_so_once_also_where_its_request_pretended(edge: Edge, champion: Backend, shadow: Backend) -> None:
    edge.put(mirrored(champion, shadow))
    edge.ask("POST", PREDICT, {"x-hotcold-shadow": "0"}, b"{}")
    await_copies(edge, shadow)
    assert ["1"] == [asked.headers["x-hotcold-shadow"] for asked in shadow.requests]
    assert "x-hotcold-shadow" not in champion.headers


def test_only_scoring_is_copied_and_no_tester_s_request(edge: Edge, champion: Backend, shadow: Backend) -> None:
    edge.put(mirrored(champion, shadow))
    for path in ("/models/m", "/models/m/scores/entity-1", "/v2/models/m", "/v2/models/m/ready"):
        assert "champion" == edge.ask("GET", path).text
    assert "champion" == edge.ask("POST", PREDICT, {"x-hotcold-variant": "champion"}, b"{}").text
    # The candidate is another version than the one that is asked for.
    assert "champion" == edge.ask("POST", "/v2/models/m/versions/1.0.0/infer", body=b"{}").text
    assert 405 == edge.ask("GET", PREDICT).status
    await_copies(edge, shadow)
    assert 0 == len(shadow.requests)


def test_a_large_body_is_copied_whole_in_pieces_too(edge: Edge, champion: Backend, shadow: Backend) -> None:
    edge.put(mirrored(champion, shadow))
    body = bytes(range(256)) * 4000
    assert 200 == edge.ask("POST", PREDICT, body=body).status
    connection = edge.connect()
    connection.request("POST", PREDICT, (body[at : at + 50_000] for at in range(0, len(body), 50_000)), encode_chunked=True)
    assert 200 == connection.getresponse().status
    connection.close()
    await_copies(edge, shadow)
    assert [body, body] == [asked.body for asked in shadow.requests] == [asked.body for asked in champion.requests]


def test_a_request_that_is_tried_twice_is_copied_once(edge: Edge, shadow: Backend) -> None:
    with Backend("hung", delay_s=1000.0) as hung, Backend("well") as well:
        edge.put(EdgeModel("m", 0, (hung.endpoint, well.endpoint), (shadow.endpoint,), Slot.BLUE, 100.0))
        statuses: list[int] = []
        threads = [
            threading.Thread(target=lambda: statuses.append(edge.ask("POST", PREDICT, body=b"{}").status)) for _ in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        await_copies(edge, shadow)
    assert [200] * 12 == statuses
    assert hung.requests
    assert 12 == len(well.requests) == len(shadow.requests)


def test_a_request_that_reaches_no_champion_is_not_copied(edge: Edge, champion: Backend, shadow: Backend) -> None:
    edge.put(replace(mirrored(champion, shadow), blue=()))
    assert 503 == edge.ask("POST", PREDICT, body=b"{}").status
    await_copies(edge, shadow)
    assert 0 == len(shadow.requests)


def test_the_copies_of_two_models_go_to_their_own_shadows(edge: Edge, champion: Backend, shadow: Backend) -> None:
    with Backend("other") as other:
        edge.put(mirrored(champion, other, name="n"))
        edge.put(mirrored(champion, shadow))
        send(edge, 10)
        send(edge, 5, "/models/n/predict")
        await_copies(edge, shadow)
        await_copies(edge, other, "n")
    assert {PREDICT: 10} == shadow.asked
    assert {"/models/n/predict": 5} == other.asked
    del edge.models["n"]


@contextmanager
def deaf() -> Iterator[Endpoint]:
    """A replica that takes connections and never reads from them, as a stopped process does."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as server:
        yield Endpoint("127.0.0.1", server.getsockname()[1])


@contextmanager
def gone() -> Iterator[Endpoint]:
    """An address at which nobody listens."""
    with socket.socket() as reserved:
        # Bound but not listening: connections are refused, and nobody else gets the port meanwhile.
        reserved.bind(("127.0.0.1", 0))
        yield Endpoint("127.0.0.1", reserved.getsockname()[1])


@contextmanager
def breaking() -> Iterator[Endpoint]:
    """A replica that resets every connection as soon as something was asked."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as server:
        thread = threading.Thread(target=_reset_all, args=(server,), daemon=True)
        thread.start()
        yield Endpoint("127.0.0.1", server.getsockname()[1])
        # Wakes the thread, which a mere close would not.
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def _reset_all(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        connection.recv(1)
        connection.close()


def put_broken(edge: Edge, champion: Backend, endpoint: Endpoint) -> EdgeModel:
    """A model whose shadow no health check would find well."""
    model = EdgeModel("m", 0, (champion.endpoint,), (endpoint,), Slot.BLUE, 100.0)

    def has_all() -> bool:
        edge._tick()
        view = edge.admin.read_view()
        return (
            edge.control.confirmed
            and view is not None
            and model.blue == tuple(edge.control.healthy("m", Slot.BLUE))
            and model.green == tuple(view.hosts[shadow_name("m", Slot.GREEN)])
        )

    edge.models["m"] = model
    wait_for(has_all, "the model with a broken shadow")
    return model


@pytest.mark.parametrize("shadow_is", [deaf, gone, breaking])
@pytest.mark.parametrize("size_bytes", [200, 200_000])
def test_whatever_is_wrong_with_the_shadow_no_request_fails_and_nothing_piles_up(
    champion: Backend, tmp_path: Path, shadow_is: object, size_bytes: int
) -> None:
    def request(index: int) -> tuple[str, dict[str, str], bytes]:
        return PREDICT, {"x-entity-id": f"entity-{index}"}, b"x" * size_bytes

    with Edge(tmp_path / "home") as edge, shadow_is() as endpoint:  # type: ignore[operator]
        put_broken(edge, champion, endpoint)
        held: list[int] = []
        with LoadClient(edge.record.edge_url, request, rate_per_s=100.0, connections=4) as load:
            while len(load.results()) < 200:
                held.append(gauge(edge, "upstream_cx_active"))
        exchanges = load.results()
        assert [] == [exchange for exchange in exchanges if exchange.failed]
        # Each of Envoy's two threads may hold one connection above a limit that is full.
        assert max(held) <= SHADOW_REQUESTS + 2
        overflow = gauge(edge, "upstream_rq_pending_overflow")
        assert (overflow > 0) == (shadow_is is deaf), "only a shadow that holds on to its copies meets the limit"
        wait_for(lambda: not under_way(edge), "what the shadow held is given up")


def test_a_shadow_that_hangs_does_not_take_the_slot_s_own_connections(edge: Edge, champion: Backend, shadow: Backend) -> None:
    """The candidate's slot and its shadow have the same replicas, but a tester still gets an answer."""
    shadow.delay_s = 1000.0
    edge.put(mirrored(champion, shadow))
    for _ in range(SHADOW_REQUESTS * 2):
        assert 200 == edge.ask("POST", PREDICT, body=b"{}").status
    assert gauge(edge, "upstream_rq_pending_overflow") > 0
    shadow.delay_s = 0.0
    assert "shadow" == edge.ask("POST", PREDICT, {"x-hotcold-variant": "green"}, b"{}").text


def test_taking_the_mirror_away_ends_the_copies_at_once_and_loses_no_request(
    edge: Edge, champion: Backend, shadow: Backend
) -> None:
    connection: http.client.HTTPConnection = edge.connect()
    for mirror_pct in (100.0, 0.0, 100.0, 0.0):
        edge.put(mirrored(champion, shadow, mirror_pct))
        assert mirror_pct == edge.control.mirrored("m", Slot.GREEN) == edge.files.read_mirror_pct("m", Slot.GREEN)
        shadow.requests.clear()
        assert [200] * 50 == [ask_on(connection, "POST", PREDICT, body=b"{}").status for _ in range(50)]
        wait_for(lambda: not under_way(edge), "the copies to arrive")
        assert (50 if mirror_pct else 0) == len(shadow.requests)
    connection.close()


def test_a_new_controller_knows_what_is_copied(edge: Edge, champion: Backend, shadow: Backend) -> None:
    edge.put(mirrored(champion, shadow, 12.5))
    control = EdgeControl(edge.files, edge.admin)
    assert (12.5, 0.0) == (control.mirrored("m", Slot.GREEN), control.mirrored("m", Slot.BLUE))
