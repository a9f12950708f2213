"""A real replica with a prediction log: every answer is found there, with what was asked and what was said."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from hotcold.adapters.packages import package_dir
from hotcold.adapters.prediction_segments import list_segments, read_segment
from hotcold.domain.package import Manifest
from tests.fixtures.packages import GOOD_RECORD, MODEL
from tests.fixtures.replicas import running_replica

PREDICT = f"/models/{MODEL}/predict"


def test_answers_are_logged(small_package: Manifest, bento_home: Path, tmp_path: Path) -> None:
    src = package_dir(small_package.ref, bento_home)
    options = json.dumps({"root": str(tmp_path), "writer": "w1"})
    headers = {"content-type": "application/json"}
    with (
        running_replica(src, slot="green", HOTCOLD_REPLICA_LOG=options) as replica,
        httpx.Client(base_url=replica.url, trust_env=False, headers=headers) as client,
    ):
        body = json.dumps({"records": [GOOD_RECORD]}).encode()
        answer = client.post(PREDICT, content=body, headers={"x-request-id": "a", "x-entity-id": "e"})
        client.post(PREDICT, content=b"{", headers={"x-request-id": "b", "x-hotcold-shadow": "1"})
        assert "hotcold_prediction_log_answers_total" in client.get("/metrics").text
    (name,) = list_segments(tmp_path / MODEL)
    segment = read_segment(tmp_path / MODEL, name)
    assert ["a", "b"] == segment.table["request_id"].to_pylist()
    assert [pytest.approx(answer.json()["scores"]), None] == segment.table["scores"].to_pylist()
    assert segment.is_done and not segment.is_torn
