"""Takes MLflow's webhook: `python -m services.registry_webhook`. A version that is given the alias `candidate` is promoted.

It listens on loopback and believes nothing that is not signed. Whatever goes wrong here, `watch-registry` looks itself.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import uuid
from collections.abc import Callable
from typing import Protocol

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from hotcold.domain.alias_watch import ALIAS, Ask
from hotcold.domain.errors import (
    BodyTooLargeError,
    DatabaseError,
    MalformedBodyError,
    NotFoundError,
    NotSignedError,
    RegistryError,
    RequestError,
    StackError,
)
from hotcold.domain.registry_event import DELIVERY_HEADER, AliasEvent, read_alias_event, verify_signature
from services.problem import MethodNotAllowedError, UnavailableError, request_problem

PATH = "/registry-webhook"
# MLflow's events about aliases are some 300 bytes long.
MAX_BODY_BYTES = 16 * 1024
_ARRIVAL_TIMEOUT_S = 5.0
_REGISTER_AGAIN_S = 5.0
_RETRY_AFTER_S = 5
_MOST_CONNECTIONS = 64
_LOG = logging.getLogger("hotcold.registry_webhook")


class TakesSights(Protocol):
    """The part of `PromotionStart` that is needed here."""

    def take(self, model: str, version: int | None, at: float) -> tuple[Ask, str]:
        """Take note of which version of a model carries the alias."""
        ...


class FailedError(RequestError):
    """The fault is ours; what it is stands in the log only."""

    status = 500
    title = "Internal error"


class Receiver:
    """Answers MLflow's deliveries.

    Args:
        secret: MLflow signs with it.
        starter: told what became of the alias.
        clock: seconds since the epoch.
    """

    def __init__(self, secret: str, starter: TakesSights, clock: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._starter = starter
        self._clock = clock

    async def receive(self, request: Request) -> Response:
        """Verify a delivery and act on it; 204 says that there is nothing more for MLflow to do."""
        if request.method != "POST":
            raise MethodNotAllowedError(request.method, ("POST",))
        body = await _read(request)
        verify_signature(self._secret, request.headers, body, self._clock())
        event = read_alias_event(body)
        if event is not None and event.alias == ALIAS:
            await run_in_threadpool(self._act, event)
        return Response(status_code=204)

    def _act(self, event: AliasEvent) -> None:
        told = {"model": event.model, "version": event.version}
        try:
            # A clock of MLflow's that is ahead must not make later looks at the registry seem to be old news.
            ask, why = self._starter.take(event.model, event.version, min(event.at, self._clock()))
        except (StackError, DatabaseError) as error:
            _LOG.warning("promotion not started", extra={**told, "reason": str(error)})
            raise UnavailableError(
                "the promotion cannot be started now; it will be later, without you", _RETRY_AFTER_S
            ) from error
        _LOG.info("alias", extra={**told, "asks_for": ask.value, "reason": why})


def make_app(receiver: Receiver) -> Starlette:
    """The address space: deliveries, and a sign of life.

    Args:
        receiver: answers the deliveries.
    """
    every_method = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    return Starlette(
        routes=[Route(PATH, receiver.receive, methods=every_method), Route("/health", _health)],
        exception_handlers={RequestError: _refuse, HTTPException: _refuse_path, ClientDisconnect: _drop, Exception: _fail},
    )


async def _health(_request: Request) -> Response:
    return Response("ready\n", media_type="text/plain")


async def _read(request: Request) -> bytes:
    parts, size = [], 0
    try:
        async with asyncio.timeout(_ARRIVAL_TIMEOUT_S):
            async for part in request.stream():
                size += len(part)
                if size > MAX_BODY_BYTES:
                    raise BodyTooLargeError(f"the body is larger than the {MAX_BODY_BYTES} bytes that an event may have")
                parts.append(part)
    except TimeoutError:
        raise MalformedBodyError(f"the body was not complete after {_ARRIVAL_TIMEOUT_S:g} s; send it faster") from None
    return b"".join(parts)


async def _refuse(request: Request, error: Exception) -> Response:
    refused = error if isinstance(error, RequestError) else FailedError("the log of registry-webhook tells why")
    request_id = str(uuid.uuid4())
    reason = refused.reason if isinstance(refused, NotSignedError) else refused.detail
    theirs = request.headers.get(DELIVERY_HEADER, "")[:80]
    _LOG.warning("refused", extra={"status": refused.status, "reason": reason, "request_id": request_id, "delivery": theirs})
    answer = request_problem(refused, request.url.path, request_id)
    return Response(answer.body, answer.status, {name.decode(): value.decode() for name, value in answer.headers})


async def _refuse_path(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == 405:
        return await _refuse(request, MethodNotAllowedError(request.method, ("GET", "HEAD")))
    return await _refuse(request, NotFoundError(f"there is nothing here; MLflow sends to {PATH}"))


async def _drop(_request: Request, _error: Exception) -> Response:
    """The caller is gone; nobody reads this."""
    return Response(status_code=400)


async def _fail(request: Request, error: Exception) -> Response:
    return await _refuse(request, error)


def register_until_done(register: Callable[[], object], stopped: threading.Event) -> None:
    """Register with MLflow; while it does not answer, again and again.

    Args:
        register: does it, or raises a RegistryError.
        stopped: ends it.
    """
    said = ""
    while not stopped.is_set():
        try:
            register()
        except RegistryError as error:
            if str(error) != said:
                said = str(error)
                _LOG.warning("not registered yet", extra={"reason": said})
            stopped.wait(_REGISTER_AGAIN_S)
        else:
            _LOG.info("registered with MLflow")
            return


def main() -> None:
    """Take deliveries until SIGTERM."""
    from hotcold.adapters.alias_database import AliasDatabase
    from hotcold.adapters.prefect_api import PrefectApi
    from hotcold.adapters.promotion_start import PromotionStart
    from hotcold.adapters.stack_record import read_stack
    from hotcold.adapters.structured_log import log_as_json
    from hotcold.adapters.survivors import instance_of
    from hotcold.adapters.webhook_registration import register_webhook
    from hotcold.adapters.webhook_secrets import webhook_secrets
    from hotcold.settings import Settings

    log_as_json()
    settings = Settings()
    record, secret = read_stack(settings), webhook_secrets(settings).secret
    database = AliasDatabase(settings.release_database_url)
    database.prepare()
    # Installations that share an MLflow each have a webhook of their own.
    name, url = f"hotcold-{instance_of(settings.root)}", f"http://127.0.0.1:{record.webhook_port}{PATH}"
    stopped = threading.Event()
    todo = (lambda: register_webhook(record.mlflow_url, name, url, secret), stopped)
    threading.Thread(target=register_until_done, args=todo, name="register", daemon=True).start()
    try:
        _serve(make_app(Receiver(secret, PromotionStart(database, PrefectApi(record.prefect_api_url)))), record.webhook_port)
    finally:
        stopped.set()
        database.close()


def _serve(app: Starlette, port: int) -> None:
    import uvicorn

    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
    )


if __name__ == "__main__":
    main()
