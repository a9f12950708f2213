"""Columns of the prediction log as arrays: what a comparison needs of answers, whoever gave them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from hotcold.domain.shadow.pairs import NO_ENTITY

GOOD = 200


def arrived_us(table: pa.Table) -> NDArray[np.int64]:
    """When each request arrived, shape (n,), microseconds since the epoch."""
    found: NDArray[np.int64] = table["at"].cast(pa.int64()).to_numpy()
    return found


def within(table: pa.Table, since_s: int, until_s: int) -> Any:
    """Which requests arrived at `since_s` or later and before `until_s`, n booleans of Arrow."""
    at = table["at"].cast(pa.int64())
    return pc.and_(pc.greater_equal(at, since_s * 1_000_000), pc.less(at, until_s * 1_000_000))


def score_counts(table: pa.Table) -> NDArray[np.int64]:
    """How many scores each answer has, shape (n,)."""
    lengths = pc.fill_null(pc.list_value_length(table["scores"]), 0)
    return np.asarray(lengths.to_numpy(), dtype=np.int64)


def stages_us(table: pa.Table) -> NDArray[np.uint32]:
    """How long decoding, scoring and encoding took, shape (n, 3), µs."""
    stages = [pc.fill_null(table[name], 0).to_numpy() for name in ("pre_us", "infer_us", "post_us")]
    return np.stack(stages, axis=1)


def entity_keys(entities: pa.ChunkedArray) -> NDArray[np.uint64]:
    """64-bit keys, NO_ENTITY for null; two entities share one with a probability of 3e-8 among a million."""
    coded = entities.combine_chunks().dictionary_encode()
    keys = [NO_ENTITY, *(xxhash.xxh3_64_intdigest(name) or 1 for name in coded.dictionary.cast(pa.binary()).to_pylist())]
    places = pc.fill_null(pc.add(coded.indices, 1), 0).to_numpy(zero_copy_only=False)
    found: NDArray[np.uint64] = np.array(keys, dtype=np.uint64)[places]
    return found


def segment_codes(segments: pa.ChunkedArray) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Index of each request's segment, shape (n,), and the names; empty for requests without one."""
    coded = pc.fill_null(segments.combine_chunks(), "").dictionary_encode()
    return coded.indices.to_numpy().astype(np.int64), tuple(coded.dictionary.to_pylist())


def labels_of(ids: pa.ChunkedArray, labels: pa.Table | None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Label and delay of each request, shape (n,); NaN where there is none.

    Args:
        ids: n request ids.
        labels: `request_id`, `label` and `delay_s`, each request once; None for none.
    """
    nothing = np.full(len(ids), np.nan, dtype=np.float32)
    if labels is None or not len(labels):
        return nothing, nothing
    places = pc.index_in(ids.combine_chunks(), value_set=labels["request_id"].combine_chunks())
    known = places.is_valid().to_numpy(zero_copy_only=False)
    rows = places.drop_null().to_numpy()
    found = []
    for name in ("label", "delay_s"):
        values = nothing.copy()
        values[known] = labels[name].to_numpy()[rows]
        found.append(values)
    return found[0], found[1]
