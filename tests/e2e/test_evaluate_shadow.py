"""Evaluations on copies of live requests, on the whole stack: who asks never notices, and the verdict is told everywhere."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.faults import FindReplicas, dying, hanging, slowed
from hotcold.adapters.mlflow_client import connect
from hotcold.adapters.prefect_api import FlowRun
from hotcold.adapters.replay_client import LoadClient
from hotcold.adapters.shadow_experiment import RELEASE_TAG, RUN_TAG, VERDICT_TAG
from hotcold.domain.gate import Verdict
from hotcold.domain.release import Phase, Release
from hotcold.domain.serving import Slot
from hotcold.domain.traffic import summarise
from tests.fixtures.stack import wait_for
from tests.fixtures.world import MODEL, World

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

EVALUATE = "evaluate-shadow/evaluate-shadow"
# As strict as ten seconds of requests allow.
LIMITS = {"score_change": 0.2, "flips_per_1000": 300, "error_pct": 50, "slow_pct": 50, "lost_pct": 50, "cost_per_flip": 12}
PLAN: dict[str, Any] = {
    "replicas": 1,
    "shadow_min_s": 3,
    "shadow_max_s": 90,
    "shadow_min_pairs": 200,
    "latency_budget_ms": 500,
    "limits": LIMITS,
}
# A candidate that is well is SAFE by these in the end, but not while a test takes to break it.
STRICT = {
    **PLAN,
    "shadow_min_s": 60,
    "latency_budget_ms": 5,
    "limits": {**LIMITS, "error_pct": 10, "slow_pct": 5, "lost_pct": 10},
}


def start(world: World, version: int, plan: Mapping[str, Any]) -> FlowRun:
    return world.prefect.start(EVALUATE, {"model": MODEL, "version": version, "plan": plan})


def await_copies(world: World, count: int = 150) -> Release:
    """The release under way, when so many requests were copied in it."""
    wait_for(lambda: world.latest().phase is Phase.SHADOW, 90, "the evaluation")
    slot = world.latest().slot
    before = world.copies(slot)
    wait_for(lambda: world.copies(slot) >= before + count, 30, "copies")
    return world.latest()


def require_no_copies(world: World, slot: Slot, load: LoadClient) -> None:
    """Requests go on, none of them is copied any more, and the candidate is gone."""
    wait_for(lambda: world.database.read_plan(MODEL).slot(slot).package is None, 10, "the end of the candidate")
    assert 0 == world.database.read_plan(MODEL).route.mirror_pct
    wait_for(lambda: not world.replicas(slot), 30, "the end of its replicas")
    copied, answered = world.copies(slot), len(load.results())
    wait_for(lambda: len(load.results()) > answered + 40, 30, "requests after the end")
    assert copied == world.copies(slot)


def recorded(world: World, version: int, folder: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Tags of the run in MLflow that the version names, and the report in it."""
    client = connect(world.stack.record.mlflow_url)
    tags = client.get_model_version(MODEL, str(version)).tags
    run_id = tags[RUN_TAG]
    page, document = (client.download_artifacts(run_id, name, str(folder)) for name in ("report.html", "report.json"))
    assert tags[VERDICT_TAG] in Path(page).read_text(encoding="utf-8")
    return {**client.get_run(run_id).data.tags, VERDICT_TAG: tags[VERDICT_TAG]}, json.loads(Path(document).read_text())


def require_report(world: World, release: Release, folder: Path) -> dict[str, Any]:
    """Verdict and reason of this release are in MLflow and in Prefect; the report."""
    tags, document = recorded(world, release.version, folder)
    verdict = str(release.verdict)
    assert (release.id, verdict) == (tags[RELEASE_TAG], tags[VERDICT_TAG])
    assert (release.id, verdict, release.reason) == tuple(document[name] for name in ("release", "verdict", "reason"))
    artifacts = httpx.post(f"{world.stack.record.prefect_api_url}/artifacts/latest/filter", json={}, trust_env=False).json()
    page = next(artifact["data"] for artifact in artifacts if artifact["key"] == f"shadow-{MODEL}")
    assert (True, True) == (verdict in page, release.id[:8] in page)
    return document


