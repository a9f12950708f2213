"""A real replica process: what clients see, also those that send nonsense, and that none of it harms the process."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from hotcold.adapters.package_files import read_reference
from hotcold.adapters.packages import package_dir
from hotcold.domain.inference import MAX_BODY_BYTES, MAX_ROWS
from hotcold.domain.package import PARITY_LIMIT, Manifest
from tests.fixtures.packages import GOOD_RECORD, MODEL, SCHEMA, make_rows
from tests.fixtures.replicas import Replica, replica_environment, running_replica

PREDICT, INFER = f"/models/{MODEL}/predict", f"/v2/models/{MODEL}/infer"
WIDTH = len(SCHEMA.fields)
GOOD_BODY = json.dumps({"records": [GOOD_RECORD]}).encode()
GOOD_TENSOR = {"name": "features", "datatype": "FP32", "shape": [1, WIDTH], "data": [915, 1089, 2, 1, 11.5, None]}


@pytest.fixture(scope="module")
def src(small_package: Manifest, bento_home: Path) -> Path:
    return package_dir(small_package.ref, bento_home)


@pytest.fixture(scope="module")
def replica(src: Path) -> Iterator[Replica]:
    with running_replica(src, slot="green") as started:
        yield started


@pytest.fixture
def client(replica: Replica) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=replica.url, trust_env=False, timeout=10) as opened:
        yield opened


def post(client: httpx.Client, path: str, content: bytes, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(path, content=content, headers={"content-type": "application/json", **named})


def score(client: httpx.Client) -> float:
    return float(post(client, PREDICT, GOOD_BODY).json()["scores"][0])


def records_of(matrix: np.ndarray) -> list[dict[str, Any]]:
    return [
        {
            field.name: None
            if np.isnan(value)
            else (
                field.categories[int(value)] if field.categories else (int(value) if field.dtype == "int32" else float(value))
            )
            for field, value in zip(SCHEMA.fields, row, strict=True)
        }
        for row in matrix
    ]


class TestGoodRequests:
    """Both kinds of request give the scores that were stored when the package was built."""

    def test_predict(self, client: httpx.Client, small_package: Manifest, src: Path) -> None:
        sample, expected = read_reference(src, small_package)
        answer = post(client, PREDICT, json.dumps({"records": records_of(sample)}).encode())
        assert (200, "application/json") == (answer.status_code, answer.headers["content-type"])
        assert (MODEL, "1.0.0") == (answer.json()["model"], answer.json()["version"])
        assert np.abs(np.array(answer.json()["scores"]) - expected).max() <= PARITY_LIMIT

    def test_infer(self, client: httpx.Client) -> None:
        answer = post(client, INFER, json.dumps({"id": "a1", "inputs": [GOOD_TENSOR]}).encode())
        document = answer.json()
        assert (200, "a1", MODEL, "1.0.0") == (
            answer.status_code,
            document["id"],
            document["model_name"],
            document["model_version"],
        )
        assert [score(client)] == document["outputs"][0]["data"]

    @pytest.mark.parametrize("version", ["1.0.0", "1"])
    def test_a_version_may_be_named(self, client: httpx.Client, version: str) -> None:
        path = f"/v2/models/{MODEL}/versions/{version}"
        assert 200 == post(client, f"{path}/infer", json.dumps({"inputs": [GOOD_TENSOR]}).encode()).status_code
        assert 200 == client.get(f"{path}/ready").status_code
        assert MODEL == client.get(path).json()["name"]

    @pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)])
    def test_a_compressed_body_is_read(self, client: httpx.Client, encoding: str, pack: Any) -> None:
        answer = post(client, PREDICT, pack(GOOD_BODY), content_encoding=encoding)
        assert [score(client)] == answer.json()["scores"]

    def test_a_body_in_pieces_is_read(self, client: httpx.Client) -> None:
        pieces = (GOOD_BODY[i : i + 7] for i in range(0, len(GOOD_BODY), 7))
        answer = client.post(PREDICT, content=pieces, headers={"content-type": "application/json; charset=utf-8"})
        assert 200 == answer.status_code

    def test_the_largest_request_is_answered(self, client: httpx.Client) -> None:
        rows = make_rows(MAX_ROWS, seed=3)[0]
        answer = post(client, PREDICT, json.dumps({"records": records_of(rows)}).encode())
        assert MAX_ROWS == len(answer.json()["scores"])

    def test_the_model_is_described(self, client: httpx.Client, small_package: Manifest) -> None:
        document = client.get(f"/models/{MODEL}").json()
        assert ("1.0.0", 1, small_package.digest, "green", "package") == tuple(
            document[key] for key in ("version", "registry_version", "digest", "variant", "code")
        )
        assert (small_package.measured.hot_engine, SCHEMA.to_json()) == (document["engine"], document["schema"])

    @pytest.mark.parametrize(
        "path", ["/readyz", "/v2", "/v2/health/live", "/v2/health/ready", f"/v2/models/{MODEL}", f"/v2/models/{MODEL}/ready"]
    )
    def test_health_and_metadata(self, client: httpx.Client, path: str) -> None:
        assert 200 == client.get(path).status_code
        head = client.head(path)
        assert (200, b"") == (head.status_code, head.content)


class TestHeaders:
    """Every answer says who gave it, to which request, and how long its parts took."""

    @pytest.mark.parametrize(
        ("method", "path", "body", "status"),
        [
            ("POST", PREDICT, GOOD_BODY, 200),
            ("POST", PREDICT, b"{", 400),
            ("GET", "/readyz", b"", 200),
            ("GET", "/nowhere", b"", 404),
            ("PUT", PREDICT, b"", 405),
        ],
    )
    def test_every_answer_carries_them(
        self, client: httpx.Client, small_package: Manifest, method: str, path: str, body: bytes, status: int
    ) -> None:
        answer = client.request(method, path, content=body, headers={"content-type": "application/json", "x-request-id": "a-1"})
        assert status == answer.status_code
        assert ("a-1", "1.0.0", "green", small_package.digest[:12]) == tuple(
            answer.headers[name] for name in ("x-request-id", "x-model-version", "x-variant", "x-package-digest")
        )
        timing = re.fullmatch(r"pre;dur=([\d.]+), infer;dur=([\d.]+), post;dur=([\d.]+)", answer.headers["server-timing"])
        assert timing is not None
        assert (float(timing[2]) > 0) == (status == 200 and method == "POST")

    @pytest.mark.parametrize("sent", ["", "x" * 129, "a b", "<script>", "é"])
    def test_a_strange_request_id_is_replaced(self, client: httpx.Client, sent: str) -> None:
        headers = [(b"content-type", b"application/json"), (b"x-request-id", sent.encode())]
        answers = [client.post(PREDICT, content=GOOD_BODY, headers=headers) for _ in range(2)]
        ids = {answer.headers["x-request-id"] for answer in answers}
        assert 2 == len(ids) and all(re.fullmatch("[0-9a-f]{32}", one) for one in ids)


BAD = {
    "unknown model": ("/models/other/predict", GOOD_BODY, {}, 404, None),
    "unknown model in infer": ("/v2/models/other/infer", b"{}", {}, 404, None),
    "unknown version": (f"/v2/models/{MODEL}/versions/9.9.9/infer", b"{}", {}, 404, None),
    "unknown path": ("/v2/repository/index", b"", {}, 404, None),
    "path with dots": ("/models/../../etc/passwd", b"", {}, 404, None),
    "path with a null byte": (f"/models/{MODEL}%00/predict", GOOD_BODY, {}, 404, None),
    "empty body": (PREDICT, b"", {}, 400, None),
    "half a body": (PREDICT, GOOD_BODY[:-1], {}, 400, None),
    "not JSON": (PREDICT, b"\x80\x04\x95", {}, 400, None),
    "deep JSON": (PREDICT, b"[" * 200_000, {}, 400, None),
    "deep JSON in a record": (PREDICT, b'{"records":[{"distance":' + b"[" * 900 + b"]" * 900 + b"}]}", {}, 422, "carrier"),
    "null": (PREDICT, b"null", {}, 400, None),
    "no record": (PREDICT, b'{"records":[]}', {}, 422, "records"),
    "too many records": (PREDICT, b'{"records":[' + b"{}," * MAX_ROWS + b"{}]}", {}, 413, "records"),
    "large body": (PREDICT, b" " * (2 * 2**20), {}, 413, None),
    "missing feature": (PREDICT, b'{"records":[{"distance":1}]}', {}, 422, "carrier"),
    "extra feature": (PREDICT, json.dumps({"records": [{**GOOD_RECORD, "dep_delay": 3}]}).encode(), {}, 422, "dep_delay"),
    "wrong type": (PREDICT, json.dumps({"records": [{**GOOD_RECORD, "distance": "far"}]}).encode(), {}, 422, "distance"),
    "unknown category": (PREDICT, json.dumps({"records": [{**GOOD_RECORD, "carrier": "ZZ"}]}).encode(), {}, 422, "carrier"),
    "null where not allowed": (
        PREDICT,
        json.dumps({"records": [{**GOOD_RECORD, "distance": None}]}).encode(),
        {},
        422,
        "distance",
    ),
    "NaN": (PREDICT, json.dumps({"records": [{**GOOD_RECORD, "distance": float("nan")}]}).encode(), {}, 400, None),
    "infinity": (PREDICT, json.dumps({"records": [{**GOOD_RECORD, "distance": float("inf")}]}).encode(), {}, 400, None),
    "1e40": (PREDICT, json.dumps({"records": [{**GOOD_RECORD, "distance": 1e40}]}).encode(), {}, 422, "distance"),
    "a key twice": (PREDICT, GOOD_BODY[:-3] + b',"distance":1}]}', {}, 400, "distance"),
    "wrong shape": (INFER, json.dumps({"inputs": [{**GOOD_TENSOR, "shape": [2, WIDTH]}]}).encode(), {}, 422, "features"),
    "huge shape": (INFER, json.dumps({"inputs": [{**GOOD_TENSOR, "shape": [2**40, WIDTH]}]}).encode(), {}, 413, "features"),
    "wrong datatype": (INFER, json.dumps({"inputs": [{**GOOD_TENSOR, "datatype": "FP64"}]}).encode(), {}, 422, "features"),
    "wrong header length": (INFER, b"{}", {"inference-header-content-length": "-1"}, 400, "Inference-Header-Content-Length"),
    "wrong content type": (PREDICT, GOOD_BODY, {"content-type": "text/csv"}, 415, "content-type"),
    "multipart": (INFER, b"--x", {"content-type": "multipart/form-data; boundary=x"}, 415, "content-type"),
    "unknown content encoding": (PREDICT, GOOD_BODY, {"content-encoding": "br"}, 415, "content-encoding"),
    "not gzip": (PREDICT, GOOD_BODY, {"content-encoding": "gzip"}, 400, "content-encoding"),
    "half a gzip": (PREDICT, gzip.compress(GOOD_BODY)[:-9], {"content-encoding": "gzip"}, 400, "content-encoding"),
    "gzip bomb": (PREDICT, gzip.compress(bytes(300 * MAX_BODY_BYTES)), {"content-encoding": "gzip"}, 413, None),
}


class TestBadRequests:
    """A 4xx problem document that names what was wrong, and a process that goes on as before."""

    @pytest.mark.parametrize("name", BAD)
    def test_is_refused(self, client: httpx.Client, replica: Replica, name: str) -> None:
        path, body, headers, status, field = BAD[name]
        before = score(client)

        answer = client.post(path, content=body, headers={"content-type": "application/json", **headers})

        assert (status, "application/problem+json") == (answer.status_code, answer.headers["content-type"])
        problem = answer.json()
        assert (status, field) == (problem["status"], problem.get("field"))
        assert problem["request_id"] == answer.headers["x-request-id"]
        assert {"type", "title", "detail", "instance"} < problem.keys()
        assert not re.search(r"Traceback|\.py|site-packages", answer.text)
        assert before == score(client) and replica.process.poll() is None

    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
    def test_a_wrong_method_is_told_the_right_one(self, client: httpx.Client, method: str) -> None:
        answer = client.request(method, PREDICT)
        assert (405, "POST") == (answer.status_code, answer.headers["allow"])
        assert "application/problem+json" == answer.headers["content-type"]

    def test_a_method_that_http_does_not_know_is_refused(self, client: httpx.Client) -> None:
        """By the HTTP parser, before any of our code runs."""
        assert 400 == client.request("BREW", PREDICT).status_code
        assert 0 < score(client) < 1

    def test_no_content_type_is_refused(self, client: httpx.Client) -> None:
        assert 415 == client.post(PREDICT, content=GOOD_BODY).status_code

    def test_an_unannounced_large_body_is_cut_off(self, client: httpx.Client) -> None:
        pieces = (b" " * 65536 for _ in range(64))
        answer = client.post(PREDICT, content=pieces, headers={"content-type": "application/json"})
        assert 413 == answer.status_code

    def test_a_body_that_never_ends_is_refused_in_time(self, replica: Replica, client: httpx.Client) -> None:
        with socket.create_connection(("127.0.0.1", replica.port), timeout=10) as slow:
            head = f"POST {PREDICT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n"
            slow.sendall(head.encode() + b'{"records"')
            assert b"HTTP/1.1 400" == slow.recv(12)
        assert 0 < score(client) < 1

    def test_a_caller_who_goes_away_harms_nobody(self, replica: Replica, client: httpx.Client) -> None:
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", replica.port), timeout=10) as leaving:
                leaving.sendall(f"POST {PREDICT} HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\n".encode())
        assert 0 < score(client) < 1
        assert "Traceback" not in replica.log.read_text()

    def test_nothing_of_it_was_logged_as_our_fault(self, replica: Replica) -> None:
        assert not re.search(r"Traceback| ERROR ", replica.log.read_text())


class TestTritonClient:
    """NVIDIA's client works unchanged."""

    @pytest.fixture
    def triton(self, replica: Replica) -> Iterator[Any]:
        import tritonclient.http

        client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{replica.port}")
        yield client
        client.close()

    def test_metadata_and_health(self, triton: Any) -> None:
        assert triton.is_server_live() and triton.is_server_ready() and triton.is_model_ready(MODEL)
        assert triton.is_model_ready(MODEL, "1.0.0") and not triton.is_model_ready("other")
        assert "binary_tensor_data" in triton.get_server_metadata()["extensions"]
        metadata = triton.get_model_metadata(MODEL)
        assert [{"name": "features", "datatype": "FP32", "shape": [-1, WIDTH]}] == metadata["inputs"]
        assert [{"name": "scores", "datatype": "FP32", "shape": [-1]}] == metadata["outputs"]

    @pytest.mark.parametrize("binary_input", [True, False])
    @pytest.mark.parametrize("output", ["none", "json", "binary"])
    @pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
    def test_infer(
        self, triton: Any, small_package: Manifest, src: Path, binary_input: bool, output: str, compression: str | None
    ) -> None:
        from tritonclient.http import InferInput, InferRequestedOutput

        sample, expected = read_reference(src, small_package)
        # The client writes NaN into JSON, which is no JSON.
        rows = np.flatnonzero(np.isfinite(sample).all(axis=1) | binary_input)
        tensor = InferInput("features", [len(rows), WIDTH], "FP32")
        tensor.set_data_from_numpy(sample[rows], binary_data=binary_input)
        outputs = None if output == "none" else [InferRequestedOutput("scores", binary_data=output == "binary")]

        result = triton.infer(
            MODEL,
            [tensor],
            outputs=outputs,
            request_id="7",
            request_compression_algorithm=compression,
            response_compression_algorithm=compression,
        )

        scores = result.as_numpy("scores")
        assert ((len(rows),), np.float32) == (scores.shape, scores.dtype)
        assert np.abs(scores - expected[rows]).max() <= PARITY_LIMIT
        assert "7" == result.get_response()["id"]

    def test_an_error_reaches_the_caller(self, triton: Any) -> None:
        from tritonclient.http import InferInput
        from tritonclient.utils import InferenceServerException

        tensor = InferInput("features", [1, 2], "FP32")
        tensor.set_data_from_numpy(np.zeros((1, 2), dtype=np.float32))
        with pytest.raises(InferenceServerException, match=r"has shape \[1, 2\]; needed is \[rows, 6\]"):
            triton.infer(MODEL, [tensor])


