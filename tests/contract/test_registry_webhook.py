"""The receiver of MLflow's webhook, over HTTP: what is not signed, too large or nonsense does nothing and learns nothing."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import uvicorn

from hotcold.domain.alias_watch import Ask
from hotcold.domain.errors import RegistryError, StackError
from hotcold.domain.registry_event import DELIVERY_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, sign
from services.registry_webhook import MAX_BODY_BYTES, PATH, Receiver, make_app, register_until_done
from tests.fixtures.stack import free_ports, wait_for

SECRET = "k7-secret-of-this-installation"


class Sights:
    """Stands in for `PromotionStart`, which tests/flows/test_watch_registry.py runs: here counts what gets as far as that."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, int | None, float]] = []
        self.failure: Exception | None = None

    def take(self, model: str, version: int | None, at: float) -> tuple[Ask, str]:
        if self.failure:
            raise self.failure
        self.taken.append((model, version, at))
        return Ask.PROMOTE, "started"


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[str, Sights]]:
    sights, (port,) = Sights(), free_ports(1)
    app = make_app(Receiver(SECRET, sights))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, access_log=False, ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_for(lambda: server.started, 20, "the receiver")
    yield f"http://127.0.0.1:{port}", sights
    server.should_exit = True
    thread.join()


@pytest.fixture
def url(running: tuple[str, Sights]) -> str:
    running[1].taken.clear()
    running[1].failure = None
    return running[0]


@pytest.fixture
def sights(running: tuple[str, Sights]) -> Sights:
    return running[1]


def event(action: str = "created", alias: str = "candidate", at: float | None = None) -> bytes:
    data = {"name": "flights", "alias": alias} | ({"version": "7"} if action == "created" else {})
    moment = datetime.fromtimestamp(time.time() if at is None else at, UTC)
    document = {"entity": "model_version_alias", "action": action, "timestamp": moment.isoformat(), "data": data}
    return json.dumps(document).encode()


def signed(body: bytes, secret: str = SECRET, age_s: float = 0.0) -> dict[str, str]:
    timestamp = str(int(time.time() - age_s))
    return {
        SIGNATURE_HEADER: sign(secret, "d-1", timestamp, body),
        TIMESTAMP_HEADER: timestamp,
        DELIVERY_HEADER: "d-1",
        "content-type": "application/json",
    }


def send(url: str, body: bytes, headers: dict[str, str], **request: Any) -> httpx.Response:
    return httpx.post(f"{url}{PATH}", content=body, headers=headers, trust_env=False, timeout=20, **request)


def refused(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The problem document, which holds no secret, path or trace."""
    assert (status, "application/problem+json") == (answer.status_code, answer.headers["content-type"])
    document = dict(answer.json())
    assert (status, {"type", "title", "status", "detail", "instance"} - document.keys()) == (document["status"], set())
    assert not [word for word in (SECRET, "Traceback", "/work", ".py", "v1,") if word in answer.text]
    return document


def test_a_delivery_that_mlflow_signed_is_taken(url: str, sights: Sights) -> None:
    now = time.time()
    for body in (event(at=now - 2), event("deleted", at=now - 1)):
        assert (204, b"") == ((answer := send(url, body, signed(body))).status_code, answer.content)
    assert [("flights", 7), ("flights", None)] == [(model, version) for model, version, _ in sights.taken]
    assert [now - 2, now - 1] == pytest.approx([at for *_, at in sights.taken], abs=1e-3)


def test_an_event_from_a_clock_that_is_ahead_counts_as_of_now(url: str, sights: Sights) -> None:
    body = event(at=time.time() + 100)
    assert 204 == send(url, body, signed(body)).status_code
    assert sights.taken[0][2] <= time.time()


def test_other_aliases_and_events_are_taken_and_do_nothing(url: str, sights: Sights) -> None:
    for body in (event(alias="champion"), b'{"entity": "prompt", "action": "created", "data": {}}'):
        assert 204 == send(url, body, signed(body)).status_code
    assert [] == sights.taken


@pytest.mark.parametrize("wrong", ["secret", "body", "old", "future", "signature", "timestamp", "delivery", "all"])
def test_what_is_not_signed_now_by_mlflow_is_refused_and_not_told_why(url: str, sights: Sights, wrong: str) -> None:
    body = event()
    headers = signed(
        body,
        secret="guess" if wrong == "secret" else SECRET,
        age_s={"old": 400.0, "future": -400.0}.get(wrong, 0.0),
    )
    for name, header in (("signature", SIGNATURE_HEADER), ("timestamp", TIMESTAMP_HEADER), ("delivery", DELIVERY_HEADER)):
        if wrong in (name, "all"):
            del headers[header]
    problem = refused(send(url, body + b" " if wrong == "body" else body, headers), 403)
    told = "the request was not signed just now with this installation's secret; MLflow signs what it sends"
    assert told == problem["detail"]
    assert [] == sights.taken


def test_garbage_is_refused_before_it_is_read_and_after(url: str, sights: Sights) -> None:
    for body in (b"", b"{", b"\xff\x00\xfe", b"[" * 10_000, b"[]"):
        refused(send(url, body, {}), 403)
        refused(send(url, body, signed(body)), 400)
    assert [] == sights.taken


def test_a_huge_body_is_refused_with_and_without_its_length(url: str, sights: Sights) -> None:
    huge = b"x" * (MAX_BODY_BYTES + 1)
    refused(send(url, huge, signed(huge)), 413)

    def pieces() -> Iterator[bytes]:
        for _ in range(64):
            yield b"x" * 1024

    answer = httpx.post(f"{url}{PATH}", content=pieces(), headers=signed(huge), trust_env=False, timeout=20)
    refused(answer, 413)
    assert [] == sights.taken


def test_a_body_that_does_not_come_is_not_waited_for(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf".encode())
        assert b"400 Bad Request" in connection.recv(4096)


def test_other_methods_and_paths_are_refused(url: str) -> None:
    answer = httpx.get(f"{url}{PATH}", trust_env=False)
    refused(answer, 405)
    assert "POST" == answer.headers["allow"]
    refused(httpx.get(f"{url}/", trust_env=False), 404)
    refused(httpx.post(f"{url}/health", trust_env=False), 405)
    assert 200 == httpx.get(f"{url}/health", trust_env=False).status_code


def test_while_the_promotion_cannot_be_started_mlflow_is_asked_to_come_again(url: str, sights: Sights) -> None:
    sights.failure = StackError("Prefect at http://127.0.0.1:1/api does not answer")
    body = event()
    answer = send(url, body, signed(body))
    assert "127.0.0.1:1" not in refused(answer, 503)["detail"]
    assert "5" == answer.headers["retry-after"]


def test_a_fault_of_ours_is_a_document_too(url: str, sights: Sights) -> None:
    sights.failure = ValueError("the secret plan")
    body = event()
    assert "secret plan" not in refused(send(url, body, signed(body)), 500)["detail"]
    sights.failure = None
    assert 204 == send(url, body, signed(body)).status_code


def test_registering_is_tried_until_mlflow_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.registry_webhook._REGISTER_AGAIN_S", 0.01)
    tries: list[int] = []

    def register() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise RegistryError("MLflow does not answer")

    register_until_done(register, threading.Event())
    assert 3 == len(tries)
