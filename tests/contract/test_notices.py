"""People are told what a release came to: by a real webhook, or in a file; and later, where nobody took it."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from hotcold.adapters.notices import send_notice
from hotcold.adapters.release_database import ReleaseDatabase
from hotcold.domain.errors import NoticeError
from hotcold.domain.plan import Plan
from hotcold.domain.release import Phase
from hotcold.settings import Settings
from tasks.notices import tell_people

LOG = logging.getLogger("test")


class Webhook:
    """A server that notes what it gets, and answers as it is told."""

    def __init__(self) -> None:
        self.got: list[dict[str, object]] = []
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(outer.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing is logged."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    made = Webhook()
    yield made
    made.close()


def release_ends(home: Path, reason: str) -> None:
    """A release is rejected in the release database of this home."""
    database = ReleaseDatabase(Settings(home=home).release_database_url)
    database.prepare()
    release = database.start("m", 1, Plan(), "test", 1000.0, 10.0)
    database.commit(release, replace(release, phase=Phase.REJECTED, reason=reason), (), "test", 1001.0)
    database.close()


def test_what_a_release_came_to_is_told_once_and_in_a_file_without_a_webhook(tmp_path: Path) -> None:
    release_ends(tmp_path, "a byte is wrong")
    settings = Settings(home=tmp_path)
    assert (1, 0) == (tell_people(settings, LOG), tell_people(settings, LOG))
    (line,) = (tmp_path / "notices.jsonl").read_text().splitlines()
    told = json.loads(line)
    assert ("m", 1, "rejected", "a byte is wrong", "test") == tuple(
        told[name] for name in ("model", "version", "phase", "reason", "by")
    )


def test_a_webhook_that_refuses_is_asked_again_and_nothing_is_told_twice(tmp_path: Path, webhook: Webhook) -> None:
    release_ends(tmp_path, "one")
    settings = Settings(home=tmp_path, notify_url=webhook.url)
    webhook.status = 503
    assert 0 == tell_people(settings, LOG)
    webhook.status = 200
    release_ends(tmp_path, "two")
    assert (2, 0) == (tell_people(settings, LOG), tell_people(settings, LOG))
    assert ["one", "one", "two"] == [document["reason"] for document in webhook.got]
    assert not (tmp_path / "notices.jsonl").exists()


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "not a url", "ftp://127.0.0.1/"])
def test_a_webhook_that_is_not_there_is_named(tmp_path: Path, url: str) -> None:
    with pytest.raises(NoticeError, match="HOTCOLD_NOTIFY_URL"):
        send_notice({}, url, tmp_path / "file")


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoticeError, match="Is a directory"):
        send_notice({}, "", tmp_path)
