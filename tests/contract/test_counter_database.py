"""The edges' counters in the release database, on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from hotcold.adapters.counter_database import CounterDatabase
from hotcold.adapters.release_database import ReleaseDatabase
from hotcold.domain.edge_counters import ClusterCounters, Mark, Reading, Running, increments
from hotcold.domain.errors import DatabaseError, EvidenceError
from hotcold.domain.latency import NO_LATENCY
from services import counting as module
from services.counting import EdgeCounting
from tests.fixtures.data_plane import wait_until


@pytest.fixture
def sums(database_url: str) -> Iterator[CounterDatabase]:
    opened = CounterDatabase(database_url)
    opened.prepare()
    yield opened
    opened.close()


@pytest.fixture
def releases(database_url: str, sums: CounterDatabase) -> Iterator[ReleaseDatabase]:
    opened = ReleaseDatabase(database_url)
    yield opened
    opened.close()


def codes(*answers: tuple[int, int]) -> ClusterCounters:
    return ClusterCounters(tuple(answers))


class Stats:
    """What an Envoy would say; there is none here, since this is about the rows. `test_edge_stats` has a real one."""

    def __init__(self) -> None:
        self.says: Reading | EvidenceError | None = Reading(100.0, {})

    def read(self) -> Reading | None:
        if isinstance(self.says, EvidenceError):
            raise self.says
        return self.says


class Node:
    """One node's counting, second by second."""

    def __init__(self, sums: CounterDatabase, node: str = "n") -> None:
        self.stats, self._now_s = Stats(), 1000.0
        self.counting = EdgeCounting(self.stats, sums, node, lambda: self._now_s)

    def second(self, says: Reading | EvidenceError | None) -> float | None:
        self._now_s += 1.0
        self.stats.says = says
        self.counting.tick()
        return self.counting.counted_at


def test_a_row_comes_back_as_it_was_written(sums: CounterDatabase) -> None:
    running = Running("s", 100.5, codes((200, 3)), ClusterCounters(((0, 1), (503, 2)), NO_LATENCY, 14, 4, 5, 2))
    sums.write_running("n", {"m-blue": running})
    assert {"m-blue": running} == sums.read_running("n")
    assert {} == sums.read_running("another")
    sums.write_running("n", {"m-blue": Running("s", 100.5), "m-green": running})
    assert {"m-blue": Running("s", 100.5), "m-green": running} == sums.read_running("n")


def test_a_damaged_row_is_an_error_and_not_a_zero(sums: CounterDatabase) -> None:
    sums.write_running("n", {"m-blue": Running("s", 100.5)})
    with sums._database.write() as connection:
        connection.execute(text("UPDATE edge_counters SET total = '{}'"))
    with pytest.raises(EvidenceError, match="begin a new count"):
        sums.read_running("n")


def test_flows_read_what_came_since_a_mark_over_all_nodes(sums: CounterDatabase, releases: ReleaseDatabase) -> None:
    one, two = Node(sums, "one"), Node(sums, "two")
    for node in (one, two):
        node.second(Reading(100.0, {"m-blue": codes((200, 70)), "other-blue": codes((200, 1))}))
        node.second(Reading(100.0, {"m-blue": codes((200, 75))}))
    for name in ("one", "two"):
        releases.write_status(name, [], 1002.0, "http://edge", 1002.0)
    mark = sums.read_mark("m", 1003.0)
    assert {"m-blue": codes((200, 10))} == increments(Mark(), mark)
    one.second(Reading(100.0, {"m-blue": codes((200, 76), (503, 1)), "m-green-shadow": codes((200, 2))}))
    now = sums.read_mark("m", 1004.0)
    assert {"m-blue": codes((200, 1), (503, 1)), "m-green-shadow": codes((200, 2))} == increments(
        Mark.from_json(mark.to_json()), now
    )


@pytest.mark.parametrize(
    ("counted_at", "reason"),
    [
        (None, "the counters of the edge of node two have never been read"),
        (990.0, "node two have not been read for 14 s; allowed are 5 s"),
    ],
)
def test_a_live_node_that_does_not_count_is_an_error(
    sums: CounterDatabase, releases: ReleaseDatabase, counted_at: float | None, reason: str
) -> None:
    with pytest.raises(EvidenceError, match="no serving node is live"):
        sums.read_mark("m", 1004.0)
    releases.write_status("one", [], 1003.0, "http://one", 1003.0)
    assert Mark() == sums.read_mark("m", 1004.0)
    releases.write_status("two", [], 1003.0, "http://two", counted_at)
    with pytest.raises(EvidenceError, match=reason):
        sums.read_mark("m", 1004.0)
    releases.write_status("one", [], 1013.0, "http://one", 1013.0)
    assert Mark() == sums.read_mark("m", 1014.0), "a node that is silent for long takes no requests"


