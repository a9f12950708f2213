"""Counters of the edge: what adds up, what is a new start, and what is not believed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotcold.domain.edge_counters import ClusterCounters, Mark, NodeSum, Reading, Running, begin, go_on, increments
from hotcold.domain.errors import EvidenceError
from hotcold.domain.latency import LATENCY_BUCKETS, NO_LATENCY

ZERO = ClusterCounters()


def latency(**buckets: int) -> tuple[int, ...]:
    return tuple(buckets.get(f"b{number}", 0) for number in range(LATENCY_BUCKETS))


def codes(*answers: tuple[int, int]) -> ClusterCounters:
    return ClusterCounters(tuple(answers))


counts = st.integers(0, 1000)
counters = st.builds(
    ClusterCounters,
    st.dictionaries(st.sampled_from([0, 200, 404, 503, 504]), st.integers(1, 1000)).map(lambda d: tuple(sorted(d.items()))),
    st.lists(counts, min_size=LATENCY_BUCKETS, max_size=LATENCY_BUCKETS).map(tuple),
    counts,
    counts,
    counts,
    counts,
)


def test_answers_and_failures_are_told_apart() -> None:
    seen = codes((0, 3), (200, 90), (404, 4), (429, 2), (503, 5), (504, 1))
    assert (102, 6) == (seen.asked, seen.failed), "who went away got no answer, and refused requests are not failures"


def test_a_copy_that_was_never_sent_is_no_failure_of_the_candidate() -> None:
    # 103 copies: 40 answered, 48 dropped and 3 broken (each a 503 of the edge's own), 2 refused by the replica, 10 given up.
    seen = ClusterCounters(((200, 38), (422, 2), (503, 53)), copied=103, timed_out=10, dropped=48, broken=3)
    assert ((200, 38), (422, 2), (503, 2)) == seen.answers
    assert (103, 61, 15) == (seen.copied, seen.lost, seen.failed)
    assert seen.copied == seen.lost + sum(count for _, count in seen.answers), "none is under way"


def test_an_answer_that_broke_off_is_lost_although_it_had_a_status() -> None:
    seen = ClusterCounters(((200, 5),), copied=5, broken=2)
    assert (((200, 5),), 2, 2) == (seen.answers, seen.lost, seen.failed)


def test_what_took_the_budget_or_longer_is_over_it() -> None:
    # Bucket 20 holds 40 to 50 ms, 21 holds 50 to 70 ms.
    seen = ClusterCounters(((200, 10),), latency(b0=1, b20=4, b21=3, b32=2))
    assert (10, 5, 9) == (seen.measured, seen.over(50), seen.over(0.1))
    with pytest.raises(EvidenceError, match="these limits only"):
        seen.over(60)


def test_nothing_measured_is_nothing_over() -> None:
    assert (0, 0, 0, 0, 0) == (ZERO.asked, ZERO.failed, ZERO.lost, ZERO.measured, ZERO.over(50))
    assert () == ZERO.answers
    assert NO_LATENCY == ZERO.latency_us


@given(counters, counters, counters)
def test_adding_does_not_depend_on_the_order(one: ClusterCounters, other: ClusterCounters, third: ClusterCounters) -> None:
    assert one + other == other + one
    assert (one + other) + third == one + (other + third)
    assert one + ZERO == one


@given(counters, counters)
def test_what_came_since_is_what_was_added(before: ClusterCounters, more: ClusterCounters) -> None:
    assert more == (before + more).since(before)
    assert ZERO == before.since(before)
    if more != ZERO:
        assert before.since(before + more) is None, "a counter that fell is another count"


@given(counters)
def test_counters_survive_json(seen: ClusterCounters) -> None:
    assert seen == ClusterCounters.from_json(json.loads(json.dumps(seen.to_json())))


@pytest.mark.parametrize(
    "change",
    [
        {"codes": {"200": -1}},
        {"codes": {"200": 1.5}},
        {"codes": {"200": None}},
        {"codes": {"good": 1}},
        {"codes": []},
        {"latency_us": [0] * 3},
        {"latency_us": ["0"] * LATENCY_BUCKETS},
        {"latency_us": None},
        {"timed_out": -1},
        {"timed_out": True},
        {"dropped": "many"},
        {"copied": 1.0},
        {"broken": None},
    ],
)
def test_damaged_counters_are_an_error_and_never_zeros(change: dict[str, object]) -> None:
    with pytest.raises(EvidenceError):
        ClusterCounters.from_json({**ZERO.to_json(), **change})
    for name in change:
        with pytest.raises(EvidenceError, match="begin a new count"):
            ClusterCounters.from_json({key: value for key, value in ZERO.to_json().items() if key != name})


def follow(*readings: Reading) -> ClusterCounters:
    """The sum over several looks at the cluster `c`."""
    running = begin("s", readings[0])
    for reading in readings[1:]:
        running = go_on(running, reading, "s")
    return running["c"].total


def look(started_at: float, *answers: tuple[int, int]) -> Reading:
    return Reading(started_at, {"c": codes(*answers)} if answers else {})


def test_what_was_there_when_a_count_begins_is_not_part_of_it() -> None:
    assert ZERO == follow(look(100, (200, 50)))
    assert codes((200, 7), (503, 1)) == follow(look(100, (200, 50)), look(100, (200, 57), (503, 1)))


def test_a_cluster_that_appears_later_is_counted_from_its_first_answer() -> None:
    assert codes((200, 5)) == follow(look(100), look(100, (200, 5)))


def test_after_a_restart_everything_is_new_and_nothing_is_counted_twice() -> None:
    seen = follow(look(100), look(100, (200, 50)), look(200, (200, 3)), look(200, (200, 8)))
    assert codes((200, 58)) == seen
    # The same where the new one has not been asked anything at first.
    assert codes((200, 58)) == follow(look(100), look(100, (200, 50)), look(200), look(200, (200, 8)))


def test_a_restart_that_is_overtaken_before_it_is_noticed_loses_counts_but_invents_none() -> None:
    assert codes((200, 60)) == follow(look(100), look(100, (200, 50)), look(200, (200, 60)))
    # What falls after it is no second restart.
    assert codes((200, 60)) == follow(look(100), look(100, (200, 50)), look(200, (200, 60)), look(200, (200, 55)))


def test_a_start_time_that_wanders_a_little_is_no_restart_and_no_change() -> None:
    seen = follow(look(100), look(100.9, (200, 50)), look(99.1, (200, 60)), look(102.5, (200, 61)))
    assert codes((200, 61)) == seen
    running = go_on({}, look(100, (200, 5)), "s")
    assert running == go_on(running, look(101.5, (200, 5)), "s"), "or it would be written each second"


def test_a_start_time_that_jumps_while_the_counters_go_on_is_no_restart() -> None:
    assert codes((200, 61)) == follow(look(100), look(100, (200, 50)), look(9999, (200, 60)), look(100, (200, 61)))


@pytest.mark.parametrize("lie", [(), ((200, 49),), ((503, 1),), ((200, 3), (503, 9))])
def test_counters_that_fall_without_a_restart_are_not_believed(lie: tuple[tuple[int, int], ...]) -> None:
    """Part of an answer, or a cluster that was made anew: what came in this second is lost, and nothing is counted twice."""
    before = (look(100), look(100, (200, 50), (503, 1)))
    assert codes((200, 50), (503, 1)) == follow(*before, look(100, *lie))
    after = (look(100, *lie), look(100, (200, 70), (503, 9)))
    gained = follow(*before, *after).since(codes((200, 50), (503, 1)))
    assert gained == codes((200, 70), (503, 9)).since(codes(*lie))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 50), st.integers(0, 9)), max_size=30))
def test_over_restarts_no_more_is_counted_than_happened_and_what_was_seen_is_not_lost(
    steps: list[tuple[bool, int, int]],
) -> None:
    started_at, now, happened, lost = 0.0, {200: 0, 503: 0}, 0, 0
    running = begin("s", look(0))
    for is_restart, good, bad in steps:
        if is_restart:
            # An unlucky one: the new Envoy has more of everything than the old one had, and nobody can tell.
            hidden = good >= now[200] and bad >= now[503]
            lost += sum(now.values()) if hidden else 0
            started_at, now = started_at + 10, {200: 0, 503: 0}
        now[200] += good
        now[503] += bad
        happened += good + bad
        running = go_on(running, look(started_at, *((code, count) for code, count in now.items() if count)), "s")
    total = running["c"].total.asked if "c" in running else 0
    assert happened - lost == total


def mark(**totals: tuple[str, ClusterCounters]) -> Mark:
    return Mark(tuple(NodeSum(node, "c", series, total) for node, (series, total) in totals.items()))


def test_increments_add_up_over_nodes() -> None:
    before = mark(one=("s", codes((200, 10))), two=("t", codes((200, 5), (503, 1))))
    now = mark(one=("s", codes((200, 12))), two=("t", codes((200, 9), (503, 1))), three=("u", codes((504, 1))))
    assert {"c": codes((200, 6), (504, 1))} == increments(before, now)
    assert {"c": ZERO} == increments(before, before)


def test_a_node_that_began_a_new_count_since_is_counted_whole() -> None:
    before = mark(one=("s", codes((200, 10))))
    assert {"c": codes((200, 3))} == increments(before, mark(one=("t", codes((200, 3)))))
    assert {"c": codes((200, 30))} == increments(before, mark(one=("t", codes((200, 30)))))


def test_a_sum_that_fell_or_is_gone_is_an_error_and_not_a_zero() -> None:
    before = mark(one=("s", codes((200, 10))))
    with pytest.raises(EvidenceError, match="what node one counted of c fell since the mark; set a new mark"):
        increments(before, mark(one=("s", codes((200, 9)))))
    with pytest.raises(EvidenceError, match="node one no longer knows what it counted of c"):
        increments(before, Mark())


def test_of_what_nobody_counted_nothing_is_said() -> None:
    assert {} == increments(Mark(), Mark())


@given(st.lists(st.builds(NodeSum, st.sampled_from("ab"), st.sampled_from("cd"), st.sampled_from("st"), counters), max_size=4))
def test_a_mark_survives_json(sums: list[NodeSum]) -> None:
    seen = Mark(tuple(sums))
    assert seen == Mark.from_json(json.loads(json.dumps(seen.to_json())))


@pytest.mark.parametrize("document", [3, [3], [{}], [{"node": "n", "cluster": "c", "series": "s", "total": {}}]])
def test_a_damaged_mark_is_an_error(document: object) -> None:
    with pytest.raises(EvidenceError):
        Mark.from_json(document)  # type: ignore[arg-type]


def test_a_sum_goes_on_in_its_own_series() -> None:
    running: Mapping[str, Running] = {"c": Running("old", 100.0, codes((200, 5)), codes((200, 5)))}
    after = go_on(running, Reading(100.0, {"c": codes((200, 6)), "d": codes((200, 1))}), "new")
    assert ("old", "new") == (after["c"].series, after["d"].series)
    assert codes((200, 6)) == after["c"].total
    assert replace(after["d"], total=ZERO) == Running("new", 100.0, codes((200, 1)))
