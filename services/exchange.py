"""One request and its answer: its id, when its parts were done, what each answer carries, and its row in the prediction log."""

from __future__ import annotations

import asyncio
import random
import re
import time
import uuid
from dataclasses import dataclass, field, replace

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hotcold.domain.headers import ENTITY_HEADER, SEGMENT_HEADER, SHADOW_HEADER, VARIANT_HEADER
from hotcold.domain.inference import Scores
from hotcold.domain.prediction import MAX_ENTITY_BYTES, MAX_SEGMENT_BYTES, Prediction, is_shadow
from hotcold.domain.schema import Matrix
from services.answer_log import answer_log
from services.serving import served_package

SCOPE_KEY = "hotcold.exchange"
_ENTITY, _SEGMENT, _SHADOW = ENTITY_HEADER.encode(), SEGMENT_HEADER.encode(), SHADOW_HEADER.encode()
_VARIANT = VARIANT_HEADER.encode()
_TIMED_OUT = 504
# The champion has answered most requests by then.
_COPY_WAITS_S = (0.003, 0.012)
_SANE_ID = re.compile(rb"[A-Za-z0-9_.-]{1,128}")


@dataclass(slots=True)
class Answer:
    """An answer to be sent.

    Args:
        body: complete body.
        status: HTTP status.
        headers: without length and without those of `ExchangeMiddleware`.
    """

    body: bytes
    status: int = 200
    headers: list[tuple[bytes, bytes]] = field(default_factory=lambda: [(b"content-type", b"application/json")])

    async def send(self, send: Send, with_body: bool = True) -> None:
        """Send it; without the body where only the head was asked for."""
        headers = [*self.headers, (b"content-length", b"%d" % len(self.body))]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body if with_body else b""})


@dataclass(slots=True)
class Exchange:
    """One request under way; times are in seconds by `time.perf_counter`, 0 where a part was not reached.

    Args:
        request_id: the caller's, or a new one.
        headers: of the request, the first of each name.
        arrived_us: microseconds since the epoch.
        started: the head of the request was there.
        decoded: the matrix was there.
        scored: the scores were there.
        answered: the answer was ready to be sent.
        status: of the answer; 0 until there is one.
        is_logged: the answer belongs into the prediction log.
        matrix: what was asked.
        scores: what was answered.
    """

    request_id: str
    headers: dict[bytes, bytes]
    arrived_us: int
    started: float
    decoded: float = 0.0
    scored: float = 0.0
    answered: float = 0.0
    status: int = 0
    is_logged: bool = False
    matrix: Matrix | None = None
    scores: Scores | None = None

    def server_timing(self) -> bytes:
        """Value of `Server-Timing`, durations in milliseconds."""
        now = self.answered
        decoded = self.decoded or now
        scored = self.scored or now
        post = now - scored if self.scored else 0.0
        return b"pre;dur=%.3f, infer;dur=%.3f, post;dur=%.3f" % (
            (decoded - self.started) * 1e3,
            (scored - decoded) * 1e3,
            post * 1e3,
        )

    def prediction(self) -> Prediction:
        """The row of the prediction log. Scores that were computed and never sent are none."""
        headers = self.headers
        entity, segment = headers.get(_ENTITY), headers.get(_SEGMENT)
        return Prediction(
            self.request_id,
            self.arrived_us,
            self.status,
            is_shadow(headers.get(_SHADOW)),
            _VARIANT in headers,
            entity if entity is None else entity[:MAX_ENTITY_BYTES],
            segment if segment is None else segment[:MAX_SEGMENT_BYTES],
            self.matrix,
            self.scores if self.status == 200 else None,
            self.started,
            self.decoded,
            self.scored,
            self.answered,
        )


class ExchangeMiddleware:
    """Gives each request an id and each answer its headers, also the answers that BentoML makes itself.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event of ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(reversed(scope["headers"]))
        arrived_us = time.time_ns() // 1000
        if is_shadow(headers.get(_SHADOW)):
            await _let_the_original_pass()
        exchange = Exchange(_request_id(headers), headers, arrived_us, time.perf_counter())
        scope[SCOPE_KEY] = exchange

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.answered, exchange.status = time.perf_counter(), message["status"]
                own = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    # An answer that another package has made says so itself.
                    *(header for header in served_package().headers if header[0] not in own),
                    (b"x-request-id", exchange.request_id.encode()),
                    (b"server-timing", exchange.server_timing()),
                ]
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except asyncio.CancelledError:
            # BentoML has waited for long enough and answers by itself, outside of this. A thread may still be at work on the
            # request, and the log looks at the exchange later: what the thread finds until then is no part of the answer.
            exchange = replace(exchange, answered=time.perf_counter(), status=_TIMED_OUT)
            raise
        finally:
            # Where the caller went away, there is no answer.
            if exchange.is_logged and exchange.status and (log := answer_log()) is not None:
                log.offer(exchange.prediction)


async def _let_the_original_pass() -> None:
    """Nobody waits for a copy, but it comes in the very moment in which the processor is needed for the request itself.

    Not for one fixed time: where requests come at a steady rate, all copies would meet the next ones.
    """
    await asyncio.sleep(random.uniform(*_COPY_WAITS_S))  # noqa: S311 - nobody gains by guessing it


def _request_id(headers: dict[bytes, bytes]) -> str:
    value = headers.get(b"x-request-id", b"")
    return value.decode() if _SANE_ID.fullmatch(value) else uuid.uuid4().hex