def test_an_agent_that_has_not_counted_yet_takes_over_how_fresh_the_counts_are(
    sums: CounterDatabase, releases: ReleaseDatabase
) -> None:
    releases.write_status("one", [], 1003.0, "http://one", 1003.0)
    releases.write_status("one", [], 1006.0, "http://one", None)
    assert Mark() == sums.read_mark("m", 1007.0)
    with pytest.raises(EvidenceError, match="node one have not been read for 6 s"):
        sums.read_mark("m", 1009.0)


def test_only_what_changed_is_written(sums: CounterDatabase) -> None:
    node = Node(sums)
    both = {"m-blue": codes((200, 5)), "m-green": codes((200, 5))}
    node.second(Reading(100.0, both))
    with sums._database.write() as connection:
        connection.execute(text("DELETE FROM edge_counters"))
    assert 1002.0 == node.second(Reading(101.0, both)), "it was counted, although nothing had to be written"
    assert {} == sums.read_running("n")
    node.second(Reading(100.0, {**both, "m-blue": codes((200, 6))}))
    assert {"m-blue"} == set(sums.read_running("n"))
    assert codes((200, 1)) == sums.read_running("n")["m-blue"].total


def test_what_cannot_be_read_or_written_is_said_once_and_counted_later(
    sums: CounterDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    node = Node(sums)
    assert 1001.0 == node.second(Reading(100.0, {}))
    assert 1001.0 == node.second(None) == node.second(None)
    assert 1001.0 == node.second(EvidenceError("Envoy talks nonsense"))
    assert 1005.0 == node.second(Reading(100.0, {"m-blue": codes((200, 1))}))
    with sums._database.write() as connection:
        connection.execute(text("ALTER TABLE edge_counters RENAME TO hidden"))
    assert 1005.0 == node.second(Reading(100.0, {"m-blue": codes((200, 4))}))
    assert 1005.0 == node.second(Reading(100.0, {"m-blue": codes((200, 5))}))
    with sums._database.write() as connection:
        connection.execute(text("ALTER TABLE hidden RENAME TO edge_counters"))
    assert 1008.0 == node.second(Reading(100.0, {"m-blue": codes((200, 6))}))
    assert codes((200, 6)) == sums.read_running("n")["m-blue"].total
    reasons = [record.reason for record in caplog.records]  # type: ignore[attr-defined]
    assert ["Envoy does not answer", "Envoy talks nonsense"] == reasons[:2]
    assert 3 == len(reasons) and "edge_counters" in reasons[2]


def test_whatever_goes_wrong_in_one_second_the_next_one_is_counted(
    sums: CounterDatabase, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_INTERVAL_S", 0.01)
    node, stopped = Node(sums), threading.Event()
    # What nobody thought of.
    node.stats.says = Reading(100.0, None)  # type: ignore[arg-type]
    thread = threading.Thread(target=node.counting.run, args=(stopped,))
    thread.start()
    try:
        wait_until(lambda: caplog.records, "the trouble is said")
        assert node.counting.counted_at is None, "readers see that nobody counts"
        node.stats.says = Reading(100.0, {"m-blue": codes((200, 4))})
        wait_until(lambda: node.counting.counted_at, "the next second")
    finally:
        stopped.set()
        thread.join(5)
    assert not thread.is_alive()
    assert ["the edge's counters are not read"] == [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("layout", [2, 3])
def test_a_database_from_before_counters_gets_what_it_lacks(sums: CounterDatabase, layout: int) -> None:
    with sums._database.write() as connection:
        connection.execute(text("DROP TABLE edge_counters"))
        connection.execute(text("ALTER TABLE nodes DROP COLUMN counted_at"))
        connection.execute(text("INSERT INTO nodes (node, edge_url, seen_at) VALUES ('old', 'http://old', 1003)"))
        connection.execute(text(f"UPDATE layout SET version = {layout}"))
    sums.prepare()
    assert {} == sums.read_running("n")
    with pytest.raises(EvidenceError, match="node old have never been read"):
        sums.read_mark("m", 1004.0)


def test_a_database_that_is_away_is_an_error() -> None:
    away = CounterDatabase("postgresql://someone:secret@127.0.0.1:9/none")
    with pytest.raises(DatabaseError):
        away.read_mark("m", 1.0)
