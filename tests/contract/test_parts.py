"""Parts on a real disk with a real package: what is read is what is scored, and every row is accounted for."""

from __future__ import annotations

import gzip
import os
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from hotcold.adapters.batch_table import read_receipts
from hotcold.adapters.engines import open_engine
from hotcold.adapters.part_files import ascending_ids, scores_file
from hotcold.domain.batch_plan import Columns
from hotcold.domain.errors import BadInputError, BatchError
from hotcold.domain.receipt import missing_parts, summarise
from tests.fixtures.batch import BatchBench, make_table, matrix_of, replace_column, write_parquet


def expected_scores(bench: BatchBench, rows: int, seed: int = 0) -> np.ndarray:
    return open_engine("xgboost", bench.package / "model").score(matrix_of(rows, seed))


class TestGoodInput:
    def test_scores_are_those_of_the_models_own_library(self, batch_bench: BatchBench, tmp_path: Path) -> None:
        table = batch_bench.plan(write_parquet(make_table(2500), tmp_path / "in.parquet"))
        totals = batch_bench.score_all(table)
        found = batch_bench.read(table)
        assert (2500, 2500, 0, 3) == (totals.rows_in, totals.rows_out, totals.rows_quarantined, totals.parts)
        assert list(range(2500)) == found["flight_id"].to_pylist()
        assert np.abs(found["score"].to_numpy() - expected_scores(batch_bench, 2500)).max() < 1e-5

    @pytest.mark.parametrize(
        "values",
        [
            pa.array([2**64 - 1, None, 1], pa.uint64()),
            pa.array([-(2**63), 2**63 - 1, None]),
            pa.array(["a", None, "é"]),
            pa.array([True, False, None]),
            pa.array([date(2013, 10, 1), None, date(1900, 1, 1)]),
            pa.array([b"\x00", None, b""]),
            pa.array([[1, 2], None, []]),
            pa.array([{"deep": 1}, None, {"deep": None}]),
        ],
        ids=lambda values: str(values.type),
    )
    def test_what_is_passed_through_arrives_as_it_was_and_packed(self, values: pa.Array) -> None:
        rows = pa.RecordBatch.from_arrays([pa.array(["a", "b", "c"]), values], names=["id", "more"])
        scores = np.array([0.1, np.nan, -0.0], dtype=np.float32)
        file = pq.ParquetFile(pa.BufferReader(scores_file([rows], scores, rows.schema)))
        found = file.read()
        assert ["id", "score", "more"] == found.column_names
        assert (["a", "b", "c"], values.to_pylist()) == (found["id"].to_pylist(), found["more"].to_pylist())
        assert scores.tobytes() == found["score"].to_numpy().tobytes()
        group = file.metadata.row_group(0)
        assert {"ZSTD"} == {group.column(index).compression for index in range(group.num_columns)}

    def test_the_same_rows_give_the_same_scores_in_every_shape_of_file(self, batch_bench: BatchBench, tmp_path: Path) -> None:
        table = make_table(3000)
        write_parquet(table, tmp_path / "one" / "a.parquet", row_group_size=3000)
        for index in range(30):
            write_parquet(table.slice(index * 100, 100), tmp_path / "many" / f"{index:02}.parquet")
        (tmp_path / "csv").mkdir()
        pacsv.write_csv(table, tmp_path / "csv" / "a.csv")
        dictionaries = table.set_column(3, "carrier", table["carrier"].dictionary_encode())
        write_parquet(dictionaries.cast(pa.schema([*dictionaries.schema])), tmp_path / "dictionary" / "a.parquet")
        found = []
        for kind in ("one", "many", "csv", "dictionary"):
            planned = batch_bench.plan(tmp_path / kind, rows_per_part=700)
            assert 3000 == batch_bench.score_all(planned).rows_out, kind
            found.append(batch_bench.read(planned)["score"].to_numpy())
        for scores in found[1:]:
            assert np.abs(found[0] - scores).max() < 1e-6

    @pytest.mark.parametrize("encoding", ["PLAIN", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"])
    def test_texts_are_read_however_they_are_stored(self, batch_bench: BatchBench, tmp_path: Path, encoding: str) -> None:
        """Arrow makes no dictionaries of texts that are stored as differences, as newer writers of Parquet do."""
        encodings = dict.fromkeys(("carrier", "origin", "day"), encoding)
        pq.write_table(make_table(300), tmp_path / "in.parquet", use_dictionary=False, column_encoding=encodings)
        table = batch_bench.plan(tmp_path / "in.parquet", columns=Columns("flight_id", ("day", "carrier")))
        assert 300 == batch_bench.score_all(table).rows_out
        found = batch_bench.read(table)
        assert np.abs(found["score"].to_numpy() - expected_scores(batch_bench, 300)).max() < 1e-5
        assert make_table(300)["carrier"].to_pylist() == found["carrier"].to_pylist()

    def test_columns_are_passed_through(self, batch_bench: BatchBench, tmp_path: Path) -> None:
        source = make_table(50)
        table = batch_bench.plan(
            write_parquet(source, tmp_path / "in.parquet"), columns=Columns("flight_id", ("day", "wind_speed", "carrier"))
        )
        batch_bench.score_all(table)
        found = batch_bench.read(table)
        assert ["flight_id", "score", "day", "wind_speed", "carrier"] == found.column_names
        for name in ("day", "wind_speed", "carrier"):
            assert source[name].to_pylist() == found[name].to_pylist()

    def test_text_ids_and_optional_columns(self, batch_bench: BatchBench, tmp_path: Path) -> None:
        source = make_table(20).append_column("code", pa.array([f"UA{n}/é" for n in range(20)]))
        table = batch_bench.plan(write_parquet(source, tmp_path / "in.parquet"), columns=Columns("code"))
        batch_bench.score_all(table)
        assert source["code"].to_pylist() == batch_bench.read(table)["code"].to_pylist()

    def test_files_that_begin_with_a_dot_or_an_underscore_are_not_data(self, batch_bench: BatchBench, tmp_path: Path) -> None:
        write_parquet(make_table(10), tmp_path / "in" / "a.parquet")
        for name in ("_SUCCESS", ".a.parquet.crc", "_tmp/b.parquet"):
            (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
            (tmp_path / "in" / name).write_bytes(b"no data")
        assert 10 == batch_bench.score_all(batch_bench.plan(tmp_path / "in")).rows_in

    def test_a_pattern_chooses_files(self, batch_bench: BatchBench, tmp_path: Path) -> None:
        for day in (1, 2):
            write_parquet(make_table(10 * day), tmp_path / f"2013-10-0{day}.parquet")
        assert 20 == batch_bench.score_all(batch_bench.plan(f"{tmp_path}/*-02.parquet")).rows_in

    @pytest.mark.parametrize("pattern", ["in", "in/*.parquet"])
    def test_links_to_files_are_read_and_watched_like_files(
        self, batch_bench: BatchBench, tmp_path: Path, pattern: str
    ) -> None:
        real = write_parquet(make_table(10), tmp_path / "store" / "monday")
        write_parquet(make_table(5, first_id=10), tmp_path / "in" / "a.parquet")
        (tmp_path / "in" / "b.parquet").symlink_to(real)
        table = batch_bench.plan(tmp_path / pattern)
        assert 15 == batch_bench.score_all(table).rows_in
        write_parquet(make_table(12), real)
        assert table.plan.table_id != batch_bench.plan(tmp_path / pattern).plan.table_id

    def test_a_link_to_a_folder_is_named_rather_than_left_out(self, batch_bench: BatchBench, tmp_path: Path) -> None:
        write_parquet(make_table(10), tmp_path / "in" / "a.parquet")
        write_parquet(make_table(10), tmp_path / "more" / "b.parquet")
        (tmp_path / "in" / "linked").symlink_to(tmp_path / "more")
        with pytest.raises(BadInputError, match="in/linked is a link to a folder"):
            batch_bench.plan(tmp_path / "in")

    def test_words_for_nothing_are_names_where_a_csv_files_ids_are_concerned(
        self, batch_bench: BatchBench, tmp_path: Path
    ) -> None:
        lines = [
            "code,departure_minute,distance,carrier,origin,wind_speed,visib,note",
            "NA,915,1089,UA,JFK,11.5,10,None",
            "null,600,200.5,AA,EWR,NA,9,",
        ]
        (tmp_path / "in.csv").write_text("\n".join(lines))
        table = batch_bench.plan(tmp_path / "in.csv", columns=Columns("code", ("distance", "note")))
        assert 2 == batch_bench.score_all(table).rows_out
        found = batch_bench.read(table).to_pydict()
        assert (["NA", "null"], ["1089", "200.5"], ["None", None]) == (found["code"], found["distance"], found["note"])

    def test_csv_with_missing_values_crlf_and_no_last_newline(self, batch_bench: BatchBench, tmp_path: Path) -> None:
        lines = [
            "flight_id,departure_minute,distance,carrier,origin,wind_speed,visib",
            "1,915,1089,UA,JFK,11.5,",
            "2,600,200.5,AA,EWR,NA,10",
        ]
        (tmp_path / "in.csv").write_bytes("\r\n".join(lines).encode())
        table = batch_bench.plan(tmp_path / "in.csv")
        assert 2 == batch_bench.score_all(table).rows_out
        assert ["1", "2"] == batch_bench.read(table)["flight_id"].to_pylist()


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([[1, 2], [3]], (1, 3)),
        ([["a"], ["b", "c"]], ("a", "c")),
        ([[1, 1]], None),
        ([[2, 1]], None),
        ([[1, 3], [3, 4]], None),
        ([], None),
    ],
)
def test_ids_that_ascend_are_told_by_their_range(ids: list[list[int]], expected: object) -> None:
    assert expected == ascending_ids([pa.array(chunk) for chunk in ids])


class TestResume:
    def test_only_missing_parts_are_done_again_and_the_bytes_are_equal(self, batch_bench: BatchBench, tmp_path: Path) -> None:
        source = write_parquet(make_table(5000), tmp_path / "in.parquet")
        table = batch_bench.plan(source)
        first = batch_bench.score(table)
        before = {path.name: path.read_bytes() for path in Path(table.folder.path("data")).iterdir()}
        Path(table.folder.path("data/part-000002.parquet")).unlink()
        Path(table.folder.path("data/part-000003.parquet")).write_bytes(b"torn")
        Path(table.folder.path("receipts/part-000004.json")).write_text("{")
        again = batch_bench.plan(source)
        kept = read_receipts(again)
        missing = missing_parts(again.parts(), kept)
        assert [2, 3, 4] == [part.index for part in missing]
        assert 5000 == summarise(again.plan, again.parts(), batch_bench.score(again)).rows_out
        assert before == {path.name: path.read_bytes() for path in Path(table.folder.path("data")).iterdir()}
        assert {receipt.sha256 for receipt in first} == {receipt.sha256 for receipt in read_receipts(again)}

    def test_a_plan_that_was_damaged_is_named(self, batch_bench: BatchBench, tmp_path: Path) -> None:
        source = write_parquet(make_table(10), tmp_path / "in.parquet")
        Path(batch_bench.plan(source).folder.path("plan.json")).write_text("{}")
        with pytest.raises(BatchError, match=r"plan\.json cannot be read .* delete"):
            batch_bench.plan(source)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def overwrite_pages(path: Path) -> None:
    """The footer stays, the data are gone."""
    with path.open("r+b") as file:
        file.seek(8)
        file.write(b"\xff" * (path.stat().st_size // 2))


class TestBadFiles:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """Five files with 100 rows each."""
        for index in range(5):
            write_parquet(make_table(100, seed=index, first_id=index * 100), tmp_path / "in" / f"{index}.parquet")
        return tmp_path / "in"

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (truncate, "not a complete Parquet file"),
            (lambda path: path.write_bytes(b""), "not a complete Parquet file"),
            (lambda path: path.write_text("a,b\n1,2\n"), "not a complete Parquet file"),
        ],
    )
    def test_a_file_without_a_footer_is_named_before_anything_is_scored(
        self, batch_bench: BatchBench, folder: Path, damage: object, message: str
    ) -> None:
        damage(folder / "3.parquet")  # type: ignore[operator]
        with pytest.raises(BadInputError, match=rf"1 of 5 input files .*3\.parquet.*{message}"):
            batch_bench.plan(folder)
        table = batch_bench.plan(folder, "quarantine")
        totals = batch_bench.score_all(table)
        assert (400, 400, 1) == (totals.rows_in, totals.rows_out, totals.uncounted_files)
        assert totals.problems[0].file.endswith("3.parquet")

    def test_a_file_with_broken_pages_is_named_and_set_aside(self, batch_bench: BatchBench, folder: Path) -> None:
        overwrite_pages(folder / "2.parquet")
        with pytest.raises(BadInputError, match=r"2\.parquet.*on_bad_part=quarantine"):
            batch_bench.score(batch_bench.plan(folder))
        totals = batch_bench.score_all(batch_bench.plan(folder, "quarantine"))
        assert (500, 400, 100) == (totals.rows_in, totals.rows_out, totals.rows_quarantined)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda table: table.drop_columns(["carrier"]), "'carrier' is missing"),
            (lambda table: replace_column(table, "distance", pa.array(["far"] * 100)), "'distance' is of type string"),
            (lambda table: replace_column(table, "carrier", pa.array([7] * 100)), "'carrier' is of type int64; text"),
            (lambda table: replace_column(table, "distance", pa.array([True] * 100)), "'distance' is of type bool"),
            (lambda table: table.drop_columns(["flight_id"]), "lacks the column 'flight_id'"),
            (
                lambda table: replace_column(table, "flight_id", pa.array(["7"] * 100)),
                "'flight_id' is of type string; in the first",
            ),
            (
                lambda table: replace_column(table, "flight_id", pa.array([True] * 100)),
                "'flight_id' is of type bool; in the first",
            ),
        ],
    )
    def test_a_file_whose_schema_changed_is_set_aside_whole(
        self, batch_bench: BatchBench, folder: Path, change: object, message: str
    ) -> None:
        table = pq.read_table(folder / "4.parquet")
        write_parquet(change(table), folder / "4.parquet")  # type: ignore[operator]
        with pytest.raises(BadInputError, match=message):
            batch_bench.score(batch_bench.plan(folder))
        planned = batch_bench.plan(folder, "quarantine")
        totals = batch_bench.score_all(planned)
        assert (500, 400, 100) == (totals.rows_in, totals.rows_out, totals.rows_quarantined)
        assert "4.parquet" in totals.problems[0].file
        assert list(range(400)) == batch_bench.read(planned)["flight_id"].to_pylist()

    def test_a_file_that_changes_under_the_run_is_named(self, batch_bench: BatchBench, folder: Path) -> None:
        table = batch_bench.plan(folder)
        write_parquet(make_table(90), folder / "0.parquet")
        with pytest.raises(BadInputError, match=r"0\.parquet was changed while the run was under way"):
            batch_bench.score(table)

    def test_a_file_that_vanishes_under_the_run_is_named(self, batch_bench: BatchBench, folder: Path) -> None:
        table = batch_bench.plan(folder)
        (folder / "0.parquet").unlink()
        with pytest.raises(BadInputError, match=r"0\.parquet was there when the run was planned"):
            batch_bench.score(table)


