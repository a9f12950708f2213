"""Joins the answers of champion and candidate in the prediction log, a window of whole seconds at a time."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hotcold.adapters.answer_columns import (
    GOOD,
    arrived_us,
    entity_keys,
    labels_of,
    score_counts,
    segment_codes,
    stages_us,
    within,
)
from hotcold.adapters.prediction_reader import Place, PredictionReader, Window
from hotcold.domain.package import PackageRef
from hotcold.domain.prediction import SegmentName
from hotcold.domain.shadow.judgement import (
    APART,
    MISSING,
    NOT_LOGGED,
    ONLY_CANDIDATE,
    ONLY_CHAMPION,
    OTHER_REQUEST,
    OTHER_SHAPE,
    REPEATED,
    TORN,
    UNREADABLE,
)
from hotcold.domain.shadow.pairs import Pairs, Side
from hotcold.domain.shadow.repeats import Rows, join_near

# Copies arrive just after their originals, by clocks that differ; a pair further apart is not found.
SLACK_S = 5.0
# A log segment is closed when it is this old, or soon after.
_LASTS_S = 600.0
_KEYS = ("request_id", "at", "status", "shadow", "tester", "entity", "segment", "scores", "features_hash")
# Of the log, what a comparison needs.
NEEDED_COLUMNS = (*_KEYS, "pre_us", "infer_us", "post_us", "dropped")


@dataclass(frozen=True)
class PairSource:
    """Whose answers are compared.

    Args:
        root: folder of the prediction log.
        champion: package of the one side.
        candidate: package of the other.
    """

    root: Path
    champion: PackageRef
    candidate: PackageRef


@dataclass(frozen=True, eq=False)
class JoinedWindow:
    """Pairs of a window, and what is in none.

    Args:
        pairs: by arrival.
        left_out: rows by reason; only what is not 0.
        damage: what is wrong with log segments: how many, by reason and by the file that tells. One file may tell it in several
            windows.
    """

    pairs: Pairs
    left_out: dict[str, int] = field(default_factory=dict)
    damage: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass
class ReadAnswers:
    """Answers of some packages in a window, and what the log has lost of them.

    Args:
        tables: by digest of the package.
        schemas: fingerprints of the feature schemas, by digest.
        not_logged: answers that the writers have dropped.
        damage: see JoinedWindow.
    """

    tables: dict[str, list[pa.Table]] = field(default_factory=dict)
    schemas: dict[str, str] = field(default_factory=dict)
    not_logged: int = 0
    damage: dict[str, dict[str, int]] = field(default_factory=dict)

    def note(self, reason: str, file: str, count: int) -> None:
        """Remember what a file tells."""
        if count:
            self.damage.setdefault(reason, {})[file] = count


def read_answers(
    reader: PredictionReader, places: Sequence[Place], window: Window, digests: Collection[str], since_s: int, until_s: int
) -> ReadAnswers:
    """Read what some packages have answered.

    Args:
        reader: of the model's log.
        places: where answers may be.
        window: which rows and columns are wanted.
        digests: of the packages.
        since_s: what the writers have lost counts from here on, whole seconds since the epoch.
        until_s: up to here.
    """
    found = ReadAnswers()
    for place in places:
        piece = reader.read_place(place, window)
        if piece is None or piece.origin.digest not in digests:
            continue
        # A segment that was begun long before and has no rows here was torn, or follows a hole, in another time.
        if len(piece.table) or since_s - _LASTS_S <= place.name.started_s < until_s:
            found.note(TORN, place.name.file, int(piece.is_torn))
            found.note(MISSING, place.name.file, place.missing)
        found.tables.setdefault(piece.origin.digest, []).append(piece.table)
        found.schemas[piece.origin.digest] = piece.origin.schema
        found.not_logged += int(pc.sum(piece.table.filter(within(piece.table, since_s, until_s))["dropped"]).as_py() or 0)
    for file in reader.unreadable:
        name = SegmentName.parse(file)
        if name is None or name.started_s >= since_s - _LASTS_S:
            found.note(UNREADABLE, file, 1)
    return found


def join_window(
    source: PairSource, places: Sequence[Place], since_s: int, until_s: int, labels: pa.Table | None = None
) -> JoinedWindow:
    """The pairs whose request arrived at the champion within a window.

    Args:
        source: whose answers.
        places: where they may be; see `PredictionReader.places`.
        since_s: begin of the window, whole seconds since the epoch.
        until_s: end of it, whole seconds.
        labels: `request_id`, `label` and `delay_s`, each request once; None for none.
    """
    reader = PredictionReader(source.root, source.champion.model)
    window = Window(since_s - SLACK_S, until_s + SLACK_S, NEEDED_COLUMNS)
    digests = (source.champion.digest, source.candidate.digest)
    found = read_answers(reader, places, window, digests, since_s, until_s)
    champion, candidate = (
        together([_evidence(table, digest == source.candidate.digest) for table in found.tables.get(digest, ())])
        for digest in digests
    )
    # Hashes of features compare only where the numbers mean the same.
    same_schema = found.schemas.get(digests[0]) == found.schemas.get(digests[1])
    joined = _join(champion, candidate, since_s, until_s, labels, same_schema)
    left_out = {NOT_LOGGED: found.not_logged, **joined.left_out}
    return JoinedWindow(joined.pairs, {reason: count for reason, count in left_out.items() if count}, found.damage)


def _evidence(table: pa.Table, is_candidate: bool) -> pa.Table:
    """Copies of the candidate, live answers of the champion; tests of people and of smoke tests are neither."""
    chosen = table["shadow"] if is_candidate else pc.invert(table["shadow"])
    return table.filter(pc.and_(chosen, pc.invert(table["tester"])))


def together(tables: Sequence[pa.Table], columns: Sequence[str] = NEEDED_COLUMNS) -> pa.Table:
    """One table of several, which may be none.

    Args:
        tables: with these columns.
        columns: of the log.
    """
    from hotcold.adapters.prediction_columns import SCHEMA

    schema = pa.schema([SCHEMA.field(name) for name in columns])
    return pa.concat_tables(tables).combine_chunks() if tables else schema.empty_table()


def _join(
    champion: pa.Table, candidate: pa.Table, since_s: int, until_s: int, labels: pa.Table | None, same_schema: bool
) -> JoinedWindow:
    both = pa.chunked_array([*champion["request_id"].chunks, *candidate["request_id"].chunks], pa.string())
    codes = pc.dictionary_encode(both.combine_chunks()).indices.to_numpy()
    own, others = codes[: len(champion)], codes[len(champion) :]
    size = int(codes.max()) + 1 if len(codes) else 0
    times, answers = np.bincount(own, minlength=size), np.bincount(others, minlength=size)
    place = np.full(size, -1, dtype=np.int64)
    place[others] = np.arange(len(others))
    inside, copied_inside = (
        within(table, since_s, until_s).combine_chunks().to_numpy(zero_copy_only=False) for table in (champion, candidate)
    )
    once = (times[own] == 1) & (answers[own] <= 1)
    found = np.flatnonzero(inside & once & (answers[own] == 1))
    partner = place[own[found]]
    # Whether a pair that is further apart is seen at all depends on the window; so it never counts.
    close = np.abs(arrived_us(candidate)[partner] - arrived_us(champion)[found]) <= SLACK_S * 1e6
    apart, found, partner = int(np.count_nonzero(~close)), found[close], partner[close]
    # Of ids that repeat, only what is near counts: the rest is in the window or not, as it happens.
    again, copies = np.flatnonzero(~once), np.flatnonzero((times[others] > 1) | (answers[others] > 1))
    near = join_near(
        Rows(own[again], arrived_us(champion)[again]), Rows(others[copies], arrived_us(candidate)[copies]), round(SLACK_S * 1e6)
    )
    wanted, joined = inside[again], inside[again] & (near.partner >= 0)
    found = np.concatenate([found, again[joined]])
    partner = np.concatenate([partner, copies[near.partner[joined]]])
    lonely = times[others] == 0
    lonely[copies] = ~near.has_request
    left_out = {
        ONLY_CHAMPION: int(np.count_nonzero(inside & once & (answers[own] == 0)) + np.count_nonzero(wanted & near.is_alone)),
        ONLY_CANDIDATE: int(np.count_nonzero(copied_inside & lonely)),
        REPEATED: int(np.count_nonzero(wanted & (near.partner < 0) & ~near.is_alone)),
        APART: apart,
    }
    order = np.argsort(arrived_us(champion)[found], kind="stable")
    pairs, refused = pair_rows(champion.take(found[order]), candidate.take(partner[order]), labels, same_schema)
    return JoinedWindow(pairs, left_out | refused)


def pair_rows(
    champion: pa.Table, candidate: pa.Table, labels: pa.Table | None, same_schema: bool = True
) -> tuple[Pairs, dict[str, int]]:
    """Pairs from two tables whose rows belong together.

    Args:
        champion: NEEDED_COLUMNS of its answers, by arrival.
        candidate: the same of its answers to the same requests, in the same order.
        labels: see `join_window`.
        same_schema: hashes of features may be compared.

    Returns:
        The pairs, and how many were none after all, by reason.
    """
    same = _same_features(champion, candidate) if same_schema else np.full(len(champion), True)
    sizes = [score_counts(table) for table in (champion, candidate)]
    good = [table["status"].to_numpy() == GOOD for table in (champion, candidate)]
    shaped = ~(good[0] & good[1]) | (sizes[0] == sizes[1])
    refused = {OTHER_REQUEST: int(np.count_nonzero(~same)), OTHER_SHAPE: int(np.count_nonzero(same & ~shaped))}
    kept = same & shaped
    if not kept.all():
        champion, candidate = champion.filter(pa.array(kept)), candidate.filter(pa.array(kept))
        sizes, good = [size[kept] for size in sizes], [answered[kept] for answered in good]
    compared = good[0] & good[1] & (sizes[0] > 0)
    segment, names = segment_codes(champion["segment"])
    label, delay_s = labels_of(champion["request_id"], labels)
    pairs = Pairs(
        arrived_us=arrived_us(champion),
        entity=entity_keys(champion["entity"]),
        segment=segment,
        segments=names,
        rows=np.where(compared, sizes[0], 0),
        champion=_side(champion, good[0], compared),
        candidate=_side(candidate, good[1], compared),
        label=label,
        delay_s=delay_s,
        request=entity_keys(champion["request_id"]),
    )
    return pairs, refused


def _same_features(champion: pa.Table, candidate: pa.Table) -> NDArray[np.bool_]:
    """Where a side could not read the request, or had no time to, nothing says that it was another one."""
    differ = pc.fill_null(pc.not_equal(champion["features_hash"], candidate["features_hash"]), False)
    same: NDArray[np.bool_] = pc.invert(differ).to_numpy()
    return same


def _side(table: pa.Table, good: NDArray[np.bool_], compared: NDArray[np.bool_]) -> Side:
    scores = table["scores"].combine_chunks()
    flat = pc.list_flatten(scores if compared.all() else scores.filter(pa.array(compared)))
    return Side(good, flat.to_numpy(zero_copy_only=False), stages_us(table))


def first_copy_s(source: PairSource, since_s: float, until_s: float) -> float | None:
    """When the first copy arrived at the candidate; None if none did.

    Args:
        source: whose log.
        since_s: copies that arrived then or later, seconds since the epoch.
        until_s: copies that arrived before.
    """
    reader = PredictionReader(source.root, source.candidate.model)
    first: int | None = None
    for piece, _ in reader.read(window=Window(since_s, until_s, ("at", "shadow"))):
        if piece.origin.digest != source.candidate.digest:
            continue
        found = pc.min(piece.table.filter(piece.table["shadow"])["at"].cast(pa.int64())).as_py()
        if found is not None:
            first = found if first is None else min(first, found)
    return None if first is None else first / 1e6
