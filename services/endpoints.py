"""The scorer's address space: the friendly requests and the Open Inference Protocol, as one application to be mounted.

Each path takes all methods and answers the wrong ones itself, so that these answers too are problem documents. Requests with
few rows are scored in the event loop, which takes less time than handing them to a thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

import hotcold
from hotcold.domain.errors import NotFoundError, RequestError
from hotcold.domain.inference import Scores, decode_predict, encode_predict
from hotcold.domain.schema import Matrix
from hotcold.domain.tensors import DATATYPE, INPUT_NAME, OUTPUT_NAME, decode_infer, encode_infer
from services.answer_log import answer_log, log_metrics
from services.exchange import SCOPE_KEY, Answer, Exchange
from services.lookups import answer_score
from services.problem import MethodNotAllowedError, internal_problem, request_problem
from services.request_body import DisconnectedError, check_content_type, header, read_body
from services.serving import Served, get_ready, served_package

# About 200 rows as a binary tensor or 40 as records: half a millisecond for the models that this is made for.
_INLINE_BYTES = 16 * 1024
_JSON, _BINARY = "application/json", "application/octet-stream"
_log = logging.getLogger("hotcold.scorer")


@dataclass(frozen=True, slots=True)
class Call:
    """One request to one of the paths below."""

    served: Served
    scope: Scope
    receive: Receive
    exchange: Exchange


Handler = Callable[[Call], Awaitable[Answer]]


class Endpoint:
    """Answers the requests to one path.

    Args:
        method: the only one that is allowed; GET allows HEAD too; empty allows all.
        handler: makes the answer.
        is_logged: answers belong into the prediction log, those to wrong requests too.
    """

    def __init__(self, method: str, handler: Handler, is_logged: bool = False) -> None:
        self._allowed = {"": (), "GET": ("GET", "HEAD")}.get(method, (method,))
        self._handler = handler
        self._is_logged = is_logged

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        exchange: Exchange = scope[SCOPE_KEY]
        exchange.is_logged = self._is_logged
        try:
            answer = await self._answer(Call(served_package(), scope, receive, exchange))
        except RequestError as error:
            answer = request_problem(error, scope["path"], exchange.request_id)
        except DisconnectedError:
            return
        except Exception:  # noqa: BLE001 - whatever it is, the caller gets a document and the process goes on
            _log.exception("failed path=%s request_id=%s", scope["path"], exchange.request_id)
            answer = internal_problem(scope["path"], exchange.request_id)
        await answer.send(send, with_body=scope["method"] != "HEAD")

    async def _answer(self, call: Call) -> Answer:
        method, parameters = call.scope["method"], call.scope["path_params"]
        if "model" in parameters:
            _check_names(call.served, parameters["model"], parameters.get("version"))
        if self._allowed and method not in self._allowed:
            raise MethodNotAllowedError(method, self._allowed)
        return await self._handler(call)


def _check_names(served: Served, model: str, version: str | None) -> None:
    manifest = served.manifest
    if model != manifest.model:
        raise NotFoundError(f"there is no model {model[:80]!r} here; this is {manifest.model!r}")
    if version is not None and version not in (manifest.semver, str(manifest.version)):
        raise NotFoundError(f"version {version[:40]!r} of {model!r} is not served here; this is {manifest.semver}")


async def _predict(call: Call) -> Answer:
    check_content_type(call.scope, (_JSON,), required=True)
    return await _score(call, await read_body(call.scope, call.receive), _predict_now)


def _predict_now(call: Call, body: bytes) -> Answer:
    manifest = call.served.manifest
    matrix = decode_predict(body, manifest.schema)
    scores = _compute(call, matrix)
    return Answer(encode_predict(manifest.model, manifest.semver, scores))


async def _infer(call: Call) -> Answer:
    # Clients of the protocol need not send a content type, and tritonclient does not.
    check_content_type(call.scope, (_JSON, _BINARY), required=False)
    return await _score(call, await read_body(call.scope, call.receive), _infer_now)


def _infer_now(call: Call, body: bytes) -> Answer:
    manifest = call.served.manifest
    request = decode_infer(body, header(call.scope, b"inference-header-content-length"), manifest.schema)
    scores = _compute(call, request.matrix)
    answer = encode_infer(request, manifest.model, manifest.semver, scores)
    if answer.json_bytes is None:
        return Answer(answer.body)
    length = (b"inference-header-content-length", b"%d" % answer.json_bytes)
    return Answer(answer.body, headers=[(b"content-type", _BINARY.encode()), length])


def _compute(call: Call, matrix: Matrix) -> Scores:
    exchange = call.exchange
    exchange.matrix, exchange.decoded = matrix, time.perf_counter()
    scores = exchange.scores = call.served.engine.score(matrix)
    exchange.scored = time.perf_counter()
    return scores


async def _score(call: Call, body: bytes, answer: Callable[[Call, bytes], Answer]) -> Answer:
    if len(body) <= _INLINE_BYTES:
        return answer(call, body)
    # In a thread, so that one large request does not stall all the small ones.
    return await asyncio.get_running_loop().run_in_executor(call.served.threads, answer, call, body)


def _json(document: dict[str, Any]) -> Answer:
    return Answer(orjson.dumps(document))


async def _describe(call: Call) -> Answer:
    manifest, engine = call.served.manifest, call.served.engine.name
    return _json(
        {
            "model": manifest.model,
            "version": manifest.semver,
            "registry_version": manifest.version,
            "digest": manifest.digest,
            "variant": call.served.slot,
            "engine": engine,
            "engine_report": asdict(manifest.measured.engines[engine]) if engine in manifest.measured.engines else None,
            "training_window": manifest.training_window,
            "schema": manifest.schema.to_json(),
            # `served_package` refuses everything else, so an answer is proof.
            "code": "package",
        }
    )


async def _look_up(call: Call) -> Answer:
    return await answer_score(call.served.manifest.model, call.scope, call.exchange)


async def _server(_: Call) -> Answer:
    return _json({"name": "hotcold", "version": hotcold.__version__, "extensions": ["binary_tensor_data"]})


async def _live(_: Call) -> Answer:
    return _json({"live": True})


async def _ready(_: Call) -> Answer:
    return _json({"ready": True})


async def _model_ready(call: Call) -> Answer:
    return _json({"name": call.served.manifest.model, "ready": True})


async def _metadata(call: Call) -> Answer:
    manifest = call.served.manifest
    return _json(
        {
            "name": manifest.model,
            "versions": [manifest.semver],
            "platform": f"hotcold_{call.served.engine.name}",
            "inputs": [{"name": INPUT_NAME, "datatype": DATATYPE, "shape": [-1, len(manifest.schema.fields)]}],
            "outputs": [{"name": OUTPUT_NAME, "datatype": DATATYPE, "shape": [-1]}],
        }
    )


async def _metrics(_: Call) -> Answer:
    return Answer(log_metrics().encode(), headers=[(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")])


async def _nowhere(_: Call) -> Answer:
    raise NotFoundError("there is nothing at this path")


@asynccontextmanager
async def _lifespan(_: Starlette) -> AsyncIterator[None]:
    log = answer_log()
    get_ready(served_package())
    yield
    if log is not None:
        # In a thread: the disk may be slow, and the server has more to end.
        await asyncio.get_running_loop().run_in_executor(None, log.close)


def make_application() -> Starlette:
    """The application; it opens the package when its lifespan begins, not before."""
    infer = Endpoint("POST", _infer, is_logged=True)
    metadata, ready = Endpoint("GET", _metadata), Endpoint("GET", _model_ready)
    routes = [
        Route("/models/{model}/predict", Endpoint("POST", _predict, is_logged=True)),
        Route("/v2/models/{model}/infer", infer),
        Route("/v2/models/{model}/versions/{version}/infer", infer),
        Route("/models/{model}", Endpoint("GET", _describe)),
        Route("/models/{model}/scores/{entity:path}", Endpoint("GET", _look_up)),
        # For whoever watches the replica; the edge passes it to nobody.
        Route("/metrics", Endpoint("GET", _metrics)),
        Route("/v2", Endpoint("GET", _server)),
        Route("/v2/health/live", Endpoint("GET", _live)),
        Route("/v2/health/ready", Endpoint("GET", _ready)),
        Route("/v2/models/{model}", metadata),
        Route("/v2/models/{model}/ready", ready),
        Route("/v2/models/{model}/versions/{version}", metadata),
        Route("/v2/models/{model}/versions/{version}/ready", ready),
        Route("/{path:path}", Endpoint("", _nowhere)),
    ]
    return Starlette(routes=routes, lifespan=_lifespan)
