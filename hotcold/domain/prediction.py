"""What the prediction log keeps of one answer, and what its log segments are called.

A log segment is a file with the answers of one replica over a minute or so. Its name says who wrote it, as which of his, and
since when; it stays the same from the first row to the last, so that rows are known by the name and their place in it.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, Self

import xxhash

from hotcold.domain.errors import PredictionLogError
from hotcold.domain.headers import SHADOW_VALUE
from hotcold.domain.inference import Scores
from hotcold.domain.schema import Matrix

# Longer ones are cut: what a caller sends must not fill the disk.
MAX_ENTITY_BYTES, MAX_SEGMENT_BYTES = 256, 64
# Of a request with more rows, the features of the first ones are kept.
MAX_FEATURE_ROWS = 100
LAYOUT = 1

_HASHES = 1 << 64
_SHADOW = SHADOW_VALUE.encode()
_STAMP = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"(\d{8}T\d{6}Z)-([0-9a-z]{1,40})-(\d{6,12})\.arrow")


class Prediction(NamedTuple):
    """One answer to a request for scores. A tuple, because many of them become columns by one `zip`.

    Args:
        request_id: joins the served answer and the shadow's.
        arrived_us: when the request arrived, microseconds since the epoch by the replica's clock.
        status: HTTP status of the answer.
        shadow: the request was a copy, its answer was thrown away.
        tester: the request chose its slot by a header, so the split has no part in it.
        entity: `x-entity-id` as it came; None if the request had none.
        segment: `x-hotcold-segment` as it came; None if the request had none.
        matrix: shape (rows, features); None if the request could not be read.
        scores: shape (rows,); None if there are none.
        started_s: the head of the request was there; this and the next three by one clock, whichever.
        decoded_s: the matrix was there; 0 if it never was.
        scored_s: the scores were there; 0 if they never were.
        answered_s: the answer was ready to be sent.
    """

    request_id: str
    arrived_us: int
    status: int
    shadow: bool
    tester: bool
    entity: bytes | None
    segment: bytes | None
    matrix: Matrix | None
    scores: Scores | None
    started_s: float
    decoded_s: float
    scored_s: float
    answered_s: float


@dataclass(frozen=True)
class Origin:
    """Who gave the answers of a log segment: the same for all of its rows.

    Args:
        model: registered model name.
        version: semantic version.
        digest: of the package, 64 hexadecimal digits.
        slot: `blue` or `green`; `none` outside of a slot.
        schema: fingerprint of the feature schema; hashes of features compare only where it is the same.
        features: number of features in a row.
        writer: the replica; a name that no other process ever has.
    """

    model: str
    version: str
    digest: str
    slot: str
    schema: str
    features: int
    writer: str

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"layout": LAYOUT, **asdict(self)}

    @classmethod
    def from_json(cls, document: object) -> Self:
        """Inverse of `to_json`.

        Raises:
            PredictionLogError: it is none, or of another layout.
        """
        if not isinstance(document, dict) or document.get("layout") != LAYOUT:
            seen = document.get("layout") if isinstance(document, dict) else None
            raise PredictionLogError(f"the log segment has layout {seen!r}; known is {LAYOUT}, so read it with its own hotcold")
        try:
            return cls(**{key: value for key, value in document.items() if key != "layout"})
        except TypeError as error:
            raise PredictionLogError(f"the log segment does not say who wrote it: {error}") from error


@dataclass(frozen=True, order=True)
class SegmentName:
    """Name of a log segment.

    Args:
        started: when it was begun, by its writer's clock, as in `20261124T103000Z`.
        writer: see Origin.
        number: the writer's first has 0, the next 1, and so on.
    """

    started: str
    writer: str
    number: int

    @classmethod
    def at(cls, started_s: float, writer: str, number: int) -> Self:
        """Name of a segment that is begun now.

        Args:
            started_s: seconds since the epoch.
            writer: see Origin.
            number: see above.
        """
        return cls(datetime.fromtimestamp(started_s, UTC).strftime(_STAMP), writer, number)

    @classmethod
    def parse(cls, file: str) -> Self | None:
        """Inverse of `file`; None for the name of another kind of file."""
        found = _NAME.fullmatch(file)
        return cls(found[1], found[2], int(found[3])) if found else None

    @property
    def file(self) -> str:
        """Name of the file."""
        return f"{self.started}-{self.writer}-{self.number:06d}.arrow"

    @property
    def started_s(self) -> float:
        """When it was begun, seconds since the epoch."""
        return datetime.strptime(self.started, _STAMP).replace(tzinfo=UTC).timestamp()

    @property
    def day(self) -> str:
        """The day on which it was begun, UTC, as in `2026-11-24`."""
        return f"{self.started[:4]}-{self.started[4:6]}-{self.started[6:8]}"


def is_shadow(header: bytes | None) -> bool:
    """Whether a request is a copy whose answer is thrown away.

    Args:
        header: value of SHADOW_HEADER; None if the request has none.
    """
    return header == _SHADOW


def keeps_features(request_id: str, rate: float) -> bool:
    """Whether the features of a request are kept, or their hash alone.

    It depends on nothing but the request's id, so that champion and shadow keep those of the same requests.

    Args:
        request_id: of the request.
        rate: share of requests, 0 to 1.
    """
    return rate >= 1 or xxhash.xxh3_64_intdigest(request_id.encode()) < rate * _HASHES


def hash_features(rows: bytes) -> int:
    """64-bit hash of all rows of a request; the same rows in the same order give the same hash.

    Args:
        rows: float32, row after row.
    """
    return xxhash.xxh3_64_intdigest(rows)
