"""The writer of the prediction log: what is offered is found again, or counted; the disk may do what it wants."""

from __future__ import annotations

import logging
import math
import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hotcold.adapters.prediction_columns import PackedAnswers
from hotcold.adapters.prediction_log import LogOptions, PredictionLog
from hotcold.adapters.prediction_reader import PredictionReader
from hotcold.adapters.prediction_segments import list_segments, read_segment
from hotcold.domain.errors import PredictionLogError
from hotcold.domain.prediction import MAX_FEATURE_ROWS, Prediction, hash_features, keeps_features
from tests.fixtures.data_plane import wait_until
from tests.fixtures.disks import small_disk
from tests.fixtures.prediction_logs import (
    FEATURES,
    MODEL,
    answer,
    last_arrival_s,
    making,
    numbered,
    origin,
    read_ids,
    running_writer,
    wait_until_later,
)

# Often, so that tests need not wait.
FLUSH_S = 0.01


def new_log(root: Path, **options: Any) -> PredictionLog:
    return PredictionLog(LogOptions(root, **{"flush_s": FLUSH_S, **options}), origin())


@contextmanager
def open_log(root: Path, **options: Any) -> Iterator[PredictionLog]:
    log = new_log(root, **options)
    log.start()
    try:
        yield log
    finally:
        log.close()


def write(root: Path, *predictions: Prediction, **options: Any) -> list[dict[str, Any]]:
    """What the log has of some answers."""
    with open_log(root, **options) as log:
        for prediction in predictions:
            log.offer(making(prediction))
    return [row for piece, _ in PredictionReader(root, MODEL).read() for row in piece.table.to_pylist()]


def settled(log: PredictionLog, offered: int) -> Callable[[], bool]:
    return lambda: (c := log.counts()).written + c.dropped_failed + c.dropped_full == offered and c.queued == 0


