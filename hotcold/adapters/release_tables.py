"""Tables of the release database, and how their rows become domain values."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.engine import RowMapping

from hotcold.domain.package import PackageRef
from hotcold.domain.plan import Plan
from hotcold.domain.release import Phase, Release
from hotcold.domain.serving import ModelStatus, Route, RouteStatus, Slot, SlotPlan, SlotStatus

LAYOUT_VERSION = 1

metadata = MetaData()

layout = Table("layout", metadata, Column("version", Integer, primary_key=True))

releases = Table(
    "releases",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("model", String(64), nullable=False, index=True),
    # Equal to the model while the release is active, else null: nulls are distinct, so one active release per model.
    Column("active_model", String(64), unique=True),
    Column("version", Integer, nullable=False),
    Column("strategy", String(16), nullable=False),
    Column("plan", JSON, nullable=False),
    Column("plan_digest", String(64), nullable=False),
    Column("slot", String(8), nullable=False),
    Column("champion", JSON),
    Column("candidate", JSON),
    Column("phase", String(16), nullable=False),
    Column("held_from", String(16)),
    Column("split", Integer, nullable=False),
    Column("exposed", Boolean, nullable=False),
    Column("in_phase_s", Float, nullable=False),
    Column("ticked_at", Float, nullable=False),
    Column("reason", Text, nullable=False),
    Column("lease_owner", String(200), nullable=False),
    Column("lease_expires_at", Float, nullable=False),
    # Grows with each renewal, so that an agent can tell a living controller without comparing clocks.
    Column("lease_renewals", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("row_version", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("ended_at", Float),
)

events = Table(
    "events",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("release_id", String(36), ForeignKey("releases.id"), nullable=False, index=True),
    Column("at", Float, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("phase", String(16), nullable=False),
    Column("split", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("instructions", JSON, nullable=False),
    Column("row_version", BigInteger, nullable=False),
)

routes = Table(
    "routes",
    metadata,
    Column("model", String(64), primary_key=True),
    Column("green_pct", Integer),
    Column("champion", String(8)),
    Column("previous", String(8)),
    Column("generation", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
)

slots = Table(
    "slots",
    metadata,
    Column("model", String(64), primary_key=True),
    Column("slot", String(8), primary_key=True),
    Column("package", JSON),
    Column("replicas", Integer, nullable=False),
)

nodes = Table(
    "nodes",
    metadata,
    Column("node", String(64), primary_key=True),
    Column("edge_url", String(200), nullable=False),
    Column("seen_at", Float, nullable=False),
)

status = Table(
    "status",
    metadata,
    Column("node", String(64), primary_key=True),
    Column("model", String(64), primary_key=True),
    Column("document", JSON, nullable=False),
)

Index("releases_by_time", releases.c.model, releases.c.created_at)


def package_json(ref: PackageRef | None) -> dict[str, Any] | None:
    """A package's name as JSON."""
    return asdict(ref) if ref else None


def package_ref(document: dict[str, Any] | None) -> PackageRef | None:
    """Inverse of `package_json`."""
    return PackageRef(**document) if document else None


def release_values(release: Release) -> dict[str, Any]:
    """Columns of a release row that the state machine decides."""
    return {
        "active_model": release.model if release.active else None,
        "candidate": package_json(release.candidate),
        "phase": release.phase.value,
        "held_from": release.held_from.value if release.held_from else None,
        "split": release.split,
        "exposed": release.exposed,
        "in_phase_s": release.in_phase_s,
        "ticked_at": release.ticked_at,
        "reason": release.reason,
    }


def release_of(row: RowMapping) -> Release:
    """A release from its row."""
    return Release(
        id=row["id"],
        model=row["model"],
        version=row["version"],
        plan=Plan.from_json(row["plan"]),
        slot=Slot(row["slot"]),
        champion=package_ref(row["champion"]),
        candidate=package_ref(row["candidate"]),
        phase=Phase(row["phase"]),
        split=row["split"],
        exposed=row["exposed"],
        in_phase_s=row["in_phase_s"],
        ticked_at=row["ticked_at"],
        held_from=Phase(row["held_from"]) if row["held_from"] else None,
        reason=row["reason"],
        epoch=row["epoch"],
        row_version=row["row_version"],
    )


def route_of(row: RowMapping) -> Route:
    """A route from its row."""
    return Route(
        green_pct=row["green_pct"],
        champion=Slot(row["champion"]) if row["champion"] else None,
        previous=Slot(row["previous"]) if row["previous"] else None,
        generation=row["generation"],
        epoch=row["epoch"],
    )


def slot_plan_of(row: RowMapping) -> SlotPlan:
    """A slot's desired content from its row."""
    return SlotPlan(package_ref(row["package"]), row["replicas"])


def status_json(observed: ModelStatus) -> dict[str, Any]:
    """What an agent observed, as JSON."""
    return asdict(observed)


def status_of(document: dict[str, Any] | str) -> ModelStatus:
    """Inverse of `status_json`."""
    values = json.loads(document) if isinstance(document, str) else document
    return ModelStatus(
        model=values["model"],
        route=RouteStatus(**values["route"]),
        blue=SlotStatus(**values["blue"]),
        green=SlotStatus(**values["green"]),
    )
