"""What the edge has to hold: a real Envoy, the files that it watches, and backends that say who they are."""

from __future__ import annotations

import itertools
import json
import logging
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from hotcold.adapters.envoy import EdgeFiles, EnvoyAdmin, envoy_command, prepare_edge
from hotcold.adapters.processes import free_port, start_process
from hotcold.adapters.replay_client import LoadClient
from hotcold.adapters.stack_record import StackRecord
from hotcold.domain.edge import EdgeModel, Endpoint, cluster_name, route_document
from hotcold.domain.errors import EdgeError
from hotcold.domain.serving import Slot
from hotcold.settings import Settings
from services.edge_control import EdgeControl
from tests.fixtures.data_plane import wait_until
from tests.fixtures.disks import small_disk

ENTITIES = [f"entity-{number}" for number in range(500)]
PREDICT = "/models/{}/predict"


class Backend(ThreadingHTTPServer):
    """A replica that answers everything with its own name, and is ready while it is told so."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, name: str) -> None:
        super().__init__(("127.0.0.1", 0), _Echo)
        self.name = name
        self.ready = threading.Event()
        self.ready.set()
        self.asked = 0
        self._connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint("127.0.0.1", self.server_port)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._connections.append(connection)
        return connection, address

    def handle_error(self, *_: object) -> None:
        """A connection that Envoy closed is none of the test's business; what the client got is."""

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()
        # As of a process that was killed: kept connections break, too.
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Header and body leave in one piece, or each answer waits for an acknowledgement.
    wbufsize = -1
    server: Backend

    def do_GET(self) -> None:
        self._read_body()
        if self.path == "/readyz":
            self._answer(200 if self.server.ready.is_set() else 503, b"")
        else:
            self.server.asked += 1
            self._answer(200, json.dumps({"backend": self.server.name, "path": self.path, "scores": [0.5]}).encode())

    do_POST = do_HEAD = do_GET  # noqa: N815

    def _read_body(self) -> None:
        """A replica answers when it has the whole body; one that breaks off is not counted."""
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            self.rfile.read(int(self.headers.get("content-length", 0)))
            return
        while size := int(self.rfile.readline(), 16):
            self.rfile.read(size + 2)
        self.rfile.readline()

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("x-variant", self.server.name)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


