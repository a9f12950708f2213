"""Rows at fault: named with file and row, or set aside alone while all others are scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotcold.adapters import csv_reader
from hotcold.adapters.batch_table import PlannedTable
from hotcold.domain.batch_plan import Columns
from hotcold.domain.errors import BadInputError
from tests.fixtures.batch import BatchBench, make_table, replace_column, write_parquet


def texts(values: Sequence[bytes | None]) -> pa.Array:
    """Text that nobody has looked at, as a reader of Parquet gives it."""
    return pa.array(values, pa.binary()).view(pa.string())


def set_aside(table: PlannedTable) -> pa.Table:
    return pq.read_table(table.folder.path("quarantine"))


class TestParquet:
    def test_rows_that_break_the_schema_are_set_aside_one_by_one(self, batch_bench: BatchBench, tmp_path: Path) -> None:
        for index in range(5):
            write_parquet(make_table(100, seed=index, first_id=index * 100), tmp_path / "in" / f"{index}.parquet")
        folder = tmp_path / "in"
        table = pq.read_table(folder / "1.parquet")
        carriers = table["carrier"].to_pylist()
        carriers[7], carriers[8] = "ZZ", None
        distances = table["distance"].to_pylist()
        distances[9], distances[10] = float("inf"), None
        ids = table["flight_id"].to_pylist()
        ids[11] = None
        for name, values in (("carrier", carriers), ("distance", distances), ("flight_id", ids)):
            table = replace_column(table, name, pa.array(values))
        write_parquet(table, folder / "1.parquet")
        with pytest.raises(BadInputError, match=r"1\.parquet, row group 0: row 11, the id 'flight_id' is null"):
            batch_bench.score(batch_bench.plan(folder, rows_per_part=100))
        planned = batch_bench.plan(folder, "quarantine", rows_per_part=100)
        totals = batch_bench.score_all(planned)
        assert (500, 495, 5) == (totals.rows_in, totals.rows_out, totals.rows_quarantined)
        aside = set_aside(planned)
        assert [7, 8, 9, 10, 11] == aside["row"].to_pylist()
        assert ["107", "108", "109", "110", None] == aside["id"].to_pylist()
        assert "the id 'flight_id' is null" == aside["reason"].to_pylist()[4]
        assert set(range(500)) - {107, 108, 109, 110, 111} == set(batch_bench.read(planned)["flight_id"].to_pylist())

    def test_the_row_that_is_named_is_that_of_the_file(self, batch_bench: BatchBench, tmp_path: Path) -> None:
        """It lies in the second batch of the piece."""
        rows, bad = 70_000, 69_123
        distances = make_table(rows)["distance"].to_pylist()
        distances[bad] = float("inf")
        source = write_parquet(replace_column(make_table(rows), "distance", pa.array(distances)), tmp_path / "in.parquet")
        with pytest.raises(BadInputError, match=rf"row groups 0 to 69: row {bad}, feature 'distance'"):
            batch_bench.score(batch_bench.plan(source, rows_per_part=rows))


class TestText:
    """Readers of Parquet do not look whether text is UTF-8."""

    COLUMNS = Columns("code", ("note", "notes", "carrier"))

    @staticmethod
    def table(rows: int) -> pa.Table:
        """Text as id and passed through, plain and in lists, with and without letters beyond ASCII."""
        table = make_table(rows).append_column("code", pa.array([f"UA{n}" for n in range(rows)]))
        table = table.append_column("note", pa.array([f"gate {n % 9} é" if n % 5 else None for n in range(rows)]))
        return table.append_column("notes", pa.array([["a", f"ü{n}"] for n in range(rows)]))

    @pytest.mark.parametrize(
        ("name", "spoil", "message"),
        [
            ("origin", texts, r"feature 'origin' is the string 'U\\udcff'"),
            ("origin", lambda values: texts(values).dictionary_encode(), r"feature 'origin' is the string 'U\\udcff'"),
            ("carrier", texts, "the column 'carrier' holds text that is not UTF-8"),
            ("code", texts, "the column 'code' holds text that is not UTF-8"),
            ("note", texts, "the column 'note' holds text that is not UTF-8"),
            ("note", lambda values: texts(values).cast(pa.large_string()), "the column 'note' holds text that is not UTF-8"),
            ("note", lambda values: texts(values).dictionary_encode(), "the column 'note' holds text that is not UTF-8"),
            (
                "notes",
                lambda values: pa.ListArray.from_arrays(range(len(values) + 1), texts(values)),
                "the column 'notes' holds",
            ),
        ],
    )
    @pytest.mark.parametrize("rows", [100, 70_000])
    def test_text_that_is_not_utf8_is_named_and_its_row_set_aside(
        self, batch_bench: BatchBench, tmp_path: Path, name: str, spoil: Callable[..., pa.Array], message: str, rows: int
    ) -> None:
        table, bad = self.table(rows), rows - 3
        values = [None if value is None else str(value).encode() for value in table[name].to_pylist()]
        values[bad] = b"U\xff"
        source = write_parquet(replace_column(table, name, spoil(values)), tmp_path / "in.parquet")
        with pytest.raises(BadInputError, match=rf"in\.parquet, row groups? .*: row {bad}, {message}"):
            batch_bench.score(batch_bench.plan(source, columns=self.COLUMNS, rows_per_part=100_000))
        planned = batch_bench.plan(source, "quarantine", columns=self.COLUMNS, rows_per_part=100_000)
        totals = batch_bench.score_all(planned)
        assert (rows - 1, 1, 1) == (totals.rows_out, totals.rows_quarantined, totals.problem_count)
        assert [bad] == set_aside(planned)["row"].to_pylist()
        assert ["U\\xff" if name == "code" else f"UA{bad}"] == set_aside(planned)["id"].to_pylist()
        assert [f"UA{n}" for n in range(rows) if n != bad] == batch_bench.read(planned)["code"].to_pylist()

    def test_bytes_that_are_text_only_together_are_not_text(self, batch_bench: BatchBench, tmp_path: Path) -> None:
        values = [f"UA{n}".encode() for n in range(10)]
        values[4], values[5] = b"UA\xc3", b"\xa9"
        source = write_parquet(make_table(10).append_column("code", texts(values)), tmp_path / "in.parquet")
        planned = batch_bench.plan(source, "quarantine", columns=Columns("code"))
        assert 2 == batch_bench.score_all(planned).rows_quarantined
        assert [4, 5] == set_aside(planned)["row"].to_pylist()

    def test_a_value_of_a_dictionary_that_no_row_uses_does_no_harm(self, batch_bench: BatchBench, tmp_path: Path) -> None:
        dictionary = pa.DictionaryArray.from_arrays(pa.array([0, 1] * 5, pa.int32()), texts([b"a", b"b", b"\xff"]))
        source = write_parquet(make_table(10).append_column("note", dictionary), tmp_path / "in.parquet")
        table = batch_bench.plan(source, columns=Columns("flight_id", ("note",)))
        assert 10 == batch_bench.score_all(table).rows_out
        assert ["a", "b"] * 5 == batch_bench.read(table)["note"].to_pylist()

    def test_a_csv_files_text_is_looked_at_alike(self, batch_bench: BatchBench, tmp_path: Path) -> None:
        pacsv.write_csv(make_table(50), tmp_path / "in.csv")
        lines = (tmp_path / "in.csv").read_bytes().split(b"\n")
        lines[8] = lines[8].replace(b'"2013-10-01"', b'"\xfcber"')
        (tmp_path / "in.csv").write_bytes(b"\n".join(lines))
        columns = Columns("flight_id", ("day",))
        with pytest.raises(BadInputError, match=r"in\.csv, bytes .*: row 7, the column 'day' holds text that is not UTF-8"):
            batch_bench.score(batch_bench.plan(tmp_path / "in.csv", columns=columns))
        planned = batch_bench.plan(tmp_path / "in.csv", "quarantine", columns=columns)
        assert 49 == batch_bench.score_all(planned).rows_out
        assert (["7"], [7]) == (set_aside(planned)["id"].to_pylist(), set_aside(planned)["row"].to_pylist())

    def test_a_csv_header_in_another_encoding_is_named(self, batch_bench: BatchBench, tmp_path: Path) -> None:
        pacsv.write_csv(make_table(10), tmp_path / "a.csv")
        (tmp_path / "b.csv").write_bytes("flight_id,Flughöhe\n1,2\n".encode("latin-1"))
        with pytest.raises(BadInputError, match=r"b\.csv: the CSV file's header line is not UTF-8"):
            batch_bench.plan(f"{tmp_path}/*.csv")
        assert 1 == batch_bench.score_all(batch_bench.plan(f"{tmp_path}/*.csv", "quarantine")).uncounted_files


class TestColumnsThatAreThereTwice:
    @pytest.mark.parametrize("name", ["flight_id", "day", "distance"])
    @pytest.mark.parametrize("kind", ["parquet", "csv"])
    def test_they_are_named(self, batch_bench: BatchBench, tmp_path: Path, name: str, kind: str) -> None:
        table, columns = make_table(10), Columns("flight_id", ("day",))
        twice = pa.Table.from_arrays([*table.columns, table[name]], names=[*table.column_names, name])
        for number, content in enumerate((table, twice)):
            path = tmp_path / "in" / f"{number}.{kind}"
            path.parent.mkdir(exist_ok=True)
            write_parquet(content, path) if kind == "parquet" else pacsv.write_csv(content, path)
        with pytest.raises(BadInputError, match=rf"1\.{kind}.*the column '{name}' (is there )?twice"):
            batch_bench.score(batch_bench.plan(tmp_path / "in", columns=columns))
        totals = batch_bench.score_all(batch_bench.plan(tmp_path / "in", "quarantine", columns=columns))
        assert (20, 10, 10) == (totals.rows_in, totals.rows_out, totals.rows_quarantined)
        with pytest.raises(BadInputError, match=f"the column '{name}' (is there )?twice"):
            batch_bench.score(batch_bench.plan(tmp_path / "in" / f"1.{kind}", columns=columns))


def with_field(line: bytes, index: int, value: bytes) -> bytes:
    """A line without commas in its first fields, one of which becomes another one."""
    fields = line.split(b",")
    return b",".join([*fields[:index], value, *fields[index + 1 :]])


class TestCsv:
    @staticmethod
    def lines(rows: int) -> list[bytes]:
        """A header and rows whose passed-through text has a comma in quotes."""
        table = replace_column(make_table(rows), "day", pa.array([f"Oct 1, {n}" for n in range(rows)]))
        return pacsv_lines(table)

    COLUMNS = Columns("flight_id", ("day",))
    FAULTS: ClassVar = {
        3: (lambda line: with_field(line, 2, b"far"), "feature 'distance' is 'far'; a number is needed"),
        8: (lambda line: line.rsplit(b",", 2)[0], "the line has 7 columns; needed are 8"),
        9: (lambda line: line + b",more", "the line has 9 columns; needed are 8"),
        20: (lambda line: line.replace(b'"Oct', b'"Oct\nober'), "a quoted value does not end on its line"),
        30: (lambda _: b"no data", "the line has 1 columns; needed are 8"),
        31: (lambda _: b"  ", "the line has 1 columns; needed are 8"),
        40: (lambda line: with_field(line, 1, b"1\r0"), "or a carriage return stands outside of one"),
        41: (lambda line: with_field(line, 2, b"\xff7"), r"feature 'distance' is '\\xff7'"),
    }

    @pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\n\n", b"\r\n\r\n\n"])
    @pytest.mark.parametrize("end", [b"", b"\n"])
    @pytest.mark.parametrize("rows", [400, 30_000])
    def test_rows_at_fault_are_set_aside_alone(
        self, batch_bench: BatchBench, tmp_path: Path, ending: bytes, end: bytes, rows: int
    ) -> None:
        """With 30,000 rows, a range has several of the blocks that the reader reads."""
        lines, shift = self.lines(rows), rows - 100
        for row, (spoil, _) in self.FAULTS.items():
            lines[1 + shift + row] = spoil(lines[1 + shift + row])
        (tmp_path / "in.csv").write_bytes(ending.join(lines) + end)
        planned = batch_bench.plan(tmp_path / "in.csv", "quarantine", columns=self.COLUMNS, rows_per_part=20_000)
        totals = batch_bench.score_all(planned)
        # A line break within a value makes two rows of one.
        assert (rows + 1, len(self.FAULTS) + 1) == (totals.rows_in, totals.rows_quarantined)
        good = [str(n) for n in range(rows) if n - shift not in self.FAULTS]
        found = batch_bench.read(planned)
        assert (good, [f"Oct 1, {n}" for n in good]) == (found["flight_id"].to_pylist(), found["day"].to_pylist())
        assert np.abs(found["score"].to_numpy() - scores_of(batch_bench, tmp_path, rows, good)).max() < 1e-6
        reasons = set_aside(planned)["reason"].to_pylist()
        for _, why in self.FAULTS.values():
            assert [reason for reason in reasons if why in reason], why

    @pytest.mark.parametrize("row", FAULTS)
    def test_a_run_that_may_not_fail_names_the_row(self, batch_bench: BatchBench, tmp_path: Path, row: int) -> None:
        lines = self.lines(60)
        spoil, why = self.FAULTS[row]
        lines[1 + row] = spoil(lines[1 + row])
        (tmp_path / "in.csv").write_bytes(b"\n".join(lines))
        with pytest.raises(BadInputError) as found:
            batch_bench.score(batch_bench.plan(tmp_path / "in.csv", columns=self.COLUMNS))
        assert f"in.csv, bytes {len(lines[0]) + 1} to " in str(found.value)
        assert f": row {row}, " in str(found.value)
        assert why in str(found.value)

    def test_rows_of_every_kind_of_fault_are_numbered_alike(self, batch_bench: BatchBench, tmp_path: Path) -> None:
        """Faults that the reader sees, and those that only the model's schema knows, a value or a batch later."""
        rows = 70_000
        lines = self.lines(rows)
        lines[1 + 5] = b"torn"
        for row in (7, 69_000):
            lines[1 + row] = with_field(lines[1 + row], 4, b"XXX")
        (tmp_path / "in.csv").write_bytes(b"\n".join(lines))
        planned = batch_bench.plan(tmp_path / "in.csv", "quarantine", columns=self.COLUMNS, rows_per_part=100_000)
        assert rows - 3 == batch_bench.score_all(planned).rows_out
        assert ([5, 7, 69_000], [None, "7", "69000"]) == (
            set_aside(planned)["row"].to_pylist(),
            set_aside(planned)["id"].to_pylist(),
        )

    def test_a_range_in_which_no_row_is_good(self, batch_bench: BatchBench, tmp_path: Path) -> None:
        lines = self.lines(40)
        (tmp_path / "in.csv").write_bytes(b"\n".join([lines[0], *(b"x" + bytes([65 + n % 9]) for n in range(40))]))
        totals = batch_bench.score_all(batch_bench.plan(tmp_path / "in.csv", "quarantine", columns=self.COLUMNS))
        assert (40, 0, 40) == (totals.rows_in, totals.rows_out, totals.rows_quarantined)


