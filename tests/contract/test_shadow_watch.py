"""What the edge counts of copies becomes evidence; what it does not count any more is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hotcold.adapters.counter_database import CounterDatabase
from hotcold.adapters.release_database import Event, ReleaseDatabase
from hotcold.domain.edge import shadow_name
from hotcold.domain.edge_counters import ClusterCounters, Running
from hotcold.domain.errors import EvidenceError
from hotcold.domain.gate import Verdict
from hotcold.domain.plan import Plan
from hotcold.domain.release import Phase, Release
from hotcold.domain.serving import Slot
from hotcold.domain.shadow.limits import Limits
from hotcold.settings import Settings
from tasks.shadow_watch import CopyCount, copies_began
from tests.fixtures.shadow_logs import CANDIDATE, CHAMPION, MODEL

RELEASE = Release("r1", MODEL, 2, Plan("shadow", limits=Limits(lost_pct=20.0)), Slot.GREEN, CHAMPION, CANDIDATE, Phase.SHADOW)


class Edge:
    """Counters of one edge, second by second."""

    def __init__(self, url: str) -> None:
        self.releases, self.sums = ReleaseDatabase(url), CounterDatabase(url)
        self.releases.prepare()
        self.now, self.total = 1000.0, ClusterCounters()

    def second(self, copied: int, lost: int = 0, counts: bool = True) -> None:
        self.now += 1.0
        self.total = self.total + ClusterCounters(copied=copied, timed_out=lost)
        running = Running("s", 1.0, self.total, self.total)
        self.sums.write_running("n", {shadow_name(MODEL, Slot.GREEN): running})
        self.releases.write_status("n", (), self.now, "http://127.0.0.1:1", self.now if counts else 1.0)


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    made = Edge(f"sqlite:///{tmp_path / 'release.db'}")
    made.second(0)
    yield made
    made.releases.close()
    made.sums.close()


@pytest.fixture
def copies(edge: Edge, tmp_path: Path) -> Iterator[CopyCount]:
    made = CopyCount(Settings(database_url=f"sqlite:///{tmp_path / 'release.db'}"), RELEASE, lambda: edge.now)
    made.look()
    yield made
    made.close()


def test_copies_that_are_answered_become_safe_and_lost_ones_harm(edge: Edge, copies: CopyCount) -> None:
    assert Verdict.UNKNOWN is copies.gate.verdict
    for _ in range(40):
        edge.second(copied=50)
        copies.look()
    assert Verdict.SAFE is copies.gate.verdict, copies.gate.sentence
    for _ in range(60):
        edge.second(copied=50, lost=40)
        copies.look()
    assert Verdict.HARM is copies.gate.verdict, copies.gate.sentence


def test_on_little_traffic_a_copy_is_lost_in_a_second_without_others(edge: Edge, copies: CopyCount) -> None:
    for _ in range(60):
        edge.second(copied=1)
        copies.look()
        edge.second(copied=0, lost=1)
        copies.look()
    assert Verdict.HARM is copies.gate.verdict, copies.gate.sentence


def test_counters_that_are_old_are_no_evidence_and_take_safe_back(edge: Edge, copies: CopyCount) -> None:
    for _ in range(40):
        edge.second(copied=50)
        copies.look()
    edge.second(copied=50, counts=False)
    with pytest.raises(EvidenceError, match="not been read") as error:
        copies.look()
    copies.doubt(str(error.value))
    assert (Verdict.UNKNOWN, True) == (copies.gate.verdict, "but now" in copies.gate.observed)


def _event(at: float, phase: Phase) -> Event:
    return Event(at=at, actor="a", phase=phase, split=0, reason="", instructions=(), release_id="r1")


def test_being_taken_over_is_no_break_but_being_held_and_resumed_is() -> None:
    taken_over = [_event(1, Phase.SMOKE), _event(2, Phase.SHADOW), _event(5, Phase.SHADOW), _event(9, Phase.CLOSING)]
    resumed = [*taken_over[:2], _event(3, Phase.HELD), _event(4, Phase.DEPLOYING), _event(6, Phase.SHADOW)]
    assert (2, 6, None) == (copies_began(taken_over), copies_began(resumed), copies_began(taken_over[:1]))
