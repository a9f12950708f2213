"""Rows of what readers of scores see, and why. Written only inside a transaction that holds the model's route.

Publication, promotion and undo of one model come one after the other that way, and readers follow the last of them.
"""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection, func, insert, select, update

from hotcold.adapters import release_tables as t
from hotcold.adapters.database import upsert
from hotcold.domain.package import PackageRef
from hotcold.domain.score_table import USABLE, Pointer, ScoreTable, TableState, choose_table

SUPERSEDED = "superseded"


def read_score_tables(connection: Connection, model: str, output: str | None = None) -> tuple[ScoreTable, ...]:
    """Tables of a model, or of one of its outputs, the latest first."""
    query = select(t.score_tables).where(t.score_tables.c.model == model)
    if output is not None:
        query = query.where(t.score_tables.c.output == output)
    rows = connection.execute(
        query.order_by(t.score_tables.c.scored_at.desc(), t.score_tables.c.id.desc(), t.score_tables.c.output)
    )
    return tuple(t.score_table_of(row) for row in rows.mappings())


def read_score_pointer(connection: Connection, output: str) -> Pointer | None:
    """What readers of an output see; None if nothing was ever published there."""
    query = select(t.score_pointers).where(t.score_pointers.c.output == output)
    row = connection.execute(query).mappings().one_or_none()
    return t.pointer_of(row) if row else None


def settle(
    connection: Connection,
    model: str,
    champion: PackageRef | None,
    reason: str,
    actor: str,
    now: float,
    *,
    rescore: bool = False,
) -> None:
    """Let readers of all outputs of a model see what they should, and have scored what the champion has not scored yet.

    Args:
        connection: inside a transaction that holds the model's route.
        model: registered model name.
        champion: package that serves from now on; None if none does.
        reason: why pointers move.
        actor: who moves them.
        now: seconds since the epoch.
        rescore: have every output scored, also those whose readers see a table of the champion.
    """
    outputs = dict.fromkeys(table.output for table in reversed(read_score_tables(connection, model)))
    for output in outputs:
        settle_output(connection, model, output, champion, reason, actor, now, rescore=rescore)


def settle_output(
    connection: Connection,
    model: str,
    output: str,
    champion: PackageRef | None,
    reason: str,
    actor: str,
    now: float,
    *,
    rescore: bool = False,
) -> None:
    """The same for one output; see `settle`."""
    tables = read_score_tables(connection, model, output)
    before = read_score_pointer(connection, output)
    if before and before.model != model:
        # Another model was published here first; `publish` says so.
        return
    current = before.table if before else ""
    chosen = choose_table(tables, champion, current)
    if chosen != current:
        move_pointer(connection, model, output, chosen, reason, actor, now)
    shown = next((table for table in tables if table.id == chosen), None)
    if champion and (rescore or shown is None or shown.package.digest != champion.digest):
        queue_request(connection, model, output, reason, actor, now)


def move_pointer(
    connection: Connection, model: str, output: str, table_id: str, reason: str, actor: str, now: float
) -> Pointer:
    """Let readers of an output see a table, or none; with a generation above all others of the model."""
    highest = connection.scalar(select(func.max(t.score_pointers.c.generation)).where(t.score_pointers.c.model == model))
    pointer = Pointer(model, output, table_id, (highest or 0) + 1, reason)
    values = {"model": model, "table": table_id, "generation": pointer.generation, "reason": reason, "moved_at": now}
    upsert(connection, t.score_pointers, {"output": output}, values)
    if table_id:
        write_table_state(connection, output, table_id, TableState.PUBLISHED, reason, actor, now)
    write_event(connection, model, output, table_id, "shown" if table_id else "emptied", reason, actor, now)
    return pointer


def retract_package(connection: Connection, package: PackageRef, reason: str, actor: str, now: float) -> None:
    """Take back every table of a package that readers may see. Pointers move with `settle`, in the same transaction."""
    for table in read_score_tables(connection, package.model):
        if table.package.digest == package.digest and table.state in USABLE:
            write_table_state(connection, table.output, table.id, TableState.RETRACTED, reason, actor, now)
            write_event(connection, table.model, table.output, table.id, "retracted", reason, actor, now)


def write_table_state(
    connection: Connection, output: str, table_id: str, state: TableState, reason: str, actor: str, now: float
) -> None:
    """Say what became of a table."""
    connection.execute(
        update(t.score_tables)
        .where(t.score_tables.c.output == output, t.score_tables.c.id == table_id)
        .values(state=state.value, reason=reason, changed_at=now, changed_by=actor)
    )


def queue_request(connection: Connection, model: str, output: str, reason: str, actor: str, now: float) -> int:
    """Ask for an output to be scored by the champion of the time when a run begins.

    An open request is replaced, not kept: whoever has just read it may start a run with the champion from before.
    """
    connection.execute(
        update(t.score_requests)
        .where(t.score_requests.c.model == model, t.score_requests.c.open_output == output)
        .values(open_output=None, run_id=SUPERSEDED, run_at=now)
    )
    row = {"model": model, "output": output, "open_output": output, "reason": reason, "created_at": now}
    key = connection.execute(insert(t.score_requests).values(**row)).inserted_primary_key
    write_event(connection, model, output, "", "requested", reason, actor, now)
    return int(key[0]) if key else 0


def write_event(
    connection: Connection, model: str, output: str, table_id: str, what: str, reason: str, actor: str, now: float
) -> None:
    """Write a line of the audit."""
    row = {"at": now, "actor": actor, "model": model, "output": output, "table": table_id, "what": what, "reason": reason}
    connection.execute(insert(t.score_events).values(**row))


def raise_generations(connection: Connection, model: str, above: int) -> None:
    """Give all pointers of a model generations above one that was met outside, their order kept."""
    query = select(t.score_pointers).where(t.score_pointers.c.model == model).order_by(t.score_pointers.c.generation)
    pointers = [t.pointer_of(row) for row in connection.execute(query).mappings()]
    if not pointers or pointers[-1].generation > above:
        return
    for number, pointer in enumerate(pointers, start=above + 1):
        raised = replace(pointer, generation=number)
        where = t.score_pointers.c.output == raised.output
        connection.execute(update(t.score_pointers).where(where).values(generation=raised.generation))
