"""The Arrow layout of the prediction log: one row per request, its scores and features as lists.

Arrays are made from buffers. From Python lists pyarrow would make them as well, but imports pandas first, which takes half a
second and 50 MiB in each replica.
"""

from __future__ import annotations

from collections.abc import Sequence
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


def encode(predictions: Sequence[Prediction], feature_rate: float, dropped: int) -> pa.RecordBatch:
    """Answers as columns.

    Args:
        predictions: n >= 1 answers.
        feature_rate: share of requests whose features are kept.
        dropped: answers that were lost since the batch before; the first row says so.

    Returns:
        n rows of SCHEMA.
    """
    ids, arrived, status, shadow, entities, segments, matrices, scores, *clocks = zip(*predictions, strict=True)
    rows = [None if matrix is None else matrix.tobytes() for matrix in matrices]
    kept = [
        content[: MAX_FEATURE_ROWS * matrix.itemsize * matrix.shape[1]]
        if content is not None and keeps_features(request_id, feature_rate)
        else None
        for request_id, matrix, content in zip(ids, matrices, rows, strict=True)
    ]
    hashes = [0 if content is None else hash_features(content) for content in rows]
    lost = np.zeros(len(ids), dtype=np.uint32)
    lost[0] = dropped
    columns = [
        _texts([request_id.encode() for request_id in ids]),
        _numbers(pa.timestamp("us", "UTC"), np.array(arrived, dtype=np.int64)),
        _numbers(pa.uint16(), np.array(status, dtype=np.uint16)),
        pa.Array.from_buffers(pa.bool_(), len(ids), [None, _bits(shadow)]),
        _texts(entities),
        _texts(segments),
        _lists([None if score is None else score.tobytes() for score in scores]),
        _lists(kept),
        _numbers(pa.uint64(), np.array(hashes, dtype=np.uint64), _validity(rows)),
        *(_numbers(pa.uint32(), stage) for stage in _stages_us(np.array(clocks))),
        _numbers(pa.uint32(), lost),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _stages_us(clocks: NDArray[np.float64]) -> list[NDArray[np.uint32]]:
    """Time before, in and after the engine. A stage that was not reached took no time; the one before took all of it."""
    started, decoded, scored, answered = clocks
    decoded = np.where(decoded > 0, decoded, answered)
    ended = np.where(scored > 0, scored, decoded)
    stages = (decoded - started, ended - decoded, np.where(scored > 0, answered - scored, 0.0))
    return [np.clip(np.rint(stage * 1e6), 0, 2**32 - 1).astype(np.uint32) for stage in stages]


def _bits(flags: Sequence[bool]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(np.array(flags, dtype=np.bool_), bitorder="little"))


def _validity(values: Sequence[Any]) -> pa.Buffer | None:
    return _bits([value is not None for value in values]) if None in values else None


def _offsets(lengths: Sequence[int]) -> pa.Buffer:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.py_buffer(offsets)


def _texts(values: Sequence[bytes | None]) -> pa.Array:
    known = [value or b"" for value in values]
    content = b"".join(known)
    if not content.isascii():
        # Headers are bytes, and nobody checked that they are UTF-8.
        known = [value.decode("utf-8", "replace").encode() for value in known]
        content = b"".join(known)
    buffers = [_validity(values), _offsets([len(value) for value in known]), pa.py_buffer(content)]
    return pa.Array.from_buffers(pa.string(), len(values), buffers)


def _numbers(kind: pa.DataType, values: NDArray[Any], validity: pa.Buffer | None = None) -> pa.Array:
    return pa.Array.from_buffers(kind, len(values), [validity, pa.py_buffer(values)])


def _lists(rows: Sequence[bytes | None]) -> pa.Array:
    """Lists of float32 from their bytes."""
    content = b"".join([row for row in rows if row is not None])
    values = pa.Array.from_buffers(pa.float32(), len(content) // _ITEM_BYTES, [None, pa.py_buffer(content)])
    offsets = _offsets([0 if row is None else len(row) // _ITEM_BYTES for row in rows])
    return pa.Array.from_buffers(pa.list_(pa.float32()), len(rows), [_validity(rows), offsets], children=[values])