def test_a_version_that_is_as_good_is_safe_also_after_a_run_that_was_killed_and_nobody_gets_its_answers(
    world: World, versions: tuple[int, int], tmp_path: Path
) -> None:
    """The killed run leaves no copies, and the next one evaluates anew."""
    first, second = versions
    world.ensure_champion(first)
    with world.load() as load:
        run = start(world, second, PLAN)
        release = await_copies(world, count=20)
        world.kill_flow(run)
        wait_for(lambda: world.database.read_release(release.id).phase is Phase.HELD, 40, "the agent holds the release")
        wait_for(lambda: world.database.read_plan(MODEL).route.mirror_pct == 0, 5, "the copies end")
        again = world.drive_on(release)
        wait_for(lambda: world.prefect.read(again).ended, 240, "the end of the next run")
        require_no_copies(world, release.slot, load)
    release = world.database.read_release(release.id)
    assert ("COMPLETED", Phase.EVALUATED, Verdict.SAFE) == (
        world.prefect.read(again).state,
        release.phase,
        release.verdict,
    ), world.prefect.read(again).message
    assert first == world.champion()
    assert {"1.0.0"} == {exchange.version for exchange in load.results()}
    report = require_report(world, release, tmp_path)
    assert report["pairs"] >= PLAN["shadow_min_pairs"]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        # Copies that nobody answers; or, where these end too soon to tell, because the edge finds it ill, that it stays so.
        pytest.param(hanging, "copies is HARM: |no replica of the candidate answered within 15 s", id="that hangs"),
        pytest.param(partial(dying, every_s=0.5), "no replica of the candidate is ready", id="that dies again and again"),
        pytest.param(partial(slowed, turn_s=0.001), "latency_budget is HARM: ", id="that is ten times slower"),
    ],
)
def test_a_candidate_is_harm_for_what_is_wrong_with_it_and_no_request_fails(
    world: World,
    versions: tuple[int, int],
    tmp_path: Path,
    fault: Callable[[FindReplicas], AbstractContextManager[None]],
    reason: str,
) -> None:
    first, second = versions
    world.ensure_champion(first)
    with world.load() as load:
        run = start(world, second, STRICT)
        release = await_copies(world)
        before = len(load.results())
        with fault(lambda: world.replicas(release.slot)):
            wait_for(lambda: not world.database.read_release(release.id).active, 90, "the end of the evaluation")
        require_no_copies(world, release.slot, load)
        wait_for(lambda: world.prefect.read(run.id).ended, 90, "the end of the run")
    release, run = world.database.read_release(release.id), world.prefect.read(run.id)
    assert (Phase.EVALUATED, Verdict.HARM, "FAILED") == (release.phase, release.verdict, run.state), release.reason
    assert re.match(reason, release.reason), release.reason
    assert release.reason in run.message
    assert {"1.0.0"} == {exchange.version for exchange in load.results()}
    assert summarise(load.results()[before:]).p99_ms < 100
    require_gate(require_report(world, release, tmp_path), release.reason)


def require_gate(report: Mapping[str, Any], reason: str) -> None:
    """The gate that a reason names says the same in the report."""
    name, is_gate, _ = reason.partition(" is HARM: ")
    verdicts = {gate["name"]: gate["verdict"] for gate in report["gates"]}
    assert not is_gate or "HARM" == verdicts[name], verdicts


def test_the_same_version_on_logged_requests_gets_a_verdict_without_copies(
    world: World, versions: tuple[int, int], tmp_path: Path
) -> None:
    first, second = versions
    world.ensure_champion(first)
    with world.load() as load:
        wait_for(lambda: len(load.results()) > 300, 60, "requests")
    releases = len(world.database.read_releases(MODEL, 100))
    client = connect(world.stack.record.mlflow_url)
    before = client.get_model_version(MODEL, str(second)).tags.get(RUN_TAG)
    limits = {name: value for name, value in LIMITS.items() if name in ("score_change", "flips_per_1000")}
    run = world.stack.run_flow("replay-shadow/replay-shadow", 120, model=MODEL, version=second, hours=0.25, limits=limits)
    assert ("COMPLETED", True) == (run.state, "is SAFE" in run.message), run.message
    assert releases == len(world.database.read_releases(MODEL, 100))
    tags, report = recorded(world, second, tmp_path)
    assert client.get_model_version(MODEL, str(second)).tags[RUN_TAG] != before, "the tag is an earlier comparison's"
    assert ("SAFE", run.id) == (tags[VERDICT_TAG], tags[RELEASE_TAG])
    assert ("SAFE", "logged requests, scored anew", True) == (report["verdict"], report["source"], report["pairs"] >= 300)
