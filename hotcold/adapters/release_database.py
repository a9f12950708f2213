"""The release database: desired state, releases with their audit, and what the agents observed.

Every change of a release is a compare-and-set on (row version, epoch); its rows in the desired state and its audit event
are written in the same transaction. Who takes a release over raises the epoch, and a controller from before is refused.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from hotcold.adapters import release_tables as t
from hotcold.adapters.database import DatabaseClient, upsert
from hotcold.adapters.desired_state import apply_instruction, lock_route, read_model_plan
from hotcold.domain.edge import refuse_name
from hotcold.domain.errors import ActiveReleaseError, NothingToUndoError, ReleaseError, StaleControllerError
from hotcold.domain.instructions import Instruction
from hotcold.domain.plan import Plan
from hotcold.domain.release import Command, Observation, Phase, Release, advance
from hotcold.domain.release_state import copies_requests
from hotcold.domain.serving import ModelPlan, ModelStatus, Slot, worst_of

NODE_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Lease:
    """Who drives a release.

    Args:
        owner: the controller, for people.
        expires_at: seconds since the epoch.
        renewals: grows with each renewal.
    """

    owner: str
    expires_at: float
    renewals: int


@dataclass(frozen=True)
class Event:
    """One line of the audit.

    Args:
        at: seconds since the epoch.
        actor: who did it.
        phase: phase that was entered or stayed in.
        split: candidate's desired share, in percent.
        reason: why.
        instructions: what was to be done.
        release_id: release it belongs to.
        verdict: of an evaluation, empty until there is one.
    """

    at: float
    actor: str
    phase: Phase
    split: int
    reason: str
    instructions: tuple[str, ...]
    release_id: str
    verdict: str = ""


class ReleaseDatabase(DatabaseClient):
    """All that flows, agent and command line read and write.

    Args:
        url: SQLAlchemy URL; see `Database`.
    """

    def read_plans(self) -> tuple[ModelPlan, ...]:
        """Desired state of every model."""
        with self._database.read() as connection:
            models = connection.scalars(select(t.routes.c.model).order_by(t.routes.c.model)).all()
            return tuple(read_model_plan(connection, model) for model in models)

    def read_plan(self, model: str) -> ModelPlan:
        """Desired state of one model; an unknown one is empty."""
        with self._database.read() as connection:
            return read_model_plan(connection, model)

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

    def read_status(self, model: str, now: float) -> ModelStatus | None:
        """What the live nodes observed of a model; None if no node is live or one of them does not know the model."""
        with self._database.read() as connection:
            live = select(t.nodes.c.node).where(t.nodes.c.seen_at > now - NODE_TIMEOUT_S)
            nodes = connection.scalars(live).all()
            query = select(t.status.c.document).where(t.status.c.model == model, t.status.c.node.in_(nodes))
            documents = connection.scalars(query).all()
        if not nodes or len(documents) < len(nodes):
            return None
        return worst_of([t.status_of(document) for document in documents])

    def read_edges(self, now: float) -> tuple[str, ...]:
        """Addresses of the live nodes' edges."""
        with self._database.read() as connection:
            query = select(t.nodes.c.edge_url).where(t.nodes.c.seen_at > now - NODE_TIMEOUT_S).order_by(t.nodes.c.node)
            return tuple(url for url in connection.scalars(query) if url)

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
        if champion is None and copies_requests(plan):
            raise ReleaseError(f"{model} has no champion to compare version {version} with; release one with `hotcold release`")
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

    def commit(self, before: Release, after: Release, instructions: Sequence[Instruction], actor: str, now: float) -> Release:
        """Write one step of a release, with its desired state and its audit event, or nothing.

        Args:
            before: the state that was read.
            after: the state that `advance` gave.
            instructions: what `advance` gave; rows are written for those that are desired state.
            actor: who did it.
            now: seconds since the epoch.

        Returns:
            `after` with its new row version.

        Raises:
            StaleControllerError: the release was moved on, or taken over, since it was read.
        """
        with self._database.write() as connection:
            lock_route(connection, before.model)
            return self._write(connection, before, after, instructions, actor, now)

    def _write(
        self,
        connection: Connection,
        before: Release,
        after: Release,
        instructions: Sequence[Instruction],
        actor: str,
        now: float,
        reason: str = "",
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
            )
        )
        return written

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

    def read_release(self, release_id: str) -> Release:
        """One release.

        Raises:
            ReleaseError: there is none of that id.
        """
        with self._database.read() as connection:
            row = connection.execute(select(t.releases).where(t.releases.c.id == release_id)).mappings().one_or_none()
        if row is None:
            raise ReleaseError(f"there is no release {release_id}; see `hotcold status`")
        return t.release_of(row)

    def read_active(self) -> tuple[tuple[Release, Lease], ...]:
        """Releases under way, with their controllers."""
        with self._database.read() as connection:
            rows = connection.execute(select(t.releases).where(t.releases.c.active_model.is_not(None))).mappings().all()
        return tuple(
            (t.release_of(row), Lease(row["lease_owner"], row["lease_expires_at"], row["lease_renewals"])) for row in rows
        )

    def read_releases(self, model: str, limit: int = 20) -> tuple[Release, ...]:
        """The latest releases of a model, newest first."""
        query = select(t.releases).where(t.releases.c.model == model).order_by(t.releases.c.created_at.desc()).limit(limit)
        with self._database.read() as connection:
            return tuple(t.release_of(row) for row in connection.execute(query).mappings())

    def read_events(self, release_id: str) -> tuple[Event, ...]:
        """The audit of one release, oldest first."""
        query = select(t.events).where(t.events.c.release_id == release_id).order_by(t.events.c.id)
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
        return tuple(
            Event(
                *(row["at"], row["actor"], Phase(row["phase"]), row["split"], row["reason"]),
                *(tuple(row["instructions"]), row["release_id"], row["verdict"]),
            )
            for row in rows
        )
