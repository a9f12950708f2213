"""Compaction of the prediction log: killed anywhere and run again, it loses nothing and doubles nothing."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hotcold.adapters.locks import hold_file
from hotcold.adapters.prediction_archive import list_archives
from hotcold.adapters.prediction_compaction import LOCK_FILE, Compaction, compact
from hotcold.adapters.prediction_reader import PredictionReader
from hotcold.adapters.prediction_segments import list_segments
from hotcold.adapters.segment_file import NEW_PREFIX
from tests.fixtures.disks import small_disk
from tests.fixtures.prediction_logs import (
    MODEL,
    ROOT,
    START_S,
    answer,
    append,
    numbered,
    open_segment,
    read_ids,
    write_segment,
)

DAY_S = 86_400.0
NOW_S = START_S + 3600.0
SEGMENTS, ROWS = 6, 20

# Compacts, and kills itself at the nth time that it is about to open, rename or delete a file, or make a folder.
KILLED = """
import os, signal, sys
from pathlib import Path
from hotcold.adapters.prediction_compaction import compact

folder, now_s, left = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])

def watch(event, arguments):
    global left
    if event in ("open", "os.rename", "os.remove", "os.mkdir") and str(arguments[0]).startswith(str(folder)):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
print(compact(folder, 0.0, 30, now_s).rows)
"""


def fill(root: Path, segments: int = SEGMENTS, first: int = 0, started_s: float = START_S) -> list[str]:
    """Some closed segments; ids of all that is in them."""
    for number in range(first, first + segments):
        batch = [answer(number * ROWS + row) for row in range(ROWS)]
        write_segment(root, [batch], number=number, started_s=started_s + number)
    return [f"w1-{number}" for number in range(first * ROWS, (first + segments) * ROWS)]


def run(root: Path, older_than_s: float = 0.0, keep_days: int = 30, now_s: float = NOW_S) -> Compaction:
    return compact(root / MODEL, older_than_s, keep_days, now_s)


def compact_killed_at(root: Path, event: int) -> bool:
    """Whether it was killed, and not done before."""
    command = [sys.executable, "-c", KILLED, str(root / MODEL), str(NOW_S), str(event)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode in (0, -9), done.stderr
    return done.returncode == -9


def hidden(root: Path) -> Sequence[Path]:
    return [path for path in (root / MODEL).rglob(".*") if path.name != LOCK_FILE]


class TestWhatItDoes:
    def test_closed_segments_become_one_archive_a_day(self, tmp_path: Path) -> None:
        ids = fill(tmp_path) + fill(tmp_path, 2, SEGMENTS, START_S + DAY_S)
        done = run(tmp_path, now_s=START_S + 2 * DAY_S)
        assert (2, SEGMENTS + 2, len(ids)) == (done.archives, done.segments, done.rows)
        assert ["2026-11-25", "2026-11-26"] == [path.parent.name for path in list_archives(tmp_path / MODEL)]
        assert ({}, ids) == (list_segments(tmp_path / MODEL), read_ids(tmp_path))
        assert 0 == run(tmp_path, now_s=START_S + 2 * DAY_S).segments

    def test_young_and_open_segments_stay(self, tmp_path: Path) -> None:
        now_s = time.time()
        for number, age_s in enumerate((700.0, 500.0)):
            write_segment(tmp_path, [[answer(number)]], number=number, started_s=now_s - age_s)
        segment = open_segment(tmp_path, "w2", started_s=now_s - 700.0)
        append(segment, [answer(0, "w2")])
        assert 1 == run(tmp_path, 600.0, now_s=now_s).segments
        assert {"w1": 1, "w2": 0} == {name.writer: name.number for name in list_segments(tmp_path / MODEL)}
        segment.close()
        assert 1 == run(tmp_path, 600.0, now_s=now_s).segments

    def test_a_segment_is_old_by_its_name_or_by_its_file(self, tmp_path: Path) -> None:
        """A clock that is ahead must not keep it for ever."""
        now_s = time.time()
        write_segment(tmp_path, [[answer(0)]], started_s=now_s + 100 * DAY_S)
        assert (0, 1) == (run(tmp_path, 600.0, now_s=now_s).segments, run(tmp_path, 600.0, now_s=now_s + 700).segments)

    def test_people_can_read_an_archive_by_itself(self, tmp_path: Path) -> None:
        fill(tmp_path, 1)
        run(tmp_path)
        (path,) = list_archives(tmp_path / MODEL)
        row = pq.read_table(path).to_pylist()[3]
        assert ("w1-3", "1.0.0", "d" * 64, "blue", "w1") == tuple(
            row[name] for name in ("request_id", "version", "digest", "slot", "writer")
        )
        group = pq.ParquetFile(path).metadata.row_group(0)
        assert {"ZSTD"} == {group.column(index).compression for index in range(group.num_columns)}

    def test_torn_and_unreadable_segments_are_named(self, tmp_path: Path) -> None:
        torn = write_segment(tmp_path, [[answer(0)]], how="killed")
        torn.write_bytes(torn.read_bytes() + b"half a message")
        garbage = write_segment(tmp_path, [[answer(1)]], number=1)
        garbage.write_bytes(b"garbage")
        empty = write_segment(tmp_path, [], number=2, how="killed")
        done = run(tmp_path)
        assert ([torn.name], [garbage.name], 2, 1) == (done.torn, [*done.unreadable], done.segments, done.rows)
        assert (False, True, False) == (torn.exists(), garbage.exists(), empty.exists())
        pieces = [piece for piece, _ in PredictionReader(tmp_path, MODEL).read()]
        assert [True, False] == [piece.is_torn for piece in pieces]

    def test_old_answers_are_deleted_by_the_day(self, tmp_path: Path) -> None:
        for day in range(5):
            fill(tmp_path, 1, day, START_S + day * DAY_S)
            run(tmp_path, now_s=START_S + (day + 0.5) * DAY_S)
        write_segment(tmp_path, [], number=9, started_s=START_S).write_bytes(b"unreadable, and old")
        done = run(tmp_path, keep_days=2, now_s=START_S + 4 * DAY_S)
        assert ["2026-11-25", "2026-11-26"] == done.expired[:2] and 3 == len(done.expired)
        assert [f"w1-{number}" for number in range(2 * ROWS, 5 * ROWS)] == read_ids(tmp_path)
        assert {} == list_segments(tmp_path / MODEL)

    def test_two_at_once_do_not_meet(self, tmp_path: Path) -> None:
        ids = fill(tmp_path)
        with hold_file(tmp_path / MODEL / LOCK_FILE, 0.0):
            assert run(tmp_path).is_skipped
        assert SEGMENTS == run(tmp_path).segments and ids == read_ids(tmp_path)

    def test_what_a_writer_left_that_was_killed_at_its_first_message_is_deleted(self, tmp_path: Path) -> None:
        left = write_segment(tmp_path, [])
        left = left.rename(left.with_name(f"{NEW_PREFIX}{left.name}"))
        assert 0 == run(tmp_path, now_s=time.time()).leftovers and left.exists()
        assert 1 == run(tmp_path, now_s=time.time() + 61).leftovers and not left.exists()

    def test_a_segment_that_is_begun_just_now_is_left_alone(self, tmp_path: Path) -> None:
        segment = open_segment(tmp_path)
        path = tmp_path / MODEL / segment.name.file
        path = path.rename(path.with_name(f"{NEW_PREFIX}{path.name}"))
        assert 0 == run(tmp_path, 0.0, now_s=time.time() + 100).leftovers and path.exists()
        append(segment, [answer(0)])
        segment.close()


def test_a_full_disk_leaves_everything_as_it_was(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "512k") as root:
        ids = fill(root, 20)
        ballast = root / "ballast"
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass
        with pytest.raises(OSError, match="No space left"):
            run(root)
        assert ids == read_ids(root) and [] == hidden(root)
        ballast.unlink()
        assert 20 == run(root).segments and ids == read_ids(root)


@pytest.mark.slow
def test_killed_at_every_step_it_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Before each file that it opens, renames or deletes, and before each folder that it makes."""
    ids = numbered("w1", SEGMENTS * ROWS)
    event, killed = 0, True
    while killed:
        root = tmp_path / str(event)
        assert ids == fill(root)
        killed = compact_killed_at(root, event)
        assert ids == read_ids(root), event
        done = run(root)
        assert ids == read_ids(root), event
        assert {} == list_segments(root / MODEL) and [] == hidden(root), event
        assert {} == done.unreadable
        event += 1
    # One for each segment that is read and for each that is deleted, and some for the archive.
    assert event > 2 * SEGMENTS + 4


@pytest.mark.slow
def test_killed_again_and_again_while_the_log_grows(tmp_path: Path) -> None:
    rng, ids = random.Random(3), list[str]()
    for attempt in range(20):
        ids += fill(tmp_path, 2, 2 * attempt)
        compact_killed_at(tmp_path, rng.randrange(30))
        assert ids == read_ids(tmp_path), attempt
    run(tmp_path)
    assert ids == read_ids(tmp_path)
    assert {} == list_segments(tmp_path / MODEL) and [] == hidden(tmp_path)
