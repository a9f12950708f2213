"""Evaluate a version on logged requests: nothing is copied to it, so it may be any version, however risky."""

import time
from typing import Annotated

from prefect import State, flow
from prefect.states import Completed, Failed
from pydantic import Field

from hotcold.domain.gate import Verdict
from hotcold.domain.shadow.limits import Limits
from tasks.comparison import require_prediction_log
from tasks.context import open_registry
from tasks.forms import ModelName, Tolerated
from tasks.packaging import package_version
from tasks.replaying import read_champion, replay_requests_on_dask
from tasks.shadow_report import log_shadow_if_reachable, publish_shadow_report

Version = Annotated[int | None, Field(ge=1)]


@flow(name="replay-shadow", flow_run_name="replay requests of {model}", persist_result=False)
def replay_shadow(
    model: ModelName = "flights",
    version: Version = None,
    hours: Annotated[float, Field(gt=0, le=8760)] = 24.0,
    limits: Tolerated = Tolerated(),
) -> State:
    """Score the requests of the last hours with a version, and compare it with the champion's answers.

    Nothing is deployed and no traffic is copied. What only live requests show, failures and latency, is not judged.

    Args:
        model: Registered model name.
        version: Registry version; empty: the one with the alias `candidate`.
        hours: How far back requests count.
        limits: How much worse or different the version may be.
    """
    require_prediction_log()
    number = open_registry().resolve(model, version, alias="candidate")
    champion = read_champion(model)
    candidate = package_version(model, number, None, True)
    until_s = time.time()
    tolerated = Limits.from_json(limits.model_dump())
    report = replay_requests_on_dask(champion, candidate, until_s - hours * 3600, until_s, tolerated)
    log_shadow_if_reachable(report)
    publish_shadow_report(report)
    message = f"{candidate.tag} is {report.verdict}: {report.reason}"
    return Failed(message=message) if report.verdict is Verdict.HARM else Completed(message=message)