class TestNoInput:
    def test_nothing_there(self, batch_bench: BatchBench, tmp_path: Path) -> None:
        with pytest.raises(BadInputError, match="there is nothing at"):
            batch_bench.plan(tmp_path / "nowhere")

    def test_an_empty_folder(self, batch_bench: BatchBench, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        with pytest.raises(BadInputError, match="no Parquet or CSV file"):
            batch_bench.plan(tmp_path / "in")

    def test_files_without_rows(self, batch_bench: BatchBench, tmp_path: Path) -> None:
        write_parquet(make_table(10).slice(0, 0), tmp_path / "in" / "a.parquet")
        with pytest.raises(BadInputError, match="the input has no rows"):
            batch_bench.plan(tmp_path / "in")
        (tmp_path / "b.csv").write_text("flight_id,distance\n")
        with pytest.raises(BadInputError, match="the input has no rows"):
            batch_bench.plan(tmp_path / "b.csv")

    def test_two_formats_at_once(self, batch_bench: BatchBench, tmp_path: Path) -> None:
        write_parquet(make_table(10), tmp_path / "in" / "a.parquet")
        (tmp_path / "in" / "b.csv").write_text("a\n1\n")
        with pytest.raises(BadInputError, match="holds Parquet and CSV files"):
            batch_bench.plan(tmp_path / "in")

    def test_a_compressed_csv_file(self, batch_bench: BatchBench, tmp_path: Path) -> None:
        (tmp_path / "in.csv.gz").write_bytes(gzip.compress(b"a\n1\n"))
        with pytest.raises(BadInputError, match="is compressed"):
            batch_bench.plan(tmp_path / "in.csv.gz")

    def test_a_file_system_that_nobody_knows(self, batch_bench: BatchBench) -> None:
        with pytest.raises(BadInputError, match="cannot be listed"):
            batch_bench.plan("gopher://host/in.parquet")

    @pytest.mark.parametrize("name", ["nope", "distance2"])
    def test_an_id_column_that_is_not_there(self, batch_bench: BatchBench, tmp_path: Path, name: str) -> None:
        source = write_parquet(make_table(10), tmp_path / "in.parquet")
        with pytest.raises(BadInputError, match=f"no column '{name}'"):
            batch_bench.plan(source, columns=Columns(name))

    def test_an_id_that_is_neither_text_nor_a_whole_number(self, batch_bench: BatchBench, tmp_path: Path) -> None:
        source = write_parquet(make_table(10), tmp_path / "in.parquet")
        with pytest.raises(BadInputError, match="is of type double; text or whole numbers are needed"):
            batch_bench.plan(source, columns=Columns("distance"))


def test_a_large_row_group_is_read_in_slices_that_join_without_a_seam(batch_bench: BatchBench, tmp_path: Path) -> None:
    table = make_table(10_000)
    planned = batch_bench.plan(write_parquet(table, tmp_path / "in.parquet", row_group_size=10_000), rows_per_part=900)
    assert len(planned.parts()) > 10
    batch_bench.score_all(planned)
    found = batch_bench.read(planned)
    assert list(range(10_000)) == found["flight_id"].to_pylist()
    assert pc.max(pc.abs(pc.subtract(found["score"], pa.array(expected_scores(batch_bench, 10_000))))).as_py() < 1e-5
