"""How many answers have a label, and how long that took: from the prediction log and the label store, day by day."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hotcold.adapters.label_match import read_batches
from hotcold.adapters.label_store import LabelStore
from hotcold.adapters.prediction_reader import PredictionReader, Window
from hotcold.domain.label_counts import DayCoverage
from hotcold.domain.score_histogram import count_scores

_DAY_S = 86_400.0
_COLUMNS = ("request_id", "shadow", "tester")


def measure_coverage(reader: PredictionReader, store: LabelStore, days: int, now_s: float) -> tuple[DayCoverage, ...]:
    """Coverage of the last days, today among them. Memory holds the labels of one day.

    Args:
        reader: of the model's log.
        store: of its labels.
        days: how many, 1 or more.
        now_s: seconds since the epoch.

    Returns:
        The days from the first one on that has answers, by time.
    """
    today = now_s // _DAY_S
    found = [_measure_day(reader, store, (today - back) * _DAY_S) for back in reversed(range(days))]
    first = next((index for index, day in enumerate(found) if day.served), len(found))
    return tuple(found[first:])


def _measure_day(reader: PredictionReader, store: LabelStore, since_s: float) -> DayCoverage:
    until_s = since_s + _DAY_S
    labels = store.read(since_s, until_s)
    ids, served, labelled = labels["request_id"].combine_chunks(), 0, 0
    for batch in read_batches(reader, Window(since_s, until_s, _COLUMNS)):
        given = batch["request_id"].filter(pc.invert(pc.or_(batch["shadow"], batch["tester"])))
        served += len(given)
        labelled += int(pc.sum(pc.is_in(given, value_set=ids)).as_py() or 0)
    delays = count_scores(np.asarray(labels["delay_s"].cast(pa.float32()), np.float32))
    day = datetime.fromtimestamp(since_s, UTC).date().isoformat()
    return DayCoverage(day, served, labelled, store.contradicting, delays)
