"""The ground truth of replayed flights: by it, each request gets the label that its flight has."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from hotcold.adapters.flight_labels import ENTITY, KNOWN_AT, LATE, REQUEST_ID, write_flight_labels
from hotcold.adapters.replay import FlightReplay
from hotcold.domain.label_counts import LabelCounts
from tests.fixtures.labels import LabelScene
from tests.fixtures.prediction_logs import START_S, answer, write_segment

DAY = date(2013, 10, 1)


@pytest.fixture(scope="module")
def replay() -> FlightReplay:
    return FlightReplay("flights", DAY, DAY, most=50, run="demo-7")


def test_a_run_that_has_a_name_names_its_requests(replay: FlightReplay) -> None:
    """Those of the second round too, when the flights begin again."""
    ids = [replay.request(index)[1]["x-request-id"] for index in range(120)]
    assert (120, "demo-7-119") == (len(set(ids)), ids[119])
    assert replay.request(3)[1]["x-entity-id"] == replay.entity(3) == replay.entity(53)
    assert "x-request-id" not in FlightReplay("flights", DAY, DAY, most=5).request(0)[1]


@pytest.mark.parametrize("by", ["request", "flight"])
def test_each_request_gets_the_label_of_its_flight(replay: FlightReplay, tmp_path: Path, by: str) -> None:
    scene, sent = LabelScene(tmp_path), range(50)
    log = [
        answer(index, request_id=replay.request_id(index), entity=replay.entity(index).encode(), at_s=START_S + index)
        for index in sent
    ]
    write_segment(scene.log, [log])
    write_flight_labels(scene.input / "truth.parquet", replay, sent, [START_S + index + 7200 for index in sent])
    by_time = {"entity_column": ENTITY, "time_column": KNOWN_AT, "tolerance_s": 7200.5}
    columns = {"request_id_column": REQUEST_ID} if by == "request" else by_time
    done = scene.join(
        label_column=LATE, **columns, **({"known_at_column": KNOWN_AT} if by == "request" else {}), now_s=START_S + 9000
    )
    assert (LabelCounts(rows=50, joined=50), {}) == (done.counts, done.problems)
    assert {replay.request_id(index): float(replay.label(index)) for index in sent} == scene.labels()
    assert 0 < sum(scene.labels().values()) < 50
    assert by == "flight" or {7200.0} == set(scene.delays().values())
