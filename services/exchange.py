"""One request and its answer: the request's id, when its parts were done, and the headers that every answer carries."""

from __future__ import annotations

import re
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.serving import served_package

SCOPE_KEY = "hotcold.exchange"
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
        started: the head of the request was there.
        decoded: the matrix was there.
        scored: the scores were there.
    """

    request_id: str
    started: float
    decoded: float = 0.0
    scored: float = 0.0

    def server_timing(self) -> bytes:
        """Value of `Server-Timing`, durations in milliseconds."""
        now = time.perf_counter()
        decoded = self.decoded or now
        scored = self.scored or decoded
        post = now - scored if self.scored else 0.0
        return b"pre;dur=%.3f, infer;dur=%.3f, post;dur=%.3f" % (
            (decoded - self.started) * 1e3,
            (scored - decoded) * 1e3,
            post * 1e3,
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
        exchange = Exchange(_request_id(scope["headers"]), time.perf_counter())
        scope[SCOPE_KEY] = exchange

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    # An answer that another package has made says so itself.
                    *(header for header in served_package().headers if header[0] not in own),
                    (b"x-request-id", exchange.request_id.encode()),
                    (b"server-timing", exchange.server_timing()),
                ]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _request_id(headers: Any) -> str:
    for name, value in headers:
        if name == b"x-request-id":
            return value.decode() if _SANE_ID.fullmatch(value) else uuid.uuid4().hex
    return uuid.uuid4().hex
