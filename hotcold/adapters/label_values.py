"""Columns of label files as values: what a person or a program wrote in whatever type, and which rows of it make no sense."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hotcold.adapters.arrow_columns import is_text
from hotcold.domain.errors import BadInputError

NO_TIME = np.iinfo(np.int64).min
# 1970 to 9999: what lies outside is no time, but perhaps milliseconds taken for seconds.
_LATEST_US = 253_402_300_799_000_000
_NUMBER = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$"


def read_texts(column: pa.Array, name: str, longest_bytes: int) -> pa.Array:
    """Ids as text; null where there is none, or one that is longer than any in the prediction log.

    Args:
        column: text or whole numbers.
        name: of the column.
        longest_bytes: of an id.

    Raises:
        BadInputError: it is of another type.
    """
    column = _plain(column)
    if not (is_text(column.type) or pa.types.is_integer(column.type) or pa.types.is_null(column.type)):
        raise _wrong_type(column, name, "text or whole numbers")
    texts = column.cast(pa.string())
    lengths = pc.fill_null(pc.binary_length(texts), 0)
    is_id = pc.and_(pc.greater(lengths, 0), pc.less_equal(lengths, longest_bytes))
    return pc.if_else(is_id, texts, pa.scalar(None, pa.string()))


def read_numbers(column: pa.Array, name: str) -> NDArray[np.float64]:
    """Labels as numbers, NaN where there is none: numbers, true and false, or texts of them.

    Args:
        column: shape (n,).
        name: of the column.

    Raises:
        BadInputError: it is of another type.
    """
    column = _plain(column)
    kind = column.type
    if is_text(kind):
        return _numbers_of(pc.utf8_lower(pc.ascii_trim(column.cast(pa.string()), " \t")))
    if pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)):
        raise _wrong_type(column, name, "0, 1, true, false or a number in between")
    return _floats(column.cast(pa.float64(), safe=False))


def read_times(column: pa.Array, name: str) -> NDArray[np.int64]:
    """Times as microseconds since the epoch, NO_TIME where there is none.

    Args:
        column: timestamps or dates (UTC where they name no zone), seconds since the epoch, or texts of either, as in
            `2026-11-24T10:30:00Z`.
        name: of the column.

    Raises:
        BadInputError: it is of another type.
    """
    column = _plain(column)
    kind = column.type
    if is_text(kind):
        return _times_of(column.cast(pa.string()))
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        moments = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
        return _sane(np.asarray(pc.fill_null(moments, NO_TIME)))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind):
        return _from_seconds(_floats(column.cast(pa.float64(), safe=False)))
    raise _wrong_type(column, name, "times, seconds since the epoch, or texts such as 2026-11-24T10:30:00Z")


def _plain(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _wrong_type(column: pa.Array, name: str, needed: str) -> BadInputError:
    return BadInputError(f"the column {name!r} is of type {column.type}; needed are {needed}")


def _floats(column: pa.Array) -> NDArray[np.float64]:
    return np.asarray(pc.fill_null(column, float("nan")), np.float64)


def _numbers_of(texts: pa.Array) -> NDArray[np.float64]:
    texts = pc.if_else(pc.equal(texts, "true"), "1", pc.if_else(pc.equal(texts, "false"), "0", texts))
    is_number = pc.fill_null(pc.match_substring_regex(texts, _NUMBER), False)
    return _floats(pc.if_else(is_number, texts, pa.scalar(None, pa.string())).cast(pa.float64()))


def _from_seconds(seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    known = np.isfinite(seconds) & (np.abs(seconds) < _LATEST_US / 1e6)
    return _sane(np.where(known, np.rint(np.where(known, seconds, 0.0) * 1e6), NO_TIME).astype(np.int64))


def _sane(times_us: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.where((times_us >= 0) & (times_us <= _LATEST_US), times_us, NO_TIME)


def _times_of(texts: pa.Array) -> NDArray[np.int64]:
    found = _from_seconds(_numbers_of(texts))
    written = np.flatnonzero((found == NO_TIME) & np.asarray(pc.is_valid(texts)))
    found[written] = [_moment_us(text) for text in _readable(texts.take(pa.array(written)))]
    return _sane(found)


def _readable(texts: pa.Array) -> list[Any]:
    try:
        return list(texts.to_pylist())
    except UnicodeDecodeError:
        return [value.decode(errors="replace") for value in texts.cast(pa.binary()).to_pylist()]


def _moment_us(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return int(NO_TIME)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    # Not by `timestamp`, whose float is not exact to the microsecond.
    since = moment - datetime.fromtimestamp(0, UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
