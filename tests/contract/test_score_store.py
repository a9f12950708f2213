"""Score stores: a table is seen when it is complete and pointed at, and an older pointer never overwrites a newer one."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from hotcold.adapters.redis_lookup import RedisKeys
from hotcold.adapters.score_lookup import ScoreLookup
from hotcold.adapters.score_store import ScoreStore, StorePointer, delete_unknown_tables, is_redis, open_score_store
from hotcold.domain.errors import NoScoresError, ScoreStoreError
from tests.fixtures.fragments import MODEL, fragments_of, start_writer, store_header, table_of, write_table

ROWS = 5000
A_MINUTE_S = 60.0


def make_old(store_url: str, table_id: str) -> None:
    """As if the table had been written long ago."""
    if not is_redis(store_url):
        os.utime(Path(store_url, MODEL, f"{table_id}.mdb"), (1000, 1000))
        return
    with redis.Redis.from_url(store_url) as client:
        assert 0 == client.hset(RedisKeys(MODEL).table(table_id), "written", "1000"), "it is an existing field"


@pytest.fixture
def store(store_url: str) -> ScoreStore:
    return open_score_store(store_url)


@pytest.fixture
def lookup(store_url: str) -> ScoreLookup:
    return ScoreLookup(store_url, MODEL)


class TestWriting:
    """What was written is found, under its table."""

    def test_every_entity_is_found_and_no_other(self, store: ScoreStore, lookup: ScoreLookup) -> None:
        scores = {number * 7 - 100: number / 7 for number in range(ROWS)}
        parts = [([*scores][part::2], [*scores.values()][part::2]) for part in range(2)]
        header = store.write(store_header("t1", ROWS), fragments_of(parts).merged(ROWS, 1000))
        assert store.point(MODEL, StorePointer("t1", 1))
        for entity, score in scores.items():
            found = lookup.find(str(entity))
            assert found is not None
            assert (str(entity), pytest.approx(score, rel=1e-6), header) == (found.entity, found.score, found.header)
        assert [None] * 4 == [lookup.find(entity) for entity in ("-99", "1e3", "", "a")]

    def test_texts_are_found(self, store: ScoreStore, lookup: ScoreLookup) -> None:
        texts = ["", "a/b", "é", "0", "customer 7", "x" * 5000, "\x00"]
        store.write(store_header("t1", 7, "text"), fragments_of([(texts, [*map(float, range(7))])]).merged(7))
        store.point(MODEL, StorePointer("t1", 1))
        found = [lookup.find(text) for text in texts]
        assert [*map(float, range(7))] == [stored.score for stored in found if stored]
        assert lookup.find("00") is None
        assert lookup.find("\udc80") is None

    def test_the_header_counts_entities_and_not_rows(self, store: ScoreStore, lookup: ScoreLookup) -> None:
        written = store.write(store_header("t1", 3), fragments_of([([1, 2], [0.1, 0.2]), ([1], [0.5])]).merged(3))
        store.point(MODEL, StorePointer("t1", 1))
        found = lookup.find("1")
        assert found is not None
        assert (2, 2, 0.5) == (written.entities, found.header.entities, found.score)

    def test_writing_again_replaces_the_table(self, store: ScoreStore, lookup: ScoreLookup) -> None:
        write_table(store, "t1", version=1)
        store.point(MODEL, StorePointer("t1", 1))
        assert lookup.find("5") is not None
        write_table(store, "t1", version=2, rows=10)
        assert ("t1",) == store.tables(MODEL)
        store.point(MODEL, StorePointer("t1", 2))
        found = lookup.find("5")
        assert found is not None
        assert (2.0, "1.0.2", 10) == (found.score, found.header.model_version, found.header.entities)

    def test_a_table_may_be_empty(self, store: ScoreStore, lookup: ScoreLookup) -> None:
        assert 0 == store.write(store_header("t1", 0), fragments_of([([], [])]).merged(0)).entities
        assert store.point(MODEL, StorePointer("t1", 1))
        assert lookup.find("1") is None

    def test_a_table_may_be_larger_than_was_said(self, store: ScoreStore, lookup: ScoreLookup) -> None:
        store.write(store_header("t1", 1), table_of(1, 300_000).merged(300_000))
        store.point(MODEL, StorePointer("t1", 1))
        assert all(lookup.find(str(entity)) for entity in range(0, 300_000, 1001))

    def test_nobody_sees_a_table_that_is_not_pointed_at(self, store: ScoreStore, lookup: ScoreLookup) -> None:
        write_table(store, "t1")
        assert store.has(MODEL, "t1")
        with pytest.raises(NoScoresError, match=f"no scores of {MODEL} are published"):
            lookup.find("1")

    def test_a_failure_leaves_nothing_and_raises_what_it_was(self, store: ScoreStore) -> None:
        def broken() -> Iterator[object]:
            yield from list(table_of(1).merged(ROWS, 1000))[:2]
            raise OSError(5, "a part cannot be read")

        with pytest.raises(OSError, match="a part cannot be read"):
            store.write(store_header("t1", ROWS), broken())  # type: ignore[arg-type]
        assert ((), False) == (store.tables(MODEL), store.has(MODEL, "t1"))

    def test_ranges_that_are_missing_or_out_of_order_are_refused(self, store: ScoreStore) -> None:
        ranges = list(table_of(1).merged(ROWS, 1000))
        for wrong in (ranges[:-1], ranges[1:], [ranges[1], ranges[0], *ranges[2:]], []):
            with pytest.raises(ScoreStoreError, match=r"merge the ranges in order|of 256; nothing was written"):
                store.write(store_header("t1", ROWS), wrong)
        with pytest.raises(ScoreStoreError, match="are not those of text ids"):
            store.write(store_header("t1", ROWS, "text"), ranges)
        assert () == store.tables(MODEL)

    def test_models_have_stores_of_their_own(self, store: ScoreStore, store_url: str) -> None:
        for model in ("m1", "m2"):
            store.write(replace(store_header(f"t-{model}", 3), model=model), table_of(1, 3).merged(3))
        assert ("t-m1",) == store.tables("m1")
        assert store.point("m1", StorePointer("t-m1", 1))
        with pytest.raises(NoScoresError):
            ScoreLookup(store_url, "m2").find("1")

    @pytest.mark.parametrize("name", ["", "../t", "a/b", ".hidden", "a b", "é", "x" * 129])
    def test_names_are_no_paths(self, store: ScoreStore, name: str) -> None:
        for ask in (lambda: store_header(name, 1), lambda: store.has(MODEL, name), lambda: store.tables(name)):
            with pytest.raises(ScoreStoreError, match="the name is"):
                ask()


class TestPointing:
    """Readers see what the newest pointer says, all of them at once."""

    def test_a_switch_and_its_undo(self, store: ScoreStore, lookup: ScoreLookup) -> None:
        write_table(store, "t1", version=1)
        write_table(store, "t2", version=2)
        for generation, table_id in enumerate(["t1", "t2", "t1", "t2"], 1):
            assert store.point(MODEL, StorePointer(table_id, generation))
            found = lookup.find("42")
            assert found is not None
            assert (table_id, float(table_id[1])) == (found.header.table_id, found.score)
        assert StorePointer("t2", 4) == store.read_pointer(MODEL)

    def test_nothing_was_ever_published(self, store: ScoreStore, lookup: ScoreLookup) -> None:
        assert (StorePointer("", -1), (), False) == (store.read_pointer(MODEL), store.tables(MODEL), store.has(MODEL, "t1"))
        with pytest.raises(NoScoresError):
            lookup.find("1")

    def test_a_retracted_table_is_no_longer_seen(self, store: ScoreStore, lookup: ScoreLookup) -> None:
        write_table(store, "t1")
        store.point(MODEL, StorePointer("t1", 1))
        assert lookup.find("1") is not None
        assert store.point(MODEL, StorePointer("", 2))
        with pytest.raises(NoScoresError):
            lookup.find("1")

    def test_an_older_pointer_is_ignored(self, store: ScoreStore) -> None:
        write_table(store, "t1")
        write_table(store, "t2")
        assert store.point(MODEL, StorePointer("t1", 7))
        assert store.point(MODEL, StorePointer("t1", 7)), "the same once more is fine"
        assert not store.point(MODEL, StorePointer("t2", 6))
        assert not store.point(MODEL, StorePointer("t2", 7))
        assert not store.point(MODEL, StorePointer("", 7))
        assert StorePointer("t1", 7) == store.read_pointer(MODEL)

    def test_a_pointer_never_leads_nowhere(self, store: ScoreStore) -> None:
        with pytest.raises(ScoreStoreError, match="is not in the score store"):
            store.point(MODEL, StorePointer("t9", 1))
        assert StorePointer() == store.read_pointer(MODEL)

    def test_of_many_pointers_at_once_the_newest_wins(self, store: ScoreStore) -> None:
        for number in range(4):
            write_table(store, f"t{number}", rows=10)
        pointers = [StorePointer(f"t{number % 4}", number) for number in range(200)]
        random.Random(7).shuffle(pointers)
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda pointer: store.point(MODEL, pointer), pointers))
        assert StorePointer("t3", 199) == store.read_pointer(MODEL)

    def test_no_answer_is_of_two_tables(self, store: ScoreStore, lookup: ScoreLookup) -> None:
        """While a table is published, taken away and another one built, each answer is whole."""

        def switch() -> None:
            for generation in range(1, 120):
                table_id = f"t{generation}"
                write_table(store, table_id, version=generation, rows=300)
                store.point(MODEL, StorePointer(table_id, generation))
                for old in store.tables(MODEL):
                    if old != table_id:
                        store.delete(MODEL, old)

        write_table(store, "t0", version=0, rows=300)
        store.point(MODEL, StorePointer("t0", 0))
        seen = []
        with ThreadPoolExecutor(1) as threads:
            switching = threads.submit(switch)
            while not switching.done():
                found = lookup.find("299")
                assert found is not None
                assert f"t{int(found.score)}" == found.header.table_id
                seen.append(int(found.score))
            switching.result()
        assert sorted(seen) == seen
        assert len(set(seen)) > 3


class TestDeleting:
    """What readers see stays."""

    def test_a_table_goes_and_the_others_stay(self, store: ScoreStore) -> None:
        write_table(store, "t1")
        write_table(store, "t2")
        store.point(MODEL, StorePointer("t2", 1))
        store.delete(MODEL, "t1")
        store.delete(MODEL, "t1")
        assert (("t2",), False, True) == (store.tables(MODEL), store.has(MODEL, "t1"), store.has(MODEL, "t2"))

    def test_what_readers_see_is_not_deleted(self, store: ScoreStore, lookup: ScoreLookup) -> None:
        write_table(store, "t1")
        store.point(MODEL, StorePointer("t1", 1))
        with pytest.raises(ScoreStoreError, match="is the one that readers see"):
            store.delete(MODEL, "t1")
        assert lookup.find("1") is not None


class TestDeletingWhatNobodyKnows:
    """Runs that were given up and deletions that were killed leave tables that no database names."""

    def test_what_is_old_and_unknown_goes_and_all_else_stays(self, store: ScoreStore, lookup: ScoreLookup) -> None:
        for table_id in ("shown", "known", "given-up"):
            write_table(store, table_id, rows=10)
        store.point(MODEL, StorePointer("shown", 1))
        assert () == delete_unknown_tables(store, MODEL, {"known"}, time.time() - A_MINUTE_S)
        assert ("given-up",) == delete_unknown_tables(store, MODEL, {"known"}, time.time() + A_MINUTE_S)
        assert ("known", "shown") == store.tables(MODEL)
        assert (False, True) == (store.has(MODEL, "given-up"), store.has(MODEL, "known"))
        assert lookup.find("1") is not None

    def test_a_table_that_is_written_again_is_young_again(self, store: ScoreStore, store_url: str) -> None:
        a_minute_ago = time.time() - A_MINUTE_S
        write_table(store, "t1", rows=10)
        make_old(store_url, "t1")
        write_table(store, "t1", rows=10)
        assert not store.delete_older(MODEL, "t1", a_minute_ago)
        make_old(store_url, "t1")
        assert store.delete_older(MODEL, "t1", a_minute_ago)
        assert () == store.tables(MODEL)

    def test_where_nothing_was_written_nothing_is_deleted(self, store: ScoreStore) -> None:
        assert () == delete_unknown_tables(store, MODEL, (), time.time())
        assert not store.delete_older(MODEL, "t1", 0.0)

    def test_other_models_keep_theirs(self, store: ScoreStore) -> None:
        store.write(replace(store_header("t1", 3), model="another"), table_of(1, 3).merged(3))
        assert () == delete_unknown_tables(store, MODEL, (), time.time() + A_MINUTE_S)
        assert ("t1",) == store.tables("another")


@pytest.mark.parametrize("table_id", ["t1", "t2"])
def test_a_writer_that_is_killed_harms_nothing(store: ScoreStore, store_url: str, lookup: ScoreLookup, table_id: str) -> None:
    """Given a published table, when a writer of it or of another one is killed, then it is still there, and writing works."""
    write_table(store, "t1", version=1)
    store.point(MODEL, StorePointer("t1", 1))
    with start_writer(store_url, table_id) as writer:
        writer.kill()
    assert ("t1",) == store.tables(MODEL)
    found = lookup.find("4999")
    assert found is not None
    assert (1.0, "t1") == (found.score, found.header.table_id)
    write_table(store, "t2", version=2)
    assert store.point(MODEL, StorePointer("t2", 2))
    found = lookup.find("4999")
    assert found is not None
    assert 2.0 == found.score
