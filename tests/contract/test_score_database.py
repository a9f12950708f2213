"""Score tables follow the release, in the same transaction as the traffic: on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import inspect, text

from hotcold.adapters.database import Database
from hotcold.adapters.release_database import ReleaseDatabase
from hotcold.adapters.release_tables import LAYOUT_VERSION
from hotcold.adapters.score_database import ScoreDatabase
from hotcold.domain.errors import ScoresError
from hotcold.domain.release import Observation, Phase
from hotcold.domain.score_table import TableState
from tests.fixtures.release_steps import LEASE_S, bake, package, promote, step
from tests.fixtures.score_tables import OUT, score, table


@pytest.fixture
def releases(database_url: str) -> Iterator[ReleaseDatabase]:
    opened = ReleaseDatabase(database_url)
    opened.prepare()
    yield opened
    opened.close()


@pytest.fixture
def scores(releases: ReleaseDatabase, database_url: str) -> Iterator[ScoreDatabase]:
    opened = ScoreDatabase(database_url)
    yield opened
    opened.close()


def shown(scores: ScoreDatabase, output: str = OUT) -> str:
    return next((pointer.table for pointer in scores.read_pointers("m") if pointer.output == output), "")


def test_a_table_comes_back_as_it_was_recorded(scores: ScoreDatabase) -> None:
    made = table(1, at=100.0)
    assert made == scores.record(made, "run", 100.0)
    assert (made,) == scores.read_tables() == scores.read_tables("m")
    assert made == scores.read_table("v1-m")
    assert () == scores.read_tables("another")


def test_a_table_is_found_by_the_beginning_of_its_id_if_it_can_only_be_one(scores: ScoreDatabase) -> None:
    scores.record(table(1, 100.0), "run", 100.0)
    scores.record(table(1, 100.0, output="file:///other"), "run", 100.0)
    with pytest.raises(ScoresError, match=r"may be any of v1-monday in file:///other, v1-monday in file:///scores"):
        scores.read_table("v1-mon")
    assert OUT == scores.read_table("v1-mon", OUT).output
    with pytest.raises(ScoresError, match="no score table is named 'v9-x'"):
        scores.read_table("v9-x")


def test_only_the_champion_s_table_is_shown_and_a_run_that_is_repeated_changes_nothing(
    releases: ReleaseDatabase, scores: ScoreDatabase
) -> None:
    scores.record(table(1, 50.0), "run", 50.0)
    early = scores.publish(OUT, "v1-monday", "run", 50.0)
    assert ("", True) == (early.pointer.table, "m has no champion yet" in early.refused)
    promote(releases, 1, now=100.0)
    assert "v1-monday" == shown(scores), "it is shown when its package is promoted"
    assert "m:v1.2.0" in scores.publish(OUT, score_only(scores, 2), "run", 110.0).refused

    again = scores.publish(OUT, "v1-monday", "run", 120.0)
    assert ("", 1) == (again.refused, again.pointer.generation)
    scores.record(table(1, 120.0), "run", 120.0)
    assert TableState.PUBLISHED is scores.read_table("v1-monday").state
    assert ("v1-tuesday", 2) == (score(scores, table(1, 130.0, "tuesday")), scores.read_pointers("m")[0].generation)
    with pytest.raises(ScoresError, match="has no table v7-monday"):
        scores.publish(OUT, "v7-monday", "run", 130.0)


def score_only(scores: ScoreDatabase, version: int) -> str:
    return scores.record(table(version, 109.0), "run", 109.0).id


def test_a_promotion_moves_readers_to_the_new_champion_s_table_of_the_same_input_and_has_the_rest_scored(
    releases: ReleaseDatabase, scores: ScoreDatabase
) -> None:
    promote(releases, 1, now=100.0)
    for output in (OUT, "file:///other"):
        score(scores, table(1, 110.0, output=output))
    baking = bake(releases, 2, now=200.0)
    assert "v1-monday" == score(scores, table(2, 205.0)), "the candidate's table waits for its promotion"
    assert Phase.BAKING is baking.phase
    releases.undo("m", "me", "only to end it", 206.0, LEASE_S)
    step(releases, releases.read_release(baking.id), Observation(edge_share=0), 207.0)
    score(scores, table(2, 208.0))
    for request in scores.read_requests():
        scores.close_request(request.id, "run-0", 209.0)

    promote(releases, 2, now=300.0)
    assert ("v2-monday", "v1-monday") == (shown(scores), shown(scores, "file:///other"))
    (request,) = scores.read_requests()
    assert ("file:///other", "m:v1.2.0-222222222222 was promoted") == (request.output, request.reason)
    expected = {
        "model": "m",
        "version": None,
        "output_url": "file:///other",
        "input_url": "file:///in",
        "passthrough": ["day"],
    }
    assert expected == request.parameters


def test_an_undo_takes_readers_back_in_the_transaction_that_moves_the_traffic(
    releases: ReleaseDatabase, scores: ScoreDatabase
) -> None:
    promote(releases, 1, now=100.0)
    score(scores, table(1, 110.0))
    promote(releases, 2, now=200.0)
    assert "v2-monday" == score(scores, table(2, 210.0))
    undone = releases.undo("m", "me", "worse", 300.0, LEASE_S)
    assert (Phase.ROLLING_BACK, "v1-monday") == (undone.phase, shown(scores))
    assert (package(1), None) == (scores.read_champion("m"), scores.read_previous("m"))

    late = scores.record(table(2, 300.5, "tuesday"), "run", 300.5)
    assert "is not the champion" in scores.publish(OUT, late.id, "run", 300.6).refused, "the edge has not confirmed it yet"
    step(releases, undone, Observation(edge_share=0), 301.0)
    assert "v1-monday" == shown(scores)
    taken = scores.read_table("v2-monday")
    assert (TableState.RETRACTED, True) == (taken.state, "m:v1.2.0-222222222222 was rolled back: worse" in taken.reason)
    assert [OUT] == [request.output for request in scores.read_requests()], "and it is scored anew"


def test_an_undo_of_a_release_under_way_takes_its_tables_too(releases: ReleaseDatabase, scores: ScoreDatabase) -> None:
    promote(releases, 1, now=100.0)
    score(scores, table(1, 110.0))
    bake(releases, 2, now=200.0)
    score(scores, table(2, 205.0))
    releases.undo("m", "me", "worse", 206.0, LEASE_S)
    assert ("v1-monday", TableState.RETRACTED) == (shown(scores), scores.read_table("v2-monday").state)
    assert TableState.STAGED is scores.record(table(2, 210.0), "run", 210.0).state, "scored again after the undo"


def test_an_undo_without_an_older_table_leaves_readers_none(releases: ReleaseDatabase, scores: ScoreDatabase) -> None:
    promote(releases, 1, now=100.0)
    promote(releases, 2, now=200.0)
    score(scores, table(2, 210.0))
    releases.undo("m", "me", "worse", 300.0, LEASE_S)
    (pointer,) = scores.read_pointers("m")
    assert ("", 2) == (pointer.table, pointer.generation)
    assert ((pointer, None),) == scores.read_shown("m")


def test_a_person_takes_a_table_back_and_only_newer_scores_make_up_for_it(
    releases: ReleaseDatabase, scores: ScoreDatabase
) -> None:
    promote(releases, 1, now=100.0)
    score(scores, table(1, 110.0))
    score(scores, table(1, 120.0, "tuesday"))
    pointer = scores.retract("m", OUT, "v1-tuesday", "half of the flights were missing", "me", 130.0)
    assert ("v1-monday", 3) == (pointer.table, pointer.generation)
    assert 1 == len(scores.read_requests())

    assert TableState.RETRACTED is scores.record(table(1, 120.0, "tuesday"), "run", 140.0).state, "the same scores again"
    refused = scores.publish(OUT, "v1-tuesday", "run", 140.0)
    assert ("v1-monday", True) == (refused.pointer.table, "taken back by me: half of the flights" in refused.refused)
    assert "v1-tuesday" == score(scores, table(1, 150.0, "tuesday")), "scored again"
    with pytest.raises(ScoresError, match="one of m, not of other"):
        scores.retract("other", OUT, "v1-tuesday", "x", "me", 160.0)


def test_a_table_that_does_not_pass_the_gate_any_more_is_taken_from_its_readers(
    releases: ReleaseDatabase, scores: ScoreDatabase
) -> None:
    promote(releases, 1, now=100.0)
    score(scores, table(1, 110.0))
    score(scores, table(1, 120.0, "tuesday"))
    scores.record(table(1, 130.0, "tuesday", state=TableState.REFUSED, reason="an id occurs twice"), "run", 130.0)
    assert "v1-monday" == shown(scores)
    assert "an id occurs twice" in scores.publish(OUT, "v1-tuesday", "run", 131.0).refused


def test_a_table_that_came_to_the_store_later_moves_the_store_s_pointer(
    releases: ReleaseDatabase, scores: ScoreDatabase
) -> None:
    promote(releases, 1, now=100.0)
    score(scores, table(1, 110.0, in_store=False))
    assert "v1-monday" == score(scores, table(1, 120.0))
    assert 2 == scores.read_pointers("m")[0].generation


def test_an_output_shows_the_scores_of_one_model(releases: ReleaseDatabase, scores: ScoreDatabase) -> None:
    promote(releases, 1, now=100.0)
    score(scores, table(1, 110.0))
    other = replace(table(1, 120.0, "x"), model="n", package=replace(package(1), model="n"))
    scores.record(other, "run", 120.0)
    publication = scores.publish(OUT, other.id, "run", 120.0)
    assert ("v1-monday", True) == (publication.pointer.table, "see scores of m" in publication.refused)


def test_of_an_output_one_request_is_open_and_it_is_the_last(releases: ReleaseDatabase, scores: ScoreDatabase) -> None:
    scores.record(table(1, 100.0), "run", 100.0)
    first = scores.request("m", OUT, "promoted", "me", 100.0)
    second = scores.request("m", OUT, "rolled back", "me", 101.0)
    assert [(second, "rolled back")] == [(request.id, request.reason) for request in scores.read_requests()]
    scores.close_request(first, "run-1", 102.0)
    assert 1 == len(scores.read_requests()), "a run that began before the undo does not close what the undo asked for"
    scores.close_request(second, "run-2", 103.0)
    assert () == scores.read_requests()


def test_retention_forgets_only_what_readers_do_not_see(releases: ReleaseDatabase, scores: ScoreDatabase) -> None:
    promote(releases, 1, now=100.0)
    score(scores, table(1, 110.0))
    score(scores, table(1, 120.0, "tuesday"))
    scores.forget(OUT, "v1-monday")
    scores.forget(OUT, "v1-monday")
    with pytest.raises(ScoresError, match="readers of file:///scores see table v1-tuesday"):
        scores.forget(OUT, "v1-tuesday")
    assert ["v1-tuesday"] == [made.id for made in scores.read_tables("m")]


def test_each_change_leaves_a_line_in_the_audit(releases: ReleaseDatabase, scores: ScoreDatabase) -> None:
    promote(releases, 1, now=100.0)
    score(scores, table(1, 110.0))
    scores.retract("m", OUT, "v1-monday", "wrong", "me", 120.0)
    story = [(event.what, event.table, event.actor) for event in scores.read_events("m")]
    assert [
        ("recorded", "v1-monday", "run"),
        ("shown", "v1-monday", "run"),
        ("retracted", "v1-monday", "me"),
        ("emptied", "", "me"),
        ("requested", "", "me"),
    ] == story


def test_publications_and_an_undo_at_the_same_moment_leave_readers_with_the_champion(
    releases: ReleaseDatabase, scores: ScoreDatabase
) -> None:
    promote(releases, 1, now=100.0)
    score(scores, table(1, 110.0))
    promote(releases, 2, now=200.0)
    barrier = threading.Barrier(5)

    def publish(number: int) -> None:
        barrier.wait()
        for turn in range(5):
            score(scores, table(2, 210.0 + turn, f"day-{number}-{turn}"))

    def undo() -> None:
        barrier.wait()
        releases.undo("m", "me", "worse", 300.0, LEASE_S)

    with ThreadPoolExecutor(5) as pool:
        futures = [pool.submit(publish, number) for number in range(4)] + [pool.submit(undo)]
        for future in futures:
            future.result()
    assert "v1-monday" == shown(scores)
    moves = [event for event in scores.read_events("m") if event.what == "shown"]
    assert len(moves) == scores.read_pointers("m")[0].generation, "every move has a generation of its own"


def test_models_that_are_first_scored_at_the_same_moment_do_not_hinder_each_other(scores: ScoreDatabase) -> None:
    barrier = threading.Barrier(6)

    def record(number: int) -> None:
        barrier.wait()
        scores.record(table(1, 100.0, f"day-{number}"), "run", 100.0)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(record, range(6)))
    assert 6 == len(scores.read_tables("m"))


def test_a_database_from_before_scores_gets_the_tables_it_lacks(database_url: str) -> None:
    database = Database(database_url)
    database.prepare()
    new = ("score_tables", "score_pointers", "score_requests", "score_events")
    with database.write() as connection:
        for name in new:
            connection.execute(text(f"DROP TABLE {name}"))
        connection.execute(text("UPDATE layout SET version = 1"))
    database.prepare()
    with database.read() as connection:
        assert set(new) <= set(inspect(connection).get_table_names())
        assert LAYOUT_VERSION == connection.scalar(text("SELECT version FROM layout"))
    database.dispose()
