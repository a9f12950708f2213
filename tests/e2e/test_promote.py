"""Promotions on the whole stack: a good version arrives at 100 %, a bad one is gone, whatever crashes meanwhile."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from hotcold.domain.release import Phase
from hotcold.domain.serving import Slot
from tests.fixtures.stack import wait_for
from tests.fixtures.world import MODEL, World

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

# As strict as some seconds of requests allow.
LIMITS = {"score_change": 0.3, "flips_per_1000": 400, "error_pct": 40, "slow_pct": 40, "lost_pct": 40}
STEPS: dict[str, Any] = {
    "steps": [20, 50],
    "step_min_s": 2,
    "step_min_requests": 20,
    "step_max_s": 90,
    "gates": ["replica_health", "error_rate", "latency_budget"],
}
PLAN: dict[str, Any] = {
    "replicas": 1,
    "shadow_first": False,
    "latency_budget_ms": 500,
    "limits": LIMITS,
    "canary": STEPS,
    "bake_s": 2,
}


def start(world: World, version: int, **changes: Any) -> Any:
    plan = {**PLAN, **changes}
    return world.prefect.start("promote-model/promote-model", {"model": MODEL, "version": version, "plan": plan})


def artifacts(world: World) -> dict[str, str]:
    found = httpx.post(f"{world.stack.record.prefect_api_url}/artifacts/latest/filter", json={}, trust_env=False).json()
    return {artifact["key"]: str(artifact["data"]) for artifact in found}


def test_a_good_version_is_promoted_step_by_step_and_a_person_answers_in_the_ui(
    world: World, versions: tuple[int, int]
) -> None:
    first, second = versions
    world.ensure_champion(first)
    with world.load() as load:
        run = start(world, second, canary={**STEPS, "approvals": [100]})
        wait_for(lambda: world.prefect.read(run.id).state == "PAUSED", 150, "the question in the UI")
        release = world.latest()
        assert (Phase.CANARY, 50, "100 % needs an approval") == (release.phase, release.split, release.waiting)
        seen = len(load.results())
        wait_for(lambda: len(load.results()) > seen + 200, 30, "requests")
        served = [exchange.version for exchange in load.results()[seen:]]
        assert 0.2 < served.count("1.1.0") / len(served) < 0.8
        answer_in_the_ui(world, run.id, decision="promote", reason="looks good", who="the test")
        wait_for(lambda: world.prefect.read(run.id).ended, 90, "the end of the run")
    run = world.prefect.read(run.id)
    assert ("COMPLETED", second) == (run.state, world.champion()), run.message
    assert [] == [exchange for exchange in load.results() if exchange.failed]
    events = world.database.read_events(world.latest().id)
    shares = [event.split for event in events if event.settled]
    assert [0, 20, 50, 100] == sorted(set(shares))
    (decided,) = [event for event in events if "looks good" in event.reason and event.phase is Phase.CUTOVER][:1]
    assert "the test in the Prefect UI" == decided.actor
    pages = artifacts(world)
    assert "What this plan can tell" in pages[f"forecast-{MODEL}"]
    assert "data:image/png;base64," in pages[f"timeline-{MODEL}"]
    notices = [json.loads(line) for line in (world.stack.settings.root / "notices.jsonl").read_text().splitlines()]
    of_release = [notice["phase"] for notice in notices if notice["release"] == world.latest().id]
    assert ["canary", "promoted"] == of_release


def answer_in_the_ui(world: World, run_id: str, **answer: str) -> None:
    """What the form of the UI sends."""
    url = f"{world.stack.record.prefect_api_url}/flow_runs/{run_id}/resume"
    said: list[str] = []

    def is_taken() -> bool:
        """Who is told that the server is busy clicks again."""
        sent = httpx.post(url, json={"run_input": answer}, trust_env=False, timeout=30)
        said.append(f"{sent.status_code} {sent.text}")
        assert sent.is_success or sent.status_code == httpx.codes.SERVICE_UNAVAILABLE, said
        return sent.is_success and sent.json()["status"] == "ACCEPT"

    wait_for(is_taken, 30, "Prefect takes the answer")


def test_a_killed_driver_s_canary_goes_on_at_its_step_and_a_decision_from_the_command_line_ends_it(
    world: World, versions: tuple[int, int]
) -> None:
    first, second = versions
    world.ensure_champion(first)
    with world.load() as load:
        run = start(world, second, canary={**STEPS, "approvals": [50]})
        wait_for(lambda: world.latest().waiting, 150, "the question")
        release = world.latest()
        world.kill_flow(run)
        wait_for(lambda: world.latest().phase is Phase.HELD, 40, "the agent takes the traffic back")
        assert 0 == world.latest().split
        world.drive_on(release)
        wait_for(lambda: "50 %" in world.latest().waiting, 150, "the question again")
        resumed = world.latest()
        assert (release.id, release.step, 20) == (resumed.id, resumed.step, resumed.split)
        told = world.stack.hotcold("decide", MODEL, "roll-back", "--reason", "not today")
        assert 0 == told.returncode, told.stderr
        wait_for(lambda: not world.latest().active, 60, "the end of the release")
        refused = world.stack.hotcold("decide", MODEL, "promote")
        assert (1, True) == (refused.returncode, "nothing to decide" in refused.stderr)
    release = world.latest()
    assert (Phase.ROLLED_BACK, first) == (release.phase, world.champion()), release.reason
    assert "not today" in release.reason
    assert [] == [exchange for exchange in load.results() if exchange.failed]
    assert world.database.read_plan(MODEL).route.share(Slot.GREEN) in (0, 100)
