"""What MLflow's registry tells by webhook, and how one knows that it was MLflow.

MLflow signs as Standard Webhooks do: HMAC-SHA256 over `<delivery id>.<unix time>.<body>`, in Base64, after `v1,`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hotcold.domain.errors import MalformedBodyError, NotSignedError

SIGNATURE_HEADER, TIMESTAMP_HEADER, DELIVERY_HEADER = "x-mlflow-signature", "x-mlflow-timestamp", "x-mlflow-delivery-id"
MAX_AGE_S = 300.0
_ENTITY, _SET, _REMOVED = "model_version_alias", "created", "deleted"
EVENTS = ((_ENTITY, _SET), (_ENTITY, _REMOVED))
_LONGEST_NAME = 256
_LARGEST_VERSION = 2**31 - 1


@dataclass(frozen=True)
class AliasEvent:
    """An alias was set or taken away.

    Args:
        model: registered model name.
        alias: its name.
        version: version that carries it now; None if it was taken away.
        at: when MLflow told it, seconds since the epoch.
    """

    model: str
    alias: str
    version: int | None
    at: float


def sign(secret: str, delivery: str, timestamp: str, body: bytes) -> str:
    """The signature of a delivery.

    Args:
        secret: known to MLflow and to the receiver.
        delivery: id of the delivery.
        timestamp: seconds since the epoch, as text.
        body: of the request.
    """
    signed = f"{delivery}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()


def verify_signature(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> None:
    """Make sure that a delivery comes from MLflow and is no repetition of an old one.

    Args:
        secret: known to MLflow and to the receiver.
        headers: of the request, names in lower case.
        body: of the request, as it came.
        now: seconds since the epoch.

    Raises:
        NotSignedError: a header is missing, the signature is another one, or the time is too far from now.
    """
    missing = [name for name in (SIGNATURE_HEADER, TIMESTAMP_HEADER, DELIVERY_HEADER) if not headers.get(name)]
    if missing:
        raise NotSignedError(f"{', '.join(missing)} missing")
    timestamp = headers[TIMESTAMP_HEADER]
    expected = sign(secret, headers[DELIVERY_HEADER], timestamp, body)
    # In constant time, and before anything else is made of the request.
    if not hmac.compare_digest(expected.encode(), headers[SIGNATURE_HEADER].encode()):
        raise NotSignedError("another signature")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise NotSignedError("a timestamp that is no number of seconds")
    if abs(now - int(timestamp)) > MAX_AGE_S:
        raise NotSignedError(f"signed {now - int(timestamp):.0f} s ago")


def read_alias_event(body: bytes) -> AliasEvent | None:
    """What a delivery tells of an alias.

    Args:
        body: of the request, signed.

    Returns:
        The event; None if it is about something else.

    Raises:
        MalformedBodyError: it is no event of MLflow's.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedBodyError("the body is not JSON; expected is an event of MLflow's model registry") from error
    if not isinstance(document, dict):
        raise MalformedBodyError("the body is not an object; expected is an event of MLflow's model registry")
    kind = (document.get("entity"), document.get("action"))
    if kind not in EVENTS:
        return None
    data = document.get("data")
    if not isinstance(data, dict):
        raise MalformedBodyError("the event has no data", field="data")
    version = _version(data.get("version")) if kind[1] == _SET else None
    return AliasEvent(_name(data, "name"), _name(data, "alias"), version, _moment(document.get("timestamp")))


def _name(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME:
        raise MalformedBodyError(f"{key} is not a text of 1 to {_LONGEST_NAME} characters", field=key)
    return value


def _version(value: object) -> int:
    text = str(value)
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and 0 < int(text) <= _LARGEST_VERSION):
        raise MalformedBodyError("version is not a whole number above 0", field="version")
    return int(text)


def _moment(value: object) -> float:
    try:
        moment = datetime.fromisoformat(str(value))
        if moment.tzinfo is not None:
            return moment.timestamp()
    except (ValueError, OverflowError):
        pass
    raise MalformedBodyError("timestamp is not a time with its zone", field="timestamp")