def pacsv_lines(table: pa.Table) -> list[bytes]:
    sink = pa.BufferOutputStream()
    pacsv.write_csv(table, sink)
    return sink.getvalue().to_pybytes().splitlines()


def scores_of(bench: BatchBench, folder: Path, rows: int, ids: Sequence[str]) -> np.ndarray:
    """What a Parquet file of the same rows gives."""
    table = bench.plan(write_parquet(make_table(rows), folder / "same.parquet"))
    bench.score_all(table)
    return bench.read(table)["score"].to_numpy()[[int(one) for one in ids]]


_KINDS = {"a": pa.string(), "b": pa.float64()}
_NUMBERS = st.text(st.sampled_from("0123456789+-.eEinfatyNAul ()x_\t"), max_size=7).map(str.encode)
_WORDS = st.lists(st.sampled_from([b'"', b'""', b",", b"\r", b" ", b"x", b"\xc3\xa9", b"\xff", b"NA"]), max_size=6).map(
    b"".join
)
_LINES = st.one_of(
    st.builds(b"x,%s".__mod__, _NUMBERS), st.builds(b'x,"%s"'.__mod__, _NUMBERS), _WORDS, st.builds(b"%s,1".__mod__, _WORDS)
)


def alone(line: bytes) -> dict[str, list[object]] | None:
    """A line as pyarrow reads it when it stands before another one; None if it refuses it, or does not take it for one row."""
    convert = pacsv.ConvertOptions(column_types=_KINDS, null_values=csv_reader._NULLS)
    try:
        table = csv_reader._parse(line + b"\nlast,5\n", list(_KINDS), convert)
    except pa.ArrowInvalid:
        return None
    found = table.to_pydict()
    is_one = table.num_rows == 2 and (found["a"][1], found["b"][1]) == ("last", 5.0)
    return {name: values[:1] for name, values in found.items()} if is_one else None


@given(st.lists(_LINES, max_size=6))
def test_a_line_is_at_fault_exactly_if_pyarrow_refuses_it_alone(lines: list[bytes]) -> None:
    # With one row at fault, pyarrow refuses all.
    lines = [b"torn", *lines]
    rows = [row for line in lines if (row := line.strip(b"\r"))]
    table, faults = csv_reader._read_lines(b"\n".join(lines), list(_KINDS), _KINDS)
    expected = {number: alone(row) for number, row in enumerate(rows)}
    bad_text = {number for number, row in enumerate(rows) if not is_text(row)}
    assert len(rows) == table.num_rows
    assert {number for number, read in expected.items() if read is None} - bad_text == set(faults) - bad_text
    for number, read in expected.items():
        if read is not None and number not in faults:
            assert repr(read) == repr(table.slice(number, 1).to_pydict())


def is_text(row: bytes) -> bool:
    try:
        row.decode()
    except UnicodeDecodeError:
        return False
    return True
