"""Score tables in the release database: which there are, which of them readers see, and what is to be scored anew.

Pointer files and score stores are projections of what stands here; see `score_pointer`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, delete, select, update

from hotcold.adapters import release_tables as t
from hotcold.adapters.database import DatabaseClient, upsert
from hotcold.adapters.desired_state import lock_route, read_champions
from hotcold.adapters.score_state import (
    move_pointer,
    queue_request,
    raise_generations,
    read_score_pointer,
    read_score_tables,
    settle_output,
    write_event,
    write_table_state,
)
from hotcold.domain.errors import ScoresError
from hotcold.domain.package import PackageRef
from hotcold.domain.score_table import Pointer, ScoreTable, TableState, choose_example, refuse_publication

_SHORTEST_PREFIX = 4


@dataclass(frozen=True)
class Publication:
    """What came of an attempt to show a table.

    Args:
        pointer: what readers of the output see now.
        refused: why it is not the table; empty if it is.
    """

    pointer: Pointer
    refused: str = ""


@dataclass(frozen=True)
class ScoreRequest:
    """An output that waits to be scored by the champion.

    Args:
        id: unique number.
        model: registered model name.
        output: URL of the folder that readers know.
        reason: why it is to be scored.
        created_at: seconds since the epoch.
        parameters: of `score-batch`, from the latest table of the output; `version` is None, which takes the champion.
    """

    id: int
    model: str
    output: str
    reason: str
    created_at: float
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoreEvent:
    """One line of the audit.

    Args:
        at: seconds since the epoch.
        actor: who did it.
        model: registered model name.
        output: URL of the folder that readers know.
        table: id of the table; empty if it is about none.
        what: recorded, refused, shown, emptied, retracted or requested.
        reason: why.
    """

    at: float
    actor: str
    model: str
    output: str
    table: str
    what: str
    reason: str


class ScoreDatabase(DatabaseClient):
    """All that batch runs, agent and command line read and write about scores.

    Args:
        url: SQLAlchemy URL of the release database; see `Database`.
    """

    @contextmanager
    def _change(self, model: str) -> Iterator[Connection]:
        """A transaction in which neither a release nor a batch run of the model moves anything."""
        with self._database.write() as connection:
            lock_route(connection, model)
            yield connection

    def record(self, table: ScoreTable, actor: str, now: float) -> ScoreTable:
        """Write down a complete table, or replace what was known of it; readers see no new one by this.

        A table that was published stays so. One that an undo took back is staged again, since it was scored again; one that a
        person took back only if it was completed after that, so that the same scores found again do not undo the decision.
        A table that readers see and that does not pass the gate any more is taken from them.

        Args:
            table: complete; staged, or refused by the quality gate.
            actor: who scored it.
            now: seconds since the epoch.

        Returns:
            The table as it is recorded.
        """
        with self._change(table.model) as connection:
            before = self._table(connection, table.output, table.id)
            withdrawn = bool(before and self._is_withdrawn(before, table))
            recorded = _carry_over(table, t.score_table_of(before) if before else None, withdrawn)
            key = {"output": table.output, "id": table.id}
            values = {**t.score_table_values(recorded), "withdrawn": withdrawn}
            if not withdrawn:
                values |= {"changed_at": now, "changed_by": actor}
            upsert(connection, t.score_tables, key, values)
            what = "refused" if recorded.state is TableState.REFUSED else "recorded"
            write_event(connection, table.model, table.output, table.id, what, recorded.reason, actor, now)
            self._follow(connection, recorded, t.score_table_of(before) if before else None, actor, now)
            return recorded

    def _is_withdrawn(self, before: Any, table: ScoreTable) -> bool:
        return bool(
            before["state"] == TableState.RETRACTED.value and before["withdrawn"] and table.scored_at <= before["changed_at"]
        )

    def _follow(self, connection: Connection, table: ScoreTable, before: ScoreTable | None, actor: str, now: float) -> None:
        """Where readers see the table that was recorded: move on if it is no good, and tell the store if it has come there."""
        pointer = read_score_pointer(connection, table.output)
        if before is None or pointer is None or (pointer.model, pointer.table) != (table.model, table.id):
            return
        if not table.usable:
            champion, _ = read_champions(connection, table.model)
            settle_output(connection, table.model, table.output, champion, table.reason, actor, now)
        elif before.in_store != table.in_store:
            move_pointer(connection, table.model, table.output, table.id, pointer.reason, actor, now)

    def publish(self, output: str, table_id: str, actor: str, now: float) -> Publication:
        """Let readers of an output see a table, if it is the champion's. A run that is repeated changes nothing.

        Args:
            output: URL of the folder that readers know.
            table_id: a recorded table.
            actor: who publishes.
            now: seconds since the epoch.

        Raises:
            ScoresError: there is no such table.
        """
        with self._change(self._model_of(output, table_id)) as connection:
            table = self._require_table(connection, output, table_id)
            champion, _ = read_champions(connection, table.model)
            before = read_score_pointer(connection, output) or Pointer(table.model, output)
            refused = _refuse_output(table, before) or refuse_publication(table, champion)
            if refused:
                write_event(connection, table.model, output, table_id, "refused", refused, actor, now)
                return Publication(before, refused)
            if before.table == table_id:
                return Publication(before)
            reason = f"scored by the champion, {table.package.tag}"
            return Publication(move_pointer(connection, table.model, output, table_id, reason, actor, now))

    def retract(self, model: str, output: str, table_id: str, reason: str, actor: str, now: float) -> Pointer:
        """Take a table back for a person: readers see what `choose_table` says, and the output is scored again.

        Returns:
            What readers of the output see now.

        Raises:
            ScoresError: there is no such table.
        """
        with self._change(model) as connection:
            table = self._require_table(connection, output, table_id)
            if table.model != model:
                raise ScoresError(f"table {table_id} of {output} is one of {table.model}, not of {model}")
            why = f"taken back by {actor}: {reason}"
            write_table_state(connection, output, table_id, TableState.RETRACTED, why, actor, now)
            where = (t.score_tables.c.output == output, t.score_tables.c.id == table_id)
            connection.execute(update(t.score_tables).where(*where).values(withdrawn=True))
            write_event(connection, table.model, output, table_id, "retracted", why, actor, now)
            champion, _ = read_champions(connection, table.model)
            settle_output(connection, table.model, output, champion, f"table {table_id} was {why}", actor, now, rescore=True)
            return read_score_pointer(connection, output) or Pointer(table.model, output)

    def request(self, model: str, output: str, reason: str, actor: str, now: float) -> int:
        """Ask for an output to be scored by the champion. At most one request of an output is open: the last.

        Returns:
            The request's number.
        """
        with self._change(model) as connection:
            return queue_request(connection, model, output, reason, actor, now)

    def request_all(self, reason: str, actor: str, now: float) -> int:
        """Ask for every output that was ever scored; see `request`. How many there are."""
        outputs = sorted({(table.model, table.output) for table in self.read_tables()})
        for model, output in outputs:
            self.request(model, output, reason, actor, now)
        return len(outputs)

    def read_requests(self) -> tuple[ScoreRequest, ...]:
        """Open requests, oldest first."""
        query = select(t.score_requests).where(t.score_requests.c.open_output.is_not(None)).order_by(t.score_requests.c.id)
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
            return tuple(self._request(connection, row) for row in rows)

    def _request(self, connection: Connection, row: Any) -> ScoreRequest:
        example = choose_example(read_score_tables(connection, row["model"], row["output"]))
        parameters = {
            **(dict(example.parameters) if example else {}),
            "model": row["model"],
            "output_url": row["output"],
            "version": None,
        }
        return ScoreRequest(row["id"], row["model"], row["output"], row["reason"], row["created_at"], parameters)

    def close_request(self, request_id: int, run_id: str, now: float) -> None:
        """Say which run scores a request; nothing happens if it is closed already."""
        with self._database.write() as connection:
            connection.execute(
                update(t.score_requests)
                .where(t.score_requests.c.id == request_id, t.score_requests.c.open_output.is_not(None))
                .values(open_output=None, run_id=run_id, run_at=now)
            )

    def forget(self, output: str, table_id: str) -> None:
        """Strike a table off, before retention deletes its data: a table without data must never be chosen.

        Raises:
            ScoresError: readers see it.
        """
        with self._database.read() as connection:
            row = self._table(connection, output, table_id)
        if row is None:
            return
        with self._change(row["model"]) as connection:
            pointer = read_score_pointer(connection, output)
            if pointer and pointer.table == table_id:
                raise ScoresError(f"readers of {output} see table {table_id}; let them see another one before it is deleted")
            where = (t.score_tables.c.output == output, t.score_tables.c.id == table_id)
            connection.execute(delete(t.score_tables).where(*where))

    def outrun(self, model: str, generation: int) -> None:
        """Raise the generations of a model's pointers above one that was met in a pointer file or a score store.

        That one can only come from another release database, such as one that was lost: what stands here wins.
        """
        with self._change(model) as connection:
            raise_generations(connection, model, generation)

    def read_champion(self, model: str) -> PackageRef | None:
        """Package that serves; of a promotion that is being taken back, the one before it."""
        with self._database.read() as connection:
            return read_champions(connection, model)[0]

    def read_previous(self, model: str) -> PackageRef | None:
        """Package of the champion before, while it is kept warm."""
        with self._database.read() as connection:
            return read_champions(connection, model)[1]

    def read_tables(self, model: str | None = None) -> tuple[ScoreTable, ...]:
        """Tables of one model or of all, by model, the latest first."""
        with self._database.read() as connection:
            found = connection.scalars(select(t.score_tables.c.model).distinct().order_by(t.score_tables.c.model))
            models = [model] if model is not None else found.all()
            return tuple(table for name in models for table in read_score_tables(connection, name))

    def read_table(self, prefix: str, output: str = "") -> ScoreTable:
        """One table by the beginning of its id, or of what comes behind the package's digits, which many tables share.

        Args:
            prefix: at least 4 characters.
            output: the output, where the same table was written to several.

        Raises:
            ScoresError: none or several are named like that.
        """
        found = [table for table in self.read_tables() if _is_named(table, prefix) and output in ("", table.output)]
        if len(prefix) < _SHORTEST_PREFIX or not found:
            raise ScoresError(f"no score table is named {prefix!r}; see `hotcold scores list` for their ids")
        if len(found) > 1:
            names = ", ".join(f"{table.id} in {table.output}" for table in found[:5])
            raise ScoresError(f"{prefix!r} may be any of {names}; give more of the id, or the output")
        return found[0]

    def read_pointers(self, model: str | None = None) -> tuple[Pointer, ...]:
        """What readers see, by output, of one model or of all."""
        query = select(t.score_pointers).order_by(t.score_pointers.c.model, t.score_pointers.c.output)
        if model is not None:
            query = query.where(t.score_pointers.c.model == model)
        with self._database.read() as connection:
            return tuple(t.pointer_of(row) for row in connection.execute(query).mappings())

    def read_shown(self, model: str) -> tuple[tuple[Pointer, ScoreTable | None], ...]:
        """What readers see of a model, with the tables, at one moment; by output."""
        query = select(t.score_pointers).where(t.score_pointers.c.model == model).order_by(t.score_pointers.c.output)
        with self._database.read() as connection:
            pointers = [t.pointer_of(row) for row in connection.execute(query).mappings()]
            rows = [self._table(connection, pointer.output, pointer.table) for pointer in pointers]
        return tuple((pointer, t.score_table_of(row) if row else None) for pointer, row in zip(pointers, rows, strict=True))

    def read_events(self, model: str) -> tuple[ScoreEvent, ...]:
        """The audit of a model's scores, oldest first."""
        query = select(t.score_events).where(t.score_events.c.model == model).order_by(t.score_events.c.id)
        names = ("at", "actor", "model", "output", "table", "what", "reason")
        with self._database.read() as connection:
            return tuple(ScoreEvent(**{name: row[name] for name in names}) for row in connection.execute(query).mappings())

    def _table(self, connection: Connection, output: str, table_id: str) -> Any:
        query = select(t.score_tables).where(t.score_tables.c.output == output, t.score_tables.c.id == table_id)
        return connection.execute(query).mappings().one_or_none()

    def _require_table(self, connection: Connection, output: str, table_id: str) -> ScoreTable:
        row = self._table(connection, output, table_id)
        if row is None:
            raise ScoresError(f"{output} has no table {table_id}; see `hotcold scores list`")
        return t.score_table_of(row)

    def _model_of(self, output: str, table_id: str) -> str:
        """The model has to be known before it can be locked; it never changes."""
        with self._database.read() as connection:
            return self._require_table(connection, output, table_id).model


def _carry_over(table: ScoreTable, before: ScoreTable | None, withdrawn: bool) -> ScoreTable:
    """The state of a table that is recorded again."""
    if before is None or table.state is not TableState.STAGED:
        return table
    if withdrawn or before.state is TableState.PUBLISHED:
        return replace(table, state=before.state, reason=before.reason)
    return table


def _is_named(table: ScoreTable, prefix: str) -> bool:
    return table.id.startswith(prefix) or table.id.partition("-")[2].startswith(prefix)


def _refuse_output(table: ScoreTable, pointer: Pointer) -> str:
    if pointer.model == table.model:
        return ""
    return f"readers of {table.output} see scores of {pointer.model}; score {table.model} to another output"
