"""The friendly request: records by feature name in, scores out. Also the limits and the JSON rules of every request."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from hotcold.domain.errors import BodyTooLargeError, InvalidInputError, MalformedBodyError
from hotcold.domain.schema import Matrix, Schema

MAX_BODY_BYTES = 2**20
MAX_ROWS = 1000

Scores = NDArray[np.float32]


def read_object(body: bytes) -> dict[str, Any]:
    """Parse a JSON object by RFC 8259: no NaN, no infinity, no deep nesting.

    Raises:
        MalformedBodyError: says at which character the text stops being JSON.
    """
    if not body:
        raise MalformedBodyError("the body is empty; a JSON object is needed")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedBodyError(f"the body is not JSON: {error}; write null for a missing value") from None
    if not isinstance(document, dict):
        raise MalformedBodyError("the body is JSON but not an object; start it with a brace")
    return document


def check_rows(rows: int, field: str) -> None:
    """Refuse a request without rows or with too many.

    Args:
        rows: rows in the request.
        field: what holds them, for the answer.

    Raises:
        InvalidInputError: there is no row.
        BodyTooLargeError: there are more than MAX_ROWS.
    """
    if rows < 1:
        raise InvalidInputError(f"{field!r} holds {rows} rows; at least 1 is needed", field=field)
    if rows > MAX_ROWS:
        raise BodyTooLargeError(
            f"{field!r} holds {rows} rows; at most {MAX_ROWS} fit into one request, so send several", field=field
        )


def check_duplicates(body: bytes, keys: int) -> None:
    """Refuse an object that has a key twice: parsers keep one of the two values, and not all keep the same one.

    Args:
        body: JSON text that was parsed before.
        keys: number of keys in all its objects after parsing.

    Raises:
        MalformedBodyError: names the key.
    """
    # Each key is followed by a colon. As many colons as keys leave none for a second value; more of them may also stand inside
    # of texts, which the slow parser tells apart.
    if body.count(b":") == keys:
        return
    try:
        json.loads(body, object_pairs_hook=_unique)
    except RecursionError:
        raise MalformedBodyError("the body is nested too deeply; a request needs no more than a few levels") from None


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)[:80]
        raise MalformedBodyError(f"the key {twice!r} is given twice in one object; give it once", field=twice)
    return document


def decode_predict(body: bytes, schema: Schema) -> Matrix:
    """Read `{"records": [{"<feature>": value, ...}, ...]}`.

    Args:
        body: JSON text.
        schema: features of the model.

    Returns:
        Shape (n, features), float32, 1 <= n <= MAX_ROWS.

    Raises:
        RequestError: what is wrong, with feature and record where one is at fault.
    """
    document = read_object(body)
    if extra := sorted(document.keys() - {"records"}):
        raise InvalidInputError(f"the body has the unknown key {extra[0][:80]!r}; known is 'records'", field=extra[0][:80])
    records = document.get("records")
    if not isinstance(records, list):
        raise InvalidInputError("the body needs the key 'records' with an array of objects", field="records")
    check_rows(len(records), "records")
    matrix = encode(schema, records)
    check_duplicates(body, 1 + sum(map(len, records)))
    return matrix


def encode(schema: Schema, records: Sequence[object]) -> Matrix:
    """`Schema.encode_records` without NumPy's warnings about numbers that are refused anyway."""
    with np.errstate(invalid="ignore", over="ignore"):
        return schema.encode_records(records)


def encode_predict(model: str, version: str, scores: Scores) -> bytes:
    """The answer to a friendly request, as JSON.

    Args:
        model: name of the model.
        version: its semantic version.
        scores: shape (n,).
    """
    return orjson.dumps({"model": model, "version": version, "scores": scores}, option=orjson.OPT_SERIALIZE_NUMPY)