class TestRows:
    """Each field is as it was offered."""

    def test_a_good_answer(self, tmp_path: Path) -> None:
        matrix, scores = np.array([[1.5, math.nan, -0.0]], np.float32), np.array([0.25], np.float32)
        said = {"entity": b"UA1", "segment": b"gold", "shadow": True, "tester": True, "at_s": 1e9 + 0.000123}
        offered = answer(7, matrix=matrix, scores=scores, **said)
        (row,) = write(tmp_path, offered)
        times = [row.pop(stage) for stage in ("pre_us", "infer_us", "post_us")]
        features = row.pop("features")
        assert [100, 20, 30] == times
        assert matrix.tobytes() == np.array(features, np.float32).tobytes()
        assert 1e9 + 0.000123 == row.pop("at").timestamp()
        expected = {
            "request_id": "w1-7",
            "status": 200,
            "shadow": True,
            "tester": True,
            "entity": "UA1",
            "segment": "gold",
            "scores": [0.25],
            "features_hash": hash_features(matrix.tobytes()),
            "dropped": 0,
        }
        assert expected == row

    def test_who_wrote_it_is_known(self, tmp_path: Path) -> None:
        write(tmp_path, answer(0))
        ((piece, _),) = PredictionReader(tmp_path, MODEL).read()
        assert origin() == piece.origin

    def test_a_request_that_could_not_be_read(self, tmp_path: Path) -> None:
        refused = answer(0, status=422, matrix=None, scores=None, entity=None, decoded_s=0.0, scored_s=0.0, answered_s=1.5)
        (row,) = write(tmp_path, refused)
        assert (422, None, None, None, None) == tuple(
            row[name] for name in ("status", "scores", "features", "features_hash", "entity")
        )
        assert [500_000, 0, 0] == [row[stage] for stage in ("pre_us", "infer_us", "post_us")]

    def test_an_engine_that_failed(self, tmp_path: Path) -> None:
        """When it began is known, and not when it ended: what was left of the time is the engine's."""
        (row,) = write(tmp_path, answer(0, status=500, scores=None, scored_s=0.0, answered_s=1.5))
        assert (500, None, [0.0, 1.0, 2.0]) == (row["status"], row["scores"], row["features"])
        assert [100, 499_900, 0] == [row[stage] for stage in ("pre_us", "infer_us", "post_us")]

    @pytest.mark.parametrize("rows", [1, 2, MAX_FEATURE_ROWS, MAX_FEATURE_ROWS + 1, 1000])
    def test_requests_with_many_rows(self, tmp_path: Path, rows: int) -> None:
        """All scores are kept, and the features of the first rows: what one request may log is bounded."""
        offered = answer(0, rows=rows)
        (row,) = write(tmp_path, offered)
        assert offered.matrix is not None and offered.scores is not None
        assert offered.scores.tolist() == row["scores"]
        assert offered.matrix[:MAX_FEATURE_ROWS].ravel().tolist() == row["features"]
        assert hash_features(offered.matrix.tobytes()) == row["features_hash"]

    def test_an_array_that_is_not_contiguous(self, tmp_path: Path) -> None:
        matrix = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
        scores = np.arange(4, dtype=np.float32)[::2]
        (row,) = write(tmp_path, answer(0, matrix=matrix, scores=scores))
        assert ([0, 1, 2, 3, 4, 5], [0, 2]) == (row["features"], row["scores"])

    def test_scores_that_are_no_numbers(self, tmp_path: Path) -> None:
        (row,) = write(tmp_path, answer(0, rows=3, scores=np.array([np.nan, np.inf, -np.inf], np.float32)))
        assert math.isnan(row["scores"][0]) and [math.inf, -math.inf] == row["scores"][1:]

    @pytest.mark.parametrize(("sent", "kept"), [("é".encode(), "é"), (b"\xff\xfe", "��"), (b"", "")])
    def test_headers_are_bytes(self, tmp_path: Path, sent: bytes, kept: str) -> None:
        rows = write(tmp_path, answer(0, entity=sent), answer(1, entity=b"plain"), answer(2, entity=None))
        assert [kept, "plain", None] == [row["entity"] for row in rows]

    def test_features_are_kept_by_the_requests_id_and_their_hash_always(self, tmp_path: Path) -> None:
        rows = write(tmp_path, *(answer(number) for number in range(1000)), feature_rate=0.2)
        kept = [row["request_id"] for row in rows if row["features"] is not None]
        assert [row["request_id"] for row in rows if keeps_features(row["request_id"], 0.2)] == kept
        assert 150 < len(kept) < 250
        assert 1000 == len({row["features_hash"] for row in rows} - {None})


class TestRotation:
    def test_segments_are_closed_by_size(self, tmp_path: Path) -> None:
        """What was there when the writer woke stays in one segment, so the answers come in ten heaps."""
        with open_log(tmp_path, rotate_bytes=10_000) as log:
            for first in range(0, 2000, 200):
                for number in range(first, first + 200):
                    log.offer(making(answer(number)))
                wait_until(settled(log, first + 200), "the heap is written")
        segments = [read_segment(tmp_path / MODEL, name) for name in sorted(list_segments(tmp_path / MODEL))]
        assert numbered("w1", 2000) == read_ids(tmp_path)
        assert [*range(len(segments))] == sorted(segment.name.number for segment in segments)
        assert len(segments) > 5 and all(segment.is_done and not segment.is_torn for segment in segments)

    def test_segments_are_closed_by_time_without_another_answer(self, tmp_path: Path) -> None:
        with open_log(tmp_path, rotate_s=0.1) as log:
            for count in (1, 2):
                log.offer(making(answer(count)))
                wait_until(lambda n=count: log.counts().segments == n, "a segment")
                (name,) = [name for name in list_segments(tmp_path / MODEL) if name.number == count - 1]
                wait_until(lambda n=name: read_segment(tmp_path / MODEL, n).is_done, "it is closed")

    def test_an_idle_log_writes_nothing(self, tmp_path: Path) -> None:
        with open_log(tmp_path, rotate_s=0.02) as log:
            wait_until_later(time.time() + 0.2)
            assert 0 == log.counts().segments
        assert [] == [*tmp_path.iterdir()]


