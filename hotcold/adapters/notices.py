"""Tells people outside what a release came to: a webhook if there is one, else a file."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from hotcold.adapters.release_reader import Event
from hotcold.domain.errors import NoticeError, first_line
from hotcold.domain.release import Phase, Release

_TIMEOUT_S = 5.0


def notice(release: Release, event: Event) -> dict[str, Any]:
    """What is told, as plain JSON values.

    Args:
        release: it belongs to.
        event: that people are to be told of.
    """
    return {
        "model": release.model,
        "release": release.id,
        "version": release.version,
        "candidate": release.candidate.tag if release.candidate else None,
        "champion": release.champion.tag if release.champion else None,
        "phase": event.phase.value,
        "share_pct": event.split,
        # Of copies; where live requests followed, theirs are what counts.
        "verdict": (event.verdict or None) if event.phase is Phase.EVALUATED else None,
        "reason": event.reason,
        "asks": event.waiting or None,
        "by": event.actor,
        "at": datetime.fromtimestamp(event.at, UTC).isoformat(timespec="milliseconds"),
    }


def send_notice(document: dict[str, Any], url: str, file: Path) -> None:
    """Tell it once; called again, it is told again.

    Args:
        document: see `notice`.
        url: of a webhook, which gets it as JSON by POST; empty for none.
        file: takes a line of JSON where there is no webhook.

    Raises:
        NoticeError: nobody took it.
    """
    if url:
        _post(document, url)
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a") as lines:
            lines.write(json.dumps(document) + "\n")
    except OSError as error:
        raise NoticeError(
            f"the file of notices cannot be written: {error.strerror}; check the disk, or set HOTCOLD_NOTIFY_URL"
        ) from error


def _post(document: dict[str, Any], url: str) -> None:
    try:
        answer = httpx.post(url, json=document, timeout=_TIMEOUT_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NoticeError(
            f"the webhook of HOTCOLD_NOTIFY_URL did not answer: {first_line(error)}; it is tried again"
        ) from error
    if not answer.is_success:
        raise NoticeError(f"the webhook of HOTCOLD_NOTIFY_URL answered {answer.status_code}; allowed is 2xx, it is tried again")
