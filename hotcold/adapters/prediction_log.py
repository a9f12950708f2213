"""Writes the prediction log of a replica: answers are packed into a bounded queue, a thread of its own brings them to the disk.

Whatever happens to the disk, the answers go on: what cannot be kept is dropped and counted, in the log itself too. The thread
writes twice a second, so that little is lost when the process is killed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from hotcold.adapters.prediction_columns import PackedAnswers, schema_of
from hotcold.adapters.segment_file import SegmentFile
from hotcold.domain.errors import PredictionLogError
from hotcold.domain.prediction import Origin, Prediction, SegmentName

# So many wait until they are packed, a few milliseconds under load; until then they hold what their requests held.
_PACKED_AT_ONCE = 32
_CLOSE_TIMEOUT_S = 3.0
_log = logging.getLogger("hotcold.predictions")

MakePrediction = Callable[[], Prediction]


@dataclass(frozen=True)
class LogOptions:
    """How a replica logs.

    Args:
        root: folder of the log; below it each model has one.
        rotate_s: a segment is closed when it is older.
        rotate_bytes: or when it is larger.
        feature_rate: share of requests whose features are kept, 0 to 1.
        flush_s: longest stay in the queue, unless the disk is slow.
        queue_answers: most answers in the queue; the few that are not packed yet come on top.
        queue_bytes: most bytes in the queue; likewise.
    """

    root: Path
    rotate_s: float = 60.0
    rotate_bytes: int = 64 * 2**20
    feature_rate: float = 1.0
    flush_s: float = 0.5
    queue_answers: int = 8192
    queue_bytes: int = 64 * 2**20

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Options by name; those that are not there are as above.

        Raises:
            PredictionLogError: an unknown name, or no root.
        """
        try:
            return cls(**{**document, "root": Path(document["root"])})
        except (KeyError, TypeError) as error:
            raise PredictionLogError(f"the options of the prediction log cannot be used: {error}") from error


@dataclass(frozen=True)
class LogCounts:
    """What became of a replica's answers since it was started.

    Args:
        written: answers in the log.
        dropped_full: answers dropped because the queue was full.
        dropped_failed: answers dropped because the disk did not take them, or because of what they are.
        written_bytes: written to segments.
        segments: begun.
        queued: answers that wait.
    """

    written: int = 0
    dropped_full: int = 0
    dropped_failed: int = 0
    written_bytes: int = 0
    segments: int = 0
    queued: int = 0


