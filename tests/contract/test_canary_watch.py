"""Edge and log together: failures at the edge are harm; a source that is empty, falls or contradicts the log is never SAFE."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from prefect.logging import disable_run_logger

from hotcold.adapters.counter_database import CounterDatabase
from hotcold.adapters.release_database import ReleaseDatabase
from hotcold.domain.canary.spans import Span
from hotcold.domain.edge import cluster_name
from hotcold.domain.edge_counters import ClusterCounters, Running
from hotcold.domain.errors import EvidenceError
from hotcold.domain.gate import Gate, Verdict
from hotcold.domain.plan import Plan
from hotcold.domain.release import Phase, Release
from hotcold.domain.serving import Slot
from hotcold.settings import Settings
from tasks.canary_watch import CanaryWatch, FailureCount
from tests.fixtures.prediction_logs import START_S
from tests.fixtures.shadow_logs import CANDIDATE, CHAMPION, MODEL, Request, write_candidate, write_champion

RELEASE = Release("r1", MODEL, 2, Plan(), Slot.GREEN, CHAMPION, CANDIDATE, Phase.CANARY)
SPAN = Span(50, START_S)


class Scene:
    """One edge whose counters rise second by second, and the spans that the release has had."""

    def __init__(self, folder: Path) -> None:
        url = f"sqlite:///{folder / 'release.db'}"
        self.settings = Settings(database_url=url, run_dir=folder, prediction_log=True)
        self.releases, self.sums = ReleaseDatabase(url), CounterDatabase(url)
        self.releases.prepare()
        self.now, self.total = START_S, ClusterCounters()
        self.spans: tuple[Span, ...] = (SPAN,)

    def second(self, good: int, failed: int = 0, counts: bool = True) -> None:
        self.now += 1.0
        came = tuple((code, n) for code, n in ((200, good), (503, failed)) if n)
        self.write(self.total + ClusterCounters(codes=came), counts)

    def write(self, total: ClusterCounters, counts: bool = True) -> None:
        self.total = total
        self.sums.write_running("n", {cluster_name(MODEL, Slot.GREEN): Running("s", 1.0, total, total)})
        self.releases.write_status("n", (), self.now, "http://127.0.0.1:1", self.now if counts else 1.0)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    made.second(1)
    yield made
    made.releases.close()
    made.sums.close()


@pytest.fixture
def failures(scene: Scene) -> Iterator[FailureCount]:
    made = FailureCount(scene.settings, RELEASE, lambda: scene.spans, lambda: scene.now)
    made.look()
    yield made
    made.close()


@pytest.fixture
def watch(scene: Scene) -> Iterator[CanaryWatch]:
    with disable_run_logger():
        made = CanaryWatch(scene.settings, RELEASE, lambda: scene.spans, lambda: scene.now)
    made._failures.look()
    yield made
    made.close()


def look(scene: Scene, failures: FailureCount, seconds: int, good: int, failed: int = 0) -> None:
    for _ in range(seconds):
        scene.second(good, failed)
        failures.look()


def test_answers_that_fail_at_the_edge_are_harm_and_good_ones_become_safe(scene: Scene, failures: FailureCount) -> None:
    assert Verdict.UNKNOWN is failures.gate.verdict
    look(scene, failures, 320, good=50)
    assert Verdict.SAFE is failures.gate.verdict, failures.gate.sentence
    look(scene, failures, 40, good=25, failed=25)
    assert (Verdict.HARM, "error_rate") == (failures.gate.verdict, failures.gate.name), failures.gate.sentence


def test_what_came_between_spans_does_not_count(scene: Scene, failures: FailureCount) -> None:
    scene.spans = (Span(50, START_S, scene.now),)
    look(scene, failures, 60, good=0, failed=50)
    scene.spans = (*scene.spans, Span(60, scene.now))
    scene.second(0, 50)
    failures.look()
    assert "there is no evidence" in failures.gate.observed
    look(scene, failures, 20, good=0, failed=50)
    assert Verdict.HARM is failures.gate.verdict


def test_counters_that_are_old_or_fall_are_no_evidence_and_take_safe_back(scene: Scene, failures: FailureCount) -> None:
    look(scene, failures, 320, good=50)
    total = scene.total
    for write, match in (
        (lambda: scene.second(50, counts=False), "not been read"),
        (lambda: scene.write(ClusterCounters(codes=((200, 5),))), "fell since"),
    ):
        scene.write(total)
        failures.look()
        look(scene, failures, 2, good=50)
        write()
        with pytest.raises(EvidenceError, match=match) as error:
            failures.look()
        failures.doubt(str(error.value))
        assert (Verdict.UNKNOWN, True) == (failures.gate.verdict, "but now" in failures.gate.observed)


def write_log(scene: Scene, seconds: int, per_s: int = 40) -> None:
    """Answers of both sides by turns, each of an entity of its own."""
    scores = np.random.default_rng(0).beta(2, 3, seconds * per_s)
    made = [Request(n, n / per_s, (float(s),), (float(s),), f"e{n}") for n, s in enumerate(scores)]
    root = scene.settings.prediction_dir
    mine = np.random.default_rng(1).random(len(made)) < 0.5
    write_champion(root, [r.of_champion() for r, own in zip(made, mine, strict=True) if not own])
    write_candidate(root, [r.of_candidate(shadow=False) for r, own in zip(made, mine, strict=True) if own])


def compared(watch: CanaryWatch) -> dict[str, Gate]:
    watch.compare()
    return {gate.name: gate for gate in watch._compared}


NEEDED = ("latency_budget", "score_shift", "sample_ratio")


def test_log_and_edge_that_agree_make_a_good_version_safe(scene: Scene, watch: CanaryWatch) -> None:
    write_log(scene, 400)
    look(scene, watch._failures, 400, good=20)
    found = compared(watch)
    assert dict.fromkeys(NEEDED, Verdict.SAFE) == {name: found[name].verdict for name in NEEDED}
    assert Verdict.SAFE is watch._failures.gate.verdict
    assert 7000 < watch.requests < 9000
    assert () == watch.gates, "nobody looks"


def test_a_log_with_more_answers_than_the_edge_counted_is_not_safe_and_says_so(scene: Scene, watch: CanaryWatch) -> None:
    write_log(scene, 400)
    look(scene, watch._failures, 400, good=10)
    found = compared(watch)
    assert Verdict.SAFE not in {gate.verdict for gate in found.values()}
    assert "in a time in which the edge counted" in found["score_shift"].observed
    assert (Verdict.UNKNOWN, True) == (watch._failures.gate.verdict, "the edge counted" in watch._failures.gate.observed)


def test_an_edge_that_counts_what_never_comes_into_the_log_is_not_safe(scene: Scene, watch: CanaryWatch) -> None:
    write_log(scene, 400)
    look(scene, watch._failures, 450, good=20)
    found = compared(watch)
    assert Verdict.SAFE not in {gate.verdict for gate in found.values()}
    assert "none came into the log" in found["score_shift"].observed


def test_a_watch_is_a_thread_until_it_is_closed(scene: Scene) -> None:
    with disable_run_logger():
        watch = CanaryWatch(scene.settings, RELEASE, lambda: scene.spans, lambda: scene.now)
    watch.start()
    deadline = time.monotonic() + 20
    while len(watch.gates) < 9 and time.monotonic() < deadline:
        time.sleep(0.05)
    names = [gate.name for gate in watch.gates]
    watch.close()
    assert ["error_rate", "error_ratio", "latency_budget", "latency_p99", "score_shift", "log_loss", "accuracy"] == names[:7]
    assert (["sample_ratio", "worst_segment"], ()) == (names[7:], watch.gates)
