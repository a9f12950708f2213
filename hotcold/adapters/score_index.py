"""The index of a score table: each part has a fragment with its keys by range, and ranges of keys are merged over all parts.

A key range of a fragment is one run of bytes, so that merging reads each byte once, from a local disk or from an object
store, and holds only some ranges in memory.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hotcold.domain.errors import InvalidInputError, ScoreStoreError
from hotcold.domain.score_blocks import RANGE_BITS, RANGES, Keys, int64_keys, text_keys

SHOWN_DUPLICATES = 20
_ENTITIES_AT_ONCE = 1 << 20
_TEXTS_AT_ONCE = 1 << 16
_MAGIC = b"HCX1"
_HEAD = struct.Struct("<4sII")
HEADER_BYTES = _HEAD.size + 4 * (RANGES + 1)

Read = Callable[[int, int, int], bytes]


class Duplicate(NamedTuple):
    """A row whose entity had a row before; rows are counted within their part, from 0."""

    part: int
    row: int
    first_part: int
    first_row: int


@dataclass(frozen=True, eq=False)
class Merged:
    """All entities of some key ranges.

    Args:
        first: the first range.
        last: the one after the last range.
        keys: shape (n, words), uint64, sorted, each once.
        scores: shape (n,), float32; of an entity with several rows the last one counts.
        surplus_rows: rows beyond the one that counts.
        examples: the first of them, by key, at most 20.
    """

    first: int
    last: int
    keys: Keys
    scores: NDArray[np.float32]
    surplus_rows: int = 0
    examples: tuple[Duplicate, ...] = ()


def _record(words: int) -> np.dtype[Any]:
    return np.dtype([("key", "<u8", (words,)), ("score", "<f4"), ("row", "<u4")])


def encode_fragment(ids: pa.Array | pa.ChunkedArray, scores: NDArray[np.float32]) -> bytes:
    """The fragment of one part: header, where each key range begins, and key, score and row, range by range.

    Args:
        ids: n whole numbers or texts.
        scores: shape (n,), float32.

    Returns:
        16 bytes a row for whole numbers, 24 for texts, and a header.

    Raises:
        InvalidInputError: an id is null or of another type, or there are more or fewer ids than scores.
    """
    if len(ids) != len(scores):
        raise InvalidInputError(f"there are {len(ids)} ids and {len(scores)} scores; each row needs both")
    keys = _keys_of(ids)
    ranges = (keys[:, 0] >> np.uint64(64 - RANGE_BITS)).astype(np.uint8)
    # By range only, which a radix sort of single bytes does in no time; merging sorts the keys anyway.
    order = np.argsort(ranges, kind="stable")
    records = np.empty(len(keys), dtype=_record(keys.shape[1]))
    records["key"] = keys[order]
    records["score"] = scores[order]
    records["row"] = order
    offsets = np.concatenate(([0], np.cumsum(np.bincount(ranges, minlength=RANGES)))).astype("<u4")
    return b"".join((_HEAD.pack(_MAGIC, keys.shape[1], len(keys)), offsets.tobytes(), records.tobytes()))


def fragment_bytes(header: bytes) -> int:
    """Length that a fragment with this header has; -1 if it is no header."""
    if len(header) != HEADER_BYTES:
        return -1
    magic, words, rows = _HEAD.unpack_from(header)
    return HEADER_BYTES + rows * _record(words).itemsize if magic == _MAGIC and words in (1, 2) else -1


def _keys_of(ids: pa.Array | pa.ChunkedArray) -> Keys:
    if ids.null_count:
        row = ids.is_null().index(True).as_py()
        raise InvalidInputError(f"row {row} has no id; every row of a score table needs one", row=row)
    kind = ids.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_integer(kind):
        try:
            return int64_keys(ids.cast(pa.int64()).to_numpy())
        except pa.ArrowInvalid as error:
            raise InvalidInputError(f"an id is beyond int64: {error}; write such ids as text") from error
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return _text_keys(ids.cast(pa.large_string()).cast(pa.large_binary()))
    raise InvalidInputError(f"the ids are of type {kind}; text or whole numbers are needed")


def _text_keys(ids: pa.Array | pa.ChunkedArray) -> Keys:
    """A slice at a time: as Python objects, texts take ten times their place."""
    slices = [text_keys(ids.slice(start, _TEXTS_AT_ONCE).to_pylist()) for start in range(0, len(ids), _TEXTS_AT_ONCE)]
    return np.concatenate(slices) if slices else np.empty((0, 2), dtype=np.uint64)


def _sorted_order(keys: Keys) -> NDArray[np.intp]:
    """The order of the keys; equal ones stay as they are.

    The usual sort of NumPy is several times as fast as a stable one, and equal first words are rare.
    """
    first_word = np.ascontiguousarray(keys[:, 0])
    order = np.argsort(first_word)
    ordered = first_word[order]
    if (ordered[1:] == ordered[:-1]).any():
        order = np.lexsort(keys.T[::-1])
    return order


def plan_ranges(rows: int, at_once: int = _ENTITIES_AT_ONCE) -> tuple[tuple[int, int], ...]:
    """How to cut the key ranges, so that memory stays the same however many rows there are.

    Args:
        rows: of the table.
        at_once: rows to be merged at once.

    Returns:
        (first, last) for `merge_range`, in order; together they are all ranges.
    """
    steps = min(max(-(-rows // at_once), 1), RANGES)
    edges = [RANGES * step // steps for step in range(steps + 1)]
    return tuple(pairwise(edges))


def merge_range(parts: Sequence[int], read: Read, first: int, last: int) -> Merged:
    """Merge some key ranges of all fragments.

    Args:
        parts: numbers of the parts, ascending.
        read: gives bytes `start` to `stop` of a part's fragment; the first `HEADER_BYTES` are asked for in each call, so
            keep them if reading is slow.
        first: the first range, 0 to 255.
        last: the one after the last, up to 256.

    Returns:
        Their entities.

    Raises:
        ScoreStoreError: a fragment is not as it was written, or has ids of another kind than the others.
    """
    pieces = [_read_piece(part, read, first, last) for part in parts]
    kinds = {piece.dtype for piece in pieces}
    if len(kinds) > 1:
        raise ScoreStoreError("some parts have whole numbers as ids and others have texts; score the whole table again")
    if not sum(map(len, pieces)):
        words = pieces[0]["key"].shape[1] if pieces else 1
        return Merged(first, last, np.empty((0, words), dtype=np.uint64), np.empty(0, dtype=np.float32))
    keys = np.concatenate([piece["key"] for piece in pieces])
    order = _sorted_order(keys)
    keys = keys[order]
    _check_range(keys, first, last)
    scores = np.concatenate([piece["score"] for piece in pieces])[order]
    repeated = (keys[1:] == keys[:-1]).all(axis=1)
    if not repeated.any():
        return Merged(first, last, keys, scores)
    examples = _examples(repeated, order, parts, pieces)
    counts = np.append(~repeated, True)
    return Merged(first, last, keys[counts], scores[counts], int(repeated.sum()), examples)


def _read_piece(part: int, read: Read, first: int, last: int) -> NDArray[Any]:
    """Records of one part, without a copy."""
    header = read(part, 0, HEADER_BYTES)
    if len(header) != HEADER_BYTES:
        raise _broken(part, f"its header has {len(header)} bytes where {HEADER_BYTES} are needed")
    magic, words, rows = _HEAD.unpack_from(header)
    offsets = np.frombuffer(header, dtype="<u4", offset=_HEAD.size)
    if magic != _MAGIC or words not in (1, 2) or offsets[-1] != rows or (offsets[1:] < offsets[:-1]).any():
        raise _broken(part, "its header is none")
    record, start, stop = _record(words), int(offsets[first]), int(offsets[last])
    if start == stop:
        return np.empty(0, dtype=record)
    content = read(part, HEADER_BYTES + start * record.itemsize, HEADER_BYTES + stop * record.itemsize)
    if len(content) != (stop - start) * record.itemsize:
        raise _broken(
            part, f"{len(content)} bytes came of ranges {first} to {last} where {(stop - start) * record.itemsize} are"
        )
    return np.frombuffer(content, dtype=record)


def _broken(part: int, seen: str) -> ScoreStoreError:
    return ScoreStoreError(f"the index of part {part} cannot be used: {seen}; score the part again")


def _check_range(keys: Keys, first: int, last: int) -> None:
    shift = np.uint64(64 - RANGE_BITS)
    if not first <= int(keys[0, 0] >> shift) <= int(keys[-1, 0] >> shift) < last:
        raise ScoreStoreError(
            f"keys outside of ranges {first} to {last} came back; the index was changed, score the table again"
        )


def _examples(
    repeated: NDArray[np.bool_], order: NDArray[np.intp], parts: Sequence[int], pieces: Sequence[NDArray[Any]]
) -> tuple[Duplicate, ...]:
    """The first rows that repeat the one before them; equal keys are in the order of part and row."""
    places = np.flatnonzero(repeated)[:SHOWN_DUPLICATES] + 1
    begins = np.flatnonzero(np.concatenate(([True], ~repeated)))
    firsts = begins[np.searchsorted(begins, places, side="right") - 1]
    starts = np.cumsum([0, *map(len, pieces)])
    found = []
    for place, first in zip(order[places].tolist(), order[firsts].tolist(), strict=True):
        (piece, row), (first_piece, first_row) = (_locate(at, starts, pieces) for at in (place, first))
        found.append(Duplicate(parts[piece], row, parts[first_piece], first_row))
    return tuple(found)


def _locate(at: int, starts: NDArray[np.intp], pieces: Sequence[NDArray[Any]]) -> tuple[int, int]:
    piece = int(np.searchsorted(starts, at, side="right")) - 1
    return piece, int(pieces[piece]["row"][at - int(starts[piece])])
