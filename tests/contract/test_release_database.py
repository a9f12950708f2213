"""What every release database has to hold, on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from hotcold.adapters.database import Database
from hotcold.adapters.release_database import ReleaseDatabase
from hotcold.adapters.release_tables import LAYOUT_VERSION
from hotcold.domain.canary.plan import CanaryPlan
from hotcold.domain.errors import (
    ActiveReleaseError,
    DatabaseError,
    NothingToDecideError,
    NothingToUndoError,
    ReleaseError,
    StaleControllerError,
)
from hotcold.domain.gate import Gate, Verdict
from hotcold.domain.instructions import Deploy, Finish, Instruction, Mirror, SetSplit
from hotcold.domain.plan import SHADOW_GATES
from hotcold.domain.release import SMOKE_GATES, Command, Observation, Phase, Release, advance
from hotcold.domain.serving import ModelStatus, RouteStatus, Slot, SlotPlan, SlotStatus
from hotcold.rollback import roll_back
from services.watchdog import Watchdog
from tests.fixtures.release_steps import LEASE_S, PLAN, bake, package, promote, step


@pytest.fixture
def database(database_url: str) -> Iterator[ReleaseDatabase]:
    opened = ReleaseDatabase(database_url)
    opened.prepare()
    yield opened
    opened.close()


def test_a_release_comes_back_from_the_database_as_it_was_written(database: ReleaseDatabase) -> None:
    release = bake(database, 1, now=100.0)
    assert database.read_release(release.id) == release
    assert [release] == [active for active, _ in database.read_active()]


def test_two_promotions_swap_the_slots_and_keep_the_champion_before_warm(database: ReleaseDatabase) -> None:
    promote(database, 1, now=100.0)
    promote(database, 2, now=200.0)
    plan = database.read_plan("m")
    assert (100, Slot.GREEN, Slot.BLUE) == (plan.route.green_pct, plan.route.champion, plan.route.previous)
    assert (SlotPlan(package(1), 1), SlotPlan(package(2), 1)) == (plan.blue, plan.green)


def test_a_second_release_of_a_model_is_refused_with_who_holds_the_first(database: ReleaseDatabase) -> None:
    database.start("m", 1, PLAN, "flow run brave-otter", 100.0, LEASE_S)
    with pytest.raises(ActiveReleaseError, match=r"version 1 is packaging, held by flow run brave-otter"):
        database.start("m", 2, PLAN, "flow run calm-newt", 101.0, LEASE_S)
    with pytest.raises(ActiveReleaseError, match=r"last held by flow run brave-otter; go on with"):
        database.start("m", 2, PLAN, "flow run calm-newt", 120.0, LEASE_S)


def test_of_many_releases_started_at_the_same_moment_one_wins(database: ReleaseDatabase) -> None:
    barrier = threading.Barrier(6)

    def start(number: int) -> str:
        barrier.wait()
        try:
            return database.start("m", 1 + number, PLAN, f"driver {number}", 100.0, LEASE_S).id
        except ActiveReleaseError:
            return ""

    with ThreadPoolExecutor(6) as pool:
        started = [release_id for release_id in pool.map(start, range(6)) if release_id]
    assert 1 == len(started) == len(database.read_active())


def test_another_model_is_released_independently(database: ReleaseDatabase) -> None:
    database.start("m", 1, PLAN, "a", 100.0, LEASE_S)
    database.start("n", 1, PLAN, "b", 100.0, LEASE_S)
    assert {"m", "n"} == {release.model for release, _ in database.read_active()}


def test_a_controller_that_was_replaced_can_write_nothing_more(database: ReleaseDatabase) -> None:
    old = database.start("m", 1, PLAN, "old driver", 100.0, LEASE_S)
    new = database.start("m", 1, PLAN, "new driver", 111.0, LEASE_S)
    assert (old.id, old.epoch + 1) == (new.id, new.epoch)
    with pytest.raises(StaleControllerError):
        step(database, old, Observation(package=package(1)), 112.0)
    with pytest.raises(StaleControllerError):
        database.renew(old, 112.0, LEASE_S)
    assert Phase.DEPLOYING is step(database, new, Observation(package=package(1)), 113.0).phase


def test_a_step_that_is_refused_writes_neither_route_nor_slot_nor_event(database: ReleaseDatabase) -> None:
    release = bake(database, 1, now=100.0)
    plan, story = database.read_plan("m"), database.read_events(release.id)
    with pytest.raises(ReleaseError, match="holds 100 % of the traffic"):
        database.commit(release, release, (SetSplit(Slot.BLUE, 100), Deploy(Slot.BLUE, package(3), 1)), "test", 101.0)
    assert (plan, story) == (database.read_plan("m"), database.read_events(release.id))


def test_the_champion_is_not_released_again(database: ReleaseDatabase) -> None:
    promote(database, 1, now=100.0)
    with pytest.raises(ReleaseError, match="version 1 is the champion already"):
        database.start("m", 1, PLAN, "driver", 101.0, LEASE_S)


def test_a_model_that_the_edge_cannot_name_is_not_released(database: ReleaseDatabase) -> None:
    with pytest.raises(ReleaseError, match="allowed are a-z, 0-9 and -"):
        database.start("Bad_Name", 1, PLAN, "driver", 100.0, LEASE_S)


def test_undo_moves_the_traffic_in_one_transaction_and_fences_the_driver_off(database: ReleaseDatabase) -> None:
    promote(database, 1, now=100.0)
    baking = bake(database, 2, now=200.0)
    undone = database.undo("m", "me", "it is wrong", 201.0, LEASE_S)
    assert (Phase.ROLLING_BACK, 0) == (undone.phase, database.read_plan("m").route.green_pct)
    with pytest.raises(StaleControllerError):
        database.renew(baking, 202.0, LEASE_S)


def test_a_promotion_is_undone_once_and_its_slot_is_emptied_after_the_edge_confirmed(database: ReleaseDatabase) -> None:
    promote(database, 1, now=100.0)
    promote(database, 2, now=200.0)
    undone = database.undo("m", "me", "worse", 300.0, LEASE_S)
    assert SlotPlan(package(2), 1) == database.read_plan("m").green
    ended = step(database, undone, Observation(edge_share=0), 301.0)
    plan = database.read_plan("m")
    assert (Phase.ROLLED_BACK, Slot.BLUE, None, SlotPlan()) == (
        ended.phase,
        plan.route.champion,
        plan.route.previous,
        plan.green,
    )
    with pytest.raises(NothingToUndoError, match="no earlier champion that is warm"):
        database.undo("m", "me", "again", 302.0, LEASE_S)


def test_a_rejected_release_leaves_champion_and_previous_as_they_were_until_its_package_took_the_slot(
    database: ReleaseDatabase,
) -> None:
    promote(database, 1, now=100.0)
    promote(database, 2, now=200.0)
    before = database.read_plan("m")
    early = database.start("m", 3, PLAN, "driver", 300.0, LEASE_S)
    step(database, early, Observation(package_failure="no schema"), 301.0)
    after = database.read_plan("m")
    assert (before.route.champion, before.route.previous, before.blue) == (
        after.route.champion,
        after.route.previous,
        after.blue,
    )

    late = step(database, database.start("m", 3, PLAN, "driver", 400.0, LEASE_S), Observation(package=package(3)), 400.0)
    failed = SlotStatus(package(3).digest, 0, 1, failure="a byte is wrong")
    assert Phase.REJECTED is step(database, late, Observation(candidate=failed), 401.0).phase
    after = database.read_plan("m")
    assert (Slot.GREEN, None, SlotPlan()) == (after.route.champion, after.route.previous, after.blue)


def test_every_change_leaves_an_audit_event_that_says_who_and_why(database: ReleaseDatabase) -> None:
    release = promote(database, 1, now=100.0)
    story = [(event.phase, event.actor) for event in database.read_events(release.id)]
    assert (Phase.PACKAGING, "driver") == story[0]
    assert [Phase.DEPLOYING, Phase.SMOKE, Phase.CUTOVER, Phase.BAKING, Phase.PROMOTED] == [phase for phase, _ in story[1:]]
    versions = [event.at for event in database.read_events(release.id)]
    assert versions == sorted(versions)


def test_status_is_the_worst_of_the_live_nodes(database: ReleaseDatabase) -> None:
    good = ModelStatus("m", RouteStatus(100, 3), green=SlotStatus("x", 2, 2))
    bad = ModelStatus("m", RouteStatus(100, 2), green=SlotStatus("x", 1, 2, failure="", restarts=1))
    assert database.read_status("m", 100.0) is None
    database.write_status("one", [good], 100.0, "http://one")
    assert good == database.read_status("m", 101.0)
    database.write_status("two", [bad], 100.0, "http://two")
    merged = database.read_status("m", 101.0)
    assert merged and (2, 1, 1) == (merged.route.generation, merged.green.ready, merged.green.restarts)
    database.write_status("one", [good], 110.0, "http://one")
    assert good == database.read_status("m", 111.0), "a node that is silent for long does not count"
    assert ("http://one",) == database.read_edges(111.0)


def test_the_watchdog_takes_traffic_from_a_candidate_whose_controller_is_silent(database: ReleaseDatabase) -> None:
    promote(database, 1, now=100.0)
    release = bake(database, 2, now=200.0)
    now_s = [0.0]
    watchdog = Watchdog(database, "n", timeout_s=10, monotonic=lambda: now_s[0], clock=lambda: 300.0)
    status = ModelStatus("m", RouteStatus(100, 9), SlotStatus(package(1).digest, 1, 1), SlotStatus(package(2).digest, 1, 1))
    watchdog.tick([status])
    now_s[0] = 9.0
    database.renew(release, 209.0, LEASE_S)
    watchdog.tick([status])
    now_s[0] = 18.0
    watchdog.tick([status])
    assert Phase.BAKING is database.read_release(release.id).phase
    now_s[0] = 19.5
    watchdog.tick([status])
    assert (Phase.HELD, 0) == (database.read_release(release.id).phase, database.read_plan("m").route.green_pct)

    resumed = database.start("m", 2, PLAN, "next driver", 400.0, LEASE_S)
    assert (release.id, Phase.DEPLOYING) == (resumed.id, resumed.phase)


def test_roll_back_waits_for_a_report_about_the_route_it_wrote(database: ReleaseDatabase) -> None:
    promote(database, 1, now=100.0)
    promote(database, 2, now=200.0)
    stale = ModelStatus("m", RouteStatus(0, database.read_plan("m").route.generation))
    clock = lambda: 300.0  # noqa: E731 - one fixed moment
    database.write_status("n", [stale], 300.0)
    timer = threading.Timer(
        0.3, lambda: database.write_status("n", [ModelStatus("m", RouteStatus(0, stale.route.generation + 1))], 300.0)
    )
    timer.start()
    undone = roll_back(database, "m", "me", "worse", wait_s=10, clock=clock)
    timer.join()
    assert Phase.ROLLED_BACK is undone.release.phase


def test_another_layout_is_refused_with_what_to_do(database_url: str) -> None:
    opened = Database(database_url)
    opened.prepare()
    with opened.write() as connection:
        connection.execute(text("UPDATE layout SET version = 99"))
    with pytest.raises(DatabaseError, match=f"has layout 99; this hotcold needs {LAYOUT_VERSION}"):
        opened.prepare()
    opened.dispose()


def test_a_database_from_before_mirrors_keeps_its_releases_and_gets_the_columns_it_lacks(database: ReleaseDatabase) -> None:
    release = promote(database, 1, now=100.0)
    plan, story = database.read_plan("m"), database.read_events(release.id)
    with database._database.write() as connection:
        for table, column in (
            ("routes", "mirror_pct"),
            ("releases", "verdict"),
            ("releases", "quiet_s"),
            ("events", "verdict"),
        ):
            connection.execute(text(f"ALTER TABLE {table} DROP COLUMN {column}"))
        connection.execute(text("UPDATE layout SET version = 2"))
    database.prepare()
    assert (plan, release) == (database.read_plan("m"), database.read_release(release.id))
    assert story == database.read_events(release.id)
    assert 0.0 == database.read_plan("m").route.mirror_pct
    database.prepare()
    with database._database.read() as connection:
        assert LAYOUT_VERSION == connection.scalar(text("SELECT version FROM layout"))


SHADOW = replace(PLAN, strategy="shadow", mirror_pct=12.5, shadow_min_s=0, shadow_min_pairs=0)


def mirror(database: ReleaseDatabase, version: int, now: float) -> Release:
    """A release whose candidate gets copies."""
    release = database.start("m", version, SHADOW, "driver", now, LEASE_S)
    ready = SlotStatus(package(version).digest, 1, 1)
    for seen in (
        Observation(package=package(version)),
        Observation(candidate=ready),
        Observation(candidate=ready, smoke=tuple(Gate(name, Verdict.SAFE) for name in SMOKE_GATES)),
    ):
        release = step(database, release, seen, now)
    assert Phase.SHADOW is release.phase
    return release


def conclude(database: ReleaseDatabase, release: Release, now: float) -> Release:
    gates = tuple(Gate(name, Verdict.SAFE) for name in SHADOW_GATES)
    release = step(database, release, Observation(edge_share=0, edge_mirror=12.5, gates=gates), now)
    assert Phase.CLOSING is release.phase
    return step(database, release, Observation(edge_share=0, edge_mirror=0.0), now)


def test_an_evaluation_copies_requests_ends_with_its_verdict_and_leaves_the_champion_as_it_was(
    database: ReleaseDatabase,
) -> None:
    promote(database, 1, now=100.0)
    promote(database, 2, now=200.0)
    before = database.read_plan("m")
    release = mirror(database, 3, now=300.0)
    during = database.read_plan("m")
    assert (12.5, Slot.GREEN, 100) == (during.route.mirror_pct, during.route.champion, during.route.green_pct)
    assert (12.5, 0.0) == (during.route.copied(Slot.BLUE), during.route.copied(Slot.GREEN))
    assert SlotPlan(package(3), 1) == during.blue
    ended = conclude(database, release, now=301.0)
    after = database.read_plan("m")
    assert (0.0, Slot.GREEN, None, SlotPlan()) == (
        after.route.mirror_pct,
        after.route.champion,
        after.route.previous,
        after.blue,
    )
    assert (before.green, before.route.green_pct) == (after.green, after.route.green_pct)
    stored = database.read_release(ended.id)
    assert (Phase.EVALUATED, Verdict.SAFE) == (stored.phase, stored.verdict)
    assert [("shadow", ""), ("closing", "SAFE"), ("evaluated", "SAFE")] == [
        (event.phase, event.verdict) for event in database.read_events(ended.id)[-3:]
    ]
    # The next release of the model may start.
    assert Phase.PACKAGING is database.start("m", 3, PLAN, "driver", 400.0, LEASE_S).phase


def test_a_controller_s_time_without_copies_is_kept(database: ReleaseDatabase) -> None:
    promote(database, 1, now=100.0)
    release = mirror(database, 2, now=200.0)
    after, asked = advance(release, Observation(edge_mirror=0.0), 203.0)
    assert (release.phase, ()) == (after.phase, asked)
    database.renew(after, 203.0, LEASE_S)
    assert (3.0, 0.0) == (database.read_release(release.id).quiet_s, database.read_release(release.id).in_phase_s)


def test_without_a_champion_there_is_nothing_to_evaluate_against(database: ReleaseDatabase) -> None:
    with pytest.raises(ReleaseError, match="m has no champion to compare version 1 with; release a first one"):
        database.start("m", 1, SHADOW, "driver", 100.0, LEASE_S)
    assert () == database.read_active()


def test_an_evaluation_that_a_person_ends_takes_the_copies_away_and_keeps_the_scores(database: ReleaseDatabase) -> None:
    promote(database, 1, now=100.0)
    release = mirror(database, 2, now=200.0)
    undone = database.undo("m", "me", "enough", 201.0, LEASE_S)
    assert (release.id, Phase.ROLLING_BACK) == (undone.id, undone.phase)
    assert 0.0 == database.read_plan("m").route.mirror_pct
    assert not any("RetractScores" in text for event in database.read_events(release.id) for text in event.instructions)
    waiting = step(database, undone, Observation(edge_share=0, edge_mirror=12.5), 202.0)
    assert SlotPlan(package(2), 1) == database.read_plan("m").green, "the slot is emptied when the edge has confirmed"
    ended = step(database, waiting, Observation(edge_share=0, edge_mirror=0.0), 203.0)
    assert (Phase.ROLLED_BACK, None, SlotPlan()) == (ended.phase, ended.verdict, database.read_plan("m").green)


@pytest.mark.parametrize(
    "instruction",
    [
        Deploy(Slot.GREEN, package(3), 1),
        Finish(Slot.GREEN, Slot.BLUE, promoted=False, retire=True),
        Finish(Slot.GREEN, Slot.BLUE, promoted=True, retire=False),
    ],
)
def test_no_slot_and_no_role_changes_while_requests_are_copied(database: ReleaseDatabase, instruction: Instruction) -> None:
    promote(database, 1, now=100.0)
    release = mirror(database, 2, now=200.0)
    plan = database.read_plan("m")
    with pytest.raises(ReleaseError, match=r"12.5 % of the requests of m are copied .* take the mirror away first"):
        database.commit(release, release, (instruction,), "test", 201.0)
    assert plan == database.read_plan("m")


def test_requests_are_copied_only_to_a_slot_without_traffic_beside_the_champion(database: ReleaseDatabase) -> None:
    promote(database, 1, now=100.0)
    release = bake(database, 2, now=200.0)
    for slot in Slot:
        with pytest.raises(ReleaseError, match="only to a slot without traffic beside the champion's"):
            database.commit(release, release, (Mirror(slot, 10.0),), "test", 201.0)
    assert 0.0 == database.read_plan("m").route.mirror_pct


def test_the_watchdog_takes_the_copies_away_when_the_controller_is_silent(database: ReleaseDatabase) -> None:
    promote(database, 1, now=100.0)
    release = mirror(database, 2, now=200.0)
    now_s = [0.0]
    watchdog = Watchdog(database, "n", timeout_s=10, monotonic=lambda: now_s[0], clock=lambda: 300.0)
    slots = {"blue": SlotStatus(package(1).digest, 1, 1), "green": SlotStatus(package(2).digest, 1, 1)}
    watchdog.tick([ModelStatus("m", RouteStatus(0, 9, mirror_pct=12.5), **slots)])
    now_s[0] = 10.5
    watchdog.tick([ModelStatus("m", RouteStatus(0, 9, mirror_pct=12.5), **slots)])
    held = database.read_release(release.id)
    assert (Phase.HELD, 0.0, 0) == (
        held.phase,
        database.read_plan("m").route.mirror_pct,
        database.read_plan("m").route.green_pct,
    )
    assert "requests are no longer copied" in held.reason


def test_the_watchdog_ends_an_evaluation_that_lost_its_controller_at_the_end(database: ReleaseDatabase) -> None:
    promote(database, 1, now=100.0)
    release = mirror(database, 2, now=200.0)
    harm = Observation(edge_share=0, edge_mirror=12.5, gates=(Gate("error_rate", Verdict.HARM, "9 of 10", "1 of 10"),))
    closing = step(database, release, harm, 201.0)
    now_s = [0.0]
    watchdog = Watchdog(database, "n", timeout_s=10, monotonic=lambda: now_s[0], clock=lambda: 300.0)
    for at_s, mirror_pct, phase in ((0.0, 12.5, Phase.CLOSING), (11.0, 12.5, Phase.CLOSING), (12.0, 0.0, Phase.EVALUATED)):
        now_s[0] = at_s
        watchdog.tick([ModelStatus("m", RouteStatus(0, 9, mirror_pct=mirror_pct))])
        assert phase is database.read_release(closing.id).phase
    ended = database.read_release(closing.id)
    assert (Verdict.HARM, "error_rate is HARM: 9 of 10 (allowed: 1 of 10)") == (ended.verdict, ended.reason)


def test_nodes_that_differ_in_what_they_copy_confirm_nothing(database: ReleaseDatabase) -> None:
    one, other = (ModelStatus("m", RouteStatus(0, 3, mirror_pct=mirror_pct)) for mirror_pct in (12.5, 0.0))
    database.write_status("one", [one], 100.0)
    assert database.read_status("m", 101.0).route.mirror == 12.5  # type: ignore[union-attr]
    database.write_status("two", [other], 100.0)
    merged = database.read_status("m", 101.0)
    assert merged and (0, None) == (merged.route.share(Slot.GREEN), merged.route.mirror)


def test_a_database_that_cannot_be_reached_says_so_without_the_password() -> None:
    away = ReleaseDatabase("postgresql://someone:secret@127.0.0.1:9/none")
    with pytest.raises(DatabaseError, match="check that it runs") as caught:
        away.prepare()
    assert "secret" not in str(caught.value)


def test_a_file_where_the_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "db").write_text("not a folder")
    with pytest.raises(DatabaseError, match="cannot create the folder of sqlite"):
        ReleaseDatabase(f"sqlite:///{tmp_path}/db/x/release.db").prepare()


CANARY = replace(PLAN, strategy="canary", canary=CanaryPlan(steps=(5,), step_min_s=0, approvals=(5,)))


def ask(database: ReleaseDatabase, now: float) -> Release:
    """A canary that asks a person before its first step."""
    release = database.start("m", 2, CANARY, "driver", now, LEASE_S)
    ready = SlotStatus(package(2).digest, 1, 1)
    for seen in (
        Observation(package=package(2)),
        Observation(candidate=ready),
        Observation(candidate=ready, smoke=tuple(Gate(name, Verdict.SAFE) for name in SMOKE_GATES)),
        Observation(candidate=ready, edge_share=0),
        Observation(candidate=ready, edge_share=0),
    ):
        release = step(database, release, seen, now)
    assert (Phase.CANARY, "5 % needs an approval") == (release.phase, release.waiting)
    return release


def test_a_canary_needs_a_champion_to_compare_with(database: ReleaseDatabase) -> None:
    with pytest.raises(ReleaseError, match="m has no champion to compare version 2 with"):
        database.start("m", 2, CANARY, "driver", 100.0, LEASE_S)


def test_a_canary_comes_back_as_it_was_written_and_its_story_tells_who_was_asked(database: ReleaseDatabase) -> None:
    promote(database, 1, now=100.0)
    release = ask(database, now=200.0)
    assert release == database.read_release(release.id)
    last = database.read_events(release.id)[-1]
    assert (0, True, "5 % needs an approval") == (last.step, last.settled, last.waiting)


def test_a_person_answers_what_is_asked_and_the_answer_is_obeyed_once(database: ReleaseDatabase) -> None:
    promote(database, 1, now=100.0)
    with pytest.raises(NothingToDecideError, match="m: no release is under way"):
        database.decide("m", Command.APPROVE, "me", "why not", 150.0)
    release = ask(database, now=200.0)
    assert database.read_decision(release.id) is None
    assert release.id == database.decide("m", Command.APPROVE, "me", "why not", 201.0).id
    decision = database.read_decision(release.id)
    assert decision and ("me", Command.APPROVE, "why not") == (decision.actor, decision.command, decision.reason)
    after, asked = advance(release, Observation(command=decision.command, command_reason=decision.reason), 202.0)
    gates = (Gate("error_rate", Verdict.SAFE, "0 %", "2 %"),)
    after = database.commit(release, after, asked, "driver", 202.0, decision, gates)
    assert (1, 5, 5) == (after.step, after.split, database.read_plan("m").route.share(after.slot))
    last = database.read_events(release.id)[-1]
    assert ("me", "why not", gates) == (last.actor, last.reason, last.gates)
    assert database.read_decision(release.id) is None
    with pytest.raises(NothingToDecideError, match="is canary and asks nobody"):
        database.decide("m", Command.APPROVE, "me", "again", 203.0)


def test_a_decision_that_was_not_written_with_its_step_is_still_to_be_obeyed(database: ReleaseDatabase) -> None:
    promote(database, 1, now=100.0)
    release = ask(database, now=200.0)
    database.decide("m", Command.APPROVE, "me", "why not", 201.0)
    decision = database.read_decision(release.id)
    stale = replace(release, row_version=release.row_version - 1)
    with pytest.raises(StaleControllerError):
        database.commit(stale, stale, (), "driver", 202.0, decision)
    assert decision == database.read_decision(release.id)


def test_people_are_to_be_told_once_of_what_concerns_them(database: ReleaseDatabase) -> None:
    promote(database, 1, now=100.0)
    release = ask(database, now=200.0)
    untold = database.read_untold()
    assert [("promoted", ""), ("canary", "5 % needs an approval")] == [(event.phase, event.waiting) for event in untold]
    for event in untold:
        database.mark_told(event.id)
    database.commit(release, replace(release, waited_s=5.0), (), "driver", 202.0)
    assert () == database.read_untold()
