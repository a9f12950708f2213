"""Input on file systems that are not a local disk, and on ones that fail for a while."""

from __future__ import annotations

import errno
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import fsspec
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from hotcold.adapters import input_files
from hotcold.adapters.table_folder import plain_url
from hotcold.domain.errors import BadInputError, BatchError, UnreachableInputError
from tests.fixtures.batch import BatchBench, make_table, write_parquet
from tests.fixtures.web_folder import WebFolder

ROWS = 3000


@pytest.fixture
def memory_folder() -> Iterator[str]:
    """A folder of fsspec's store in memory, which tells times in one way for a file and in another for a folder."""
    files, path = fsspec.core.url_to_fs(f"memory://{uuid.uuid4().hex}")
    yield f"memory:/{path}"
    files.rm(path, recursive=True)


def put(url: str, first_id: int) -> None:
    with fsspec.open(url, "wb") as file:
        pq.write_table(make_table(ROWS, first_id=first_id), file, row_group_size=500)


class TestOnTheWeb:
    @pytest.mark.parametrize("tags", [True, False], ids=["with ETags", "without"])
    @pytest.mark.parametrize("kind", ["parquet", "csv"])
    def test_a_file_is_scored_and_known_again_when_it_changed(
        self, batch_bench: BatchBench, web_folder: WebFolder, kind: str, tags: bool
    ) -> None:
        web_folder.tags = tags
        path = web_folder.folder / f"in.{kind}"

        def write(first_id: int) -> None:
            table = make_table(ROWS, first_id=first_id)
            pacsv.write_csv(table, path) if kind == "csv" else write_parquet(table, path, row_group_size=500)

        write(10_000)
        table = batch_bench.plan(web_folder.url(path.name))
        assert len(table.parts()) > 1
        assert (ROWS, ROWS) == (batch_bench.score_all(table).rows_in, batch_bench.read(table).num_rows)
        assert table.plan.table_id == batch_bench.plan(web_folder.url(path.name)).plan.table_id
        # Other ids of as many digits.
        write(20_000)
        assert table.plan.table_id != batch_bench.plan(web_folder.url(path.name)).plan.table_id
        with pytest.raises(BadInputError, match="was changed while the run was under way"):
            batch_bench.score(table)

    def test_a_pattern_reads_what_the_page_lists(self, batch_bench: BatchBench, web_folder: WebFolder) -> None:
        for day in (1, 2):
            write_parquet(make_table(100, first_id=100 * day), web_folder.folder / f"2013-10-0{day}.parquet")
        (web_folder.folder / "notes.txt").write_text("no data")
        table = batch_bench.plan(web_folder.url("*.parquet"))
        assert (2, 200) == (len(table.plan.files), batch_bench.score_all(table).rows_in)

    def test_what_is_not_there_and_what_is_refused_are_told_apart(self, batch_bench: BatchBench, web_folder: WebFolder) -> None:
        with pytest.raises(BadInputError, match="there is nothing at"):
            batch_bench.plan(web_folder.url("gone.parquet"))
        web_folder.status, web_folder.failures_left = 403, 99
        with pytest.raises(BadInputError, match="cannot be listed: ClientResponseError: 403"):
            batch_bench.plan(web_folder.url("in.parquet"))

    @pytest.mark.parametrize("on_bad_part", ["fail", "quarantine"])
    def test_a_server_that_fails_for_a_while_costs_no_row(
        self, batch_bench: BatchBench, web_folder: WebFolder, on_bad_part: str
    ) -> None:
        write_parquet(make_table(ROWS), web_folder.folder / "in.parquet", row_group_size=500)
        table = batch_bench.plan(web_folder.url("in.parquet"), on_bad_part=on_bad_part)
        web_folder.status, web_folder.failures_left = 503, 2
        with pytest.raises(UnreachableInputError, match=r"in\.parquet cannot be read now .*503.*what is done is kept"):
            batch_bench.score(table)
        web_folder.failures_left = 0
        totals = batch_bench.score_all(batch_bench.plan(web_folder.url("in.parquet"), on_bad_part=on_bad_part))
        assert (ROWS, 0) == (totals.rows_out, totals.rows_quarantined)


class TestInMemory:
    @pytest.mark.parametrize("pattern", ["", "/*.parquet", "/a.parquet"])
    def test_files_stay_the_same_until_they_are_written_again(
        self, batch_bench: BatchBench, memory_folder: str, pattern: str
    ) -> None:
        put(f"{memory_folder}/a.parquet", 0)
        table = batch_bench.plan(memory_folder + pattern)
        assert ROWS == batch_bench.score_all(table).rows_in
        put(f"{memory_folder}/a.parquet", ROWS)
        with pytest.raises(BadInputError, match="was changed while the run was under way"):
            batch_bench.score(table)