class Edge:
    """One Envoy on free ports, and what an agent has for it."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home)
        edge_port, admin_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{edge_port}"
        self.record = StackRecord(self.url, edge_port, admin_port, 0, 0, "", "")
        self.settings.log_dir.mkdir(parents=True, exist_ok=True)
        prepare_edge(self.settings, self.record)
        self.files, self.admin = EdgeFiles(self.settings.edge_dir), EnvoyAdmin(admin_port)
        self.control = EdgeControl(self.files, self.admin)
        self.client = httpx.Client(base_url=self.url, trust_env=False, timeout=10)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start Envoy; `apply` waits for it."""
        log = self.settings.log_dir / "envoy.log"
        argv = envoy_command(self.settings, self.record)
        self._process = start_process(argv, {"PATH": "/usr/bin:/bin"}, self.settings.root, log)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(timeout=20)

    def tick(self, *models: EdgeModel) -> bool:
        """Look and apply once, as the agent does; whether Envoy has it all in force."""
        self.control.look()
        self.control.apply(models)
        looks = (self.control.hosts, self.control.healthy)
        slots = [(model, slot) for model in models for slot in Slot]
        ready = all(set(model.endpoints(slot)) == look(model.model, slot) for model, slot in slots for look in looks)
        return ready and self.control.confirmed and self.control.routed(models[0].model) == models[0].green_pct

    def rejected(self) -> int:
        """How many route files Envoy has refused."""
        stats = self.admin._client.get("/stats", params={"filter": "rds.hotcold.update_rejected"}).text
        return int(stats.rpartition(": ")[2])

    def apply(self, *models: EdgeModel) -> None:
        wait_until(lambda: self.tick(*models), "the edge takes the models and their replicas")

    def ask(self, path: str, method: str = "POST", **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.request(method, path, headers=named)

    def who(self, path: str, **headers: str) -> str:
        """Name of the backend that answers."""
        answer = self.ask(path, **headers)
        assert 200 == answer.status_code, answer.text
        return str(answer.headers["x-variant"])

    def greens(self, path: str, entities: Iterable[str] = ENTITIES) -> set[str]:
        """Entities that a slot `green` answers."""
        return {entity for entity in entities if self.who(path, x_entity_id=entity).startswith("green")}

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Envoy hangs while the block runs."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.client.close()
        self.admin.close()
        if self._process is not None:
            self.kill()


@contextmanager
def running_edge(home: Path) -> Iterator[Edge]:
    edge = Edge(home)
    try:
        edge.start()
        yield edge
    finally:
        edge.close()


@pytest.fixture(scope="module")
def backends() -> Iterator[dict[Slot, Backend]]:
    started = {slot: Backend(slot.value) for slot in Slot}
    yield started
    for backend in started.values():
        backend.close()


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """One Envoy for the tests that leave it in order; each says itself which models it has."""
    with running_edge(tmp_path_factory.mktemp("edge")) as started:
        yield started


@pytest.fixture
def own_edge(tmp_path: Path) -> Iterator[Edge]:
    """An Envoy for one test alone."""
    with running_edge(tmp_path / "home") as started:
        yield started


@pytest.fixture
def model(backends: dict[Slot, Backend]) -> Callable[..., EdgeModel]:
    def make(green_pct: int | None, name: str = "m", champion: Slot | None = Slot.BLUE) -> EdgeModel:
        blue, green = backends[Slot.BLUE].endpoint, backends[Slot.GREEN].endpoint
        return EdgeModel(name, green_pct, (blue,), (green,), champion)

    return make


MakeModel = Callable[..., EdgeModel]


def test_envoy_finds_nothing_wrong_with_the_bootstrap(tmp_path: Path) -> None:
    edge = Edge(tmp_path)
    command = (*envoy_command(edge.settings, edge.record), "--mode", "validate")
    checked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    edge.close()
    assert 0 == checked.returncode, checked.stderr
    assert "OK" in checked.stdout + checked.stderr
    # Deprecated fields are warned of; they are gone with the next Envoy.
    assert "deprecated" not in checked.stderr.lower()


def test_an_edge_without_models_answers_for_itself_and_knows_no_model(tmp_path: Path) -> None:
    with running_edge(tmp_path / "home") as edge:
        wait_until(lambda: edge.admin.read_route_version() == route_document(())["version_info"], "the empty routes")
        assert {"live": True} == edge.ask("/v2/health/live", "GET").json()
        assert 404 == edge.ask("/models/m/predict").status_code


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v2", {"name": "hotcold", "version": "1", "extensions": ["binary_tensor_data"]}),
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
    ],
)
def test_the_protocols_server_paths_are_answered_by_the_edge(
    edge: Edge, model: MakeModel, path: str, expected: dict[str, Any]
) -> None:
    edge.apply(model(0))
    answer = edge.ask(path, "GET")
    assert (200, expected) == (answer.status_code, answer.json())
    assert "application/json" == answer.headers["content-type"]
    assert 200 == edge.ask(path, "HEAD").status_code


@pytest.mark.parametrize("green_pct", [0, 20, 50, 100])
def test_the_share_of_green_is_the_desired_one_and_an_entity_stays_where_it_is(
    edge: Edge, model: MakeModel, green_pct: int
) -> None:
    edge.apply(model(green_pct))
    path = PREDICT.format("m")
    first = edge.greens(path)
    assert first == edge.greens(path)
    # 500 entities: three standard deviations are 7 points at most.
    assert green_pct == pytest.approx(100 * len(first) / len(ENTITIES), abs=7 if 0 < green_pct < 100 else 0)


def test_requests_without_an_entity_are_split_too(edge: Edge, model: MakeModel) -> None:
    edge.apply(model(50))
    assert {"blue", "green"} == {edge.who(PREDICT.format("m")) for _ in range(60)}


