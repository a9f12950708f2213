"""The ground truth of replayed flights as a file: what an airline knows when its flights have arrived."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from hotcold.adapters.replay import FlightReplay
from hotcold.adapters.whole_file import write_parquet

REQUEST_ID, ENTITY, LATE, KNOWN_AT = "request_id", "entity", "late", "known_at"


def write_flight_labels(path: Path, replay: FlightReplay, indices: Sequence[int], known_s: Sequence[float]) -> None:
    """Write whether the flights of some requests arrived late; a join that reads meanwhile sees all of it or nothing.

    Args:
        path: of the Parquet file, which is replaced if it is there.
        replay: that sent the requests; its run has a name.
        indices: which requests, as in `replay.request`.
        known_s: when each flight had arrived, seconds since the epoch.

    Raises:
        OSError: the disk does not take it.
    """
    moments = pa.array([round(moment_s * 1e6) for moment_s in known_s], pa.int64())
    table = pa.table(
        {
            REQUEST_ID: pa.array([replay.request_id(index) for index in indices], pa.string()),
            ENTITY: pa.array([replay.entity(index) for index in indices], pa.string()),
            LATE: pa.array([replay.label(index) for index in indices], pa.int8()),
            KNOWN_AT: moments.cast(pa.timestamp("us", "UTC")),
        }
    )
    write_parquet(path, table)