class TestFullQueue:
    """Answers never wait for the log; what it loses is counted, in itself too."""

    def test_the_number_of_answers_is_bounded(self, tmp_path: Path) -> None:
        log = new_log(tmp_path, queue_answers=10)
        for number in range(200):
            log.offer(making(answer(number)))
        assert log.counts().dropped_full + log.counts().queued == 200
        assert 10 <= log.counts().queued < 50
        log.start()
        wait_until(settled(log, 200), "the queue is written")
        assert 190 == log.counts().dropped_full
        log.offer(making(answer(200)))
        log.close()
        rows = [row for piece, _ in PredictionReader(tmp_path, MODEL).read() for row in piece.table.to_pylist()]
        assert [*numbered("w1", 10), "w1-200"] == [row["request_id"] for row in rows]
        assert 190 == sum(row["dropped"] for row in rows)

    def test_the_memory_is_bounded(self, tmp_path: Path) -> None:
        """Large requests fill the queue sooner, and leave it as soon as they are taken."""
        packed = PackedAnswers()
        packed.add(answer(0, rows=500))
        assert packed.size_bytes > 500 * 4 + MAX_FEATURE_ROWS * FEATURES * 4
        log = new_log(tmp_path, queue_bytes=2 * packed.size_bytes)
        for number in range(5):
            log.offer(making(answer(number, rows=500)))
        log.start()
        wait_until(settled(log, 5), "the queue is written")
        assert (2, 3) == (log.counts().written, log.counts().dropped_full)
        for number in range(5, 7):
            log.offer(making(answer(number, rows=500)))
        log.close()
        assert (4, 3) == (log.counts().written, log.counts().dropped_full)

    def test_two_threads_lose_and_double_nothing(self, tmp_path: Path) -> None:
        """The one that offers and the one that writes take turns at every step that the interpreter allows."""
        interval_s = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            with open_log(tmp_path, flush_s=1e-4, queue_answers=10**6) as log:
                for number in range(30_000):
                    log.offer(making(answer(number)))
        finally:
            sys.setswitchinterval(interval_s)
        assert numbered("w1", 30_000) == read_ids(tmp_path)

    def test_offering_costs_microseconds(self, tmp_path: Path) -> None:
        """Also to a full queue: the event loop does it after each answer."""
        log, make = new_log(tmp_path, queue_answers=1000), making(answer(0))
        for _ in range(2):
            began = time.perf_counter()
            for _ in range(1000):
                log.offer(make)
            assert (time.perf_counter() - began) / 1000 < 50e-6