def test_raising_the_share_of_green_never_takes_an_entity_back(edge: Edge, model: MakeModel) -> None:
    before: set[str] = set()
    for green_pct in (10, 30, 60, 100):
        edge.apply(model(green_pct))
        after = edge.greens(PREDICT.format("m"))
        assert before < after
        before = after
    assert set(ENTITIES) == before


def test_the_splits_of_two_models_are_independent(edge: Edge, model: MakeModel) -> None:
    edge.apply(model(50), model(50, "n"))
    one, other = edge.greens(PREDICT.format("m")), edge.greens(PREDICT.format("n"))
    # With one salt for both they were the same entities: 50 % in both instead of 25 %.
    assert 25 == pytest.approx(100 * len(one & other) / len(ENTITIES), abs=7)
    assert 25 == pytest.approx(100 * len(set(ENTITIES) - one - other) / len(ENTITIES), abs=7)


def test_an_entity_has_the_same_slot_on_every_path_of_a_model(edge: Edge, model: MakeModel) -> None:
    edge.apply(model(50))
    some = ENTITIES[:150]
    expected = edge.greens("/models/m/predict", some)
    assert 0 < len(expected) < len(some)
    assert expected == edge.greens("/v2/models/m/infer", some) == edge.greens("/v2/models/m/versions/1.0.0/infer", some)


def test_the_split_is_the_same_after_envoy_was_restarted(own_edge: Edge, model: MakeModel) -> None:
    own_edge.apply(model(50))
    before = own_edge.greens(PREDICT.format("m"))
    own_edge.kill()
    own_edge.start()
    own_edge.apply(model(50))
    assert before == own_edge.greens(PREDICT.format("m"))


@pytest.mark.parametrize("green_pct", [0, 100, None])
def test_the_testers_header_leads_to_a_slot_whatever_the_split_is(edge: Edge, model: MakeModel, green_pct: int | None) -> None:
    edge.apply(model(green_pct, champion=Slot.GREEN))
    for path in ("/models/m/predict", "/v2/models/m/infer"):
        for value, slot in {"blue": "blue", "green": "green", "champion": "green", "candidate": "blue"}.items():
            assert slot == edge.who(path, x_hotcold_variant=value, x_entity_id="entity-1")


def test_a_replica_is_asked_at_the_path_that_the_client_asked_for(edge: Edge, model: MakeModel) -> None:
    edge.apply(model(0))
    assert "/v2/models/m/versions/1.0.0/infer" == edge.ask("/v2/models/m/versions/1.0.0/infer").json()["path"]
    # A path is looked at as it will be served: nothing hides behind dots and slashes.
    assert "/models/m/predict" == edge.ask("/models//./m/x/../predict").json()["path"]


def is_problem(answer: httpx.Response, status: int, detail: str) -> None:
    """The answer is a problem document with this status, and its detail helps."""
    assert status == answer.status_code, answer.text
    assert "application/problem+json" == answer.headers["content-type"]
    problem = answer.json()
    assert {"type", "title", "status", "detail", "instance", "request_id"} == set(problem)
    assert status == problem["status"]
    assert problem["title"]
    assert detail in problem["detail"]


