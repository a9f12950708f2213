"""The code for the GPU on NumPy, with a stand-in for cuDF: it has to give what the CPU's way gives, in scores and in words."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from hotcold.adapters import part_scorer
from hotcold.adapters.arrow_columns import schema_columns
from hotcold.adapters.bulk_engine import bulk_engine
from hotcold.adapters.cuda_engine import CudaBulkEngine, lay_out, load_booster, require_parity, suits
from hotcold.domain.batch_plan import Columns
from hotcold.domain.errors import BadInputError, InvalidInputError
from hotcold.domain.package import PARITY_LIMIT
from hotcold.domain.receipt import Totals
from tests.fixtures.batch import BatchBench, make_table, replace_column, write_parquet
from tests.fixtures.cudf_stand_in import StandInCudf
from tests.fixtures.packages import SCHEMA

COLUMNS = Columns("flight_id", ("day", "carrier"))


def cuda_engine(bench: BatchBench, cudf: StandInCudf | None = None, arrays: object = np) -> CudaBulkEngine:
    return CudaBulkEngine(bench.manifest, load_booster(bench.package, "cpu"), arrays, cudf)


def with_value(table: pa.Table, name: str, row: int, value: object) -> pa.Table:
    values = table[name].to_pylist()
    values[row] = value
    return replace_column(table, name, pa.array(values))


def batch_of(table: pa.Table) -> pa.RecordBatch:
    return table.combine_chunks().to_batches()[0]


BAD_VALUES = [
    ("carrier", "ZZ"),
    ("carrier", None),
    ("origin", ""),
    ("distance", math.inf),
    ("distance", -math.inf),
    ("distance", math.nan),
    ("distance", None),
    ("distance", 1e39),
    ("departure_minute", 2**24),
    ("departure_minute", -(2**40)),
    ("wind_speed", math.inf),
]


class TestScoring:
    def test_the_matrix_is_that_of_the_schema_and_lies_in_one_piece(self) -> None:
        columns = schema_columns(batch_of(make_table(500)), SCHEMA)
        matrix = lay_out(SCHEMA, columns, 500, np)
        assert np.array_equal(SCHEMA.encode_columns(columns, 500), matrix, equal_nan=True)
        assert matrix.flags.f_contiguous
        assert suits(SCHEMA, matrix, np)

    @pytest.mark.parametrize(("name", "value"), BAD_VALUES)
    def test_what_the_schema_refuses_is_refused_with_the_same_words(
        self, batch_bench: BatchBench, name: str, value: object
    ) -> None:
        columns = schema_columns(batch_of(with_value(make_table(50), name, 17, value)), SCHEMA)
        with pytest.raises(InvalidInputError) as expected:
            SCHEMA.encode_columns(columns, 50)
        with pytest.raises(InvalidInputError) as found:
            cuda_engine(batch_bench).score(columns, 50)
        assert str(expected.value) == str(found.value)
        assert "row 17" in str(found.value)

    @pytest.mark.parametrize("change", [lambda c: c.pop("distance"), lambda c: c.update(distance=np.ones(1))])
    def test_a_column_that_is_missing_or_too_short_is_named(self, batch_bench: BatchBench, change: Callable[..., None]) -> None:
        columns = schema_columns(batch_of(make_table(50)), SCHEMA)
        change(columns)
        with pytest.raises(InvalidInputError, match="the column 'distance'"):
            cuda_engine(batch_bench).score(columns, 50)

    def test_scores_agree_with_the_stored_ones(self, batch_bench: BatchBench) -> None:
        require_parity(cuda_engine(batch_bench), batch_bench.package, batch_bench.manifest)

    def test_a_batch_goes_to_the_device_in_one_transfer_and_each_stage_ends_when_the_device_has(
        self, batch_bench: BatchBench
    ) -> None:
        device = CountingDevice()
        columns = schema_columns(batch_of(make_table(5000)), SCHEMA)
        scored = cuda_engine(batch_bench, arrays=device).score(columns, 5000)
        assert [(5000, len(SCHEMA.fields))] == device.transfers
        # After laying out, transfer, check, prediction and the way back.
        assert 5 == device.synchronised
        assert min(scored.timings.encode_s, scored.timings.transfer_s, scored.timings.score_s) > 0


class CountingDevice:
    """NumPy, with the part of CuPy that tells one device from another: counts what goes there and who waits for it."""

    def __init__(self) -> None:
        self.cuda = self
        self.synchronised = 0
        self.transfers: list[tuple[int, ...]] = []

    def __getattr__(self, name: str) -> object:
        return getattr(np, name)

    def Device(self) -> CountingDevice:  # noqa: N802 - as CuPy calls it
        return self

    def synchronize(self) -> None:
        self.synchronised += 1

    def asarray(self, values: np.ndarray) -> np.ndarray:
        self.transfers.append(values.shape)
        return values


class TestReading:
    """Whole parts, once as on the CPU and once with the engine for the GPU, which reads features by cuDF."""

    @pytest.fixture
    def cudf(self) -> StandInCudf:
        return StandInCudf()

    @pytest.fixture
    def gpu_bench(
        self, batch_bench: BatchBench, cudf: StandInCudf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> BatchBench:
        engine = cuda_engine(batch_bench, cudf)
        monkeypatch.setattr(part_scorer, "bulk_engine", lambda *_: engine)
        return BatchBench(batch_bench.manifest, batch_bench.package, tmp_path / "gpu-scores")

    @staticmethod
    def scored_both_ways(
        gpu: BatchBench,
        source: Path | str,
        monkeypatch: pytest.MonkeyPatch,
        columns: Columns = COLUMNS,
        rows_per_part: int = 700,
    ) -> Totals:
        """Scores by the GPU's way, after making sure that the CPU's way sets the same rows aside and gives the same table."""
        cpu = BatchBench(gpu.manifest, gpu.package, f"{gpu.output}-cpu")
        tables = [bench.plan(source, "quarantine", rows_per_part, columns) for bench in (gpu, cpu)]
        totals = gpu.score_all(tables[0])
        with monkeypatch.context() as patch:
            patch.setattr(part_scorer, "bulk_engine", bulk_engine)
            expected = cpu.score_all(tables[1])
        found, wanted = gpu.read(tables[0]), cpu.read(tables[1])
        assert wanted.drop_columns(["score"]).equals(found.drop_columns(["score"]))
        assert np.abs(wanted["score"].to_numpy() - found["score"].to_numpy()).max(initial=0) <= PARITY_LIMIT
        assert (expected.rows_in, expected.rows_out, expected.problems) == (totals.rows_in, totals.rows_out, totals.problems)
        aside = [Path(table.folder.path("quarantine")) for table in tables]
        assert aside[0].exists() == aside[1].exists()
        assert not aside[0].exists() or pq.read_table(aside[0]).equals(pq.read_table(aside[1]))
        return totals

    def test_scores_of_nulls_and_categories_in_files_of_every_shape(
        self, gpu_bench: BatchBench, cudf: StandInCudf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        table = make_table(3000)
        small = replace_column(table, "wind_speed", table["wind_speed"].cast(pa.float32()))
        whole = replace_column(table, "visib", table["visib"].cast(pa.int64(), safe=False))
        coded = replace_column(table, "carrier", table["carrier"].dictionary_encode())
        for number, content in enumerate((table, small, whole, coded)):
            write_parquet(
                content, tmp_path / "in" / f"day={number}" / "a.parquet", row_group_size=(100, 1000, 3000)[number % 3]
            )
        totals = self.scored_both_ways(gpu_bench, tmp_path / "in", monkeypatch)
        assert (12_000, 12_000) == (totals.rows_in, totals.rows_out)
        # Each of the pieces, of several row groups or of a part of one.
        assert {1, 7} <= {len(groups) for _, groups in cudf.reads}
        assert totals.timings.read_s > 0 < totals.timings.score_s

    @pytest.mark.parametrize(("name", "value"), [*BAD_VALUES, ("flight_id", None)])
    def test_rows_that_break_the_schema_are_named_by_the_other_way(
        self,
        gpu_bench: BatchBench,
        cudf: StandInCudf,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        value: object,
    ) -> None:
        source = write_parquet(with_value(make_table(300), name, 217, value), tmp_path / "in.parquet", row_group_size=100)
        totals = self.scored_both_ways(gpu_bench, source, monkeypatch, rows_per_part=100)
        assert (299, 1, 3) == (totals.rows_out, totals.rows_quarantined, len(cudf.reads))
        with pytest.raises(BadInputError, match=r"in\.parquet, row group 2: row 17, "):
            gpu_bench.score(gpu_bench.plan(source, rows_per_part=100))

    @pytest.mark.parametrize("name", ["carrier", "origin", "day"])
    def test_text_that_is_not_utf8_is_named_by_the_other_way(
        self, gpu_bench: BatchBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        values = [text.encode() for text in make_table(100)[name].to_pylist()]
        values[40] = b"\xff"
        source = write_parquet(
            replace_column(make_table(100), name, pa.array(values).view(pa.string())), tmp_path / "in.parquet"
        )
        assert 1 == self.scored_both_ways(gpu_bench, source, monkeypatch).rows_quarantined

    @pytest.mark.parametrize(
        "change",
        [
            lambda table: table.drop_columns(["carrier"]),
            lambda table: replace_column(table, "distance", pa.array(["far"] * 100)),
            lambda table: replace_column(table, "distance", pa.array([True] * 100)),
            lambda table: replace_column(table, "carrier", pa.array([7] * 100)),
            lambda table: replace_column(table, "wind_speed", pa.nulls(100)),
        ],
    )
    def test_files_of_another_kind_are_named_or_read_by_the_other_way(
        self, gpu_bench: BatchBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[pa.Table], pa.Table]
    ) -> None:
        write_parquet(make_table(100), tmp_path / "in" / "0.parquet")
        write_parquet(change(make_table(100, first_id=100)), tmp_path / "in" / "1.parquet")
        columns = Columns("flight_id")
        assert 200 == self.scored_both_ways(gpu_bench, tmp_path / "in", monkeypatch, columns, rows_per_part=100).rows_in

    def test_whatever_cudf_raises_the_other_way_reads(
        self,
        gpu_bench: BatchBench,
        cudf: StandInCudf,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        cudf.error = MemoryError("std::bad_alloc: out_of_memory")
        source = write_parquet(make_table(300), tmp_path / "in.parquet")
        assert 300 == self.scored_both_ways(gpu_bench, source, monkeypatch).rows_out
        assert "cuDF did not read a file, Arrow does" in caplog.text
        assert cudf.reads

    def test_csv_files_and_files_elsewhere_are_read_by_arrow(
        self, gpu_bench: BatchBench, cudf: StandInCudf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pacsv.write_csv(make_table(300), tmp_path / "in.csv")
        assert 300 == self.scored_both_ways(gpu_bench, tmp_path / "in.csv", monkeypatch).rows_out
        with fsspec.open("memory://gpu/in.parquet", "wb") as file:
            pq.write_table(make_table(300), file)
        assert 300 == self.scored_both_ways(gpu_bench, "memory://gpu/in.parquet", monkeypatch).rows_out
        assert not cudf.reads
