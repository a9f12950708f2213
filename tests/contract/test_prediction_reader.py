"""The reader of the prediction log: each row once, whatever writers, kills, rotation and compaction do meanwhile."""

from __future__ import annotations

import pickle
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from hotcold.adapters.prediction_compaction import compact
from hotcold.adapters.prediction_reader import Piece, PredictionReader, Window
from hotcold.adapters.prediction_rows import score_rows
from hotcold.adapters.prediction_segments import list_models, list_segments, read_segment
from hotcold.adapters.segment_file import END_OF_STREAM
from hotcold.domain.log_position import Cursor
from tests.fixtures.prediction_logs import (
    MODEL,
    ROOT,
    START_S,
    answer,
    append,
    end_writer,
    numbered,
    open_segment,
    read_ids,
    running_writer,
    write_segment,
)

MINUTE_S = 60.0


def ids_of(pieces: list[Piece]) -> list[str]:
    return [ident for piece in pieces for ident in piece.table["request_id"].to_pylist()]


def read_all(root: Path, window: Window | None = None) -> list[Piece]:
    return [piece for piece, _ in PredictionReader(root, MODEL).read(None, window)]


class TestTornTail:
    """A writer that was killed leaves half a message; all before it is read."""

    def test_a_tear_at_every_byte(self, tmp_path: Path) -> None:
        """Of the last message and of the end mark."""
        path = write_segment(tmp_path, [[answer(0), answer(1)]], how="killed")
        two = path.stat().st_size
        path.unlink()
        path = write_segment(tmp_path, [[answer(0), answer(1)], [answer(2)]])
        content = path.read_bytes()
        three = len(content) - len(END_OF_STREAM)
        for size in range(two, len(content) + 1):
            path.write_bytes(content[:size])
            (piece,) = read_all(tmp_path)
            assert numbered("w1", 3 if size >= three else 2) == ids_of([piece]), size
            assert (True, size not in (two, three, len(content))) == (piece.is_done, piece.is_torn), size

    def test_a_tear_in_the_head_is_named(self, tmp_path: Path) -> None:
        path = write_segment(tmp_path, [[answer(0)]])
        content = path.read_bytes()
        write_segment(tmp_path, [[answer(0, "w2")]], writer="w2")
        for size in (0, 1, 8, 100, 500):
            path.write_bytes(content[:size])
            reader = PredictionReader(tmp_path, MODEL)
            assert ["w2-0"] == ids_of([piece for piece, _ in reader.read()])
            assert [path.name] == [*reader.unreadable]

    @pytest.mark.parametrize("zeros", [1, 100, 5000])
    def test_zeros_behind_the_data_are_a_tear(self, tmp_path: Path, zeros: int) -> None:
        """A machine that loses its power may have made the file longer and not yet filled it."""
        path = write_segment(tmp_path, [[answer(0)]], how="killed")
        path.write_bytes(path.read_bytes() + bytes(zeros))
        (piece,) = read_all(tmp_path)
        assert (["w1-0"], True) == (ids_of([piece]), piece.is_torn)

    def test_zeros_in_place_of_data_are_a_tear(self, tmp_path: Path) -> None:
        path = write_segment(tmp_path, [[answer(0)], [answer(1)]], how="killed")
        content = path.read_bytes()
        path.write_bytes(content[:-512] + bytes(512))
        (piece,) = read_all(tmp_path)
        assert (["w1-0"], True) == (ids_of([piece]), piece.is_torn)

    def test_garbage_in_the_middle_ends_it(self, tmp_path: Path) -> None:
        path = write_segment(tmp_path, [[answer(0)], [answer(1)], [answer(2)]])
        content = bytearray(path.read_bytes())
        place = len(content) - len(END_OF_STREAM) - 2 * ((len(content) - len(END_OF_STREAM) - 1000) // 3)
        content[place : place + 64] = random.Random(1).randbytes(64)
        path.write_bytes(content)
        ids = ids_of(read_all(tmp_path))
        assert numbered("w1", len(ids)) == ids and len(ids) < 3

    def test_a_message_under_way_is_no_tear(self, tmp_path: Path) -> None:
        segment = open_segment(tmp_path)
        append(segment, [answer(0)])
        segment.append(b"\xff\xff\xff\xff\x10")
        (piece,) = read_all(tmp_path)
        assert (["w1-0"], False, False) == (ids_of([piece]), piece.is_done, piece.is_torn)
        segment.abandon()
        assert read_all(tmp_path)[0].is_torn


class TestManyWriters:
    def test_rows_come_by_the_time_of_their_segment(self, tmp_path: Path) -> None:
        for minute, writer in enumerate(["w2", "w1", "w2", "w1"]):
            started_s = START_S + minute * MINUTE_S
            write_segment(tmp_path, [[answer(minute, writer)]], writer, number=minute // 2, started_s=started_s)
        assert ["w2-0", "w1-1", "w2-2", "w1-3"] == read_ids(tmp_path)

    def test_a_clock_that_was_set_back_costs_nothing(self, tmp_path: Path) -> None:
        write_segment(tmp_path, [[answer(0)]], number=0, started_s=START_S)
        reader = PredictionReader(tmp_path, MODEL)
        ((_, cursor),) = reader.read()
        write_segment(tmp_path, [[answer(1)]], number=1, started_s=START_S - 3600)
        write_segment(tmp_path, [[answer(0, "w2")]], "w2", started_s=START_S - 7200)
        assert ["w2-0", "w1-1"] == ids_of([piece for piece, _ in reader.read(cursor)])

    def test_models_have_logs_of_their_own(self, tmp_path: Path) -> None:
        write_segment(tmp_path, [[answer(0)]])
        assert [MODEL] == list_models(tmp_path)
        assert [] == [*PredictionReader(tmp_path, "another").read()]
        assert [] == list_models(tmp_path / "missing")


class TestIncrements:
    """What came since the last look, wherever it is by now."""

    def test_a_segment_grows_and_is_closed(self, tmp_path: Path) -> None:
        reader, cursor, segment = PredictionReader(tmp_path, MODEL), Cursor(), open_segment(tmp_path)
        assert [] == [*reader.read(cursor)]
        for number in range(3):
            append(segment, [answer(2 * number), answer(2 * number + 1)])
            ((piece, cursor),) = reader.read(Cursor.from_json(cursor.to_json()))
            assert [f"w1-{2 * number}", f"w1-{2 * number + 1}"] == ids_of([piece])
            assert not piece.is_done and [] == [*reader.read(cursor)]
        append(segment, [answer(6)])
        segment.close()
        ((piece, cursor),) = reader.read(cursor)
        assert (["w1-6"], True, False) == (ids_of([piece]), piece.is_done, piece.is_torn)
        assert [] == [*reader.read(cursor)]

    @pytest.mark.parametrize("first_look", [0, 1, 2, 3])
    def test_a_segment_becomes_part_of_an_archive(self, tmp_path: Path, first_look: int) -> None:
        """Rows that were read of the file are not read of the archive."""
        reader = PredictionReader(tmp_path, MODEL)
        cursor = Cursor()
        path = write_segment(tmp_path, [[answer(0)], [answer(1)], [answer(2)]])
        (name,) = list_segments(path.parent)
        if first_look:
            cursor = cursor.moved_to(name, first_look, is_done=False)
        write_segment(tmp_path, [[answer(3)]], number=1, started_s=START_S + MINUTE_S)
        assert 2 == compact(path.parent, 0.0, 10_000, time.time()).segments
        assert numbered("w1", 4)[first_look:] == ids_of([piece for piece, _ in reader.read(cursor)])

    def test_a_segment_that_moves_after_it_was_listed_is_found(self, tmp_path: Path) -> None:
        path = write_segment(tmp_path, [[answer(0)]])
        reader = PredictionReader(tmp_path, MODEL)
        (place,) = reader.places(Cursor(), Window())
        compact(path.parent, 0.0, 10_000, time.time())
        reader, place = pickle.loads(pickle.dumps((reader, place)))
        piece = reader.read_place(place, Window())
        assert piece is not None and ["w1-0"] == ids_of([piece])

    def test_what_was_deleted_after_it_was_listed_is_none(self, tmp_path: Path) -> None:
        path = write_segment(tmp_path, [[answer(0)]])
        reader = PredictionReader(tmp_path, MODEL)
        places = reader.places(Cursor(), Window())
        compact(path.parent, 0.0, 10_000, time.time())
        places += reader.places(Cursor(), Window())
        shutil.rmtree(path.parent / "archive")
        assert [None, None] == [reader.read_place(place, Window()) for place in places]

    def test_deleted_segments_are_counted(self, tmp_path: Path) -> None:
        paths = [write_segment(tmp_path, [[answer(n)]], number=n, started_s=START_S + n * MINUTE_S) for n in range(6)]
        for number in (2, 3):
            paths[number].unlink()
        assert [0, 0, 2, 0] == [piece.place.missing for piece in read_all(tmp_path)]

    def test_a_closed_segment_is_told_of_once(self, tmp_path: Path) -> None:
        """Also if nothing was in it since the last look."""
        path = write_segment(tmp_path, [[answer(0)]], how="killed")
        path.write_bytes(path.read_bytes() + b"torn")
        (name,) = list_segments(path.parent)
        reader = PredictionReader(tmp_path, MODEL)
        ((piece, cursor),) = reader.read(Cursor().moved_to(name, 1, is_done=False))
        assert (0, True) == (len(piece.table), piece.is_torn)
        assert [] == [*reader.read(cursor)]


class TestWindow:
    def test_only_rows_between_the_times_are_read(self, tmp_path: Path) -> None:
        for number in range(5):
            batch = [answer(10 * number + k, at_s=START_S + (10 * number + k) * MINUTE_S) for k in range(10)]
            path = write_segment(tmp_path, [batch], number=number, started_s=START_S + 10 * number * MINUTE_S)
        window = Window(START_S + 15 * MINUTE_S, START_S + 32 * MINUTE_S)
        assert [f"w1-{number}" for number in range(15, 32)] == ids_of(read_all(tmp_path, window))
        compact(path.parent, 0.0, 10_000, time.time())
        assert [f"w1-{number}" for number in range(15, 32)] == ids_of(read_all(tmp_path, window))

    def test_what_cannot_be_in_it_is_not_opened(self, tmp_path: Path) -> None:
        for number in range(3):
            at_s = START_S + number * 3600
            batch = [answer(number, at_s=at_s), answer(number, at_s=at_s + 200)]
            path = write_segment(tmp_path, [batch], number=number, started_s=at_s)
        reader = PredictionReader(tmp_path, MODEL)
        places = reader.places(Cursor(), Window(START_S + 3700, START_S + 4000))
        assert [1] == [place.name.number for place in places]
        compact(path.parent, 0.0, 10_000, time.time())
        assert [1] == [place.name.number for place in reader.places(Cursor(), Window(START_S + 3700, START_S + 4000))]

    @pytest.mark.parametrize("archived", [False, True])
    def test_columns_are_those_that_were_asked_for(self, tmp_path: Path, archived: bool) -> None:
        path = write_segment(tmp_path, [[answer(0)]])
        whole = read_all(tmp_path)[0].table
        if archived:
            compact(path.parent, 0.0, 10_000, time.time())
        (piece,) = read_all(tmp_path, Window(columns=("scores", "request_id")))
        assert whole.select(["scores", "request_id"]).equals(piece.table)
        assert whole.equals(read_all(tmp_path)[0].table)


def test_scores_row_by_row(tmp_path: Path) -> None:
    refused = answer(1, matrix=None, scores=None, status=422)
    write_segment(tmp_path, [[answer(0, rows=2), refused], [answer(10, rows=3, shadow=True)]])
    (piece,) = read_all(tmp_path)
    expected = [("w1-0", 0, 0.0), ("w1-0", 1, 1.0), ("w1-10", 0, 10.0), ("w1-10", 1, 11.0), ("w1-10", 2, 12.0)]
    rows = score_rows(piece.table, ["shadow"]).to_pylist()
    assert expected == [(row["request_id"], row["row"], row["score"]) for row in rows]
    assert [False, False, True, True, True] == [row["shadow"] for row in rows]
    assert 0 == len(score_rows(piece.table.slice(1, 1)))


COMPACTOR = """
import sys, time
from pathlib import Path
from hotcold.adapters.prediction_compaction import compact
print("ready", flush=True)
while True:
    compact(Path(sys.argv[1]), 0.0, 10_000, time.time())
    time.sleep(0.005)
"""


@pytest.mark.slow
def test_reading_during_rotation_and_compaction_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Real writers that rotate all the time, one of them killed, and a compaction that never rests."""
    reader, cursor, found, looks = PredictionReader(tmp_path, MODEL), Cursor(), Counter[str](), 0
    files: set[object] = set()
    (tmp_path / MODEL).mkdir()
    quick = {"rotate_bytes": 3000, "flush_s": 0.004}
    compactor = subprocess.Popen(
        [sys.executable, "-c", COMPACTOR, str(tmp_path / MODEL)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert compactor.stdout is not None and "ready\n" == compactor.stdout.readline()
        with running_writer(tmp_path, "w1", **quick) as first, running_writer(tmp_path, "w2", **quick) as second:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and (looks <= 20 or len(found) <= 1000 or len(files) <= 50):
                for piece, moved in reader.read(cursor, Window(columns=("request_id",))):
                    found.update(ids_of([piece]))
                    files.add(piece.place.name)
                    assert 0 == piece.place.missing
                    cursor = moved
                looks += 1
            first.kill()
            first.wait()
            offered, written = end_writer(second)
    finally:
        compactor.kill()
        compactor.communicate()
    last = [piece for piece, _ in reader.read(cursor, Window(columns=("request_id",)))]
    found.update(ids_of(last))
    assert {1} == {*found.values()}
    ids = {writer: [ident for ident in found if ident.startswith(writer)] for writer in ("w1", "w2")}
    assert (offered, offered) == (written, len(ids["w2"]))
    assert numbered("w1", len(ids["w1"])) == sorted(ids["w1"], key=lambda ident: int(ident[3:]))
    assert sorted(found) == sorted(read_ids(tmp_path))
    assert {} == reader.unreadable
    assert looks > 20 and len(files) > 50 and len(found) > 1000


def test_a_segment_is_read_while_its_writer_lives(tmp_path: Path) -> None:
    with running_writer(tmp_path, "w1", flush_s=0.01) as writer:
        deadline = time.monotonic() + 10
        while not read_ids(tmp_path):
            assert time.monotonic() < deadline
        (name,) = list_segments(tmp_path / MODEL)
        assert not read_segment(tmp_path / MODEL, name).is_done
        offered, written = end_writer(writer)
    assert read_segment(tmp_path / MODEL, name).is_done
    assert offered == written == len(read_ids(tmp_path))