REFUSALS: dict[str, tuple[str, str, int, str]] = {
    "an unknown path": ("GET", "/metrics", 404, "nothing is served at /metrics"),
    "an unknown model": ("POST", "/models/unknown/predict", 404, "/models/{model}/predict"),
    "an unknown model of the protocol": ("POST", "/v2/models/unknown/infer", 404, "/v2/models/{model}/infer"),
    "a path that only begins like one": ("POST", "/models/m/predictx", 404, "nothing is served"),
    "the admin page": ("GET", "/config_dump", 404, "nothing is served"),
    "a method that predict does not take": ("GET", "/models/m/predict", 405, "/models/m/predict does not take GET"),
    "a method that infer does not take": ("DELETE", "/v2/models/m/infer", 405, "does not take DELETE"),
    "a method that the server paths do not take": ("POST", "/v2", 405, "/v2 does not take POST"),
    "an escaped slash": ("POST", "/models/m%2fpredict", 404, "nothing is served"),
    "an escaped backslash": ("POST", "/models/m%5Cpredict", 404, "nothing is served"),
    "a way out of the root": ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404, "nothing is served at /etc/passwd"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_the_edge_refuses_with_a_problem_document(edge: Edge, model: MakeModel, case: str) -> None:
    method, path, status, detail = REFUSALS[case]
    edge.apply(model(0))
    answer = edge.ask(path, method, x_request_id="request-of-mine")
    is_problem(answer, status, detail)
    assert "request-of-mine" == answer.json()["request_id"]


@pytest.mark.parametrize("path", ["/metrics", "/models/m"])
def test_a_refusal_has_a_request_id_if_the_client_gave_none(edge: Edge, model: MakeModel, path: str) -> None:
    edge.apply(model(0))
    answer = edge.ask(path, "POST")
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert 36 == len(answer.headers["x-request-id"])


@pytest.mark.parametrize(
    ("path", "allow"),
    [("/models/m/predict", "POST"), ("/v2/models/m/infer", "POST"), ("/models/m", "GET, HEAD"), ("/v2", "GET, HEAD")],
)
def test_a_refused_method_is_told_what_is_allowed(edge: Edge, model: MakeModel, path: str, allow: str) -> None:
    edge.apply(model(0))
    answer = edge.ask(path, "PUT")
    assert (405, allow) == (answer.status_code, answer.headers["allow"])


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused_and_reaches_no_replica_whole(
    edge: Edge, model: MakeModel, backends: dict[Slot, Backend], chunked: bool
) -> None:
    edge.apply(model(0))
    asked = backends[Slot.BLUE].asked
    piece = b"x" * 65_536
    content = (piece for _ in range(32)) if chunked else piece * 32
    answer = edge.client.post("/models/m/predict", content=content)
    is_problem(answer, 413, "larger than 1048576 bytes")
    assert asked == backends[Slot.BLUE].asked
    # The limit itself is allowed.
    assert 200 == edge.client.post("/models/m/predict", content=piece * 16).status_code


def test_headers_over_the_limits_are_refused(edge: Edge, model: MakeModel) -> None:
    edge.apply(model(0))
    is_problem(edge.client.post("/models/m/predict", headers={"x-long": "x" * 40_000}), 431, "32 KiB")
    is_problem(edge.client.post("/models/m/predict", headers={"under_score": "1"}), 400, "not valid HTTP")
    assert 431 == edge.client.post("/models/m/predict", headers={f"x-{n}": "1" for n in range(80)}).status_code


def test_a_model_without_replicas_is_unavailable_and_the_answer_says_so_at_once(edge: Edge) -> None:
    edge.apply(EdgeModel("m", 0, champion=Slot.BLUE))
    for headers in ({}, {"x_hotcold_variant": "green"}):
        answer = edge.ask("/models/m/predict", **headers)
        is_problem(answer, 503, "no healthy upstream")
        assert answer.elapsed.total_seconds() < 1


def test_a_model_that_is_not_released_is_known_but_unavailable(edge: Edge, model: MakeModel) -> None:
    edge.apply(model(None))
    answer = edge.ask("/models/m/predict")
    is_problem(answer, 503, "try again")
    assert "5" == answer.headers["retry-after"]


def test_a_replica_that_is_not_ready_is_not_asked_even_if_it_is_the_only_one(edge: Edge) -> None:
    backend = Backend("blue")
    try:
        backend.ready.clear()
        waiting = EdgeModel("late", 0, blue=(backend.endpoint,))
        # It is no healthy replica, so the edge is up to date when Envoy knows its address.
        wait_until(lambda: edge.tick(waiting) or edge.control.hosts("late", Slot.BLUE), "Envoy knows the address")
        wait_until(lambda: edge.tick(waiting) or edge.control.confirmed, "the route is in force")
        is_problem(edge.ask("/models/late/predict"), 503, "no healthy upstream")
        assert 0 == backend.asked
        backend.ready.set()
        edge.apply(waiting)
        assert "blue" == edge.who("/models/late/predict")
    finally:
        backend.close()


def test_a_dead_replica_of_two_costs_no_answer(edge: Edge) -> None:
    dead, alive = Backend("blue"), Backend("blue")
    try:
        edge.apply(EdgeModel("m", 0, blue=(dead.endpoint, alive.endpoint)))
        assert {200} == {edge.ask("/models/m/predict").status_code for _ in range(20)}
        dead.close()
        assert {200} == {edge.ask("/models/m/predict").status_code for _ in range(50)}
    finally:
        alive.close()


def test_ten_switches_under_load_lose_no_request(edge: Edge, model: MakeModel) -> None:
    edge.apply(model(0))

    def request(index: int) -> tuple[str, dict[str, str], bytes]:
        return "/models/m/predict", {"x-entity-id": f"entity-{index % 97}"}, b"{}"

    with LoadClient(edge.url, request, rate_per_s=300.0, connections=4, limit=100_000) as load:
        wait_until(lambda: len(load.results()) > 50, "the first requests")
        for number in range(10):
            slot = Slot.BLUE if number % 2 else Slot.GREEN
            edge.apply(model(100 if slot is Slot.GREEN else 0))
            seen = len(load.results())
            wait_until(lambda seen=seen: len(load.results()) > seen + 40, "requests after the switch")
            assert {slot.value} == {exchange.slot for exchange in load.results()[seen + 20 :]}
    exchanges = load.results()
    assert [] == [exchange for exchange in exchanges if exchange.failed]
    assert {"blue", "green"} == {exchange.slot for exchange in exchanges}
    changes = sum(one.slot != other.slot for one, other in itertools.pairwise(exchanges))
    assert changes >= 10


def test_replacing_a_replica_under_load_loses_no_request(edge: Edge) -> None:
    replicas = [Backend("blue"), Backend("blue")]

    def request(_: int) -> tuple[str, dict[str, str], bytes]:
        return "/models/m/predict", {}, b"{}"

    try:
        edge.apply(EdgeModel("m", 0, blue=(replicas[0].endpoint,)))
        with LoadClient(edge.url, request, rate_per_s=200.0, connections=4, limit=100_000) as load:
            wait_until(lambda: len(load.results()) > 30, "the first requests")
            edge.apply(EdgeModel("m", 0, blue=tuple(found.endpoint for found in replicas)))
            edge.apply(EdgeModel("m", 0, blue=(replicas[1].endpoint,)))
            asked, seen = replicas[0].asked, len(load.results())
            wait_until(lambda: len(load.results()) > seen + 50, "requests without the first replica")
            assert replicas[0].asked <= asked + 4
        assert [] == [exchange for exchange in load.results() if exchange.failed]
    finally:
        for found in replicas:
            found.close()


def refused_document(name: str = "m") -> dict[str, Any]:
    """Routes to a cluster that does not exist."""
    return route_document([EdgeModel("nowhere", 0), EdgeModel(name, 100)])


def test_routes_that_envoy_refuses_leave_the_old_ones_in_force(own_edge: Edge, model: MakeModel) -> None:
    own_edge.apply(model(0))
    in_force = own_edge.admin.read_route_version()
    own_edge.files.write("rds.json", refused_document())
    wait_until(lambda: own_edge.rejected() == 1, "Envoy refuses the routes")
    assert in_force == own_edge.admin.read_route_version()
    assert "blue" == own_edge.who("/models/m/predict", x_entity_id="entity-1")
    # The next change is taken as if nothing had been.
    own_edge.apply(model(100))
    assert "green" == own_edge.who("/models/m/predict", x_entity_id="entity-1")


def test_routes_that_envoy_did_not_take_are_reported_and_written_again(
    own_edge: Edge, model: MakeModel, caplog: pytest.LogCaptureFixture
) -> None:
    own_edge.apply(model(0))
    own_edge.control = EdgeControl(own_edge.files, own_edge.admin)
    with own_edge.paused():
        own_edge.control.apply([model(100)])
        # Another hand was at the file before Envoy read it.
        own_edge.files.write("rds.json", refused_document())
    wait_until(lambda: own_edge.rejected() >= 1, "Envoy refuses the routes")
    own_edge.control.look()
    assert not own_edge.control.confirmed
    assert "blue" == own_edge.who("/models/m/predict")
    with caplog.at_level(logging.ERROR, "hotcold.agent"):
        own_edge.apply(model(100))
    assert "green" == own_edge.who("/models/m/predict")
    [record] = caplog.records
    version = route_document([model(100)])["version_info"]
    assert f"Envoy has not taken routes {version}" in record.reason  # type: ignore[attr-defined]


def test_an_envoy_that_hangs_does_not_hold_the_controller_up(own_edge: Edge, model: MakeModel) -> None:
    own_edge.apply(model(0))
    own_edge.control.look()
    with own_edge.paused():
        began_s = time.monotonic()
        own_edge.control.apply([model(100)])
        # One question to the admin page may run into its limit of one second, not one after the other.
        assert time.monotonic() - began_s < 3
        own_edge.control.look()
        assert not own_edge.control.confirmed
    own_edge.apply(model(100))


@pytest.mark.parametrize("damage", ["refused", "not JSON", "gone"])
def test_damaged_routes_are_written_again_when_envoy_comes_back_without_any(
    own_edge: Edge, model: MakeModel, damage: str
) -> None:
    own_edge.apply(model(0))
    own_edge.tick(model(0))
    own_edge.kill()
    path = own_edge.settings.edge_dir / "rds.json"
    if damage == "refused":
        own_edge.files.write("rds.json", refused_document())
    elif damage == "not JSON":
        path.write_bytes(path.read_bytes()[:100])
    else:
        path.unlink()
    own_edge.tick(model(0))
    own_edge.start()
    wait_until(lambda: own_edge.tick(model(0)), "the routes are in force again", timeout_s=10)
    assert "blue" == own_edge.who("/models/m/predict")


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    files = EdgeFiles(tmp_path / "edge")
    ports = (Endpoint("127.0.0.1", 4001), Endpoint("127.0.0.1", 4002))
    models = [EdgeModel("m", 30, champion=Slot.BLUE), EdgeModel("m-green", 0), EdgeModel("n", None)]
    files.write_routes(models)
    for slot, endpoints in {Slot.BLUE: ports, Slot.GREEN: ()}.items():
        files.write_endpoints("m", slot, endpoints)
        assert frozenset(endpoints) == files.read_endpoints("m", slot)
    assert [30, 0, None, None] == [files.read_green_pct(name) for name in ("m", "m-green", "n", "unknown")]
    assert frozenset() == files.read_endpoints("unknown", Slot.BLUE)
    assert route_document(models) == files.read("rds.json")


def test_a_file_that_cannot_be_read_counts_as_none(tmp_path: Path) -> None:
    files = EdgeFiles(tmp_path)
    for content in (b"", b"{", b"[]", b"\xff\xfe"):
        (tmp_path / "rds.json").write_bytes(content)
        (tmp_path / "eds-m-blue.json").write_bytes(content)
        assert files.read_green_pct("m") is None
        assert frozenset() == files.read_endpoints("m", Slot.BLUE)


def test_an_unchanged_file_is_not_written_again_unless_asked(tmp_path: Path) -> None:
    files = EdgeFiles(tmp_path)
    models = [EdgeModel("m", 30)]
    version = files.write_routes(models)
    inode = (tmp_path / "rds.json").stat().st_ino
    assert version == files.write_routes(models)
    assert inode == (tmp_path / "rds.json").stat().st_ino
    assert version == files.write("rds.json", route_document(models), again=True)
    assert inode != (tmp_path / "rds.json").stat().st_ino
    assert ["rds.json"] == [path.name for path in tmp_path.iterdir()]


def test_a_folder_that_is_a_file_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "edge").write_text("in the way")
    with pytest.raises(EdgeError, match=r"cannot write .*/edge/rds.json: .*; the edge goes on with the file before. Free"):
        EdgeFiles(tmp_path / "edge").write_routes([])
    assert "in the way" == (tmp_path / "edge").read_text()


