"""The score store on a Redis server: what only a server can do."""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from hotcold.adapters import redis_store
from hotcold.adapters.score_index import Merged
from hotcold.adapters.score_lookup import ScoreLookup
from hotcold.adapters.score_store import ScoreStore, StorePointer, delete_unknown_tables, is_redis, open_score_store
from hotcold.domain.errors import NoScoresError, ScoreStoreError
from tests.fixtures.fragments import MODEL, start_writer, store_header, table_of, write_table
from tests.fixtures.redis_server import RedisServer

# Of a table that is sent in three batches.
ROWS = 400_000


def ranges_with(half_way: Callable[[], None]) -> Iterator[Merged]:
    """All ranges of a table; something happens when half of them are written."""
    ranges = list(table_of(2, ROWS).merged(ROWS, 20_000))
    yield from ranges[: len(ranges) // 2]
    half_way()
    yield from ranges[len(ranges) // 2 :]


def evict_what_will_expire(server: RedisServer) -> None:
    """What a server with a `volatile-*` policy does when others fill it: it drops keys with a time to live, and no others."""
    with server.client() as client:
        assert 1 == len(client.keys("*:table:*:*"))
        client.config_set("maxmemory-policy", "volatile-lru")
        client.config_set("maxmemory", client.info("memory")["used_memory"] - 500_000)
        assert [] == client.keys("*:table:*:*")
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")


@pytest.fixture
def published(redis_server: RedisServer) -> ScoreStore:
    redis_server.empty()
    store = open_score_store(redis_server.url)
    write_table(store, "t1")
    store.point(MODEL, StorePointer("t1", 1))
    return store


@pytest.mark.usefixtures("published")
def test_what_is_not_finished_goes_away_by_itself(redis_server: RedisServer) -> None:
    with start_writer(redis_server.url, "t2") as writer:
        writer.kill()
    with redis_server.client() as client:
        [left] = client.keys("*:t2:*")
        assert 0 < client.ttl(left) <= 3600
        assert -1 == client.ttl(f"hotcold:scores:{{{MODEL}}}:table:t1")


@pytest.mark.parametrize("table_id", ["t1", "t2"])
def test_a_table_that_was_evicted_while_it_was_written_is_never_seen(
    published: ScoreStore, redis_server: RedisServer, table_id: str
) -> None:
    """Whether it replaces the one that readers see or not."""
    ranges = ranges_with(lambda: evict_what_will_expire(redis_server))
    with pytest.raises(
        ScoreStoreError,
        match=r"cannot write table t\d: the server holds [\d,]+ of its [\d,]+ records.*volatile-.*about 8 MB.*noeviction",
    ):
        published.write(store_header(table_id, ROWS, version=2), ranges)
    assert ("t1",) == published.tables(MODEL)
    found = ScoreLookup(redis_server.url, MODEL).find("1")
    assert found is not None
    assert 1.0 == found.score
    with redis_server.client() as client:
        assert [f"hotcold:scores:{{{MODEL}}}:table:t1".encode()] == client.keys("*:table:*")


def test_a_table_that_expires_before_it_is_revealed_takes_no_other_along(
    published: ScoreStore, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "_UNFINISHED_S", 0)
    with pytest.raises(ScoreStoreError, match="cannot write table t1: the server holds 0 of its 257 records"):
        write_table(published, "t1", version=2)
    found = ScoreLookup(redis_server.url, MODEL).find("1")
    assert found is not None
    assert 1.0 == found.score


@pytest.mark.usefixtures("published")
def test_a_table_that_the_server_dropped_counts_as_none(redis_server: RedisServer) -> None:
    lookup = ScoreLookup(redis_server.url, MODEL)
    assert lookup.find("1") is not None
    with redis_server.client() as client:
        client.delete(f"hotcold:scores:{{{MODEL}}}:table:t1")
    with pytest.raises(NoScoresError, match="is published but gone"):
        lookup.find("1")


@pytest.mark.parametrize("lost", ["the time", "the table"])
def test_a_table_that_tells_no_time_is_old(published: ScoreStore, redis_server: RedisServer, lost: str) -> None:
    """It was written by a release that kept none, or the server has dropped it and only its name is left."""
    write_table(published, "t2", rows=10)
    key = f"hotcold:scores:{{{MODEL}}}:table:t2"
    with redis_server.client() as client:
        assert 1 == (client.hdel(key, "written") if lost == "the time" else client.delete(key))
    assert ("t2",) == delete_unknown_tables(published, MODEL, (), 1.0)
    assert ("t1",) == published.tables(MODEL)


@pytest.mark.usefixtures("published")
def test_a_server_that_hangs_costs_50_ms(redis_server: RedisServer) -> None:
    lookup = ScoreLookup(redis_server.url, MODEL)
    assert lookup.find("1") is not None
    redis_server.process.send_signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(ScoreStoreError, match="does not answer: TimeoutError"):
            lookup.find("1")
        assert 0.04 < time.monotonic() - started < 0.5
    finally:
        redis_server.process.send_signal(signal.SIGCONT)
    assert lookup.find("1") is not None


@pytest.mark.usefixtures("published")
def test_a_connection_that_the_server_closed_is_made_anew(redis_server: RedisServer) -> None:
    lookup = ScoreLookup(redis_server.url, MODEL)
    assert lookup.find("1") is not None
    with redis_server.client() as client:
        client.client_kill_filter(_type="normal", skipme=True)
    assert lookup.find("1") is not None


def test_a_full_server_says_what_is_needed(published: ScoreStore, redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 200_000)
        try:
            with pytest.raises(
                ScoreStoreError, match=r"used memory > 'maxmemory'.*the table needs about 8 MB of the server's memory"
            ):
                write_table(published, "t2", rows=400_000)
        finally:
            client.config_set("maxmemory", 0)
    assert ("t1",) == published.tables(MODEL)


def test_a_server_on_the_network_holds_tables_as_one_on_a_socket_does(redis_tcp_server: RedisServer) -> None:
    assert redis_tcp_server.url.startswith("redis://127.0.0.1:")
    store, lookup = open_score_store(redis_tcp_server.url), ScoreLookup(redis_tcp_server.url, MODEL)
    assert is_redis(redis_tcp_server.url)
    for version in (1, 2):
        header = write_table(store, f"t{version}", version=version)
        assert store.point(MODEL, StorePointer(f"t{version}", version))
        found = lookup.find("4999")
        assert found is not None
        assert (float(version), header) == (found.score, found.header)
    assert lookup.find("5000") is None
    store.delete(MODEL, "t1")
    assert (("t2",), StorePointer("t2", 2)) == (store.tables(MODEL), store.read_pointer(MODEL))
    with redis_tcp_server.client() as client:
        client.client_kill_filter(_type="normal", skipme=True)
    assert lookup.find("1") is not None


def test_a_server_that_is_not_there_is_an_error_without_the_password() -> None:
    url = f"redis://user:secret-{uuid.uuid4().hex}@127.0.0.1:1/0"
    for ask in (
        lambda: open_score_store(url).tables(MODEL),
        lambda: ScoreLookup(url, MODEL).find("1"),
        lambda: write_table(open_score_store(url), "t1"),
    ):
        with pytest.raises(ScoreStoreError) as raised:
            ask()
        assert not isinstance(raised.value, NoScoresError)
        assert "secret" not in str(raised.value)
