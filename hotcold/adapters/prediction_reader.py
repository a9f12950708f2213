"""Reads the prediction log of a model: segments that are being written, closed ones and archives, each row once.

A segment keeps its name when it is closed and when it becomes part of an archive. What was read of it is counted in rows, so
that the next look goes on where the one before ended, wherever the rows are by then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from hotcold.adapters.prediction_archive import Archived, list_archives, read_archived, read_contents
from hotcold.adapters.prediction_columns import SCHEMA
from hotcold.adapters.prediction_segments import list_segments, read_segment
from hotcold.domain.errors import PredictionLogError
from hotcold.domain.log_position import Cursor, count_missing, reading_order
from hotcold.domain.prediction import Origin, SegmentName

# Requests arrive before their answers are written, and clocks are set while a segment is open.
_MARGIN_S = 60.0
_DAY_S = 86400.0
_TIME = "at"


@dataclass(frozen=True)
class Place:
    """Rows that are to be read; small, so that a worker can be told to read them.

    Args:
        name: of their segment.
        first_row: of the segment.
        missing: segments of the same writer that are missing just before this one.
        archive: file that holds the segment, relative to the model's folder; empty while it is a file of its own.
        first_s: when its requests arrived, from here on, seconds since the epoch.
        last_s: up to here; infinite while nobody knows.
    """

    name: SegmentName
    first_row: int = 0
    missing: int = 0
    archive: str = ""
    first_s: float = float("-inf")
    last_s: float = float("inf")

    def overlaps(self, window: Window) -> bool:
        """Whether it may have rows that are wanted. Archives say exactly when their requests arrived."""
        return window.overlaps(self.first_s, self.last_s, 0.0 if self.archive else _MARGIN_S)


@dataclass(frozen=True, eq=False)
class Piece:
    """Rows of one log segment.

    Args:
        place: see there.
        origin: who gave these answers.
        table: the rows within the times that were asked for.
        end_row: how many rows of the segment were looked at so far.
        is_done: there will never be more in it.
        is_torn: its writer was killed within a message; rows behind it are lost.
    """

    place: Place
    origin: Origin
    table: pa.Table
    end_row: int
    is_done: bool
    is_torn: bool

    @property
    def dropped(self) -> int:
        """Answers among these that the writer has lost; 0 if the column was not read."""
        if "dropped" not in self.table.column_names:
            return 0
        return int(pc.sum(self.table["dropped"]).as_py() or 0)


@dataclass(frozen=True)
class Window:
    """Which rows are wanted.

    Args:
        since_s: requests that arrived then or later, by the clock of the replica, seconds since the epoch.
        until_s: requests that arrived before.
        columns: of SCHEMA; None takes all.
    """

    since_s: float = float("-inf")
    until_s: float = float("inf")
    columns: tuple[str, ...] | None = None

    @property
    def first_day(self) -> str:
        """The first day whose archives may hold such rows, as in `2026-11-24`; empty if any may."""
        # A segment may have been begun the day before.
        return "" if self.since_s < _DAY_S else datetime.fromtimestamp(self.since_s - _DAY_S, UTC).date().isoformat()

    @property
    def needed_columns(self) -> tuple[str, ...]:
        """What has to be read to find these rows."""
        names = tuple(SCHEMA.names) if self.columns is None else self.columns
        return names if _TIME in names else (*names, _TIME)

    def overlaps(self, first_s: float, last_s: float, margin_s: float = _MARGIN_S) -> bool:
        """Whether rows between these times, known up to a margin, may be wanted."""
        return last_s + margin_s >= self.since_s and first_s - margin_s < self.until_s

    def cut(self, table: pa.Table) -> pa.Table:
        """The wanted rows and columns of a table that has the needed columns."""
        times = table[_TIME].cast(pa.int64())
        if self.since_s > float("-inf"):
            table = table.filter(pc.greater_equal(times, round(self.since_s * 1e6)))
            times = table[_TIME].cast(pa.int64())
        if self.until_s < float("inf"):
            table = table.filter(pc.less(times, round(self.until_s * 1e6)))
        return table.select(list(SCHEMA.names if self.columns is None else self.columns))


class _Where(NamedTuple):
    """Where a segment is, and when its requests arrived."""

    first_s: float
    last_s: float
    archive: str = ""


class PredictionReader:
    """Reads one model's log. It may be sent to other processes.

    Args:
        root: folder of the log.
        model: registered model name.
    """

    def __init__(self, root: Path, model: str) -> None:
        self._folder = root / model
        # Archives never change.
        self._contents: dict[Path, tuple[Archived, ...]] = {}
        self.unreadable: dict[str, str] = {}

    def read(self, cursor: Cursor | None = None, window: Window | None = None) -> Iterator[tuple[Piece, Cursor]]:
        """Read what came since the last look; every row once, however often the log is rotated and compacted meanwhile.

        Args:
            cursor: of the last look; None begins at the beginning.
            window: the same in each look, or rows that one of them leaves out are lost to the next.

        Yields:
            Rows by time of their segment, and the cursor after them. Files that cannot be read are in `unreadable`.
        """
        cursor, window = cursor or Cursor(), window or Window()
        for place in self.places(cursor, window):
            piece = self.read_place(place, window)
            if piece is not None and (piece.is_done or piece.end_row > place.first_row):
                cursor = cursor.moved_to(place.name, piece.end_row, piece.is_done)
                yield piece, cursor

    def places(self, cursor: Cursor, window: Window) -> list[Place]:
        """What there is to be read, by time; each place may be read by another process.

        Args:
            cursor: what was read already.
            window: see there.
        """
        known = self._known(window)
        missing = count_missing(known.keys(), cursor)
        found = []
        for name in reading_order(known):
            first_row, where = cursor.first_unread(name), known[name]
            if first_row is None:
                continue
            place = Place(name, first_row, missing.get(name, 0), where.archive, where.first_s, where.last_s)
            if place.overlaps(window):
                found.append(place)
        return found

    def _known(self, window: Window) -> dict[SegmentName, _Where]:
        """Segments without holes that are none.

        A folder that changes while it is listed may show a new file and not the one made just before, and a cursor that was
        moved to the new one would never come back. So it is listed twice: what the first list shows, the second one completes.
        """
        first = self._list(window)
        tops: dict[str, int] = {}
        for name in first:
            tops[name.writer] = max(name.number, tops.get(name.writer, 0))
        both = first | self._list(window)
        return {name: where for name, where in both.items() if name.number <= tops.get(name.writer, -1)}

    def _list(self, window: Window) -> dict[SegmentName, _Where]:
        # In this order: a segment that becomes part of an archive meanwhile is listed here or there.
        found = _times(list_segments(self._folder))
        for path in list_archives(self._folder, window.first_day):
            for entry in self._read_contents(path):
                found[entry.name] = _Where(entry.first_us / 1e6, entry.last_us / 1e6, str(path.relative_to(self._folder)))
        return found

    def _read_contents(self, path: Path) -> tuple[Archived, ...]:
        if path not in self._contents:
            try:
                self._contents[path] = read_contents(path)
            except FileNotFoundError:
                return ()
            except PredictionLogError as error:
                self.unreadable[path.name] = str(error)
                return ()
        return self._contents[path]

    def read_place(self, place: Place, window: Window) -> Piece | None:
        """Read the rows of a place; if they have moved to an archive meanwhile, there.

        Args:
            place: see `places`.
            window: see there.

        Returns:
            The rows; None if they were deleted, or cannot be read.
        """
        try:
            if not place.archive:
                try:
                    return self._read_segment(place, window)
                except FileNotFoundError:
                    moved = self._list(window).get(place.name)
                    place = replace(place, archive=moved.archive if moved else "")
            return self._read_archived(place, window) if place.archive else None
        except FileNotFoundError:
            return None
        except PredictionLogError as error:
            self.unreadable[place.archive or place.name.file] = str(error)
            return None

    def _read_segment(self, place: Place, window: Window) -> Piece:
        segment = read_segment(self._folder, place.name)
        table = window.cut(segment.table.slice(place.first_row))
        return Piece(place, segment.origin, table, len(segment.table), segment.is_done, segment.is_torn)

    def _read_archived(self, place: Place, window: Window) -> Piece | None:
        path = self._folder / place.archive
        entry = next((entry for entry in self._read_contents(path) if entry.name == place.name), None)
        if entry is None:
            return None
        table = window.cut(read_archived(path, entry, window.needed_columns).slice(place.first_row))
        return Piece(place, entry.origin, table, entry.rows, True, entry.is_torn)


def _times(names: Collection[SegmentName]) -> dict[SegmentName, _Where]:
    """A segment ends when its writer's next one begins, by the same clock; of the last one nobody knows."""
    found: dict[SegmentName, _Where] = {}
    ordered = sorted(names, key=lambda name: (name.writer, name.number))
    for name, after in zip_longest(ordered, ordered[1:]):
        follows = after is not None and after.writer == name.writer and after.started >= name.started
        found[name] = _Where(name.started_s, after.started_s if follows else float("inf"))
    return found