def fill(folder: Path) -> Path:
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            return filler
    raise AssertionError("the disk is never full")


def test_a_full_disk_leaves_the_file_before_and_says_so(tmp_path: Path) -> None:
    with small_disk(tmp_path / "edge") as folder:
        files = EdgeFiles(folder)
        files.write_routes([EdgeModel("m", 0)])
        filler = fill(folder)
        with pytest.raises(EdgeError, match=r"No space left on device; the edge goes on with the file before\. Free the disk"):
            files.write_routes([EdgeModel("m", 100)])
        assert 0 == files.read_green_pct("m")
        assert {"rds.json", "filler"} == {path.name for path in folder.iterdir()}
        filler.unlink()
        files.write_routes([EdgeModel("m", 100)])
        assert 100 == files.read_green_pct("m")


def test_a_read_only_disk_leaves_the_file_before_and_says_so(tmp_path: Path) -> None:
    with small_disk(tmp_path / "edge") as folder:
        files = EdgeFiles(folder)
        files.write_routes([EdgeModel("m", 0)])
        subprocess.run(("mount", "-o", "remount,ro", str(folder)), check=True)
        with pytest.raises(EdgeError, match=r"Read-only file system; .* make it writable"):
            files.write_routes([EdgeModel("m", 100)])
        assert 0 == files.read_green_pct("m")