class TestDisk:
    """Whatever the disk does, the log goes on as soon as it can, and says so once."""

    def test_a_full_disk(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.WARNING, "hotcold.predictions")
        with small_disk(tmp_path / "disk", "256k") as root, open_log(root) as log:
            ballast = root / "ballast"
            log.offer(making(answer(0)))
            wait_until(settled(log, 1), "the first is written")
            ballast.write_bytes(bytes(200_000))
            offered = 1
            while log.counts().dropped_failed < 600:
                assert offered < 100_000
                for _ in range(100):
                    log.offer(making(answer(offered)))
                    offered += 1
                wait_until(settled(log, offered), "these are settled")
            lost = log.counts().dropped_failed
            ballast.unlink()
            log.offer(making(answer(offered)))
            wait_until(settled(log, offered + 1), "the last one is written")
            pieces = [piece for piece, _ in PredictionReader(root, MODEL).read()]
        ids = [ident for piece in pieces for ident in piece.table["request_id"].to_pylist()]
        assert offered + 1 - lost == len(ids) == len(set(ids)) == log.counts().written
        assert f"w1-{offered}" == ids[-1] and lost == sum(piece.dropped for piece in pieces)
        assert not any(piece.is_torn or piece.place.missing for piece in pieces)
        errors, warnings = (
            [r.getMessage() for r in caplog.records if r.levelno == n] for n in (logging.ERROR, logging.WARNING)
        )
        assert 1 == len(errors) and "No space left on device" in errors[0]
        assert 1 == len(warnings) and f"dropped={lost}" in warnings[0]

    def test_a_folder_that_is_deleted_is_made_again(self, tmp_path: Path) -> None:
        with open_log(tmp_path / "log") as log:
            log.offer(making(answer(0)))
            wait_until(settled(log, 1), "it is written")
            shutil.rmtree(tmp_path / "log")
            log.offer(making(answer(1)))
            wait_until(settled(log, 2), "it is written")
        assert ["w1-1"] == read_ids(tmp_path / "log")
        assert 0 == log.counts().dropped_failed

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "log").write_text("a file")
        with open_log(tmp_path / "log") as log:
            log.offer(making(answer(0)))
            wait_until(settled(log, 1), "it is dropped")
            (tmp_path / "log").unlink()
            log.offer(making(answer(1)))
        assert ["w1-1"] == read_ids(tmp_path / "log")
        assert (1, 1) == (log.counts().written, log.counts().dropped_failed)

    @pytest.mark.parametrize(
        "odd", [{"status": 70_000}, {"entity": bytes(70_000)}, {"scores": 0.5}, {"request_id": "x" * 70_000}], ids=str
    )
    def test_an_answer_that_cannot_be_logged_harms_no_other(self, tmp_path: Path, odd: dict[str, Any]) -> None:
        with open_log(tmp_path) as log:
            for prediction in (answer(0), answer(1, **odd), answer(2)):
                log.offer(making(prediction))
            wait_until(settled(log, 3), "all are settled")
        assert (2, 1) == (log.counts().written, log.counts().dropped_failed)
        ((piece, _),) = PredictionReader(tmp_path, MODEL).read()
        assert (["w1-0", "w1-2"], 1) == (piece.table["request_id"].to_pylist(), piece.dropped)


@pytest.mark.parametrize("document", [{}, {"root": "x", "unknown": 1}, {"root": None}])
def test_options_that_cannot_be_used_are_named(document: dict[str, Any]) -> None:
    with pytest.raises(PredictionLogError, match="options of the prediction log"):
        LogOptions.from_json(document)


@pytest.mark.slow
def test_a_killed_writer_has_lost_less_than_a_second(tmp_path: Path) -> None:
    """Killed at random moments, also while it rotates; what is there is a beginning without holes."""
    rng = random.Random(4)
    losses = []
    for attempt in range(6):
        writer = f"w{attempt}"
        with running_writer(tmp_path, writer, rotate_bytes=40_000) as process:
            wait_until(lambda w=writer: last_arrival_s(tmp_path, w) > 0, "the first row")
            wait_until_later(time.time() + rng.uniform(0.3, 1.3))
            process.kill()
            killed_s = time.time()
            process.wait()
        losses.append(killed_s - last_arrival_s(tmp_path, writer))
        pieces = [piece for piece, _ in PredictionReader(tmp_path, MODEL).read() if piece.origin.writer == writer]
        ids = [ident for piece in pieces for ident in piece.table["request_id"].to_pylist()]
        assert numbered(writer, len(ids)) == ids
        assert all(piece.is_done and not piece.place.missing for piece in pieces)
    assert max(losses) < 1.0, losses


def test_a_log_is_not_in_the_way_of_the_end_of_the_process(tmp_path: Path) -> None:
    """A disk that hangs is not waited for: here a pipe that nobody reads stands for the segment."""
    os.mkfifo(tmp_path / "pipe")
    log = new_log(tmp_path)
    reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        log.start()
        log.offer(making(answer(0)))
        wait_until(settled(log, 1), "it is written")
        segment = log._segment
        assert segment is not None
        hanging = os.open(tmp_path / "pipe", os.O_WRONLY)
        os.dup2(hanging, segment._handle)
        for number in range(1, 3000):
            log.offer(making(answer(number)))
        began = time.monotonic()
        log.close(timeout_s=0.2)
        assert time.monotonic() - began < 1
        assert log._thread.is_alive()
        log.offer(making(answer(3000)))
    finally:
        os.close(reading)
        os.close(hanging)
        log._thread.join(5)
