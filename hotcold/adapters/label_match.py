"""Finds the requests of labels in the prediction log: by their ids, or by entity and time. Reads the log a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hotcold.adapters.label_files import LabelRows
from hotcold.adapters.prediction_reader import PredictionReader, Window
from hotcold.domain.labels import Claims, TimedLabels

# A hash table of ids is made for each batch, which pays for many rows only.
_BATCH_ROWS = 1 << 20
_BATCH_BYTES = 256 << 20
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class Matches:
    """Requests that have a label, each once.

    Args:
        request_ids: n ids.
        arrived_us: when the first of the request's copies arrived.
        claims: what is claimed of each.
        known_us: when the first of these labels became known.
        repeated: labels that say the same of the same request as another one.
    """

    request_ids: pa.Array
    arrived_us: NDArray[np.int64]
    claims: Claims
    known_us: NDArray[np.int64]
    repeated: int = 0


def read_batches(reader: PredictionReader, window: Window) -> Iterator[pa.Table]:
    """Rows of the log by time of their segment, in tables that are large enough to be worth a join.

    Args:
        reader: of the model's log.
        window: which rows and columns.
    """
    held: list[pa.Table] = []
    for piece, _ in reader.read(None, window):
        held.append(piece.table)
        if sum(map(len, held)) >= _BATCH_ROWS or sum(table.nbytes for table in held) >= _BATCH_BYTES:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)


def match_ids(rows: LabelRows, reader: PredictionReader) -> tuple[Matches, NDArray[np.int64]]:
    """Find requests by their ids.

    Args:
        rows: with request ids as keys.
        reader: of the model's log.

    Returns:
        The requests, and the places of the rows whose request is not in the log.
    """
    found = _group(pa.table({"key": rows.keys, "label": rows.labels, "known": rows.known_us}), "key")
    ids = found["key"].combine_chunks()
    arrived = np.full(len(ids), _NEVER, np.int64)
    for batch in read_batches(reader, Window(columns=("request_id", "at"))):
        place = places_among(batch["request_id"], ids)
        is_ours = place >= 0
        np.minimum.at(arrived, place[is_ours], _integers(batch["at"])[is_ours])
    is_logged = arrived != _NEVER
    unknown = np.flatnonzero(~is_logged[places_among(rows.keys, ids)])
    found = found.filter(pa.array(is_logged))
    claims = _claims(found)
    # Of n labels of a request one or two are different.
    repeated = int(np.sum(_integers(found["key_count"]) - np.where(claims.agree, 1, 2)))
    return (
        Matches(ids.filter(pa.array(is_logged)), arrived[is_logged], claims, _integers(found["known_min"]), repeated),
        unknown,
    )


def match_times(
    rows: LabelRows, reader: PredictionReader, tolerance_s: float, unknown: list[NDArray[np.int64]]
) -> Iterator[Matches]:
    """Find requests by entity and time.

    Args:
        rows: with entities as keys.
        reader: of the model's log.
        tolerance_s: how far from the row's time a request may have arrived.
        unknown: takes, at the end, the places of the rows that no request belongs to.

    Yields:
        The requests of one batch of the log after the other; a copy may be in another batch than its original.
    """
    if not len(rows.keys):
        return
    entities = rows.keys.unique()
    labels = TimedLabels(places_among(rows.keys, entities), rows.times_us, rows.labels)
    tolerance_us = round(tolerance_s * 1e6)
    since_us, until_us = int(rows.times_us.min()) - tolerance_us, int(rows.times_us.max()) + tolerance_us + 1
    for batch in read_batches(reader, Window(since_us / 1e6, until_us / 1e6, ("request_id", "at", "entity"))):
        place = places_among(batch["entity"], entities)
        ours = np.flatnonzero(place >= 0)
        has_label, claims, first = labels.match(place[ours], _integers(batch["at"])[ours], tolerance_us)
        ours = ours[has_label]
        if len(ours):
            yield _merge_copies(batch.take(pa.array(ours)), claims, rows.known_us[first])
    unknown.append(labels.unmatched())


def _merge_copies(requests: pa.Table, claims: Claims, known_us: NDArray[np.int64]) -> Matches:
    """The answers that the champion and the shadow gave to one request, as one."""
    low, high = (
        pa.table({"key": requests["request_id"], "at": _integers(requests["at"]), "label": labels, "known": known_us})
        for labels in (claims.low, claims.high)
    )
    found = _group(pa.concat_tables([low, high]), "key")
    return Matches(found["key"].combine_chunks(), _integers(found["at_min"]), _claims(found), _integers(found["known_min"]))


def _group(rows: pa.Table, key: str) -> pa.Table:
    aggregates = [("label", "min"), ("label", "max"), ("known", "min"), (key, "count")]
    return rows.group_by(key).aggregate(aggregates + ([("at", "min")] if "at" in rows.column_names else []))


def _claims(found: pa.Table) -> Claims:
    low, high = (np.asarray(found[name], np.float32) for name in ("label_min", "label_max"))
    return Claims(low, high)


def places_among(values: pa.ChunkedArray, among: pa.Array) -> NDArray[np.int64]:
    """Where each value stands among others; -1 if it does not, or is null."""
    found = pc.index_in(values, value_set=among, skip_nulls=True)
    return np.asarray(pc.fill_null(found, -1), np.int64)


def _integers(column: pa.ChunkedArray) -> NDArray[np.int64]:
    return np.asarray(column.cast(pa.int64()), np.int64)