def test_large_requests_do_not_stall_small_ones(replica: Replica, client: httpx.Client) -> None:
    """The small one's server-side time stays within a few milliseconds while large ones are computed."""
    large = json.dumps({"records": records_of(make_rows(MAX_ROWS, seed=3)[0])}).encode()
    done = threading.Event()

    def send_large() -> None:
        with httpx.Client(base_url=replica.url, trust_env=False, timeout=30) as other:
            while not done.is_set():
                post(other, PREDICT, large)

    sender = threading.Thread(target=send_large)
    sender.start()
    try:
        timings = [post(client, PREDICT, GOOD_BODY).headers["server-timing"] for _ in range(100)]
    finally:
        done.set()
        sender.join()
    totals = [sum(map(float, re.findall(r"dur=([\d.]+)", timing))) for timing in timings]
    assert statistics.median(totals) < 5


def test_sigterm_ends_a_replica_after_its_request(src: Path) -> None:
    with running_replica(src) as replica, socket.create_connection(("127.0.0.1", replica.port), timeout=10) as connection:
        head = (
            f"POST {PREDICT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(GOOD_BODY)}\r\n\r\n"
        )
        connection.sendall(head.encode() + GOOD_BODY[:10])
        wait_until(lambda: established(replica) == 1)
        os.kill(replica.process.pid, signal.SIGTERM)
        wait_until(lambda: not listening(replica))
        connection.sendall(GOOD_BODY[10:])
        assert b"HTTP/1.1 200" == connection.recv(12)
        assert 0 == replica.process.wait(10)


def established(replica: Replica) -> int:
    import psutil

    return sum(c.status == psutil.CONN_ESTABLISHED for c in psutil.Process(replica.process.pid).net_connections("tcp"))


def listening(replica: Replica) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", replica.port), timeout=1):
            return True
    except OSError:
        return False


def wait_until(condition: Any, timeout_s: float = 1.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


def test_a_taken_port_is_an_error_that_is_not_the_packages_fault(src: Path, replica: Replica, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "services.replica", "--port", str(replica.port)]
    done = subprocess.run(
        command, cwd=src, env=replica_environment(src, tmp_path), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode not in (0, 78) and "address already in use" in done.stderr
