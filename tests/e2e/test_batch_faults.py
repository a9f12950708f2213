"""Batch runs on a real Dask cluster whose processes are killed, and on disks that are full."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from hotcold.adapters.batch_run import score_parts
from hotcold.adapters.cluster import open_cluster
from hotcold.adapters.part_scorer import score_part
from hotcold.adapters.processes import free_port
from hotcold.adapters.table_folder import Folder
from hotcold.domain.errors import BatchError, ClusterError
from hotcold.domain.receipt import Receipt, content_digest
from hotcold.scoring import Run, choose_device, plan_run, score_missing, summarise_run
from tests.fixtures.batch import FLIGHT_ID, BatchBench, make_table, write_parquet
from tests.fixtures.data_plane import wait_until
from tests.fixtures.disks import small_disk

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROWS, ROWS_PER_PART = 60_000, 1_000


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 parts."""
    return write_parquet(make_table(ROWS), tmp_path_factory.mktemp("in") / "in.parquet", row_group_size=ROWS_PER_PART)


def plan(bench: BatchBench, source: Path, output: Path | None = None) -> Run:
    return plan_run(bench.package, str(source), str(output or bench.output), FLIGHT_ID, "fail", ROWS_PER_PART)


def data_of(run: Run) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(run.table.folder.path("data")).iterdir())}


@pytest.fixture
def uninterrupted(batch_bench: BatchBench, source: Path, tmp_path: Path) -> dict[str, bytes]:
    """Files of a run that nobody disturbed: one part after the other, in this process."""
    run = plan(batch_bench, source, tmp_path / "uninterrupted")
    files = dict(enumerate(run.table.plan.files))
    assert ROWS == summarise_run(run, [score_part(run.job, part, files) for part in run.parts]).rows_out
    return data_of(run)


def is_alive(process: psutil.Process) -> bool:
    with _gone_is_fine():
        return process.status() != psutil.STATUS_ZOMBIE
    return False


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    try:
        yield
    except psutil.NoSuchProcess:
        return


def test_a_worker_that_is_killed_loses_nothing(batch_bench: BatchBench, source: Path, uninterrupted: dict[str, bytes]) -> None:
    run = plan(batch_bench, source)
    receipts: list[Receipt] = []
    with open_cluster("local", workers=2) as cluster:
        pids = list(cluster.client.run(os.getpid).values())
        for receipt in score_parts(cluster, run.job, run.table.plan, run.missing):
            receipts.append(receipt)
            if len(receipts) in (3, 20):
                os.kill(pids.pop(), signal.SIGKILL)
    assert ROWS == summarise_run(run, receipts).rows_out
    assert uninterrupted == data_of(run)


