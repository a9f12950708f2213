"""What files of joined labels are called: the name says when their requests arrived, so that a reader opens few of them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

_STAMP = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"(\d{8}T\d{6}Z)-(\d{8}T\d{6}Z)-([0-9a-f]{12})-(\d{6})\.parquet")


@dataclass(frozen=True, order=True)
class LabelName:
    """Name of a file of joined labels.

    Args:
        first: no request in it arrived before, as in `20261124T103000Z`.
        last: none arrived later.
        run: who wrote it: 12 hexadecimal digits that no other run has.
        number: the run's first has 0, the next 1, and so on.
    """

    first: str
    last: str
    run: str
    number: int

    @classmethod
    def of(cls, first_s: float, last_s: float, run: str, number: int) -> Self:
        """Name of a file with requests that arrived within these times, seconds since the epoch."""
        return cls(_stamp(math.floor(first_s)), _stamp(math.ceil(last_s)), run, number)

    @classmethod
    def parse(cls, file: str) -> Self | None:
        """Inverse of `file`; None for the name of another kind of file."""
        found = _NAME.fullmatch(file)
        return cls(found[1], found[2], found[3], int(found[4])) if found else None

    @property
    def file(self) -> str:
        """Name of the file."""
        return f"{self.first}-{self.last}-{self.run}-{self.number:06d}.parquet"

    @property
    def last_s(self) -> float:
        """See `last`; seconds since the epoch."""
        return _seconds(self.last)

    def overlaps(self, since_s: float, until_s: float) -> bool:
        """Whether a request in it may have arrived within these times."""
        return self.last_s >= since_s and _seconds(self.first) < until_s


def _stamp(moment_s: float) -> str:
    return datetime.fromtimestamp(moment_s, UTC).strftime(_STAMP)


def _seconds(stamp: str) -> float:
    return datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC).timestamp()
