"""What is believed of a delivery, and what it tells. Over HTTP: tests/contract/test_registry_webhook.py."""

from __future__ import annotations

import json

import pytest

from hotcold.domain.errors import MalformedBodyError, NotSignedError
from hotcold.domain.registry_event import (
    DELIVERY_HEADER,
    MAX_AGE_S,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    AliasEvent,
    read_alias_event,
    sign,
    verify_signature,
)

NOW, SECRET, BODY = 1_790_000_000.0, "a secret", b'{"entity": "model_version_alias"}'


def headers(secret: str = SECRET, at: float = NOW, body: bytes = BODY, delivery: str = "d-1") -> dict[str, str]:
    timestamp = str(int(at))
    return {
        SIGNATURE_HEADER: sign(secret, delivery, timestamp, body),
        TIMESTAMP_HEADER: timestamp,
        DELIVERY_HEADER: delivery,
    }


def test_the_signature_is_the_one_that_mlflow_makes() -> None:
    from mlflow.webhooks.delivery import _generate_hmac_signature

    expected = _generate_hmac_signature(SECRET, "d-1", "1790000000", BODY.decode())
    assert expected == sign(SECRET, "d-1", "1790000000", BODY)


def test_the_header_names_are_mlflows() -> None:
    from mlflow.webhooks import constants

    theirs = (constants.WEBHOOK_SIGNATURE_HEADER, constants.WEBHOOK_TIMESTAMP_HEADER, constants.WEBHOOK_DELIVERY_ID_HEADER)
    assert tuple(name.lower() for name in theirs) == (SIGNATURE_HEADER, TIMESTAMP_HEADER, DELIVERY_HEADER)


@pytest.mark.parametrize("age_s", [0.0, MAX_AGE_S - 1, -MAX_AGE_S + 1])
def test_what_is_signed_now_is_believed(age_s: float) -> None:
    verify_signature(SECRET, headers(at=NOW - age_s), BODY, NOW)


@pytest.mark.parametrize("age_s", [MAX_AGE_S + 1, -MAX_AGE_S - 1, 1e9])
def test_what_was_signed_too_long_ago_or_in_the_future_is_not(age_s: float) -> None:
    with pytest.raises(NotSignedError) as refusal:
        verify_signature(SECRET, headers(at=NOW - age_s), BODY, NOW)
    assert "ago" in refusal.value.reason


@pytest.mark.parametrize("name", [SIGNATURE_HEADER, TIMESTAMP_HEADER, DELIVERY_HEADER])
def test_a_header_that_is_missing_or_changed_is_refused(name: str) -> None:
    signed = headers()
    for given in ({key: value for key, value in signed.items() if key != name}, {**signed, name: signed[name] + "0"}):
        with pytest.raises(NotSignedError):
            verify_signature(SECRET, given, BODY, NOW)


@pytest.mark.parametrize("timestamp", ["", "soon", "-1", "1e9", "٣", "9" * 400])
def test_a_timestamp_that_is_no_number_of_seconds_is_refused_though_it_is_signed(timestamp: str) -> None:
    given = headers() | {TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: sign(SECRET, "d-1", timestamp, BODY)}
    with pytest.raises(NotSignedError):
        verify_signature(SECRET, given, BODY, NOW)


def test_another_secret_and_another_body_are_refused() -> None:
    with pytest.raises(NotSignedError):
        verify_signature(SECRET, headers(secret="guessed"), BODY, NOW)
    with pytest.raises(NotSignedError):
        verify_signature(SECRET, headers(), BODY + b" ", NOW)


def test_the_reason_is_for_the_log_only() -> None:
    with pytest.raises(NotSignedError) as refusal:
        verify_signature(SECRET, headers(secret="guessed"), BODY, NOW)
    assert "another signature" == refusal.value.reason
    assert "another signature" not in refusal.value.detail


def event(**changes: object) -> bytes:
    document = {
        "entity": "model_version_alias",
        "action": "created",
        "timestamp": "2026-09-21T15:33:20.250000+00:00",
        "data": {"name": "flights", "alias": "candidate", "version": "7"},
    }
    return json.dumps(document | changes).encode()


def test_an_alias_that_was_set_and_one_that_was_taken_away() -> None:
    assert AliasEvent("flights", "candidate", 7, 1_790_004_800.25) == read_alias_event(event())
    removed = event(action="deleted", data={"name": "flights", "alias": "candidate"})
    assert AliasEvent("flights", "candidate", None, 1_790_004_800.25) == read_alias_event(removed)


@pytest.mark.parametrize("other", [{"entity": "model_version"}, {"action": "set"}, {"entity": ["x"]}, {"entity": None}])
def test_events_about_something_else_are_no_error(other: dict[str, object]) -> None:
    assert read_alias_event(event(**other)) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\x00",
        b"[" * 16_000,
        b"[]",
        b"7",
        event(data=None),
        event(data={"name": "", "alias": "candidate", "version": "7"}),
        event(data={"name": "m" * 300, "alias": "candidate", "version": "7"}),
        event(data={"name": "m", "alias": 1, "version": "7"}),
        *(event(data={"name": "m", "alias": "candidate", "version": bad}) for bad in ("", "0", "-1", "x", "٣", "9" * 30, None)),
        event(timestamp="yesterday"),
        event(timestamp="2026-09-21T15:33:20"),
        event(timestamp=7),
    ],
)
def test_what_is_no_event_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedBodyError):
        read_alias_event(body)
