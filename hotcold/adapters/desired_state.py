"""Rows of the desired state: what each slot holds and how the route splits. Written only inside a release's transaction."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Table, insert, select, update

from hotcold.adapters import release_tables as t
from hotcold.domain.errors import ReleaseError, StaleControllerError
from hotcold.domain.release import Deploy, Finish, Instruction, Release, SetSplit
from hotcold.domain.serving import ModelPlan, Route, Slot


def upsert(connection: Connection, table: Table, key: dict[str, Any], values: dict[str, Any]) -> None:
    """Change a row, or insert it; the caller holds a lock that keeps others from doing the same."""
    where = [table.c[name] == value for name, value in key.items()]
    if not connection.execute(update(table).where(*where).values(**values)).rowcount:
        connection.execute(insert(table).values(**key, **values))


def lock_route(connection: Connection, model: str) -> Route:
    """Lock a model's route until the transaction ends, so that changes of one model come one after the other."""
    query = select(t.routes).where(t.routes.c.model == model).with_for_update()
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        connection.execute(insert(t.routes).values(model=model, generation=0, epoch=0))
        return Route()
    return t.route_of(row)


def read_model_plan(connection: Connection, model: str) -> ModelPlan:
    """Desired state of one model; an unknown one is empty."""
    route = connection.execute(select(t.routes).where(t.routes.c.model == model)).mappings().one_or_none()
    rows = connection.execute(select(t.slots).where(t.slots.c.model == model)).mappings()
    slots = {row["slot"]: t.slot_plan_of(row) for row in rows}
    return ModelPlan(model, t.route_of(route) if route else Route(), **slots)


def apply_instruction(connection: Connection, release: Release, instruction: Instruction) -> None:
    """Write the rows of an instruction that is desired state; the others are effects outside and write nothing.

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
        case SetSplit(slot, share_pct):
            unrouted = share_pct == 0 and release.champion is None
            green_pct = share_pct if slot is Slot.GREEN else 100 - share_pct
            _write_route(connection, release, {"green_pct": None if unrouted else green_pct})
        case Finish(slot, champion, True, _):
            _write_route(connection, release, {"champion": slot, "previous": champion})
        case Finish(slot, champion, False, retire):
            previous = None if route.previous == champion or (retire and route.previous is slot) else route.previous
            _write_route(connection, release, {"champion": champion, "previous": previous})
            if retire:
                _require_idle(route, release.model, slot)
                _write_slot(connection, release.model, slot, None, 0)


def _require_idle(route: Route, model: str, slot: Slot) -> None:
    if route.share(slot) > 0:
        raise ReleaseError(
            f"slot {slot} of {model} holds {route.share(slot)} % of the traffic and cannot be changed; "
            "move the traffic away first"
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
