"""Look after releases whose driver is gone."""

import time
from dataclasses import dataclass

from prefect import get_run_logger, task

from hotcold.adapters.prefect_api import FlowRun, PrefectApi
from hotcold.adapters.release_database import ReleaseDatabase
from hotcold.domain.driverless import GOES_ON, Care, care_for
from hotcold.domain.errors import StackError, StaleControllerError
from hotcold.domain.release import Command, Observation, Release, advance
from hotcold.settings import Settings
from tasks.context import controller_name, open_database, open_prefect

_HOUR_S = 3600.0
# Runs that ended before they had taken the release over, because MLflow or the database was away: one a minute.
_MOST_ATTEMPTS = 30


@dataclass(frozen=True)
class Cared:
    """What was done for the releases without a driver, a clause for each.

    Args:
        done: went on, or was ended.
        open: somebody has to look at.
    """

    done: tuple[str, ...]
    open: tuple[str, ...]


@task(name="look after releases without a driver", persist_result=False)
def look_after_releases() -> Cared:
    """Have each release whose lease ran out taken over by a run, or ended; two of these at once start one run.

    Raises:
        DatabaseError: the release database cannot be reached; the next run looks again.
    """
    database, prefect = open_database(Settings()), open_prefect()
    done: list[str] = []
    left: list[str] = []
    try:
        for release, lease in database.read_active():
            now = time.time()
            care, why = care_for(release, lease.expires_at, _takeovers(database, release, now), now)
            name = f"release {release.id[:8]} of {release.model} version {release.version} ({release.phase.value})"
            try:
                what = _give(care, database, prefect, release, why)
            except StackError as error:
                left.append(f"{name}: {error}")
                continue
            except StaleControllerError:
                # Somebody came before.
                continue
            get_run_logger().info("%s: %s", name, what)
            if care is not Care.LEAVE:
                (left if care is Care.TELL else done).append(f"{name}: {what}")
    finally:
        prefect.close()
        database.close()
    return Cared(tuple(done), tuple(left))


def _takeovers(database: ReleaseDatabase, release: Release, now: float) -> int:
    """How often the release changed hands within the last hour."""
    events = database.read_events(release.id)
    return sum(event.at > now - _HOUR_S and event.reason.startswith(("taken over", "resumed by")) for event in events)


def _give(care: Care, database: ReleaseDatabase, prefect: PrefectApi, release: Release, why: str) -> str:
    if care is Care.RESUME:
        run = start_successor(prefect, release)
        return f"{why}; run {run.name} goes on with it"
    if care is Care.END:
        _take_back(database, release, f"{why}, so it was ended")
        return f"{why}; it was ended"
    return why


def _take_back(database: ReleaseDatabase, release: Release, reason: str) -> None:
    """Write the decision, if the release still stands where it was read; the agent carries it out."""
    now = time.time()
    after, instructions = advance(release, Observation(command=Command.ROLL_BACK, command_reason=reason), now)
    database.commit(release, after, instructions, controller_name(), now)


def start_successor(prefect: PrefectApi, release: Release) -> FlowRun:
    """Start the run that takes a release over, or find it.

    The key names release and epoch, which each takeover raises. A run that ended without taking over makes room for the next.

    Raises:
        StackError: Prefect does not take it, or too many runs ended without taking it over.
    """
    parameters = {"model": release.model, "version": release.version, "continues": release.id}
    deployment = GOES_ON[release.plan.strategy]
    for attempt in range(_MOST_ATTEMPTS):
        run = prefect.start(deployment, parameters, f"resume-{release.id}-{release.epoch}-{attempt}")
        if not run.ended:
            return run
    raise StackError(
        f"{_MOST_ATTEMPTS} runs of {deployment} ended without taking it over; see the last, {run.name}: {run.message[:200]}"
    )
