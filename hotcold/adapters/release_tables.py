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
    UniqueConstraint,
    false,
    true,
)
from sqlalchemy.engine import RowMapping

from hotcold.domain.gate import Verdict
from hotcold.domain.package import PackageRef
from hotcold.domain.plan import Plan
from hotcold.domain.release import Phase, Release
from hotcold.domain.score_table import Pointer, ScoreTable, TableState
from hotcold.domain.serving import ModelStatus, Route, RouteStatus, Slot, SlotPlan, SlotStatus

LAYOUT_VERSION = 5

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
    # Of an evaluation; empty until there is one.
    Column("verdict", String(8), nullable=False, server_default=""),
    Column("quiet_s", Float, nullable=False, server_default="0"),
    # Of a canary.
    Column("step", Integer, nullable=False, server_default="0"),
    Column("settled", Boolean, nullable=False, server_default=false()),
    Column("waiting", Text, nullable=False, server_default=""),
    Column("waited_s", Float, nullable=False, server_default="0"),
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
    Column("verdict", String(8), nullable=False, server_default=""),
    Column("step", Integer, nullable=False, server_default="0"),
    # The edge had confirmed the split: evidence of this share begins here.
    Column("settled", Boolean, nullable=False, server_default=false()),
    Column("waiting", Text, nullable=False, server_default=""),
    # What the gates said then; null where nobody asked them.
    Column("gates", JSON),
    # False: people are to be told, and have not been yet.
    Column("told", Boolean, nullable=False, server_default=true()),
)

# What people decided, for whoever drives the release to obey.
decisions = Table(
    "decisions",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("release_id", String(36), ForeignKey("releases.id"), nullable=False, index=True),
    Column("at", Float, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("command", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("taken_at", Float),
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
    Column("mirror_pct", Float, nullable=False, server_default="0"),
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
    # When its edge's counters were last read and, where they had changed, written; null: never.
    Column("counted_at", Float),
)

edge_counters = Table(
    "edge_counters",
    metadata,
    Column("node", String(64), primary_key=True),
    Column("cluster", String(80), primary_key=True),
    Column("series", String(36), nullable=False),
    Column("started_at", Float, nullable=False),
    Column("last", JSON, nullable=False),
    Column("total", JSON, nullable=False),
)

status = Table(
    "status",
    metadata,
    Column("node", String(64), primary_key=True),
    Column("model", String(64), primary_key=True),
    Column("document", JSON, nullable=False),
)

score_tables = Table(
    "score_tables",
    metadata,
    Column("output", Text, primary_key=True),
    Column("id", String(128), primary_key=True),
    Column("model", String(64), nullable=False, index=True),
    Column("package", JSON, nullable=False),
    Column("input_url", Text, nullable=False),
    Column("input_fingerprint", String(64), nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("in_store", Boolean, nullable=False),
    Column("scored_at", Float, nullable=False),
    Column("parameters", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("lineage", JSON, nullable=False),
    # A person took it back: only scores that are newer than that make up for it, not the same ones found again.
    Column("withdrawn", Boolean, nullable=False),
    Column("changed_at", Float, nullable=False),
    Column("changed_by", String(200), nullable=False),
)

score_pointers = Table(
    "score_pointers",
    metadata,
    Column("output", Text, primary_key=True),
    Column("model", String(64), nullable=False, index=True),
    # Empty if there is none to show.
    Column("table", String(128), nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("moved_at", Float, nullable=False),
)

score_requests = Table(
    "score_requests",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("model", String(64), nullable=False),
    Column("output", Text, nullable=False),
    # Equal to the output while the request is open, else null: nulls are distinct, so one open request per output.
    Column("open_output", Text),
    Column("reason", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("run_id", String(64)),
    Column("run_at", Float),
    UniqueConstraint("model", "open_output", name="one_open_request"),
)

score_events = Table(
    "score_events",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("model", String(64), nullable=False, index=True),
    Column("output", Text, nullable=False),
    Column("table", String(128), nullable=False),
    Column("what", String(16), nullable=False),
    Column("reason", Text, nullable=False),
)

# What was last seen of the alias `candidate` in MLflow.
alias_watches = Table(
    "alias_watches",
    metadata,
    Column("model", String(256), primary_key=True),
    Column("version", Integer),
    Column("seen_at", Float, nullable=False),
    Column("set_at", Float, nullable=False),
    Column("free_at", Float, nullable=False),
    # Empty while it is open what becomes of this setting of the alias.
    Column("answer", Text, nullable=False),
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
        "verdict": release.verdict.value if release.verdict else "",
        "quiet_s": release.quiet_s,
        "step": release.step,
        "settled": release.settled,
        "waiting": release.waiting,
        "waited_s": release.waited_s,
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
        verdict=Verdict(row["verdict"]) if row["verdict"] else None,
        epoch=row["epoch"],
        row_version=row["row_version"],
        quiet_s=row["quiet_s"],
        step=row["step"],
        settled=row["settled"],
        waiting=row["waiting"],
        waited_s=row["waited_s"],
    )


def route_of(row: RowMapping) -> Route:
    """A route from its row."""
    return Route(
        green_pct=row["green_pct"],
        champion=Slot(row["champion"]) if row["champion"] else None,
        previous=Slot(row["previous"]) if row["previous"] else None,
        generation=row["generation"],
        epoch=row["epoch"],
        mirror_pct=row["mirror_pct"],
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


def score_table_values(table: ScoreTable) -> dict[str, Any]:
    """Columns of a score table that are not its key."""
    return {
        "model": table.model,
        "package": package_json(table.package),
        "input_url": table.input_url,
        "input_fingerprint": table.input_fingerprint,
        "rows": table.rows,
        "in_store": table.in_store,
        "scored_at": table.scored_at,
        "parameters": dict(table.parameters),
        "state": table.state.value,
        "reason": table.reason,
        "lineage": dict(table.lineage),
    }


def score_table_of(row: RowMapping) -> ScoreTable:
    """A score table from its row."""
    kept = ("id", "model", "output", "input_url", "input_fingerprint", "rows", "in_store", "scored_at", "reason")
    return ScoreTable(
        **{name: row[name] for name in kept},
        package=PackageRef(**row["package"]),
        parameters=row["parameters"],
        state=TableState(row["state"]),
        lineage=row["lineage"],
    )


def pointer_of(row: RowMapping) -> Pointer:
    """A pointer from its row."""
    return Pointer(row["model"], row["output"], row["table"], row["generation"], row["reason"])
