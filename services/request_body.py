"""Reads a request's body: bounded in size and time, decompressed where the caller compressed it."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Sequence

from starlette.types import Receive, Scope

from hotcold.domain.errors import BodyTooLargeError, MalformedBodyError, UnsupportedMediaError
from hotcold.domain.inference import MAX_BODY_BYTES

# Less than the service's traffic timeout, so that the answer is ours.
_ARRIVAL_TIMEOUT_S = 1.5
_GZIP_OR_ZLIB = 47
_TOO_LARGE = f"the body is larger than the {MAX_BODY_BYTES} bytes that one request may hold; send several"


class DisconnectedError(Exception):
    """The caller went away before the request was complete."""


def header(scope: Scope, name: bytes) -> str | None:
    """Value of a header.

    Args:
        scope: ASGI scope.
        name: in lower case.

    Returns:
        The first one's value; None if there is none.
    """
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


def check_content_type(scope: Scope, allowed: Sequence[str], required: bool) -> None:
    """Refuse a body of a type that is not spoken here.

    Args:
        scope: ASGI scope.
        allowed: media types without parameters.
        required: a request without a content type is refused too.

    Raises:
        UnsupportedMediaError: names the type.
    """
    given = header(scope, b"content-type")
    if given is None and not required:
        return
    if given is None or given.partition(";")[0].strip().lower() not in allowed:
        seen = "missing" if given is None else repr(given[:80])
        raise UnsupportedMediaError(f"the content type is {seen}; needed is {' or '.join(allowed)}", field="content-type")


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """The body, decompressed.

    Args:
        scope: ASGI scope.
        receive: ASGI receive.

    Raises:
        BodyTooLargeError: it is larger than MAX_BODY_BYTES, compressed or not.
        MalformedBodyError: it did not arrive in time, or is not compressed as announced.
        UnsupportedMediaError: it is compressed in a way that is not known here.
        DisconnectedError: the caller went away.
    """
    length = header(scope, b"content-length")
    if length is not None and length.isdigit() and int(length) > MAX_BODY_BYTES:
        raise BodyTooLargeError(_TOO_LARGE)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise DisconnectedError
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        body = await _read_rest(body, receive)
    elif len(body) > MAX_BODY_BYTES:
        raise BodyTooLargeError(_TOO_LARGE)
    encoding = header(scope, b"content-encoding")
    return body if encoding is None else _decompress(body, encoding.strip().lower())


async def _read_rest(first: bytes, receive: Receive) -> bytes:
    parts, size = [first], len(first)
    try:
        async with asyncio.timeout(_ARRIVAL_TIMEOUT_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise DisconnectedError
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > MAX_BODY_BYTES:
                    raise BodyTooLargeError(_TOO_LARGE)
                if not message.get("more_body"):
                    return b"".join(parts)
    except TimeoutError:
        raise MalformedBodyError(f"the body was not complete after {_ARRIVAL_TIMEOUT_S:g} s; send it faster") from None


def _decompress(body: bytes, encoding: str) -> bytes:
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "deflate"):
        raise UnsupportedMediaError(
            f"the content encoding is {encoding[:40]!r}; known are gzip and deflate", field="content-encoding"
        )
    decoder = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        # Bounded, so that a small body cannot become a large one in memory.
        plain = decoder.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error:
        raise MalformedBodyError(
            f"the body is not {encoding}, which its content encoding says", field="content-encoding"
        ) from None
    if len(plain) > MAX_BODY_BYTES:
        raise BodyTooLargeError(_TOO_LARGE)
    if not decoder.eof or decoder.unused_data:
        raise MalformedBodyError(f"the {encoding} body is cut off or followed by more", field="content-encoding")
    return plain
