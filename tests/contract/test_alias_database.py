"""What was seen of the alias, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from hotcold.adapters.alias_database import AliasDatabase
from hotcold.adapters.release_database import ReleaseDatabase
from hotcold.domain.alias_watch import ReleaseHistory
from tests.fixtures.release_steps import LEASE_S, PLAN, bake, promote


@pytest.fixture
def aliases(database_url: str) -> Iterator[AliasDatabase]:
    opened = AliasDatabase(database_url)
    opened.prepare()
    yield opened
    opened.close()


@pytest.fixture
def releases(aliases: AliasDatabase, database_url: str) -> Iterator[ReleaseDatabase]:
    opened = ReleaseDatabase(database_url)
    yield opened
    opened.close()


def test_what_was_seen_is_kept(aliases: AliasDatabase) -> None:
    assert aliases.read_watch("m") is None
    seen = aliases.add_sight("m", 2, 10.0)
    assert seen == aliases.read_watch("m")
    gone = aliases.add_sight("m", None, 20.0)
    assert (None, 20.0, 10.0) == (gone.version, gone.set_at, gone.free_at)
    assert gone == aliases.read_watch("m")
    assert ("m",) == aliases.read_watched()


def test_many_at_once_see_one_setting(aliases: AliasDatabase) -> None:
    with ThreadPoolExecutor(8) as threads:
        seen = list(threads.map(lambda number: aliases.add_sight("m", 2, 10.0 + number / 100), range(16)))
    assert {aliases.add_sight("m", 2, 20.0).key} == {watch.key for watch in seen}


def test_an_answer_is_for_one_setting(aliases: AliasDatabase) -> None:
    first = aliases.add_sight("m", 2, 10.0)
    second = aliases.add_sight("m", 3, 20.0)
    aliases.write_answer(first, "too late")
    assert "" == aliases.add_sight("m", 3, 30.0).answer
    aliases.write_answer(second, "run brave-owl")
    assert "run brave-owl" == aliases.add_sight("m", 3, 40.0).answer


def test_the_history_is_that_of_the_model_and_the_version(aliases: AliasDatabase, releases: ReleaseDatabase) -> None:
    assert ReleaseHistory() == aliases.read_history("m", 1)
    promote(releases, 1, now=100.0)
    assert ReleaseHistory(champion=1, ended_at=100.0) == aliases.read_history("m", 1)
    assert ReleaseHistory(champion=1) == aliases.read_history("m", 2)
    assert ReleaseHistory() == aliases.read_history("n", 1)
    releases.start("m", 2, PLAN, "driver", 200.0, LEASE_S)
    assert ReleaseHistory(champion=1, under_way=2) == aliases.read_history("m", 2)


def test_a_look_makes_no_route(aliases: AliasDatabase, releases: ReleaseDatabase) -> None:
    """A model of MLflow's that was never released is none of the agent's."""
    aliases.add_sight("m", 2, 10.0)
    assert () == releases.read_plans()


def test_a_release_that_is_to_go_on_is_no_other_one(releases: ReleaseDatabase) -> None:
    """A run that was started to go on with a release must never open one for a version that was taken back meanwhile."""
    from hotcold.domain.errors import ReleaseError

    with pytest.raises(ReleaseError, match=r"release gone of m has ended meanwhile"):
        releases.start("m", 2, PLAN, "successor", 100.0, LEASE_S, continues="gone")
    assert () == releases.read_releases("m")
    release = bake(releases, 2, 100.0)
    with pytest.raises(ReleaseError, match="has ended meanwhile"):
        releases.start("m", 2, PLAN, "successor", 200.0, LEASE_S, continues="gone")
    assert release.id == releases.start("m", 2, PLAN, "successor", 200.0, LEASE_S, continues=release.id).id