class PredictionLog:
    """The log of one process. `offer` is for one thread, the event loop's.

    Args:
        options: see LogOptions.
        origin: whose answers these are.
    """

    def __init__(self, options: LogOptions, origin: Origin) -> None:
        self._options = options
        self._schema = schema_of(origin)
        self._writer = origin.writer
        self._folder = options.root / origin.model
        # Filled and emptied by two threads, each step of which a deque does as a whole.
        self._fresh: deque[MakePrediction] = deque()
        # Held for moments: while answers are packed, and while the packed ones are taken.
        self._lock = threading.Lock()
        self._packed = PackedAnswers(options.feature_rate)
        self._dropped_full = self._dropped_odd = self._dropped_failed = self._told_dropped = 0
        self._written = self._written_bytes = self._segments = 0
        self._segment: SegmentFile | None = None
        self._rotate_at_s = 0.0
        self._syncing: threading.Thread | None = None
        self._outage = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)

    def start(self) -> None:
        """Begin to write; call it once."""
        self._thread.start()

    def offer(self, make: MakePrediction) -> None:
        """Hand an answer over; never waits, and never fails.

        Args:
            make: gives the answer; called a moment later, so what it looks at must not change.
        """
        self._fresh.append(make)
        if len(self._fresh) >= _PACKED_AT_ONCE:
            with self._lock:
                self._pack()

    def _pack(self) -> None:
        """Pack what is fresh; one after the other takes a fifth of the time that each of them takes among other work."""
        packed, options = self._packed, self._options
        for _ in range(len(self._fresh)):
            make = self._fresh.popleft()
            if packed.count >= options.queue_answers or packed.size_bytes >= options.queue_bytes:
                self._dropped_full += 1
                continue
            try:
                packed.add(make())
            except Exception as error:  # noqa: BLE001 - whatever it is, the answer is on its way and must not suffer
                self._note_odd(error)

    def _note_odd(self, error: Exception) -> None:
        self._dropped_odd += 1
        if self._dropped_odd == 1:
            _log.error("an answer cannot be logged, and perhaps more to come: %r", error)

    def counts(self) -> LogCounts:
        """What became of the answers so far."""
        return LogCounts(
            self._written,
            self._dropped_full,
            self._dropped_failed + self._dropped_odd,
            self._written_bytes,
            self._segments,
            self._packed.count + len(self._fresh),
        )

    def close(self, timeout_s: float = _CLOSE_TIMEOUT_S) -> None:
        """Write what is in the queue and close the segment; a disk that hangs is not waited for longer.

        Args:
            timeout_s: longest wait.
        """
        self._stopping.set()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            _log.warning(
                "the prediction log did not end in %g s folder=%s queued=%d", timeout_s, self._folder, self.counts().queued
            )

    def _run(self) -> None:
        while not self._stopping.wait(self._options.flush_s):
            self._write_queue()
            self._rotate_if_due()
        self._write_queue()
        if self._segment is not None:
            _close(self._segment)
        if self._syncing is not None:
            self._syncing.join()

    def _write_queue(self) -> None:
        with self._lock:
            self._pack()
            answers, self._packed = self._packed, PackedAnswers(self._options.feature_rate)
        if not answers.count:
            return
        try:
            self._write(answers)
        except Exception as error:  # noqa: BLE001 - whatever it is, it may cost rows of the log but not the thread
            self._dropped_failed += answers.count
            self._note_outage(error)
        else:
            self._written += answers.count
            self._note_recovery()

    def _write(self, answers: PackedAnswers) -> None:
        dropped = self._dropped_full + self._dropped_failed + self._dropped_odd
        message = answers.encode(dropped - self._told_dropped).serialize()
        self._open_segment().append(message)
        self._told_dropped = dropped
        self._written_bytes += len(message)

    def _open_segment(self) -> SegmentFile:
        if self._segment is not None and self._segment.is_gone:
            self._abandon()
        if self._segment is None:
            name = SegmentName.at(time.time(), self._writer, self._segments)
            self._segment = SegmentFile.create(self._folder, name, self._schema)
            self._rotate_at_s = time.monotonic() + self._options.rotate_s
            self._segments += 1
        return self._segment

    def _rotate_if_due(self) -> None:
        segment = self._segment
        if segment is None:
            return
        if time.monotonic() >= self._rotate_at_s or segment.size_bytes >= self._options.rotate_bytes:
            self._segment = None
            # Elsewhere: a slow disk must not keep answers in the queue, where a kill would take them.
            self._syncing = threading.Thread(target=_close, args=(segment,), name="prediction-log-sync", daemon=True)
            self._syncing.start()

    def _abandon(self) -> None:
        """Go on with another segment; this one can be read up to its last message."""
        segment, self._segment = self._segment, None
        if segment is not None:
            segment.abandon()

    def _note_outage(self, error: Exception) -> None:
        self._abandon()
        if not self._outage:
            _log.error(
                "the prediction log cannot be written, answers go on without it folder=%s reason=%s: %s",
                self._folder,
                type(error).__name__,
                error,
            )
        self._outage = True

    def _note_recovery(self) -> None:
        if self._outage:
            _log.warning("the prediction log is written again folder=%s dropped=%d", self._folder, self._dropped_failed)
        self._outage = False


def _close(segment: SegmentFile) -> None:
    try:
        segment.close()
    except OSError as error:
        _log.error("a log segment was not brought to the disk safely segment=%s reason=%s", segment.name.file, error)
