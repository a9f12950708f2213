"""Rows of the desired state: what each slot holds, how the route splits, which scores readers see.

Slots and routes are written only inside a release's transaction, and the scores move with them.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select, text, update

from hotcold.adapters import release_tables as t
from hotcold.adapters.database import upsert
from hotcold.adapters.score_state import retract_package, settle
from hotcold.domain.errors import ReleaseError, StaleControllerError
from hotcold.domain.instructions import Deploy, Finish, Instruction, Mirror, PublishScores, RetractScores, SetSplit
from hotcold.domain.package import PackageRef
from hotcold.domain.release import Phase, Release
from hotcold.domain.serving import ModelPlan, Route, Slot

# Two transactions may both find no route; on PostgreSQL the second one then waits here for the first.
_NEW_ROUTE = text("INSERT INTO routes (model, generation, epoch) VALUES (:model, 0, 0) ON CONFLICT DO NOTHING")


def lock_route(connection: Connection, model: str) -> Route:
    """Lock a model's route until the transaction ends, so that changes of one model come one after the other."""
    query = select(t.routes).where(t.routes.c.model == model).with_for_update()
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        connection.execute(_NEW_ROUTE, {"model": model})
        row = connection.execute(query).mappings().one()
    return t.route_of(row)


def read_model_plan(connection: Connection, model: str) -> ModelPlan:
    """Desired state of one model; an unknown one is empty."""
    route = connection.execute(select(t.routes).where(t.routes.c.model == model)).mappings().one_or_none()
    rows = connection.execute(select(t.slots).where(t.slots.c.model == model)).mappings()
    slots = {row["slot"]: t.slot_plan_of(row) for row in rows}
    return ModelPlan(model, t.route_of(route) if route else Route(), **slots)


def read_champions(connection: Connection, model: str) -> tuple[PackageRef | None, PackageRef | None]:
    """Packages of the champion and of the champion before, for whoever asks whose scores readers may see.

    A promotion that is being taken back counts as taken back at once: until the edge confirms it, the route still says
    otherwise, and scores of the candidate that are finished in that moment must not be shown.
    """
    plan = read_model_plan(connection, model)
    champion, previous = (plan.slot(slot).package if slot else None for slot in (plan.route.champion, plan.route.previous))
    query = select(t.releases.c.champion).where(
        t.releases.c.active_model == model, t.releases.c.phase == Phase.ROLLING_BACK.value
    )
    if undone := connection.execute(query).mappings().one_or_none():
        champion = t.package_ref(undone["champion"])
    return champion, None if previous == champion else previous


def apply_instruction(connection: Connection, release: Release, instruction: Instruction, actor: str, now: float) -> None:
    """Write the rows of an instruction that is desired state; the others are effects outside and write nothing.

    Args:
        connection: inside the release's transaction, which holds the route.
        release: the state that is written with it.
        instruction: what to write.
        actor: who does it.
        now: seconds since the epoch.

    Raises:
        ReleaseError: a slot that holds traffic would be changed.
        StaleControllerError: a later controller has written the route.
    """
    route = read_model_plan(connection, release.model).route
    match instruction:
        case Deploy(slot, package, replicas):
            _require_idle(route, release.model, slot)
            _write_slot(connection, release.model, slot, t.package_json(package), replicas)
            _write_route(connection, release, {"previous": None if route.previous is slot else route.previous})
        case Mirror(slot, share_pct):
            if share_pct:
                _require_beside_champion(route, release.model, slot)
            _write_route(connection, release, {"mirror_pct": share_pct})
        case SetSplit(slot, share_pct):
            unrouted = share_pct == 0 and release.champion is None
            green_pct = share_pct if slot is Slot.GREEN else 100 - share_pct
            _write_route(connection, release, {"green_pct": None if unrouted else green_pct})
        case Finish(slot, champion, True, _):
            _require_no_copies(route, release.model)
            _write_route(connection, release, {"champion": slot, "previous": champion})
        case Finish(slot, champion, False, retire):
            _require_no_copies(route, release.model)
            previous = None if route.previous == champion or (retire and route.previous is slot) else route.previous
            _write_route(connection, release, {"champion": champion, "previous": previous})
            if retire:
                _require_idle(route, release.model, slot)
                _write_slot(connection, release.model, slot, None, 0)
        case PublishScores(model, package):
            settle(connection, model, package, f"{package.tag} was promoted", actor, now)
        case RetractScores(model, package, champion_package, reason):
            why = f"{package.tag} was rolled back: {reason}"
            retract_package(connection, package, why, actor, now)
            settle(connection, model, champion_package, why, actor, now, rescore=True)


def _require_idle(route: Route, model: str, slot: Slot) -> None:
    _require_no_copies(route, model)
    if route.share(slot) > 0:
        raise ReleaseError(
            f"slot {slot} of {model} holds {route.share(slot)} % of the traffic and cannot be changed; "
            "move the traffic away first"
        )


def _require_no_copies(route: Route, model: str) -> None:
    """Neither slots nor roles change while requests are copied from one to the other."""
    if route.mirror_pct > 0:
        raise ReleaseError(
            f"{route.mirror_pct:g} % of the requests of {model} are copied to the slot beside the champion's, so nothing there "
            "can be changed; take the mirror away first"
        )


def _require_beside_champion(route: Route, model: str, slot: Slot) -> None:
    if route.champion is not slot.other or route.share(slot) > 0:
        raise ReleaseError(
            f"slot {slot} of {model} holds {route.share(slot)} % of the traffic, and the champion is in "
            f"{route.champion or 'no slot'}; requests are copied only to a slot without traffic beside the champion's"
        )


def _write_slot(connection: Connection, model: str, slot: Slot, package: dict[str, Any] | None, replicas: int) -> None:
    upsert(connection, t.slots, {"model": model, "slot": slot.value}, {"package": package, "replicas": replicas})


def _write_route(connection: Connection, release: Release, values: dict[str, Any]) -> None:
    row = {name: value.value if isinstance(value, Slot) else value for name, value in values.items()}
    changed = connection.execute(
        update(t.routes)
        .where(t.routes.c.model == release.model, t.routes.c.epoch <= release.epoch)
        .values(**row, generation=t.routes.c.generation + 1, epoch=release.epoch)
    ).rowcount
    if changed != 1:
        raise StaleControllerError(f"the route of {release.model} was written by a later controller; read the release again")