def test_on_a_full_disk_the_edge_goes_on_trouble_is_told_once_and_the_switch_happens_when_there_is_room(
    tmp_path: Path, model: MakeModel, caplog: pytest.LogCaptureFixture
) -> None:
    with small_disk(tmp_path / "home" / "edge", "1m") as folder, running_edge(tmp_path / "home") as edge:
        edge.apply(model(0))
        filler = fill(folder)
        with caplog.at_level(logging.ERROR, "hotcold.agent"):
            for _ in range(5):
                assert not edge.tick(model(100))
        assert 1 == len(caplog.records)
        assert "No space left on device" in caplog.records[0].reason  # type: ignore[attr-defined]
        # What was written is what counts: traffic is still all blue's.
        assert 0 == edge.control.routed("m") and edge.control.confirmed
        assert "blue" == edge.who("/models/m/predict")
        filler.unlink()
        edge.apply(model(100))
        assert "green" == edge.who("/models/m/predict")


def test_while_envoy_is_away_there_is_no_view_and_nothing_is_confirmed(tmp_path: Path, model: MakeModel) -> None:
    edge = Edge(tmp_path)
    try:
        assert edge.admin.read_view() is None
        assert "" == edge.admin.read_route_version()
        assert not edge.tick(model(30))
        # It is written all the same, so that Envoy finds it when it comes.
        assert 30 == edge.control.routed("m") == edge.files.read_green_pct("m")
        assert frozenset(model(30).blue) == edge.control.hosts("m", Slot.BLUE)
        assert not edge.control.confirmed
        edge.start()
        edge.apply(model(30))
        assert {cluster_name("m", slot) for slot in Slot} <= edge.control.view.clusters  # type: ignore[union-attr]
    finally:
        edge.close()


def test_a_new_controller_takes_over_what_envoy_has_without_a_change(edge: Edge, model: MakeModel) -> None:
    edge.apply(model(30))
    inode = (edge.settings.edge_dir / "rds.json").stat().st_ino
    next_control = EdgeControl(EdgeFiles(edge.settings.edge_dir), edge.admin)
    assert 30 == next_control.routed("m")
    next_control.look()
    next_control.apply([model(30)])
    assert next_control.confirmed
    assert inode == (edge.settings.edge_dir / "rds.json").stat().st_ino
