"""The release database: desired state, releases with their audit, and what the agents observed.

Every change of a release is a compare-and-set on (row version, epoch); its rows in the desired state and its audit event
are written in the same transaction. Who takes a release over raises the epoch, and a controller from before is refused.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from hotcold.adapters import release_tables as t
from hotcold.adapters.database import upsert
from hotcold.adapters.desired_state import apply_instruction, lock_route, read_model_plan
from hotcold.adapters.release_reader import Decision, Event, Lease, ReleaseReader
from hotcold.domain.edge import refuse_name
from hotcold.domain.errors import (
    ActiveReleaseError,
    NothingToDecideError,
    NothingToUndoError,
    ReleaseError,
    StaleControllerError,
)
from hotcold.domain.gate import Gate
from hotcold.domain.instructions import Instruction
from hotcold.domain.plan import Plan
from hotcold.domain.release import Command, Observation, Phase, Release, advance
from hotcold.domain.release_state import is_for_people, needs_champion
from hotcold.domain.serving import ModelStatus, Slot

# Who asks for the database gets what it answers with it.
__all__ = ["Decision", "Event", "Lease", "ReleaseDatabase"]


class ReleaseDatabase(ReleaseReader):
    """All that flows, agent and command line read and write.

    Args:
        url: SQLAlchemy URL; see `Database`.
    """

    def write_status(
        self,
        node: str,
        statuses: Iterable[ModelStatus],
        now: float,
        edge_url: str = "",
        counted_at: float | None = None,
    ) -> None:
        """Say what a node observed, and that it lives.

        Args:
            node: the node's name.
            statuses: all its models; models left out are forgotten.
            now: seconds since the epoch.
            edge_url: where the node's edge takes requests.
            counted_at: when the edge's counters were last read, seconds since the epoch; None: not since the agent started.
        """
        rows = [{"node": node, "model": status.model, "document": t.status_json(status)} for status in statuses]
        with self._database.write() as connection:
            # What the agent before has counted is as fresh as it is, while the next one has not begun.
            counted = {} if counted_at is None else {"counted_at": counted_at}
            upsert(connection, t.nodes, {"node": node}, {"seen_at": now, "edge_url": edge_url, **counted})
            connection.execute(delete(t.status).where(t.status.c.node == node))
            if rows:
                connection.execute(insert(t.status), rows)

    def start(
        self, model: str, version: int, plan: Plan, owner: str, now: float, lease_s: float, continues: str = ""
    ) -> Release:
        """Open a release, or take over one of the same version whose controller is gone.

        Args:
            model: registered model name.
            version: registry version of the candidate.
            plan: how to proceed; a release that is taken over keeps its own.
            owner: the controller, for people.
            now: seconds since the epoch.
            lease_s: for how long the controller may be silent.
            continues: id of the only release that may be taken over; empty: any of the version, or a new one.

        Raises:
            ActiveReleaseError: another release of the model is under way; the message says who holds it.
            ReleaseError: the version is the champion already, the edge cannot serve a model of that name, or the release to go
                on with has ended.
        """
        if reason := refuse_name(model):
            raise ReleaseError(f"{reason}; register the model under such a name")
        try:
            with self._database.write() as connection:
                epoch = lock_route(connection, model).epoch + 1
                row = self._active_row(connection, model)
                if continues and (row is None or row["id"] != continues):
                    raise ReleaseError(f"release {continues[:8]} of {model} has ended meanwhile; nothing is left to go on with")
                if row is None:
                    self._insert(connection, self._new_release(connection, model, version, plan, now), now)
                    row = self._active_row(connection, model)
                else:
                    self._refuse_if_held(row, version, owner, now)
                before = self._take(connection, row, owner, epoch, now + lease_s)
                if before.phase is not Phase.HELD:
                    reason = "taken over" if before.row_version else "started"
                    return self._write(connection, before, before, (), owner, now, reason=reason)
                resume = Observation(command=Command.RESUME, command_reason=f"resumed by {owner}")
                after, instructions = advance(before, resume, now)
                return self._write(connection, before, after, instructions, owner, now)
        except IntegrityError as error:
            raise ActiveReleaseError(
                f"another release of {model} was started at the same moment; see `hotcold status`"
            ) from error

    def _active_row(self, connection: Connection, model: str) -> Any:
        return connection.execute(select(t.releases).where(t.releases.c.active_model == model)).mappings().one_or_none()

    def _refuse_if_held(self, row: Any, version: int, owner: str, now: float) -> None:
        seen = f"release {row['id'][:8]} of {row['model']} version {row['version']} is {row['phase']}"
        if row["lease_expires_at"] > now and row["lease_owner"] != owner:
            raise ActiveReleaseError(
                f"{seen}, held by {row['lease_owner']}; one release of a model at a time: wait for it, "
                f"or end it with `hotcold rollback {row['model']}`"
            )
        if row["version"] != version:
            raise ActiveReleaseError(
                f"{seen}, last held by {row['lease_owner']}; go on with `hotcold release {row['model']} --version "
                f"{row['version']}`, or end it with `hotcold rollback {row['model']}`"
            )

    def _new_release(self, connection: Connection, model: str, version: int, plan: Plan, now: float) -> Release:
        desired = read_model_plan(connection, model)
        champion_slot = desired.route.champion
        champion = desired.slot(champion_slot).package if champion_slot else None
        if champion and champion.version == version:
            raise ReleaseError(f"{model} version {version} is the champion already; release another version")
        if champion is None and needs_champion(plan):
            raise ReleaseError(
                f"{model} has no champion to compare version {version} with; release a first one with the flow cut-over"
            )
        slot = champion_slot.other if champion_slot else Slot.BLUE
        return Release(str(uuid.uuid4()), model, version, plan, slot, champion, ticked_at=now)

    def _insert(self, connection: Connection, release: Release, now: float) -> None:
        connection.execute(
            insert(t.releases).values(
                **t.release_values(release),
                id=release.id,
                model=release.model,
                version=release.version,
                strategy=release.plan.strategy,
                plan=release.plan.to_json(),
                plan_digest=release.plan.digest,
                slot=release.slot.value,
                champion=t.package_json(release.champion),
                lease_owner="",
                lease_expires_at=now,
                lease_renewals=0,
                epoch=0,
                row_version=0,
                created_at=now,
            )
        )

    def commit(
        self,
        before: Release,
        after: Release,
        instructions: Sequence[Instruction],
        actor: str,
        now: float,
        decision: Decision | None = None,
        gates: Sequence[Gate] = (),
    ) -> Release:
        """Write one step of a release, with its desired state and its audit event, or nothing.

        Args:
            before: the state that was read.
            after: the state that `advance` gave.
            instructions: what `advance` gave; rows are written for those that are desired state.
            actor: who did it.
            now: seconds since the epoch.
            decision: of a person, that is obeyed with this step, or came too late for it; it is obeyed once.
            gates: what these say, for the audit.

        Returns:
            `after` with its new row version.

        Raises:
            StaleControllerError: the release was moved on, or taken over, since it was read.
        """
        with self._database.write() as connection:
            lock_route(connection, before.model)
            if decision:
                taken = t.decisions.c.id == decision.id
                connection.execute(update(t.decisions).where(taken).values(taken_at=now))
            who = decision.actor if decision else actor
            return self._write(connection, before, after, instructions, who, now, gates=gates)

    def decide(self, model: str, command: Command, actor: str, reason: str, now: float) -> Release:
        """Answer for a person who is asked; whoever drives the release obeys within a tick.

        Args:
            model: registered model name.
            command: APPROVE, HOLD or ROLL_BACK; `undo` takes a release back without its driver.
            actor: who decides.
            reason: why.
            now: seconds since the epoch.

        Returns:
            The release that is decided about.

        Raises:
            NothingToDecideError: nobody is asked.
        """
        with self._database.write() as connection:
            lock_route(connection, model)
            row = self._active_row(connection, model)
            if row is None or not row["waiting"]:
                seen = f"release {row['id'][:8]} is {row['phase']} and asks nobody" if row else "no release is under way"
                raise NothingToDecideError(
                    f"{model}: {seen}, so there is nothing to decide; see `hotcold status`, or end it with "
                    f"`hotcold rollback {model}`"
                )
            values = {"release_id": row["id"], "at": now, "actor": actor, "command": command.value, "reason": reason}
            connection.execute(insert(t.decisions).values(**values))
            return t.release_of(row)

    def _write(
        self,
        connection: Connection,
        before: Release,
        after: Release,
        instructions: Sequence[Instruction],
        actor: str,
        now: float,
        reason: str = "",
        gates: Sequence[Gate] = (),
    ) -> Release:
        written = replace(after, row_version=before.row_version + 1)
        ended = {} if after.active else {"ended_at": now}
        changed = connection.execute(
            update(t.releases)
            .where(
                t.releases.c.id == before.id, t.releases.c.row_version == before.row_version, t.releases.c.epoch == before.epoch
            )
            .values(**t.release_values(after), **ended, row_version=written.row_version)
        ).rowcount
        if changed != 1:
            raise StaleControllerError(
                f"release {before.id[:8]} of {before.model} was moved on by somebody else; read it again"
            )
        if before.waiting and after.waiting != before.waiting:
            # What else was answered was an answer to this question, not to the next one.
            late = (t.decisions.c.release_id == before.id, t.decisions.c.taken_at.is_(None))
            connection.execute(update(t.decisions).where(*late).values(taken_at=now))
        for instruction in instructions:
            apply_instruction(connection, after, instruction, actor, now)
        connection.execute(
            insert(t.events).values(
                release_id=before.id,
                at=now,
                actor=actor,
                phase=after.phase.value,
                split=after.split,
                reason=reason or after.reason,
                instructions=[str(instruction) for instruction in instructions],
                row_version=written.row_version,
                verdict=after.verdict or "",
                step=after.step,
                settled=after.settled,
                waiting=after.waiting,
                gates=[asdict(gate) for gate in gates] or None,
                told=not is_for_people(before, after),
            )
        )
        return written

    def mark_told(self, event_id: int) -> None:
        """People know of an event."""
        with self._database.write() as connection:
            connection.execute(update(t.events).where(t.events.c.id == event_id).values(told=True))

    def renew(self, release: Release, now: float, lease_s: float) -> None:
        """Say that the controller lives, and keep the time it counted.

        Raises:
            StaleControllerError: somebody else has taken the release over or moved it on.
        """
        with self._database.write() as connection:
            changed = connection.execute(
                update(t.releases)
                .where(
                    t.releases.c.id == release.id,
                    t.releases.c.row_version == release.row_version,
                    t.releases.c.epoch == release.epoch,
                )
                .values(
                    in_phase_s=release.in_phase_s,
                    quiet_s=release.quiet_s,
                    waited_s=release.waited_s,
                    ticked_at=release.ticked_at,
                    lease_expires_at=now + lease_s,
                    lease_renewals=t.releases.c.lease_renewals + 1,
                )
            ).rowcount
        if changed != 1:
            raise StaleControllerError(f"release {release.id[:8]} of {release.model} was taken over or moved on; read it again")

    def undo(self, model: str, actor: str, reason: str, now: float, lease_s: float) -> Release:
        """Take back the release under way or, if none is, the last promotion; traffic moves with this transaction.

        Needs neither Prefect nor MLflow. Whoever drives the release is fenced off.

        Args:
            model: registered model name.
            actor: who asks.
            reason: why.
            now: seconds since the epoch.
            lease_s: for how long the caller may be silent while it waits for the edge.

        Returns:
            The release, rolling back.

        Raises:
            NothingToUndoError: no release is under way and no earlier champion is warm.
        """
        with self._database.write() as connection:
            route = lock_route(connection, model)
            row = self._active_row(connection, model) or self._undoable_row(connection, model)
            if row is None:
                raise NothingToUndoError(
                    f"{model} has no release under way and no earlier champion that is warm; release an older version with "
                    f"`hotcold release {model} --version N`"
                )
            before = self._take(connection, row, actor, route.epoch + 1, now + lease_s)
            seen = Observation(command=Command.ROLL_BACK, command_reason=reason)
            after, instructions = advance(before, seen, now)
            return self._write(connection, before, after, instructions, actor, now)

    def _take(self, connection: Connection, row: Any, owner: str, epoch: int, expires_at: float) -> Release:
        """Make `owner` the controller; whoever was it before is fenced off."""
        lease = {"lease_owner": owner, "lease_expires_at": expires_at, "epoch": epoch}
        connection.execute(update(t.releases).where(t.releases.c.id == row["id"]).values(**lease))
        connection.execute(update(t.routes).where(t.routes.c.model == row["model"]).values(epoch=epoch))
        return replace(t.release_of(row), epoch=epoch)

    def _undoable_row(self, connection: Connection, model: str) -> Any:
        """The last promotion, if the champion before it is still warm in the other slot."""
        route = read_model_plan(connection, model).route
        query = (
            select(t.releases)
            .where(t.releases.c.model == model, t.releases.c.phase == Phase.PROMOTED.value)
            .order_by(t.releases.c.ended_at.desc())
            .limit(1)
        )
        row = connection.execute(query).mappings().one_or_none()
        warm = row is not None and route.previous is not None and row["slot"] == route.champion and row["champion"]
        return row if warm else None
