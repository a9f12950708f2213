"""Undo without Prefect and MLflow: write the decision, wait until the edge confirms it, close the release."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from hotcold.adapters.release_database import ReleaseDatabase
from hotcold.domain.errors import EdgeError, StaleControllerError
from hotcold.domain.release import Observation, Phase, Release, advance
from hotcold.domain.serving import ModelStatus, Slot

_POLL_S = 0.02
_LEASE_S = 10.0


@dataclass(frozen=True)
class Undone:
    """A rollback that the edge confirmed.

    Args:
        release: the release, rolled back.
        decided_at: when the decision was written, seconds since the epoch.
        confirmed_s: from the decision until the edge confirmed that the candidate gets no more requests.
    """

    release: Release
    decided_at: float
    confirmed_s: float


def confirmed_share(status: ModelStatus | None, slot: Slot) -> int | None:
    """Share of a slot that the edge confirmed, in percent; None if no live node reports."""
    return status.route.share(slot) if status else None


def confirmed_mirror(status: ModelStatus | None) -> float | None:
    """Share of the scoring requests that the edge confirmed to copy, in percent; None if no live node reports."""
    return status.route.mirror if status else None


def roll_back(
    database: ReleaseDatabase,
    model: str,
    actor: str,
    reason: str,
    *,
    wait_s: float = 30.0,
    clock: Callable[[], float] = time.time,
) -> Undone:
    """Take back the release under way or the last promotion, and wait until the edge has done it.

    Args:
        database: the release database.
        model: registered model name.
        actor: who asks.
        reason: why.
        wait_s: longest wait for the edge's confirmation, seconds.
        clock: seconds since the epoch.

    Raises:
        NothingToUndoError: there is nothing to go back to.
        EdgeError: the decision is written, but no agent confirmed it in time; it takes effect when the agent is back.
    """
    release = database.undo(model, actor, reason, clock(), _LEASE_S)
    decided_at = clock()
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        status = database.read_status(model, clock())
        seen = Observation(edge_share=confirmed_share(status, release.slot), edge_mirror=confirmed_mirror(status))
        if status and _has_seen(database, status, model) and (seen.edge_share, seen.edge_mirror) == (0, 0):
            confirmed_s = clock() - decided_at
            return Undone(_close(database, release, actor, seen, clock()), decided_at, confirmed_s)
        time.sleep(_POLL_S)
    raise EdgeError(
        f"the rollback of {model} is decided and written, but no agent confirmed it within {wait_s:g} s; it takes effect as "
        "soon as the agent runs: see `hotcold status`"
    )


def _has_seen(database: ReleaseDatabase, status: ModelStatus, model: str) -> bool:
    """The agents' report is about the route as it was written by the decision, not one from before."""
    return status.route.generation >= database.read_plan(model).route.generation


def _close(database: ReleaseDatabase, release: Release, actor: str, seen: Observation, now: float) -> Release:
    after, instructions = advance(release, seen, now)
    try:
        return database.commit(release, after, instructions, actor, now)
    except StaleControllerError:
        # The agent closes a rollback too, if it comes to it first.
        closed = database.read_release(release.id)
        if closed.phase is not Phase.ROLLED_BACK:
            raise
        return closed
