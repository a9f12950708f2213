"""What batch scoring is compared with, each in a process of its own: the bare engine, and the script that people write.

`python -m benchmarks.cold_peers engine PACKAGE PARQUET ROWS` prints rows per second, and so does
`python -m benchmarks.cold_peers script PACKAGE PARQUET OUTPUT`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from hotcold.adapters.engines import ALL_THREADS, XGBOOST_FILE, open_engine
from hotcold.adapters.package_files import MODEL_DIR, read_manifest
from hotcold.domain.flights import FLIGHTS_SCHEMA

# As long as a part of the batch run that it is compared with, so that both meet the same disturbances.
_LASTS_S = 20.0


def engine_rows_per_s(package: Path, parquet: Path, rows: int) -> float:
    """The package's engine for bulk with all cores, on a matrix that is in memory already, call after call."""
    import pyarrow.parquet as pq

    from hotcold.adapters.arrow_columns import schema_columns

    batch = next(pq.ParquetFile(parquet).iter_batches(rows))
    matrix = FLIGHTS_SCHEMA.encode_columns(schema_columns(batch, FLIGHTS_SCHEMA), batch.num_rows)
    engine = open_engine(read_manifest(package).measured.cold_engine, package / MODEL_DIR, ALL_THREADS)
    # As the engine likes it best.
    matrix = np.require(np.resize(matrix, (rows, matrix.shape[1])), requirements=engine.order)
    engine.score(matrix)
    scored, began = 0, time.perf_counter()
    while time.perf_counter() - began < _LASTS_S:
        engine.score(matrix)
        scored += rows
    return scored / (time.perf_counter() - began)


def script_rows_per_s(package: Path, parquet: Path, output: Path) -> float:
    """pandas reads, XGBoost predicts in place with all threads, pandas writes."""
    import pandas as pd
    import xgboost

    booster = xgboost.Booster(model_file=package / MODEL_DIR / XGBOOST_FILE)
    began = time.perf_counter()
    frame = pd.read_parquet(parquet)
    features = pd.DataFrame(
        {
            field.name: pd.Categorical(frame[field.name], field.categories).codes if field.categories else frame[field.name]
            for field in FLIGHTS_SCHEMA.fields
        }
    )
    scores = booster.inplace_predict(features.to_numpy(dtype=np.float32))
    pd.DataFrame({"flight_id": frame["flight_id"], "score": scores}).to_parquet(output)
    return len(frame) / (time.perf_counter() - began)


def main() -> None:
    """Print one number."""
    peer, package, parquet, last = sys.argv[1:]
    if peer == "engine":
        print(engine_rows_per_s(Path(package), Path(parquet), int(last)))
    else:
        print(script_rows_per_s(Path(package), Path(parquet), Path(last)))


if __name__ == "__main__":
    main()
