"""Fragments of the score index: every row comes back once, the last of several counts, and damage is noticed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotcold.adapters.score_index import HEADER_BYTES, RANGES, Merged, encode_fragment, merge_range, plan_ranges
from hotcold.domain.errors import InvalidInputError, ScoreStoreError
from hotcold.domain.score_blocks import int64_ids, int64_keys, text_keys
from tests.fixtures.fragments import Fragments, fragments_of

PARTS = st.lists(st.lists(st.integers(-50, 50), max_size=60), max_size=6)


def zeros(count: int) -> np.ndarray:
    return np.zeros(count, dtype=np.float32)


def scores_of(ranges: list[Merged]) -> dict[int, float]:
    keys = np.concatenate([merged.keys for merged in ranges])
    assert (keys[1:, 0] > keys[:-1, 0]).all()
    scores = np.concatenate([merged.scores for merged in ranges])
    return dict(zip(int64_ids(keys).tolist(), scores.tolist(), strict=True))


@given(PARTS, st.integers(1, 40))
def test_the_last_row_of_an_entity_counts_and_the_others_are_named(parts: list[list[int]], at_once: int) -> None:
    numbered = [[1000.0 * part + row for row in range(len(ids))] for part, ids in enumerate(parts)]
    expected: dict[int, float] = {}
    firsts: dict[int, tuple[int, int]] = {}
    surplus: set[tuple[int, int, int, int]] = set()
    for part, ids in enumerate(parts):
        for row, entity in enumerate(ids):
            if entity in firsts:
                surplus.add((part, row, *firsts[entity]))
            expected[entity], firsts[entity] = numbered[part][row], firsts.get(entity, (part, row))

    found = list(fragments_of(list(zip(parts, numbered, strict=True))).merged(sum(map(len, parts)), at_once))

    assert expected == scores_of(found)
    assert len(surplus) == sum(merged.surplus_rows for merged in found)
    examples = [example for merged in found for example in merged.examples]
    assert set(examples) <= surplus
    assert len(set(examples)) == len(examples) >= min(len(surplus), 20)


def test_ranges_of_keys_are_read_by_themselves_and_once() -> None:
    random = np.random.default_rng(3)
    ids = random.integers(-(1 << 63), (1 << 63) - 1, 30_000).tolist()
    fragments = fragments_of([(ids[start : start + 10_000], [0.5] * 10_000) for start in range(0, 30_000, 10_000)])
    asked: list[tuple[int, int, int]] = []

    def read(part: int, start: int, stop: int) -> bytes:
        asked.append((part, start, stop))
        return fragments.read(part, start, stop)

    plan = plan_ranges(30_000, 3_000)
    found = [merge_range([0, 1, 2], read, first, last) for first, last in plan]

    assert set(ids) == set(scores_of(found))
    assert 10 == len(plan)
    bodies = [(part, start, stop) for part, start, stop in asked if start]
    assert sum(stop - start for _, start, stop in bodies) == sum(len(one) - HEADER_BYTES for one in fragments.contents.values())
    assert 2 * 3 * len(plan) == len(asked)


@pytest.mark.parametrize(
    ("rows", "steps"), [(0, 1), (1, 1), (1 << 20, 1), ((1 << 20) + 1, 2), (50_000_000, 48), (10_000_000_000, 256)]
)
def test_all_ranges_are_planned_in_order(rows: int, steps: int) -> None:
    plan = plan_ranges(rows)
    assert steps == len(plan)
    assert list(range(RANGES)) == [index for first, last in plan for index in range(first, last)]


@pytest.mark.parametrize(
    "ids",
    [
        pa.array([3, 1, 2], pa.int64()),
        pa.array([3, 1, 2], pa.uint16()),
        pa.array([9, 3, 1, 2, 9], pa.int64()).slice(1, 3),
        pa.chunked_array([[3], [], [1, 2]], pa.int64()),
        pa.array([3, 1, 2]).dictionary_encode(),
    ],
)
def test_whole_numbers_of_every_type_have_the_same_keys(ids: pa.Array | pa.ChunkedArray) -> None:
    assert encode_fragment(ids, zeros(3)) == encode_fragment(pa.array([3, 1, 2], pa.int64()), zeros(3))


@pytest.mark.parametrize(
    "ids",
    [
        pa.array(["é", "", "c"], pa.large_string()),
        pa.array(["é", "", "c"], pa.string_view()),
        pa.array(["x", "é", "", "c"]).slice(1),
        pa.chunked_array([["é"], [], ["", "c"]]),
        pa.chunked_array([["é", "", "c"]]).dictionary_encode(),
    ],
)
def test_texts_of_every_type_have_the_same_keys(ids: pa.Array | pa.ChunkedArray) -> None:
    assert encode_fragment(ids, zeros(3)) == encode_fragment(pa.array(["é", "", "c"]), zeros(3))


@pytest.mark.parametrize(
    ("ids", "scores", "message"),
    [
        (pa.array([1, None, 3]), 3, "row 1 has no id"),
        (pa.chunked_array([["a"], ["b", None]]), 3, "row 2 has no id"),
        (pa.array([1, 2]), 3, "2 ids and 3 scores"),
        (pa.array([1.5]), 1, "of type double; text or whole numbers"),
        (pa.array([1 << 63], pa.uint64()), 1, "beyond int64"),
    ],
)
def test_ids_that_cannot_be_looked_up_are_refused(ids: pa.Array, scores: int, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        encode_fragment(ids, zeros(scores))


def test_texts_with_equal_first_words_are_told_apart() -> None:
    """A collision of half the key is too rare to find, so it is made here."""
    keys = np.array([[7, 2], [7, 1], [7, 2], [3, 9]], dtype=np.uint64)
    record = np.dtype([("key", "<u8", (2,)), ("score", "<f4"), ("row", "<u4")])
    contents = {}
    for part, rows in enumerate(([0, 1], [2, 3])):
        fragment = bytearray(encode_fragment(pa.array(["a", "b"]), zeros(2)))
        records = np.zeros(2, dtype=record)
        order = sorted(rows, key=lambda row: tuple(keys[row].tolist()))
        records["key"], records["score"], records["row"] = keys[order], order, [rows.index(row) for row in order]
        fragment[12:HEADER_BYTES] = np.array([0, *[2] * RANGES], "<u4").tobytes()
        contents[part] = bytes(fragment[:HEADER_BYTES]) + records.tobytes()
    merged = merge_range([0, 1], Fragments(contents).read, 0, RANGES)
    assert [[3, 9], [7, 1], [7, 2]] == merged.keys.tolist()
    assert [3.0, 1.0, 2.0] == merged.scores.tolist()
    assert [(1, 0, 0, 0)] == [*merged.examples]


def test_parts_without_rows_change_nothing() -> None:
    [merged] = fragments_of([([], []), ([5], [0.5]), ([], [])]).merged(1)
    assert {5: 0.5} == scores_of([merged])
    [empty] = fragments_of([([], [])]).merged(0)
    assert (0, 0) == (len(empty.keys), empty.surplus_rows)
    assert 0 == len(merge_range([], Fragments({}).read, 0, RANGES).keys)


def test_damage_is_noticed_and_named() -> None:
    good = fragments_of([([*range(1000)], [0.5] * 1000)]).contents[0]
    other = encode_fragment(pa.array(["a"]), zeros(1))
    damaged = {
        "its header has 100 bytes": good[:100],
        "its header is none": b"PAR1" + good[4:],
        "bytes came of ranges 0 to 256": good[:-1],
        "keys outside of ranges 0 to 1 ": good[:12] + np.array([0, *[1000] * RANGES], "<u4").tobytes() + good[HEADER_BYTES:],
    }
    for message, content in damaged.items():
        last = 1 if "outside" in message else RANGES
        with pytest.raises(ScoreStoreError, match=message):
            merge_range([7], Fragments({7: content}).read, 0, last)
    with pytest.raises(ScoreStoreError, match="some parts have whole numbers"):
        merge_range([0, 1], Fragments({0: good, 1: other}).read, 0, RANGES)


def test_a_fragment_is_sorted_by_key() -> None:
    random = np.random.default_rng(5)
    ids = random.permutation(5000)
    keys = merge_range([0], fragments_of([(ids.tolist(), [0.0] * 5000)]).read, 0, RANGES).keys
    assert np.sort(int64_keys(ids), axis=0).tolist() == keys.tolist()
    texts = [f"t{number}" for number in ids]
    keys = merge_range([0], fragments_of([(texts, [0.0] * 5000)]).read, 0, RANGES).keys
    assert sorted(text_keys([text.encode() for text in texts]).tolist()) == keys.tolist()
