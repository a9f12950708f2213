"""Envoy as the agent drives it: what it refuses is said, and who asks gets a reason and a time to come back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotcold.adapters.envoy import EdgeFiles
from hotcold.domain.edge import EdgeModel
from hotcold.domain.serving import Slot
from services.edge_control import EdgeControl
from tests.fixtures.edge import Answer, Backend, Edge


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with Edge(tmp_path_factory.mktemp("edge") / "home") as running:
        yield running


def test_clusters_that_envoy_does_not_take_are_said_once_and_hold_the_routes_back(
    edge: Edge, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now_s = 100.0
    control = EdgeControl(EdgeFiles(tmp_path), edge.admin, lambda: now_s)
    for _ in range(10):
        control.look()
        control.apply((EdgeModel("unseen", 0),))
        now_s += 2.0
    assert not (tmp_path / "rds.json").exists()
    names = "unseen-blue, unseen-blue-shadow, unseen-green, unseen-green-shadow"
    assert [f"Envoy does not take the clusters {names}; envoy.log says why; written again"] == [
        record.reason for record in caplog.records
    ]


@pytest.mark.parametrize(
    ("green_pct", "reason", "retry_after"),
    [(None, "nothing of this model is released yet", "5"), (0, "no healthy upstream", "1")],
)
def test_a_503_says_why_and_when_to_come_back(edge: Edge, green_pct: int | None, reason: str, retry_after: str) -> None:
    edge.put(EdgeModel("nobody", green_pct))
    answer = edge.ask("POST", "/models/nobody/predict", body=b"{}")
    assert (503, retry_after) == (answer.status, answer.headers["retry-after"])
    assert reason in answer.problem["detail"]
    assert answer.headers["x-request-id"] == answer.problem["request_id"]


def test_a_request_that_a_hung_replica_holds_is_answered_by_another(edge: Edge) -> None:
    with Backend("hung", delay_s=30.0) as hung, Backend("well") as well:
        edge.put(EdgeModel("stuck", 0, (hung.endpoint, well.endpoint), (), Slot.BLUE))
        answers: list[Answer] = []
        threads = [
            threading.Thread(target=lambda: answers.append(edge.ask("POST", "/models/stuck/predict", body=b"{}")))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert hung.asked["/models/stuck/predict"] > 0
    assert [(200, "well")] * 8 == [(answer.status, answer.text) for answer in answers]
