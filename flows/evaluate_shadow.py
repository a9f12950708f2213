"""Evaluate a version on copies of live requests: it answers nobody, and gets a verdict."""

from typing import Annotated

from prefect import State, flow
from prefect.states import Completed, Failed
from pydantic import Field

from hotcold.domain.gate import Verdict
from hotcold.domain.release import Phase, Release
from hotcold.settings import Settings
from tasks.comparison import compare_release, require_prediction_log
from tasks.context import candidate_version
from tasks.driver import ReleaseDriver
from tasks.forms import ModelName, ReleaseId, ShadowPlan
from tasks.reporting import publish_release_report
from tasks.shadow_report import log_shadow_if_reachable, publish_shadow_report

Version = Annotated[int | None, Field(ge=1)]


@flow(name="evaluate-shadow", flow_run_name="evaluate {model} in the shadow", persist_result=False)
def evaluate_shadow(
    model: ModelName = "flights",
    version: Version = None,
    plan: ShadowPlan = ShadowPlan(),
    continues: ReleaseId = "",
) -> State:
    """Compare a version with the champion on live requests, without any effect on who asks.

    The idle slot gets the package and is smoke-tested; then the edge copies requests to it, and both sides' answers are
    compared until the evidence decides or the time is over. The verdict, and why, is in the report: an artifact of this run,
    and a page in MLflow. SAFE and UNKNOWN leave the version as candidate; a release is a decision of its own.

    Args:
        model: Registered model name.
        version: Registry version; empty: the one with the alias `candidate`.
        plan: How much is copied, for how long, and what has to hold.
        continues: Id of a release that lost its driver; empty, except where `guard-release` has this run go on with one.
    """
    require_prediction_log()
    candidate = candidate_version(model, version, continues)
    driver = ReleaseDriver(Settings())
    try:
        release = driver.drive(driver.open_release(model, candidate, plan.to_plan(), continues))
        events, gates = driver.database.read_events(release.id), driver.gates
    finally:
        driver.close(model)
    publish_release_report(release, events, gates)
    if report := compare_release(release, events, gates):
        log_shadow_if_reachable(report)
        publish_shadow_report(report)
    return _state_of(release)


def _state_of(release: Release) -> State:
    candidate = release.candidate.tag if release.candidate else f"version {release.version}"
    if release.phase is not Phase.EVALUATED:
        return Failed(message=f"{candidate} is {release.phase.value}: {release.reason or 'another controller drives it'}")
    message = f"{candidate} is {release.verdict}: {release.reason}"
    return Failed(message=message) if release.verdict is Verdict.HARM else Completed(message=message)
