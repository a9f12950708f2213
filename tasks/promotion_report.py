"""What a promotion shows of itself: a forecast before it begins, and its story with a picture."""

import base64
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact

from hotcold.adapters.canary_markdown import forecast_markdown
from hotcold.adapters.counter_database import CounterDatabase
from hotcold.adapters.release_database import Event
from hotcold.adapters.release_picture import draw_release
from hotcold.domain.canary.forecast import Traffic, forecast_canary
from hotcold.domain.edge import cluster_name
from hotcold.domain.edge_counters import ClusterCounters, increments
from hotcold.domain.errors import DatabaseError, EvidenceError
from hotcold.domain.plan import Plan
from hotcold.domain.release import Release
from hotcold.domain.serving import Slot
from hotcold.domain.visible import visible
from hotcold.settings import Settings

_LONGEST = 300
_LOOK_S = 4.0
# What the defaults of a plan suit; assumed where nothing is counted.
_USUAL = Traffic(requests_per_s=50.0)
_LEAST_ERROR_RATE = 0.001


def publish_forecast(model: str, plan: Plan) -> None:
    """What the plan can tell at the present traffic, before it begins; nothing for a plan without steps.

    Args:
        model: registered model name.
        plan: of the release.
    """
    canary = plan.canary
    if plan.strategy != "canary" or not canary.shares:
        return
    traffic = _present_traffic(model)
    forecast = forecast_canary(
        traffic, canary.shares, plan.limits, step_min_s=canary.step_min_s, step_min_requests=canary.step_min_requests
    )
    if forecast.warning:
        get_run_logger().warning("%s", forecast.warning)
    told = visible(forecast.warning or f"At {traffic.requests_per_s:.0f} requests/s", _LONGEST)
    create_markdown_artifact(key=f"forecast-{model}", description=told, markdown=forecast_markdown(forecast))


def _present_traffic(model: str) -> Traffic:
    database = CounterDatabase(Settings().release_database_url)
    try:
        before, began = database.read_mark(model, time.time()), time.monotonic()
        time.sleep(_LOOK_S)
        came, seconds = increments(before, database.read_mark(model, time.time())), time.monotonic() - began
    except (EvidenceError, DatabaseError) as error:
        get_run_logger().warning("the forecast assumes %g requests/s: %s", _USUAL.requests_per_s, error)
        return _USUAL
    finally:
        database.close()
    counted = [came.get(cluster_name(model, slot), ClusterCounters()) for slot in Slot]
    requests = sum(count for one in counted for _, count in one.codes)
    if not requests:
        return _USUAL
    failed = sum(one.failed for one in counted)
    return Traffic(requests / seconds, min(max(failed / requests, _LEAST_ERROR_RATE), 0.5))


def publish_timeline(release: Release, events: Sequence[Event]) -> None:
    """The story of a release as a page: the picture first, then each step with what the gates said."""
    candidate = release.candidate.tag if release.candidate else f"version {release.version}"
    title = f"Release {release.id[:8]}: {candidate} {release.phase.value.replace('_', ' ')}"
    picture = base64.b64encode(draw_release(events, title)).decode()
    lines = [f"# {title}", "", release.reason, "", f"![share and gates over time](data:image/png;base64,{picture})", ""]
    lines += ["| time (UTC) | phase | share | why | by |", "|---|---|---|---|---|"]
    lines += [_row(event) for event in events if event.reason or event.settled or event.waiting]
    create_markdown_artifact(key=f"timeline-{release.model}", description=visible(title, _LONGEST), markdown="\n".join(lines))


def _row(event: Event) -> str:
    time = datetime.fromtimestamp(event.at, UTC).strftime("%H:%M:%S")
    why = visible(event.waiting or event.reason, _LONGEST).replace("|", "\\|")
    return f"| {time} | {event.phase.value} | {event.split} % | {why} | {visible(event.actor, 80)} |"
