"""Evaluations on copies of live requests, on the whole stack: who asks never notices, and the verdict is told everywhere."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import psutil
import pytest

from hotcold.adapters.mlflow_client import connect
from hotcold.domain.gate import Verdict
from hotcold.domain.release import Phase, Release
from hotcold.domain.serving import Slot
from hotcold.domain.traffic import summarise
from tests.fixtures.stack import wait_for
from tests.fixtures.world import MODEL, World

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

# As strict as half a minute of requests allows.
LIMITS = {"score_change": 0.2, "flips_per_1000": 300, "error_pct": 25, "slow_pct": 25, "lost_pct": 25, "cost_per_flip": 12}
PLAN: dict[str, Any] = {
    "replicas": 1,
    "shadow_min_s": 3,
    "shadow_max_s": 90,
    "shadow_min_pairs": 200,
    "latency_budget_ms": 500,
    "limits": LIMITS,
}


def evaluate(world: World, version: int, **changes: Any) -> Any:
    """Run evaluate-shadow to its end."""
    plan = {**PLAN, **changes}
    return world.stack.run_flow("evaluate-shadow/evaluate-shadow", 240, model=MODEL, version=version, plan=plan)


def test_a_version_that_is_as_good_is_safe_and_nobody_gets_its_answers(world: World, versions: tuple[int, int]) -> None:
    first, second = versions
    world.ensure_champion(first)
    with world.load() as load:
        run = evaluate(world, second)
    release = world.latest()
    assert ("COMPLETED", Phase.EVALUATED, Verdict.SAFE) == (run.state, release.phase, release.verdict), run.message
    assert first == world.champion()
    assert {"1.0.0"} == {exchange.version for exchange in load.results()}
    assert world.database.read_plan(MODEL).slot(release.slot).package is None
    _require_report(world, second, release)


def _require_report(world: World, version: int, release: Release) -> None:
    """The page and the verdict are in MLflow, and the page in Prefect."""
    client = connect(world.stack.record.mlflow_url)
    tags = client.get_model_version(MODEL, str(version)).tags
    assert "SAFE" == tags["hotcold.shadow.verdict"]
    files = {file.path for file in client.list_artifacts(tags["hotcold.shadow.run"])}
    assert {"report.html", "report.json"} <= files
    artifacts = httpx.post(f"{world.stack.record.prefect_api_url}/artifacts/latest/filter", json={}, trust_env=False).json()
    page = next(artifact["data"] for artifact in artifacts if artifact["key"] == f"shadow-{MODEL}")
    assert ("SAFE" in page, release.id[:8] in page) == (True, True)


def test_a_candidate_that_hangs_is_harm_and_no_request_fails(world: World, versions: tuple[int, int]) -> None:
    first, second = versions
    world.ensure_champion(first)
    with world.load() as load:
        run = world.prefect.start(
            "evaluate-shadow/evaluate-shadow", {"model": MODEL, "version": second, "plan": {**PLAN, "shadow_min_s": 60}}
        )
        wait_for(lambda: world.latest().phase is Phase.SHADOW and world.latest().in_phase_s > 2, 90, "copies")
        before = len(load.results())
        with hanging(world, world.latest().slot):
            wait_for(lambda: not world.latest().active, 90, "the end of the evaluation")
        wait_for(lambda: world.prefect.read(run.id).ended, 90, "the end of the run")
    release, run = world.latest(), world.prefect.read(run.id)
    assert (Phase.EVALUATED, Verdict.HARM, "FAILED") == (release.phase, release.verdict, run.state), release.reason
    assert {"1.0.0"} == {exchange.version for exchange in load.results()}
    assert summarise(load.results()[before:]).p99_ms < 100


def test_the_same_version_on_logged_requests_gets_a_verdict_without_copies(world: World, versions: tuple[int, int]) -> None:
    first, second = versions
    world.ensure_champion(first)
    with world.load() as load:
        wait_for(lambda: len(load.results()) > 500, 60, "requests")
    releases = len(world.database.read_releases(MODEL, 100))
    limits = {name: value for name, value in LIMITS.items() if name in ("score_change", "flips_per_1000")}
    run = world.stack.run_flow("replay-shadow/replay-shadow", 120, model=MODEL, version=second, hours=0.5, limits=limits)
    assert ("COMPLETED", True) == (run.state, "is SAFE" in run.message), run.message
    assert releases == len(world.database.read_releases(MODEL, 100))
    assert "SAFE" == connect(world.stack.record.mlflow_url).get_model_version(MODEL, str(second)).tags["hotcold.shadow.verdict"]


@contextmanager
def hanging(world: World, slot: Slot) -> Iterator[None]:
    """Replicas of a slot that take connections and answer nothing; the agent may kill them meanwhile."""
    found = replicas(world, slot)
    assert found
    for process in found:
        process.suspend()
    try:
        yield
    finally:
        for process in found:
            if process.is_running():
                os.kill(process.pid, signal.SIGCONT)


def replicas(world: World, slot: Slot) -> list[psutil.Process]:
    """Processes of this installation's replicas in a slot."""
    agent = psutil.Process(world.stack.process("agent").pid)
    found = []
    for process in psutil.process_iter():
        try:
            environ = process.environ()
        except psutil.Error:
            continue
        same = environ.get("HOTCOLD_HOME") == agent.environ().get("HOTCOLD_HOME")
        if same and environ.get("HOTCOLD_SLOT") == slot.value and "services.replica" in process.cmdline():
            found.append(process)
    return found


def test_a_run_that_is_killed_leaves_no_copies_and_the_next_one_evaluates_anew(world: World, versions: tuple[int, int]) -> None:
    first, second = versions
    world.ensure_champion(first)
    with world.load():
        run = world.prefect.start("evaluate-shadow/evaluate-shadow", {"model": MODEL, "version": second, "plan": PLAN})
        wait_for(lambda: world.latest().phase is Phase.SHADOW and world.latest().in_phase_s > 2, 90, "copies")
        release = world.latest()
        world.kill_flow(run)
        wait_for(lambda: world.database.read_release(release.id).phase is Phase.HELD, 40, "the agent holds the release")
        wait_for(lambda: world.database.read_plan(MODEL).route.mirror_pct == 0, 5, "the copies end")
        again = evaluate(world, second)
    release = world.database.read_release(release.id)
    assert ("COMPLETED", Phase.EVALUATED, Verdict.SAFE) == (again.state, release.phase, release.verdict), again.message
    assert first == world.champion()
