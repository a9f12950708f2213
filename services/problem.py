"""Answers that say what was wrong, as RFC 9457 problem documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from hotcold.domain.errors import RequestError
from services.exchange import Answer

_JSON = (b"content-type", b"application/problem+json")


class MethodNotAllowedError(RequestError):
    """A known path, but not with this method.

    Args:
        allowed: methods that the path takes.
    """

    status = 405
    title = "Method not allowed"

    def __init__(self, method: str, allowed: Sequence[str]) -> None:
        super().__init__(f"{method[:20]} is not allowed here; allowed are {', '.join(allowed)}")
        self.allowed = allowed


class UnavailableError(RequestError):
    """Something that the answer needs does not answer now.

    Args:
        retry_after_s: whole seconds after which asking again makes sense.
    """

    status = 503
    title = "Service unavailable"

    def __init__(self, detail: str, retry_after_s: int) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


def request_problem(error: RequestError, path: str, request_id: str) -> Answer:
    """The answer to a request that is wrong.

    Args:
        error: what is wrong with it.
        path: path of the request.
        request_id: its id.
    """
    document = _document(error.title, error.status, error.detail, path, request_id)
    if error.field:
        document["field"] = error.field
    if error.row is not None:
        document["row"] = error.row
    headers = [_JSON]
    if isinstance(error, MethodNotAllowedError):
        headers.append((b"allow", ", ".join(error.allowed).encode()))
    if isinstance(error, UnavailableError):
        headers.append((b"retry-after", b"%d" % error.retry_after_s))
    return Answer(orjson.dumps(document), error.status, headers)


def internal_problem(path: str, request_id: str) -> Answer:
    """The answer where the fault is ours; what it is stands in the log only."""
    detail = "the scorer failed; its log tells why under this request id"
    return Answer(orjson.dumps(_document("Internal error", 500, detail, path, request_id)), 500, [_JSON])


def _document(title: str, status: int, detail: str, path: str, request_id: str) -> dict[str, Any]:
    return {
        "type": f"urn:hotcold:problem:{title.lower().replace(' ', '-')}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": path[:200],
        "request_id": request_id,
        # Clients of the Open Inference Protocol look for the reason under this name.
        "error": detail,
    }
