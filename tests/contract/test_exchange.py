"""What an exchange becomes of a request that is given up, and of one that is a copy."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest
from starlette.types import Message, Receive, Scope, Send

from hotcold.adapters.prediction_log import LogOptions, PredictionLog
from hotcold.adapters.prediction_reader import PredictionReader
from services import exchange as module
from services.exchange import SCOPE_KEY, Exchange, ExchangeMiddleware
from tests.fixtures.prediction_logs import MODEL, origin


def test_what_a_thread_finds_after_the_answer_was_given_up_is_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = PredictionLog(LogOptions(tmp_path), origin())
    # The real log; only, a process has one, by its environment, and this one is the tests'.
    monkeypatch.setattr(module, "answer_log", lambda: log)
    (under_way,) = asyncio.run(given_up())
    # As the thread does that scores large requests, which nobody can stop.
    under_way.matrix, under_way.scores = np.ones((1, 3), np.float32), np.ones(1, np.float32)
    under_way.decoded = under_way.scored = time.perf_counter() + 60
    log.start()
    log.close()
    ((piece, _),) = PredictionReader(tmp_path, MODEL).read()
    (row,) = piece.table.to_pylist()
    assert ("r", 504, None, None, 0, 0) == tuple(
        row[name] for name in ("request_id", "status", "features", "scores", "infer_us", "post_us")
    )
    assert row["pre_us"] < 30_000_000


async def given_up() -> list[Exchange]:
    """The exchange of a request whose answer takes too long."""
    seen: list[Exchange] = []
    begun = asyncio.Event()

    async def app(scope: Scope, _: Receive, __: Send) -> None:
        seen.append(scope[SCOPE_KEY])
        seen[0].is_logged = True
        begun.set()
        await asyncio.sleep(60)

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(_: Message) -> None:
        raise AssertionError("nothing is sent")

    task = asyncio.create_task(ExchangeMiddleware(app)({"type": "http", "headers": [(b"x-request-id", b"r")]}, receive, send))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return seen


@pytest.mark.parametrize(("headers", "waits"), [([], False), ([(b"x-hotcold-shadow", b"1")], True)])
def test_a_copy_lets_its_original_pass_first_and_its_own_time_begins_then(
    headers: list[tuple[bytes, bytes]], waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_COPY_WAITS_S", (0.3, 0.4))  # longer than a busy machine takes for anything else
    started: list[float] = []

    async def app(scope: Scope, _: Receive, __: Send) -> None:
        started.append(scope[SCOPE_KEY].started)
        assert scope[SCOPE_KEY].arrived_us <= came_us + 200_000, "the time of arrival is that of the request"

    async def nothing(*_: object) -> Message:
        return {"type": "http.request"}

    came, came_us = time.perf_counter(), time.time_ns() // 1000
    asyncio.run(ExchangeMiddleware(app)({"type": "http", "headers": headers}, nothing, nothing))  # type: ignore[arg-type]
    assert waits == (started[0] - came >= 0.3)
