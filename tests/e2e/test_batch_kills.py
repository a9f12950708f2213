"""Batch runs that are killed at random, from the first part to the last pointer: what readers get is what they always get."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from hotcold.adapters.part_scorer import score_part
from hotcold.adapters.release_database import ReleaseDatabase
from hotcold.adapters.score_database import ScoreDatabase
from hotcold.adapters.score_lookup import ScoreLookup
from hotcold.adapters.score_pointer import read_pointer
from hotcold.scoring import plan_run, summarise_run
from hotcold.settings import Settings
from tests.fixtures.batch import FLIGHT_ID, BatchBench, make_table, write_parquet
from tests.fixtures.data_plane import wait_until
from tests.fixtures.packages import MODEL
from tests.fixtures.releases import promote

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROWS, ROWS_PER_PART = 60_000, 1_000
# Alternating: while parts are scored, and between the last part and the end.
KILLS = 20


@dataclass
class Attempts:
    """Runs of one table in processes of their own.

    Args:
        settings: of the installation.
        source: the input.
        output: folder that readers know.
        log: what the attempt under way has said.
    """

    settings: Settings
    source: Path
    output: Path
    log: Path

    @property
    def command(self) -> list[str]:
        return [
            *(sys.executable, "-W", "ignore", "-m", "tests.fixtures.score_once"),
            *(str(self.source), str(self.output), str(ROWS_PER_PART)),
        ]

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"HOTCOLD_HOME": str(self.settings.home), "PYTHONPATH": str(Path.cwd())}

    def start(self) -> subprocess.Popen[bytes]:
        with self.log.open("wb") as log:
            return subprocess.Popen(self.command, stdout=log, stderr=log, env=self.environment, start_new_session=True)

    def said(self, line: str) -> bool:
        return line in self.log.read_text().splitlines()

    def receipts(self) -> int:
        return len(list(self.output.glob("tables/*/receipts/*.json")))

    def finish(self) -> str:
        done = subprocess.run(self.command, env=self.environment, capture_output=True, text=True, check=True, timeout=120)
        return done.stdout.splitlines()[-1]


@pytest.fixture
def attempts(tmp_path: Path, bento_home: Path, batch_bench: BatchBench) -> Attempts:
    """The model has a champion; nothing is scored."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "bentoml").symlink_to(bento_home)
    settings = Settings(home=home)
    releases = ReleaseDatabase(settings.release_database_url)
    releases.prepare()
    promote(releases, batch_bench.manifest.ref)
    releases.close()
    source = write_parquet(make_table(ROWS), tmp_path / "in" / "in.parquet", row_group_size=ROWS_PER_PART)
    return Attempts(settings, source, tmp_path / "out", tmp_path / "log")


def kill(attempt: subprocess.Popen[bytes], with_workers: bool) -> None:
    """kill -9 of the run alone, or of all that it started, as when a machine loses its power; returns when all are gone."""
    family = psutil.Process(attempt.pid).children(recursive=True)
    for process in family if with_workers else []:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    attempt.kill()
    attempt.wait()
    wait_until(lambda: not any(is_alive(process) for process in family), "no worker left")


def is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def uninterrupted(bench: BatchBench, source: Path, output: Path) -> dict[str, bytes]:
    """Files of a run that nobody disturbed: one part after the other, in this process."""
    run = plan_run(bench.package, str(source), str(output), FLIGHT_ID, "fail", ROWS_PER_PART)
    files = dict(enumerate(run.table.plan.files))
    assert ROWS == summarise_run(run, [score_part(run.job, part, files) for part in run.parts]).rows_out
    return files_in(Path(run.table.folder.path("data")))


def files_in(folder: Path) -> dict[str, bytes]:
    """Hidden ones, which killed writers leave, included."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_published_bytes_equal_an_uninterrupted_runs_after_twenty_kills(
    attempts: Attempts, batch_bench: BatchBench, tmp_path: Path
) -> None:
    rng = random.Random(7)
    for number in range(KILLS):
        wanted = min(attempts.receipts() + rng.randint(1, 6), ROWS // ROWS_PER_PART - 1)
        is_late = number >= KILLS // 2
        attempt = attempts.start()
        wait_until(
            lambda a=attempt, w=wanted, late=is_late: (
                a.poll() is not None or (attempts.said("scored") if late else attempts.receipts() >= w)
            ),
            "the moment of the kill",
        )
        if is_late:
            # All that comes after the parts takes some 0.3 s; this is the moment, not a wait for something.
            time.sleep(rng.uniform(0.0, 0.4))
        elif attempt.poll() is not None:
            pytest.fail(attempts.log.read_text())
        kill(attempt, with_workers=rng.random() < 0.5)
        require_whole_or_nothing(attempts)
    assert "published" == attempts.finish()

    pointer = read_pointer(str(attempts.output))
    folder = attempts.output / "tables" / pointer.table
    assert uninterrupted(batch_bench, attempts.source, tmp_path / "uninterrupted") == files_in(folder / "data")
    lineage = json.loads((attempts.output / "SCORES.json").read_text())
    assert (ROWS, ROWS, 0) == (lineage["rows_in"], lineage["rows"], lineage["rows_quarantined"])
    database = ScoreDatabase(attempts.settings.release_database_url)
    assert [pointer.table] == [table.id for table in database.read_tables(MODEL)]
    database.close()
    lookup = ScoreLookup(attempts.settings.score_store, MODEL)
    assert all(lookup.find(str(entity)) is not None for entity in range(0, ROWS, 997))
    store = attempts.settings.root / "scores" / "store"
    assert [] == [path.name for path in store.rglob("*") if path.is_file() and path.name.startswith(".") and "tmp" in path.name]


def require_whole_or_nothing(attempts: Attempts) -> None:
    """Whatever was killed: who reads the output now sees no table, or a complete one."""
    if not (attempts.output / "SCORES.json").exists():
        return
    lineage = json.loads((attempts.output / "SCORES.json").read_text())
    assert ROWS == lineage["rows"]
    assert ROWS // ROWS_PER_PART == len(list((attempts.output / "tables" / lineage["table"] / "data").glob("part-*.parquet")))
