"""The agent keeps readers of scores in line with the release, with nobody else there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotcold.adapters.score_database import ScoreDatabase
from hotcold.adapters.score_pointer import read_pointer
from hotcold.domain.errors import ScoresError
from hotcold.domain.package import Manifest
from hotcold.domain.plan import Plan
from hotcold.domain.score_table import ScoreTable
from hotcold.rollback import roll_back
from tests.fixtures.data_plane import DataPlane, wait_until

pytestmark = pytest.mark.e2e
ONE = Plan(replicas=1, bake_s=0)


@pytest.fixture
def scores(data_plane: DataPlane) -> Iterator[ScoreDatabase]:
    opened = ScoreDatabase(data_plane.settings.release_database_url)
    yield opened
    opened.close()


def publish(scores: ScoreDatabase, manifest: Manifest, output: Path) -> str:
    """A batch run that dies before it tells any reader."""
    made = ScoreTable(manifest.digest[:12], manifest.model, str(output), manifest.ref, "/in", "f", 1, False, time.time())
    scores.record(made, "test", time.time())
    assert "" == scores.publish(str(output), made.id, "test", time.time()).refused
    return made.id


def seen(output: Path) -> str:
    try:
        return read_pointer(str(output)).table
    except ScoresError:
        return ""


def test_readers_follow_publication_and_undo_and_an_agent_that_was_killed_makes_up_for_it(
    data_plane: DataPlane, scores: ScoreDatabase, small_package: Manifest, other_package: Manifest, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    data_plane.promote(small_package, ONE)
    first = publish(scores, small_package, output)
    wait_until(lambda: seen(output) == first, "the agent shows the first table", 5)
    data_plane.promote(other_package, ONE)
    second = publish(scores, other_package, output)
    wait_until(lambda: seen(output) == second, "the agent shows the second table", 5)

    roll_back(data_plane.database, small_package.model, "test", "because")
    wait_until(lambda: seen(output) == first, "readers are back", 5)

    data_plane.kill("agent")
    scores.retract(small_package.model, str(output), first, "wrong", "test", time.time())
    assert first == seen(output)
    data_plane.start("agent")
    wait_until(lambda: seen(output) == "", "the next agent takes it from them", 20)
    assert [] == [
        line for line in (data_plane.settings.log_dir / "agent.log").read_text().splitlines() if "may not see" in line
    ]
