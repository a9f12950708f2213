"""The Arrow layout of the prediction log: one row per request, its scores and features as lists.

Answers are packed while they are hot: kept as Python objects until a batch of them is written, they would cost three times
as much. Arrays are made from buffers: from Python lists pyarrow would make them as well, but imports pandas first, which takes
half a second and 50 MiB in each replica.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from hotcold.domain.errors import PredictionLogError
from hotcold.domain.prediction import MAX_FEATURE_ROWS, Origin, Prediction, hash_features, keeps_features

SCHEMA = pa.schema(
    [
        ("request_id", pa.string()),
        ("at", pa.timestamp("us", "UTC")),
        ("status", pa.uint16()),
        ("shadow", pa.bool_()),
        # Asked by a header for this slot, as smoke tests do: no evidence.
        ("tester", pa.bool_()),
        ("entity", pa.string()),
        ("segment", pa.string()),
        # One per row of the request; null where there is no answer.
        ("scores", pa.list_(pa.float32())),
        # Row after row; null where they were not kept, or the request could not be read.
        ("features", pa.list_(pa.float32())),
        ("features_hash", pa.uint64()),
        ("pre_us", pa.uint32()),
        ("infer_us", pa.uint32()),
        ("post_us", pa.uint32()),
        # Answers of the same writer just before this one that the log has lost.
        ("dropped", pa.uint32()),
    ]
)
_ORIGIN_KEY = b"hotcold"
_ITEM_BYTES = 4

# What is of one size in each answer: arrival, status, flags, lengths in bytes of what is not, hash, clocks.
_HEAD = struct.Struct("<qHBHHHIIQ4d")
_HEAD_TYPE = np.dtype(
    [
        ("at", "<i8"),
        ("status", "<u2"),
        ("flags", "u1"),
        ("request_id", "<u2"),
        ("entity", "<u2"),
        ("segment", "<u2"),
        ("scores", "<u4"),
        ("features", "<u4"),
        ("features_hash", "<u8"),
        ("clocks", "<f8", (4,)),
    ]
)
_SHADOW, _TESTER, _ENTITY, _SEGMENT, _SCORES, _FEATURES, _MATRIX = (1 << bit for bit in range(7))


def schema_of(origin: Origin) -> pa.Schema:
    """The schema that a log segment begins with: the columns, and who writes it."""
    return SCHEMA.with_metadata({_ORIGIN_KEY: orjson.dumps(origin.to_json())})


def origin_of(schema: pa.Schema) -> Origin:
    """Inverse of `schema_of`.

    Raises:
        PredictionLogError: the file is no log segment, or one of another layout.
    """
    try:
        document = orjson.loads((schema.metadata or {}).get(_ORIGIN_KEY, b""))
    except orjson.JSONDecodeError as error:
        raise PredictionLogError("the Arrow file is no log segment: it does not say who wrote it") from error
    origin = Origin.from_json(document)
    if not schema.equals(SCHEMA):
        raise PredictionLogError(f"the log segment has the columns {', '.join(schema.names)}; needed are those of layout 1")
    return origin


class PackedAnswers:
    """Answers that wait to be written.

    Args:
        feature_rate: share of requests whose features are kept.
    """

    def __init__(self, feature_rate: float = 1.0) -> None:
        self._feature_rate = feature_rate
        self._heads, self._ids, self._entities, self._segments = bytearray(), bytearray(), bytearray(), bytearray()
        self._scores, self._features = bytearray(), bytearray()
        self.count = 0
        self.size_bytes = 0

    def add(self, prediction: Prediction) -> None:
        """Append an answer; takes two microseconds and a copy of its arrays.

        Raises:
            struct.error: a number or a text is larger than an answer can have it; nothing was appended.
        """
        request_id, arrived_us, status, shadow, tester, entity, segment, matrix, scores, *clocks = prediction
        name, rows, values, features_hash = request_id.encode(), b"", b"", 0
        flags = shadow * _SHADOW | tester * _TESTER
        if entity is not None:
            flags |= _ENTITY
        if segment is not None:
            flags |= _SEGMENT
        if matrix is not None:
            rows = matrix.tobytes()
            features_hash = hash_features(rows)
            if keeps_features(request_id, self._feature_rate):
                flags |= _MATRIX | _FEATURES
                rows = rows[: MAX_FEATURE_ROWS * matrix.shape[1] * _ITEM_BYTES]
            else:
                flags, rows = flags | _MATRIX, b""
        if scores is not None:
            flags, values = flags | _SCORES, scores.tobytes()
        entity, segment = entity or b"", segment or b""
        lengths = len(name), len(entity), len(segment), len(values), len(rows)
        self._heads += _HEAD.pack(arrived_us, status, flags, *lengths, features_hash, *clocks)
        self._ids += name
        self._entities += entity
        self._segments += segment
        self._scores += values
        self._features += rows
        self.count += 1
        self.size_bytes += _HEAD.size + sum(lengths)

    def encode(self, dropped: int) -> pa.RecordBatch:
        """All of them as columns; nothing may be added afterwards.

        Args:
            dropped: answers that were lost since the batch before; the first row says so.

        Returns:
            Rows of SCHEMA, one at least.
        """
        heads = np.frombuffer(self._heads, dtype=_HEAD_TYPE)
        flags, lost = heads["flags"], np.zeros(len(heads), dtype=np.uint32)
        lost[0] = dropped
        columns = [
            _texts(self._ids, heads["request_id"]),
            _numbers(pa.timestamp("us", "UTC"), heads["at"]),
            _numbers(pa.uint16(), heads["status"]),
            *(pa.Array.from_buffers(pa.bool_(), len(heads), [None, _bits(flags & bit)]) for bit in (_SHADOW, _TESTER)),
            _texts(self._entities, heads["entity"], flags & _ENTITY),
            _texts(self._segments, heads["segment"], flags & _SEGMENT),
            _lists(self._scores, heads["scores"], flags & _SCORES),
            _lists(self._features, heads["features"], flags & _FEATURES),
            _numbers(pa.uint64(), heads["features_hash"], flags & _MATRIX),
            *(_numbers(pa.uint32(), stage) for stage in _stages_us(heads["clocks"])),
            _numbers(pa.uint32(), lost),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _stages_us(clocks: NDArray[np.float64]) -> list[NDArray[np.uint32]]:
    """Time before, in and after the engine. A stage that was not reached took no time; the one before took what was left."""
    started, decoded, scored, answered = clocks.T
    decoded = np.where(decoded > 0, decoded, answered)
    ended = np.where(scored > 0, scored, answered)
    stages = (decoded - started, ended - decoded, np.where(scored > 0, answered - scored, 0.0))
    return [np.clip(np.rint(stage * 1e6), 0, 2**32 - 1).astype(np.uint32) for stage in stages]


def _bits(flags: NDArray[Any]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(flags != 0, bitorder="little"))


def _validity(is_known: NDArray[Any] | None) -> pa.Buffer | None:
    return None if is_known is None or is_known.all() else _bits(is_known)


def _offsets(lengths: NDArray[Any]) -> NDArray[np.int32]:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _texts(content: bytearray | bytes, lengths: NDArray[Any], is_known: NDArray[Any] | None = None) -> pa.Array:
    offsets = _offsets(lengths)
    if not content.isascii():
        # Headers are bytes, and nobody checked that they are UTF-8.
        texts = [content[begin:end].decode("utf-8", "replace").encode() for begin, end in pairwise(offsets)]
        content, offsets = b"".join(texts), _offsets(np.array([len(text) for text in texts]))
    buffers = [_validity(is_known), pa.py_buffer(offsets), pa.py_buffer(content)]
    return pa.Array.from_buffers(pa.string(), len(lengths), buffers)


def _numbers(kind: pa.DataType, values: NDArray[Any], is_known: NDArray[Any] | None = None) -> pa.Array:
    return pa.Array.from_buffers(kind, len(values), [_validity(is_known), pa.py_buffer(np.ascontiguousarray(values))])


def _lists(content: bytearray, lengths: NDArray[Any], is_known: NDArray[Any]) -> pa.Array:
    """Lists of float32 from their bytes."""
    values = pa.Array.from_buffers(pa.float32(), len(content) // _ITEM_BYTES, [None, pa.py_buffer(content)])
    buffers = [_validity(is_known), pa.py_buffer(_offsets(lengths // _ITEM_BYTES))]
    return pa.Array.from_buffers(pa.list_(pa.float32()), len(lengths), buffers, children=[values])
