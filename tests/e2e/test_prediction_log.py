"""A real replica with a prediction log: every answer is found there, with what was asked and what was said."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from hotcold.adapters.packages import package_dir
from hotcold.adapters.prediction_reader import PredictionReader
from hotcold.domain.package import Manifest
from hotcold.domain.prediction import Origin, hash_features
from tests.fixtures.data_plane import DataPlane, wait_until
from tests.fixtures.packages import GOOD_RECORD, MODEL, SCHEMA, make_rows
from tests.fixtures.replicas import Replica, running_replica

PREDICT, INFER = f"/models/{MODEL}/predict", f"/v2/models/{MODEL}/infer"
GOOD_BODY = json.dumps({"records": [GOOD_RECORD]}).encode()
STAGES = ("pre_us", "infer_us", "post_us")
WIDTH = len(SCHEMA.fields)
Row = dict[str, Any]


@pytest.fixture(scope="module")
def src(small_package: Manifest, bento_home: Path) -> Path:
    return package_dir(small_package.ref, bento_home)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("predictions")


@pytest.fixture(scope="module")
def replica(src: Path, root: Path) -> Iterator[Replica]:
    with logging_replica(src, root, "w1") as started:
        yield started


@pytest.fixture
def client(replica: Replica) -> Iterator[httpx.Client]:
    with open_client(replica) as opened:
        yield opened


def logging_replica(src: Path, root: Path, writer: str, **options: Any) -> Any:
    document = {"root": str(root), "writer": writer, "flush_s": 0.05, **options}
    return running_replica(src, slot="green", HOTCOLD_REPLICA_LOG=json.dumps(document))


def open_client(replica: Replica) -> httpx.Client:
    return httpx.Client(base_url=replica.url, trust_env=False, timeout=10, headers={"content-type": "application/json"})


def rows_of(root: Path, request_id: str) -> list[Row]:
    pieces = [piece for piece, _ in PredictionReader(root, MODEL).read()]
    return [row for piece in pieces for row in piece.table.to_pylist() if row["request_id"] == request_id]


def logged(root: Path, request_id: str) -> Row:
    """The one row of a request, as soon as it is there."""
    wait_until(lambda: rows_of(root, request_id), f"request {request_id} is logged")
    (row,) = rows_of(root, request_id)
    return row


def tensor_of(matrix: np.ndarray) -> Row:
    data = [None if np.isnan(value) else float(value) for value in matrix.ravel()]
    return {"name": "features", "datatype": "FP32", "shape": list(matrix.shape), "data": data}


class TestServed:
    def test_a_good_answer(self, client: httpx.Client, root: Path) -> None:
        before_s = time.time()
        headers = {"x-request-id": "good", "x-entity-id": "UA1545", "x-hotcold-segment": "gold"}
        answer = client.post(PREDICT, content=GOOD_BODY, headers=headers)
        row = logged(root, "good")
        assert ("good", 200, False, "UA1545", "gold", 0) == tuple(
            row[name] for name in ("request_id", "status", "shadow", "entity", "segment", "dropped")
        )
        assert [pytest.approx(score) for score in answer.json()["scores"]] == row["scores"]
        assert before_s - 0.001 <= row["at"].timestamp() <= time.time()
        expected = np.array([915, 1089, 2, 1, 11.5, np.nan], np.float32)
        assert np.array_equal(expected, np.array(row["features"], np.float32), equal_nan=True)
        assert hash_features(expected.tobytes()) == row["features_hash"]

    def test_timings_are_those_that_the_caller_sees(self, client: httpx.Client, root: Path) -> None:
        answer = client.post(PREDICT, content=GOOD_BODY, headers={"x-request-id": "timed"})
        seen_us = [float(part.partition("dur=")[2]) * 1e3 for part in answer.headers["server-timing"].split(",")]
        row = logged(root, "timed")
        assert seen_us == pytest.approx([row[stage] for stage in ("pre_us", "infer_us", "post_us")], abs=1.0)
        assert row["infer_us"] > 0

    def test_who_answered(self, client: httpx.Client, root: Path, small_package: Manifest) -> None:
        client.post(PREDICT, content=GOOD_BODY, headers={"x-request-id": "who"})
        logged(root, "who")
        (origin,) = {piece.origin for piece, _ in PredictionReader(root, MODEL).read()}
        assert Origin(MODEL, "1.0.0", small_package.digest, "green", SCHEMA.fingerprint, WIDTH, "w1") == origin

    @pytest.mark.parametrize("rows", [2, 1000])
    def test_a_tensor_with_many_rows(self, client: httpx.Client, root: Path, rows: int) -> None:
        """Also when it is scored in another thread."""
        matrix = make_rows(rows, seed=5)[0]
        body = json.dumps({"inputs": [tensor_of(matrix)]}).encode()
        answer = client.post(INFER, content=body, headers={"x-request-id": f"rows-{rows}"})
        row = logged(root, f"rows-{rows}")
        assert np.array_equal(np.array(answer.json()["outputs"][0]["data"], np.float32), np.array(row["scores"], np.float32))
        assert hash_features(matrix.tobytes()) == row["features_hash"]

    def test_the_id_is_the_one_that_the_caller_got(self, client: httpx.Client, root: Path) -> None:
        answer = client.post(PREDICT, content=GOOD_BODY, headers={"x-request-id": "<strange>"})
        assert 200 == logged(root, answer.headers["x-request-id"])["status"]


class TestShadow:
    @pytest.mark.parametrize(("value", "expected"), [("1", True), ("0", False)])
    def test_a_copy_is_marked(self, client: httpx.Client, root: Path, value: str, expected: bool) -> None:
        client.post(PREDICT, content=GOOD_BODY, headers={"x-request-id": f"copy-{value}", "x-hotcold-shadow": value})
        assert expected is logged(root, f"copy-{value}")["shadow"]

    def test_a_tester_is_marked(self, client: httpx.Client, root: Path) -> None:
        for name, headers in (("tester", {"x-hotcold-variant": "green"}), ("consumer", {})):
            client.post(PREDICT, content=GOOD_BODY, headers={"x-request-id": name, **headers})
        assert (True, False) == (logged(root, "tester")["tester"], logged(root, "consumer")["tester"])

    def test_pairs_have_the_same_hash(self, client: httpx.Client, root: Path) -> None:
        for shadow in ("0", "1"):
            client.post(PREDICT, content=GOOD_BODY, headers={"x-request-id": "pair", "x-hotcold-shadow": shadow})
        wait_until(lambda: len(rows_of(root, "pair")) == 2, "both are logged")
        assert 1 == len({row["features_hash"] for row in rows_of(root, "pair")})


class TestWrongRequests:
    """What the caller did wrong is in the log by its status; so is what we did wrong."""

    @pytest.mark.parametrize(
        ("name", "method", "path", "body", "status"),
        [
            ("no-json", "POST", PREDICT, b"{", 400),
            ("feature", "POST", PREDICT, b'{"records":[{"distance":1}]}', 422),
            ("infer", "POST", INFER, b"{}", 422),
            ("large", "POST", PREDICT, b" " * 2**21, 413),
            ("method", "PUT", PREDICT, b"", 405),
            ("model", "POST", "/models/other/predict", GOOD_BODY, 404),
        ],
    )
    def test_it_is_logged_without_scores(
        self, client: httpx.Client, root: Path, name: str, method: str, path: str, body: bytes, status: int
    ) -> None:
        headers = {"x-request-id": name, "x-entity-id": "e"}
        assert status == client.request(method, path, content=body, headers=headers).status_code
        row = logged(root, name)
        assert (status, "e", None, None, None, 0) == tuple(
            row[key] for key in ("status", "entity", "scores", "features", "features_hash", "infer_us")
        )

    @pytest.mark.parametrize(
        "path", ["/readyz", "/metrics", "/v2", f"/models/{MODEL}", f"/v2/models/{MODEL}/ready", "/nowhere"]
    )
    def test_what_asks_for_no_score_is_not_logged(self, client: httpx.Client, root: Path, path: str) -> None:
        client.get(path, headers={"x-request-id": "probe"})
        client.post(PREDICT, content=GOOD_BODY, headers={"x-request-id": f"after{path.replace('/', '-')}"})
        logged(root, f"after{path.replace('/', '-')}")
        assert [] == rows_of(root, "probe")

    def test_headers_as_long_as_a_server_takes_them_are_cut(self, client: httpx.Client, root: Path) -> None:
        headers = {"x-request-id": "long", "x-entity-id": "e" * 8000, "x-hotcold-segment": "s" * 8000}
        client.post(PREDICT, content=GOOD_BODY, headers=headers)
        row = logged(root, "long")
        assert ("e" * 256, "s" * 64) == (row["entity"], row["segment"])


def metric(client: httpx.Client, name: str) -> float:
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith(f"hotcold_prediction_log_{name}")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def test_counts_are_exported(client: httpx.Client, root: Path) -> None:
    before = metric(client, "answers_total")
    client.post(PREDICT, content=GOOD_BODY, headers={"x-request-id": "counted"})
    logged(root, "counted")
    wait_until(lambda: metric(client, "answers_total") == before + 1, "it is counted")
    assert "text/plain; version=0.0.4; charset=utf-8" == client.get("/metrics").headers["content-type"]
    assert 0 == metric(client, "dropped_total") and metric(client, "bytes_total") > 0 and 1 == metric(client, "segments_total")


def test_sigterm_writes_what_waits_and_closes_the_segment(src: Path, tmp_path: Path) -> None:
    with logging_replica(src, tmp_path, "w1", flush_s=60.0) as replica, open_client(replica) as client:
        for number in range(20):
            client.post(PREDICT, content=GOOD_BODY, headers={"x-request-id": str(number)})
        assert 20 == metric(client, "queued")
        os.kill(replica.process.pid, signal.SIGTERM)
        assert 0 == replica.process.wait(10)
    ((piece, _),) = PredictionReader(tmp_path, MODEL).read()
    assert [str(number) for number in range(20)] == piece.table["request_id"].to_pylist()
    assert piece.is_done and not piece.is_torn


@pytest.mark.e2e
def test_what_the_edge_answered_is_in_the_logs_of_the_agents_replicas(data_plane: DataPlane, small_package: Manifest) -> None:
    """Every answer once, by one of two replicas; smoke tests and probes are told apart."""
    data_plane.promote(small_package)
    with data_plane.load(small_package.model) as load:
        wait_until(lambda: len(load.results()) > 200, "some requests")
    answered = len(load.results())
    reader = PredictionReader(data_plane.settings.prediction_dir, small_package.model)

    def rows() -> list[Row]:
        return [row for piece, _ in reader.read() for row in piece.table.to_pylist() if row["entity"] and not row["tester"]]

    wait_until(lambda: len(rows()) >= answered, "all answers are logged")
    assert answered == len({row["request_id"] for row in rows()}) == len(rows())
    assert {f"entity-{number % 997}" for number in range(answered)} == {row["entity"] for row in rows()}
    pieces = [piece for piece, _ in reader.read()]
    assert 2 == len({piece.origin.writer for piece in pieces})
    assert {("blue", small_package.digest)} == {(piece.origin.slot, piece.origin.digest) for piece in pieces}
    assert any(row["tester"] for piece in pieces for row in piece.table.to_pylist())


@pytest.mark.slow
def test_a_killed_replica_has_lost_less_than_a_second(src: Path, tmp_path: Path) -> None:
    """As the agent starts it, under load, with the options as they are by default."""
    acknowledged: dict[str, float] = {}
    with running_replica(src, HOTCOLD_REPLICA_LOG=json.dumps({"root": str(tmp_path), "writer": "w1"})) as replica:

        def ask() -> None:
            with open_client(replica) as client:
                for number in range(100_000):
                    try:
                        client.post(PREDICT, content=GOOD_BODY, headers={"x-request-id": str(number)})
                    except httpx.TransportError:
                        return
                    acknowledged[str(number)] = time.time()

        caller = threading.Thread(target=ask)
        caller.start()
        wait_until(lambda: rows_of(tmp_path, "500"), "500 answers are logged")
        os.kill(replica.process.pid, signal.SIGKILL)
        killed_s = time.time()
        caller.join()
    ((piece, _),) = PredictionReader(tmp_path, MODEL).read()
    ids = piece.table["request_id"].to_pylist()
    assert [str(number) for number in range(len(ids))] == ids
    lost = [at_s for number, at_s in acknowledged.items() if int(number) >= len(ids)]
    assert killed_s - min(lost, default=killed_s) < 1.0


def test_a_disk_that_takes_nothing_costs_no_answer(src: Path, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file where the folder should be")
    with logging_replica(src, tmp_path / "log", "w1") as replica, open_client(replica) as client:
        for _ in range(50):
            assert 200 == client.post(PREDICT, content=GOOD_BODY).status_code
        wait_until(lambda: metric(client, "dropped_total") == 50, "all are counted as dropped")
        assert 1 == replica.log.read_text().count("the prediction log cannot be written")


@pytest.mark.slow
def test_what_bentoml_gave_up_is_logged_as_the_caller_saw_it(src: Path, tmp_path: Path) -> None:
    """Stopped in the midst of large requests for longer than two seconds: BentoML answers those itself, with 504."""
    body = json.dumps({"inputs": [tensor_of(make_rows(1000, seed=3)[0])]}).encode()
    with logging_replica(src, tmp_path, "w1") as replica, open_client(replica) as client:
        seen: dict[str, int] = {}

        def ask(request_id: str) -> None:
            seen[request_id] = client.post(INFER, content=body, headers={"x-request-id": request_id}).status_code

        ask("first")
        for heap in range(10):
            callers = [threading.Thread(target=ask, args=(f"{heap}-{number}",)) for number in range(50)]
            for caller in callers:
                caller.start()
            # A moment at which some are under way; with the next heap another one, if none was.
            time.sleep(0.02 * (heap + 1))
            os.kill(replica.process.pid, signal.SIGSTOP)
            # BentoML's own limit, and a little.
            time.sleep(2.2)
            os.kill(replica.process.pid, signal.SIGCONT)
            for caller in callers:
                caller.join()
            if 504 in seen.values():
                break
        assert {200, 504} == {*seen.values()}
    rows = [row for piece, _ in PredictionReader(tmp_path, MODEL).read() for row in piece.table.to_pylist()]
    assert seen == {row["request_id"]: row["status"] for row in rows}
    assert len(seen) == len(rows)
    assert all(row["scores"] is None for row in rows if row["status"] == 504)
    # Not of all of them: the replica looked at some when it was woken, and their time was over.
    assert max(sum(row[stage] for stage in STAGES) for row in rows if row["status"] == 504) > 1_900_000


def test_without_the_variable_nothing_is_logged(src: Path) -> None:
    with running_replica(src) as replica, open_client(replica) as client:
        assert 200 == client.post(PREDICT, content=GOOD_BODY).status_code
        assert (200, "") == (client.get("/metrics").status_code, client.get("/metrics").text)
        libraries = Path(f"/proc/{replica.process.pid}/maps").read_text()
    assert "libarrow" not in libraries


def test_options_that_cannot_be_understood_end_the_replica(src: Path, tmp_path: Path) -> None:
    for text in ("{", "[]", "{}", '{"root": "x", "unknown": 1}'):
        with pytest.raises(AssertionError, match="the scorer ended"), running_replica(src, HOTCOLD_REPLICA_LOG=text):
            pass
