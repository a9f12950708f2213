"""What the release database says: desired state, what the agents observed, releases and their audit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, select

from hotcold.adapters import release_tables as t
from hotcold.adapters.database import DatabaseClient
from hotcold.adapters.desired_state import read_model_plan
from hotcold.domain.errors import ReleaseError
from hotcold.domain.gate import Gate, Verdict
from hotcold.domain.release import Command, Phase, Release
from hotcold.domain.serving import ModelPlan, ModelStatus, worst_of

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
        step: of a canary.
        settled: the edge had confirmed the split.
        waiting: why a person was asked; empty if nobody was.
        gates: what these said then.
        id: grows with each.
    """

    at: float
    actor: str
    phase: Phase
    split: int
    reason: str
    instructions: tuple[str, ...]
    release_id: str
    verdict: str = ""
    step: int = 0
    settled: bool = False
    waiting: str = ""
    gates: tuple[Gate, ...] = ()
    id: int = 0


@dataclass(frozen=True)
class Decision:
    """What a person decided about a release.

    Args:
        id: grows with each.
        at: seconds since the epoch.
        actor: who.
        command: what.
        reason: why.
    """

    id: int
    at: float
    actor: str
    command: Command
    reason: str


class ReleaseReader(DatabaseClient):
    """All that can be read.

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
        return self._events(query)

    def read_untold(self) -> tuple[Event, ...]:
        """Events that people are to be told of and have not been yet, oldest first."""
        return self._events(select(t.events).where(t.events.c.told.is_(False)).order_by(t.events.c.id))

    def _events(self, query: Select[Any]) -> tuple[Event, ...]:
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
        return tuple(
            Event(
                row["at"],
                row["actor"],
                Phase(row["phase"]),
                row["split"],
                row["reason"],
                tuple(row["instructions"]),
                row["release_id"],
                row["verdict"],
                row["step"],
                row["settled"],
                row["waiting"],
                tuple(Gate(one["name"], Verdict(one["verdict"]), one["observed"], one["limit"]) for one in row["gates"] or ()),
                row["id"],
            )
            for row in rows
        )

    def read_decision(self, release_id: str) -> Decision | None:
        """The oldest decision about a release that nobody has obeyed yet."""
        query = (
            select(t.decisions)
            .where(t.decisions.c.release_id == release_id, t.decisions.c.taken_at.is_(None))
            .order_by(t.decisions.c.id)
            .limit(1)
        )
        with self._database.read() as connection:
            row = connection.execute(query).mappings().one_or_none()
        return Decision(row["id"], row["at"], row["actor"], Command(row["command"]), row["reason"]) if row else None
