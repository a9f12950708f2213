"""How far the reader of a prediction log has come: per writer, since a writer's segments follow each other by number."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from hotcold.domain.errors import PredictionLogError
from hotcold.domain.prediction import SegmentName


@dataclass(frozen=True)
class Position:
    """How far one writer was read.

    Args:
        number: of the segment that was read last; those before it are done.
        rows: that were read of it.
        is_done: there will never be more in it.
    """

    number: int
    rows: int
    is_done: bool = False


@dataclass(frozen=True)
class Cursor:
    """How far a log was read; an empty one has read nothing.

    Args:
        positions: by writer.
    """

    positions: Mapping[str, Position] = field(default_factory=dict)

    def first_unread(self, name: SegmentName) -> int | None:
        """The first row of a segment that was not read yet; None if the segment is done."""
        position = self.positions.get(name.writer)
        if position is None or name.number > position.number:
            return 0
        if name.number < position.number or position.is_done:
            return None
        return position.rows

    def moved_to(self, name: SegmentName, rows: int, is_done: bool) -> Cursor:
        """The cursor after the first `rows` rows of a segment were read."""
        return Cursor({**self.positions, name.writer: Position(name.number, rows, is_done)})

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {writer: [at.number, at.rows, at.is_done] for writer, at in sorted(self.positions.items())}

    @classmethod
    def from_json(cls, document: object) -> Self:
        """Inverse of `to_json`.

        Raises:
            PredictionLogError: it is none.
        """
        try:
            entries = {str(writer): Position(int(n), int(rows), bool(done)) for writer, (n, rows, done) in document.items()}  # type: ignore[attr-defined]
        except (AttributeError, TypeError, ValueError) as error:
            raise PredictionLogError(f"not a cursor of the prediction log: {error}; begin anew with an empty one") from error
        return cls(entries)


def reading_order(names: Collection[SegmentName]) -> list[SegmentName]:
    """Segments by time, but each writer's by number: its clock may have been set back."""
    begins: dict[SegmentName, str] = {}
    latest: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (name.writer, name.number)):
        latest[name.writer] = begins[name] = max(name.started, latest.get(name.writer, ""))
    return sorted(names, key=lambda name: (begins[name], name.writer, name.number))


def count_missing(names: Collection[SegmentName], cursor: Cursor) -> dict[SegmentName, int]:
    """How many segments of the same writer are missing just before each segment: nobody has them any more.

    Args:
        names: all segments that there are.
        cursor: what was read, so that a hole behind it counts too.

    Returns:
        Only segments with a hole before them.
    """
    missing = {}
    before = {writer: position.number for writer, position in cursor.positions.items()}
    for name in sorted(names, key=lambda name: (name.writer, name.number)):
        last = before.get(name.writer)
        if last is not None and name.number > last + 1:
            missing[name] = name.number - last - 1
        before[name.writer] = max(name.number, last or 0)
    return missing