def start_dask(kind: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore", "-m", "distributed.cli.dask_" + kind, *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True, start_new_session=True)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def dask_at(port: int) -> Iterator[subprocess.Popen[str]]:
    """A scheduler with one worker, both processes of their own."""
    address = f"tcp://127.0.0.1:{port}"
    scheduler = start_dask("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
    worker = start_dask("worker", address, "--nworkers", "1", "--nthreads", "1", "--no-dashboard", "--no-nanny")
    try:
        wait_until(lambda: answers(port), "the scheduler")
        yield scheduler
    finally:
        for process in (scheduler, worker):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks for a scheduler that is not there gives up sooner; on this machine it answers at once or never."""
    monkeypatch.setattr("hotcold.adapters.cluster._CONNECT_S", 3.0)


@pytest.mark.usefixtures("impatient")
def test_a_scheduler_by_address_is_used_and_its_loss_is_named_and_survived(
    batch_bench: BatchBench, source: Path, uninterrupted: dict[str, bytes]
) -> None:
    run = plan(batch_bench, source)
    seen: list[Receipt] = []
    port = free_port()
    with dask_at(port) as scheduler:

        def count(receipt: Receipt) -> None:
            seen.append(receipt)
            if len(seen) == 5:
                os.killpg(scheduler.pid, signal.SIGKILL)

        with pytest.raises(ClusterError, match="scheduler"):
            score_missing(run, f"tcp://127.0.0.1:{port}", on_receipt=count)
    again = plan(batch_bench, source)
    assert 5 <= len(again.done) < len(again.parts)
    assert ROWS == summarise_run(again, score_missing(again, "local", workers=2)).rows_out
    assert uninterrupted == data_of(again)


@pytest.mark.usefixtures("impatient")
def test_an_address_without_a_scheduler_is_named(batch_bench: BatchBench, source: Path) -> None:
    run = plan(batch_bench, source)
    with (
        pytest.raises(ClusterError, match="no Dask scheduler answers at tcp"),
        open_cluster(f"tcp://127.0.0.1:{free_port()}"),
    ):
        pass
    assert len(run.missing) == len(run.parts)


def test_a_cluster_of_an_unknown_kind_is_named() -> None:
    with pytest.raises(ClusterError, match="allowed are auto, cuda, local, or an address"), open_cluster("spark"):
        pass


def test_a_finished_run_starts_no_cluster(batch_bench: BatchBench, source: Path) -> None:
    run = plan(batch_bench, source)
    score_missing(run, "local", workers=2)
    again = plan(batch_bench, source)
    assert () == again.missing
    # An address where nobody is would fail.
    assert len(run.parts) == len(score_missing(again, "tcp://127.0.0.1:1"))


def test_a_full_disk_is_named_and_the_run_goes_on_when_there_is_room(
    batch_bench: BatchBench, source: Path, uninterrupted: dict[str, bytes], tmp_path: Path
) -> None:
    with small_disk(tmp_path / "small", "400k") as disk:
        run = plan(batch_bench, source, disk)
        with pytest.raises(BatchError, match=r"cannot write .* No space left on device.*run again"):
            score_missing(run, "local", workers=2)
        done = plan(batch_bench, source, disk).done
        assert 0 < len(done) < len(run.parts)
        subprocess.run(("mount", "-o", "remount,size=32m", str(disk)), check=True)
        again = plan(batch_bench, source, disk)
        receipts = score_missing(again, "local", workers=2)
        assert ROWS == summarise_run(again, receipts).rows_out
        assert uninterrupted == data_of(again)


def test_a_corrupt_part_of_the_input_ends_the_run_with_its_name(batch_bench: BatchBench, tmp_path: Path) -> None:
    for index in range(4):
        write_parquet(make_table(1000, first_id=1000 * index), tmp_path / "in" / f"{index}.parquet")
    with (tmp_path / "in" / "2.parquet").open("r+b") as file:
        file.seek(8)
        file.write(b"\xff" * 9000)
    run = plan(batch_bench, tmp_path / "in")
    with pytest.raises(BatchError, match=r"2\.parquet"):
        score_missing(run, "local", workers=2)


def test_two_runs_of_the_same_table_at_the_same_time_do_not_get_in_each_others_way(
    batch_bench: BatchBench, source: Path, uninterrupted: dict[str, bytes]
) -> None:
    first, second = plan(batch_bench, source), plan(batch_bench, source)
    with open_cluster("local", workers=2) as cluster:
        one, other = (score_parts(cluster, run.job, run.table.plan, run.missing) for run in (first, second))
        receipts = [receipt for pair in zip(one, other, strict=True) for receipt in pair]
    assert content_digest(receipts[::2]) == content_digest(receipts[1::2])
    assert uninterrupted == data_of(first)


def test_ten_thousand_small_files(batch_bench: BatchBench, tmp_path: Path) -> None:
    table = make_table(50_000)
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(10_000):
        pq.write_table(table.slice(index * 5, 5), folder / f"{index:05}.parquet", compression="none", write_statistics=False)
    run = plan_run(batch_bench.package, str(folder), str(batch_bench.output), FLIGHT_ID, "fail", 250_000)
    assert 50_000 == summarise_run(run, score_missing(run, "local", workers=2)).rows_out
    ids = np.concatenate(
        [pq.read_table(path)["flight_id"].to_numpy() for path in sorted(Path(run.table.folder.path("data")).iterdir())]
    )
    assert np.array_equal(np.arange(50_000), ids)
    assert Folder(str(batch_bench.output)).folders() == ["tables"]


def test_an_input_that_cannot_be_read_is_not_taken_for_a_lost_scheduler(batch_bench: BatchBench, tmp_path: Path) -> None:
    source = write_parquet(make_table(100), tmp_path / "in" / "in.parquet")
    run = plan(batch_bench, source)
    source.unlink()
    source.parent.rmdir()
    source.parent.write_text("no folder any more")
    with (
        open_cluster("local", tmp_path / "dask", workers=1) as cluster,
        pytest.raises(BatchError, match="NotADirectoryError") as found,
    ):
        list(score_parts(cluster, run.job, run.table.plan, run.parts))
    assert not isinstance(found.value, ClusterError)


def test_cuda_is_refused_for_a_model_that_it_cannot_score(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="no XGBoost model"):
        choose_device("cuda", tmp_path)
    assert "cpu" == choose_device("auto", tmp_path)
