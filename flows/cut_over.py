"""Release a version to all traffic at once, after smoke tests, and watch it before it becomes champion."""

from typing import Annotated

from prefect import State, flow
from pydantic import Field

from hotcold.settings import Settings
from tasks.context import candidate_version
from tasks.driver import ReleaseDriver
from tasks.forms import BlueGreenPlan, ModelName, ReleaseId
from tasks.reporting import outcome, publish_release_report

Version = Annotated[int | None, Field(ge=1)]


@flow(name="cut-over", flow_run_name="cut over {model}", persist_result=False)
def cut_over(
    model: ModelName = "flights",
    version: Version = None,
    plan: BlueGreenPlan = BlueGreenPlan(),
    continues: ReleaseId = "",
) -> State:
    """Release a version of a model to all live traffic, blue-green.

    The idle slot gets the package and is smoke-tested beside the live traffic; then the edge switches. While the candidate
    bakes, its health and golden rows at the edge are watched. The slot before stays warm: `roll-back` is a route change.

    Args:
        model: Registered model name.
        version: Registry version; empty: the one with the alias `candidate`.
        plan: How to proceed, and what has to hold.
        continues: Id of a release that lost its driver; empty, except where `guard-release` has this run go on with one.
    """
    candidate = candidate_version(model, version, continues)
    driver = ReleaseDriver(Settings())
    try:
        release = driver.open_release(model, candidate, plan.to_plan(), continues)
        release = driver.drive(release)
        publish_release_report(release, driver.database.read_events(release.id), driver.gates)
    finally:
        driver.close(model)
    return outcome(release, "cut-over")