class TestFaults:
    @pytest.mark.parametrize(
        "error",
        [TimeoutError("the network timed out"), OSError(errno.EIO, "Input/output error"), PermissionError(errno.EACCES, "no")],
        ids=lambda error: type(error).__name__,
    )
    def test_a_disk_that_fails_while_files_are_measured_is_not_taken_for_bad_content(
        self, batch_bench: BatchBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
    ) -> None:
        """The disk's fault is raised where the file is opened: no disk can be told to fail just once."""
        source = write_parquet(make_table(100), tmp_path / "in" / "in.parquet")
        write_parquet(make_table(100, first_id=100), tmp_path / "in" / "next.parquet")

        def fail(_: object) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr("hotcold.adapters.batch_input.open_input", fail)
            with pytest.raises(UnreachableInputError, match=f"{type(error).__name__}"):
                batch_bench.plan(source.parent, on_bad_part="quarantine")
        totals = batch_bench.score_all(batch_bench.plan(source.parent, on_bad_part="quarantine"))
        assert (200, 0) == (totals.rows_out, totals.rows_quarantined)

    def test_a_file_behind_a_broken_path_is_not_set_aside(self, batch_bench: BatchBench, tmp_path: Path) -> None:
        source = write_parquet(make_table(100), tmp_path / "in.parquet")
        table = batch_bench.plan(source, on_bad_part="quarantine")
        source.unlink()
        source.symlink_to(source)
        with pytest.raises(UnreachableInputError, match="Too many levels of symbolic links"):
            batch_bench.score(table)

    def test_arrow_errors_about_data_are_the_contents_fault(self) -> None:
        assert "corrupt" in input_files.content_fault("in.parquet", OSError("corrupt snappy data"))
        with pytest.raises(UnreachableInputError):
            input_files.content_fault("in.parquet", OSError(errno.ESTALE, "Stale file handle"))

    @pytest.mark.parametrize("error", [MemoryError(), pa.ArrowMemoryError("malloc of size 64 failed")], ids=["Python", "Arrow"])
    def test_a_lack_of_memory_is_never_the_contents_fault(self, error: Exception) -> None:
        with pytest.raises(UnreachableInputError, match=r"in\.parquet cannot be read for lack of memory"):
            input_files.content_fault("in.parquet", error)

    def test_no_row_is_set_aside_for_lack_of_memory(
        self, batch_bench: BatchBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Raised where Arrow would raise it: no test can tell how much memory reading takes."""
        source = write_parquet(make_table(100), tmp_path / "in.parquet")
        table = batch_bench.plan(source, on_bad_part="quarantine")

        def fail(*_: object) -> None:
            raise pa.ArrowMemoryError("malloc of size 64 failed")

        with monkeypatch.context() as patch:
            patch.setattr("hotcold.adapters.piece_reader._window", fail)
            with pytest.raises(UnreachableInputError, match="for lack of memory"):
                batch_bench.score(table)
        assert (100, 0) == (batch_bench.score_all(table).rows_out, batch_bench.score_all(table).rows_quarantined)


class TestAddresses:
    @pytest.mark.parametrize("inside", ["in", "in/*.parquet"])
    def test_an_output_in_the_input_is_refused_before_it_has_tables(
        self, batch_bench: BatchBench, tmp_path: Path, inside: str
    ) -> None:
        write_parquet(make_table(10), tmp_path / "in" / "in.parquet")
        output = tmp_path / "in" / "scores"
        bench = replace(batch_bench, output=output)
        if "*" in inside:
            assert 10 == bench.score_all(bench.plan(tmp_path / inside)).rows_in
            inside = "in/**/*.parquet"
        with pytest.raises(BatchError, match=f"the output {output} lies in the input"):
            bench.plan(tmp_path / inside)

    def test_an_output_in_the_input_is_refused_whichever_link_leads_there(
        self, batch_bench: BatchBench, tmp_path: Path
    ) -> None:
        write_parquet(make_table(10), tmp_path / "real" / "in.parquet")
        (tmp_path / "link").symlink_to(tmp_path / "real")
        bench = replace(batch_bench, output=tmp_path / "real" / "scores")
        for source in ("link", "link/**/*.parquet"):
            with pytest.raises(BatchError, match="lies in the input"):
                bench.plan(tmp_path / source)

    @pytest.mark.parametrize("source", ["one.parquet", "days", "da*/*.parquet", "{output}/tables/*/data/*.parquet"])
    def test_files_of_a_score_table_are_not_scored(self, batch_bench: BatchBench, tmp_path: Path, source: str) -> None:
        write_parquet(make_table(10), tmp_path / "in.parquet")
        table = batch_bench.plan(tmp_path / "in.parquet")
        batch_bench.score(table)
        (tmp_path / "days").mkdir()
        for link in ("one.parquet", "days/monday.parquet"):
            (tmp_path / link).symlink_to(table.folder.path("data/part-000000.parquet"))
        with pytest.raises(BatchError, match=r"score table of the output|lies in the input"):
            batch_bench.plan(source.format(output=batch_bench.output) if "{" in source else tmp_path / source)

    def test_the_same_holds_for_other_file_systems(self, batch_bench: BatchBench, memory_folder: str) -> None:
        put(f"{memory_folder}/a.parquet", 0)
        bench = replace(batch_bench, output=f"{memory_folder}/scores")
        assert 1 == len(bench.plan(f"{memory_folder}/*.parquet").plan.files)
        put(f"{memory_folder}/scores/tables/id/data/part-000000.parquet", 0)
        for source in ("", "/**/*.parquet", "/scores/tables/id/data/part-000000.parquet"):
            with pytest.raises(BatchError, match=r"lies in the input|holds memory:/.*/part-000000\.parquet, which belongs"):
                bench.plan(memory_folder + source)

    def test_chained_file_systems_are_refused_by_name(self, batch_bench: BatchBench, tmp_path: Path) -> None:
        write_parquet(make_table(10), tmp_path / "in.parquet")
        with ZipFile(tmp_path / "in.zip", "w") as archive:
            archive.write(tmp_path / "in.parquet", "in.parquet")
        url = f"zip://in.parquet::file://{tmp_path}/in.zip"
        for refuse in (plain_url, batch_bench.plan):
            with pytest.raises(BatchError, match=r"in\.zip chains file systems with '::'.*unpack it"):
                refuse(url)
