"""The real thing on a real GPU: XGBoost on CUDA, LocalCUDACluster, and cuDF where it is installed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hotcold.adapters.arrow_columns import schema_columns
from hotcold.adapters.bulk_engine import CpuBulkEngine
from hotcold.adapters.cluster import has_cuda
from hotcold.adapters.cuda_engine import CudaBulkEngine, open_cuda_engine
from hotcold.adapters.cudf_reader import import_cudf
from hotcold.adapters.package_files import open_package
from hotcold.domain.batch_plan import Columns
from hotcold.domain.errors import InvalidInputError
from hotcold.domain.package import PARITY_LIMIT
from hotcold.scoring import plan_run, score_missing, summarise_run
from tests.fixtures.batch import BatchBench, make_table, write_parquet
from tests.fixtures.packages import SCHEMA

pytestmark = pytest.mark.gpu
ROWS = 300_000
COLUMNS = Columns("flight_id", ("day",))


@pytest.fixture(autouse=True)
def _gpu() -> None:
    if not has_cuda():
        pytest.skip("no CUDA device answers, or dask-cuda and CuPy are not installed")


@pytest.fixture
def engine(batch_bench: BatchBench) -> CudaBulkEngine:
    return open_cuda_engine(batch_bench.package)


def batch_columns(rows: int) -> dict[str, object]:
    return dict(schema_columns(make_table(rows).combine_chunks().to_batches()[0], SCHEMA))


def test_scores_are_those_of_the_cpu_and_each_stage_is_timed(batch_bench: BatchBench, engine: CudaBulkEngine) -> None:
    columns = batch_columns(ROWS)
    found = engine.score(columns, ROWS)
    expected = CpuBulkEngine(open_package(batch_bench.package, "cold", threads=1)).score(columns, ROWS)
    assert np.abs(expected.scores - found.scores).max() <= PARITY_LIMIT
    assert min(found.timings.encode_s, found.timings.transfer_s, found.timings.score_s) > 0


def test_what_the_schema_refuses_is_named(engine: CudaBulkEngine) -> None:
    columns = batch_columns(1000)
    columns["distance"] = np.where(np.arange(1000) == 717, np.inf, 1.0)
    with pytest.raises(InvalidInputError, match="row 717, feature 'distance'"):
        engine.score(columns, 1000)


def test_features_that_cudf_reads_give_the_same_scores(batch_bench: BatchBench, engine: CudaBulkEngine, tmp_path: Path) -> None:
    if import_cudf() is None:
        pytest.skip("cuDF is not installed")
    # The name of the folder is that of a column, as partitioned tables have it.
    source = write_parquet(make_table(ROWS), tmp_path / "day=1" / "in.parquet", row_group_size=70_000)
    table = batch_bench.plan(source, rows_per_part=30_000)
    for part in table.parts():
        for piece in part.pieces:
            found = engine.read_and_score(table.plan.files[0], piece)
            assert found is not None, "read_and_score has logged why"
            assert piece.rows == len(found.scores)
            assert min(found.timings.read_s, found.timings.score_s, found.timings.transfer_s) > 0
    first = table.parts()[0].pieces[0]
    by_arrow = engine.score(batch_columns(ROWS), ROWS).scores[: first.rows]
    by_cudf = engine.read_and_score(table.plan.files[0], first)
    assert by_cudf is not None
    assert np.abs(by_arrow - by_cudf.scores).max() <= PARITY_LIMIT


@pytest.mark.slow
@pytest.mark.parametrize("on_bad_part", ["fail", "quarantine"])
def test_a_run_on_a_cuda_cluster_gives_the_table_of_the_cpu(batch_bench: BatchBench, tmp_path: Path, on_bad_part: str) -> None:
    table = make_table(ROWS)
    if on_bad_part == "quarantine":
        carriers = table["carrier"].to_pylist()
        carriers[1234] = "ZZ"
        table = table.set_column(table.schema.get_field_index("carrier"), "carrier", [carriers])
    source = write_parquet(table, tmp_path / "in.parquet", row_group_size=50_000)
    run = plan_run(
        batch_bench.package, str(source), str(tmp_path / "gpu"), COLUMNS, on_bad_part, 100_000, "cuda", with_index=False
    )
    totals = summarise_run(run, score_missing(run, "cuda", tmp_path / "scratch"))
    assert totals.timings.transfer_s > 0
    cpu = replace(batch_bench, output=tmp_path / "cpu")
    expected = cpu.plan(source, on_bad_part, 100_000, COLUMNS)
    assert cpu.score_all(expected).rows_out == totals.rows_out
    found, wanted = cpu.read(run.table), cpu.read(expected)
    assert wanted.drop_columns(["score"]).equals(found.drop_columns(["score"]))
    assert np.abs(wanted["score"].to_numpy() - found["score"].to_numpy()).max() <= PARITY_LIMIT
