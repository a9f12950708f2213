"""Input on file systems that are not a local disk, and on ones that fail for a while."""

from __future__ import annotations

import errno
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from hotcold.adapters import input_files
from hotcold.adapters.batch_table import PlannedTable
from hotcold.adapters.table_folder import plain_url
from hotcold.domain.errors import BadInputError, BatchError, UnreachableInputError
from hotcold.domain.receipt import Totals, summarise
from tests.fixtures.batch import BatchBench, make_table, write_parquet
from tests.fixtures.web_folder import WebFolder

ROWS = 3000


def score_all(bench: BatchBench, table: PlannedTable) -> Totals:
    return summarise(table.plan, table.parts(), bench.score(table))


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
        assert (ROWS, ROWS) == (score_all(batch_bench, table).rows_in, batch_bench.read(table).num_rows)
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
        assert (2, 200) == (len(table.plan.files), score_all(batch_bench, table).rows_in)

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
        totals = score_all(batch_bench, batch_bench.plan(web_folder.url("in.parquet"), on_bad_part=on_bad_part))
        assert (ROWS, 0) == (totals.rows_out, totals.rows_quarantined)


class TestInMemory:
    @pytest.mark.parametrize("pattern", ["", "/*.parquet", "/a.parquet"])
    def test_files_stay_the_same_until_they_are_written_again(
        self, batch_bench: BatchBench, memory_folder: str, pattern: str
    ) -> None:
        put(f"{memory_folder}/a.parquet", 0)
        table = batch_bench.plan(memory_folder + pattern)
        assert ROWS == score_all(batch_bench, table).rows_in
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
        totals = score_all(batch_bench, batch_bench.plan(source.parent, on_bad_part="quarantine"))
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

    def test_an_archive_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(BatchError, match="cannot be used"):
            plain_url(f"zip://in.parquet::file://{tmp_path}/none.zip")
