"""A consumer names its requests at the real edge; when it knows what became of them, their answers get these labels."""

from __future__ import annotations

import time

import orjson
import pyarrow as pa
import pytest

from hotcold.adapters.label_coverage import measure_coverage
from hotcold.adapters.label_join import LabelJoiner
from hotcold.adapters.label_store import LabelStore
from hotcold.adapters.prediction_reader import PredictionReader
from hotcold.adapters.replay_client import LoadClient
from hotcold.adapters.whole_file import write_parquet
from hotcold.domain.label_counts import LabelCounts
from hotcold.domain.label_source import LabelSource
from hotcold.domain.package import Manifest
from tests.fixtures.data_plane import DataPlane, wait_until
from tests.fixtures.packages import GOOD_RECORD

pytestmark = pytest.mark.e2e

REQUESTS = 60


def test_labels_find_the_answers_of_the_edge_by_the_ids_that_consumers_gave(
    data_plane: DataPlane, small_package: Manifest
) -> None:
    model, settings = small_package.model, data_plane.settings
    data_plane.promote(small_package)
    body = orjson.dumps({"records": [GOOD_RECORD]})

    def request(index: int) -> tuple[str, dict[str, str], bytes]:
        headers = {"content-type": "application/json", "x-entity-id": f"e{index}", "x-request-id": f"run-1-{index}"}
        return f"/models/{model}/predict", headers, body

    with LoadClient(data_plane.record.edge_url, request, 200.0, limit=REQUESTS) as load:
        wait_until(lambda: len(load.results()) == REQUESTS, "all requests are answered")
    labels = {f"run-1-{index}": float(index % 2) for index in range(0, REQUESTS, 2)}
    truth = settings.root / "truth" / "a.parquet"
    write_parquet(truth, pa.table({"id": [*labels, "run-2-0"], "late": [*labels.values(), 1.0]}))
    source = LabelSource(model, str(truth), "late", "id")
    store, reader = LabelStore(settings.label_dir, model), PredictionReader(settings.prediction_dir, model)

    def join() -> LabelCounts:
        return LabelJoiner(source, reader, store, time.time()).join(keep_days=30).counts

    # The last answers are written within a second.
    wait_until(lambda: join().unknown == 1, "all requests are logged")
    found = store.read()
    assert labels == dict(zip(found["request_id"].to_pylist(), found["label"].to_pylist(), strict=True))
    days = measure_coverage(reader, store, 2, time.time())
    assert len(labels) == sum(day.labelled for day in days)
    # While a release bakes, its driver asks as any consumer does; nobody can tell these answers from a consumer's.
    assert REQUESTS <= sum(day.served for day in days) < 2 * REQUESTS
