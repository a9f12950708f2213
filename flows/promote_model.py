"""Promote a version: copies first, then a growing share of the live requests, and all of them if every gate is SAFE."""

from typing import Annotated

from prefect import State, flow
from pydantic import Field

from hotcold.settings import Settings
from tasks.comparison import compare_release, require_prediction_log
from tasks.context import candidate_version
from tasks.driver import ReleaseDriver
from tasks.forms import ModelName, PromotionPlan, ReleaseId
from tasks.promotion_report import publish_forecast, publish_timeline
from tasks.reporting import outcome, publish_release_report
from tasks.shadow_report import log_shadow_if_reachable, publish_shadow_report

Version = Annotated[int | None, Field(ge=1)]


@flow(name="promote-model", flow_run_name="promote {model}", persist_result=False)
def promote_model(
    model: ModelName = "flights",
    version: Version = None,
    plan: PromotionPlan = PromotionPlan(),
    continues: ReleaseId = "",
) -> State:
    """Bring a version to all live traffic, step by step, and back again at the first harm.

    The idle slot gets the package and is smoke-tested. Copies of live requests tell whether it may have real ones. Then its
    share grows as the plan says; at each step the gates have to be SAFE, and where the plan says so a person is asked, here in
    the UI. Harm at any time gives all traffic and all scores back to the champion. The next run goes on with one that died.

    Args:
        model: Registered model name.
        version: Registry version; empty: the one with the alias `candidate`.
        plan: Steps, gates, limits and approvals.
        continues: Id of a release that lost its driver; empty, except where `guard-release` has this run go on with one.
    """
    require_prediction_log()
    wanted = plan.to_plan()
    candidate = candidate_version(model, version, continues)
    if not continues:
        publish_forecast(model, wanted)
    driver = ReleaseDriver(Settings())
    try:
        release = driver.drive(driver.open_release(model, candidate, wanted, continues))
        events, gates = driver.database.read_events(release.id), driver.gates
    finally:
        driver.close(model)
    publish_release_report(release, events, gates)
    publish_timeline(release, events)
    if report := compare_release(release, events, gates):
        log_shadow_if_reachable(report)
        publish_shadow_report(report)
    return outcome(release, "promote-model")
