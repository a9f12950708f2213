"""Keys and blocks of the score store: equal keys are equal entities, and every entity is found in its block."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotcold.domain.score_blocks import (
    KeyKind,
    Keys,
    bucket_bits,
    bucket_of,
    entity_key,
    find_score,
    int64_ids,
    int64_keys,
    pack_blocks,
    text_keys,
)

INT64S = st.integers(-(1 << 63), (1 << 63) - 1)
SCORES = st.floats(width=32, allow_nan=False)


def keys_of(entities: list[int] | list[str]) -> Keys:
    if entities and isinstance(entities[0], str):
        return text_keys([str(entity).encode() for entity in entities])
    return int64_keys(np.array(entities, dtype=np.int64))


def as_bytes(keys: Keys) -> list[bytes]:
    return [row.astype(">u8").tobytes() for row in keys]


def sorted_table(entities: list[int] | list[str], scores: list[float]) -> tuple[Keys, np.ndarray]:
    keys = keys_of(entities)
    order = np.lexsort(keys.T[::-1])
    return keys[order], np.array(scores, dtype=np.float32)[order]


@given(st.lists(INT64S))
def test_the_key_of_a_whole_number_leads_back_to_it(ids: list[int]) -> None:
    assert ids == int64_ids(int64_keys(np.array(ids, dtype=np.int64))).tolist()


@given(st.lists(INT64S, min_size=1))
def test_one_whole_number_has_the_key_that_it_has_in_a_column(ids: list[int]) -> None:
    assert as_bytes(keys_of(ids)) == [entity_key(str(number), "int64") for number in ids]


@given(st.lists(st.text(), min_size=1))
def test_one_text_has_the_key_that_it_has_in_a_column(texts: list[str]) -> None:
    encoded = [text for text in texts if not any("\ud800" <= letter <= "\udfff" for letter in text)]
    assert as_bytes(text_keys([text.encode() for text in encoded])) == [entity_key(text, "text") for text in encoded]


def test_keys_stay_the_same_from_release_to_release() -> None:
    """Stores outlive the code that wrote them."""
    assert "0000000000000000" == entity_key("0", "int64").hex()
    assert "5692161d100b05e5" == entity_key("1", "int64").hex()
    assert "99aa06d3014798d86001c324468d497f" == entity_key("", "text").hex()


@pytest.mark.parametrize(
    "entity",
    ["", "a", "+1", "01", "-0", "1.0", "1_000", " 1", "1 ", "٤٢", "9223372036854775808", "-9223372036854775809", "1" * 500],
)
def test_a_whole_number_has_one_name(entity: str) -> None:
    assert entity_key(entity, "int64") is None


def test_the_ends_of_int64_have_keys() -> None:
    for number in (-(1 << 63), (1 << 63) - 1):
        assert 8 == len(entity_key(str(number), "int64") or b"")


@given(st.dictionaries(INT64S, SCORES, max_size=300), st.integers(8, 32))
def test_every_whole_number_is_found_with_its_score_and_no_other(table: dict[int, float], bits: int) -> None:
    assert_found([*table], [*table.values()], "int64", bits)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), SCORES, max_size=300), st.integers(8, 32))
def test_every_text_is_found_with_its_score_and_no_other(table: dict[str, float], bits: int) -> None:
    assert_found([*table], [*table.values()], "text", bits)


def assert_found(entities: list[int] | list[str], scores: list[float], kind: KeyKind, bits: int) -> None:
    blocks = dict(pack_blocks(*sorted_table(entities, scores), bits))
    for entity, score in zip(entities, scores, strict=True):
        key = entity_key(str(entity), kind)
        assert key is not None
        assert score == find_score(blocks[bucket_of(key, bits)], key)
    absent = entity_key("4611686018427387905", kind)
    assert absent is not None
    if 4611686018427387905 not in entities and "4611686018427387905" not in entities:
        assert find_score(blocks.get(bucket_of(absent, bits), b""), absent) is None


def test_blocks_come_in_the_order_of_their_names() -> None:
    names = [name for name, _ in pack_blocks(*sorted_table(list(range(20_000)), [0.5] * 20_000), 12)]
    assert sorted(names) == names
    assert 1 << 12 >= len(set(names)) == len(names) > 4000


@pytest.mark.parametrize(("kind", "words"), [("int64", 1), ("text", 2)])
@pytest.mark.parametrize("entities", [150_000, 262_144, 300_000])
def test_a_block_stays_within_a_page(kind: KeyKind, words: int, entities: int) -> None:
    random = np.random.default_rng(1)
    keys = np.sort(random.integers(0, 1 << 64, entities, dtype=np.uint64)).reshape(-1, 1)
    keys = np.hstack([keys] * words)
    sizes = [len(block) for _, block in pack_blocks(keys, np.zeros(entities, np.float32), bucket_bits(entities, kind))]
    assert np.mean(np.array(sizes) > 2000) < 0.005
    assert 30 <= np.mean(sizes) / (8 * words + 4) <= 128


@pytest.mark.parametrize(
    ("entities", "kind", "bits"),
    [
        (0, "int64", 8),
        (1, "int64", 8),
        (32_768, "int64", 8),
        (32_769, "int64", 9),
        (50_000_000, "int64", 19),
        (18_433, "text", 9),
    ],
)
def test_blocks_double_when_they_would_be_too_full(entities: int, kind: KeyKind, bits: int) -> None:
    assert bits == bucket_bits(entities, kind)


def test_the_end_of_one_key_and_the_start_of_the_next_are_no_key() -> None:
    keys = bytes.fromhex("00000000000000010000000000000002")
    block = keys + np.array([1.5, 2.5], "<f4").tobytes()
    assert find_score(block, bytes.fromhex("0000000100000000")) is None
    assert 2.5 == find_score(block, bytes.fromhex("0000000000000002"))


def test_a_score_is_no_key() -> None:
    key = np.array([1.0, 2.0], "<f4").tobytes()
    assert find_score(bytes(8) + bytes(8) + key, key) is None
