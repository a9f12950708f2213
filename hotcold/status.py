"""What runs and what serves, gathered for people and scripts: the stack's processes and every model's slots."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hotcold.adapters.release_database import Lease, ReleaseDatabase
from hotcold.adapters.score_database import ScoreDatabase
from hotcold.adapters.stack_record import StackRecord, read_stack
from hotcold.adapters.supervision import read_states
from hotcold.adapters.survivors import SUPERVISOR, instance_of, is_named
from hotcold.domain.errors import StackError
from hotcold.domain.release import Release
from hotcold.domain.score_table import Pointer, ScoreTable
from hotcold.domain.serving import ModelPlan, ModelStatus, Slot
from hotcold.settings import Settings


@dataclass(frozen=True)
class ProcessReport:
    """One supervised process.

    Args:
        name: its name.
        pid: process id of its latest start.
        running: it lives.
        up_s: seconds since its latest start.
        restarts: starts after the first.
        last_end: how it last ended; empty if it never did.
    """

    name: str
    pid: int
    running: bool
    up_s: float
    restarts: int
    last_end: str


@dataclass(frozen=True)
class SlotReport:
    """One slot of a model.

    Args:
        slot: blue or green.
        role: champion, candidate, previous, or empty.
        package: tag of the package that it should hold; empty if none.
        version: registry version of that package.
        desired_pct: share of the traffic that it should have.
        confirmed_pct: share that the edge confirmed; None if no live agent reports.
        ready: replicas that answer; None if no live agent reports.
        wanted: replicas that it should have.
        restarts: replicas restarted since the package came.
        failure: why the package can never become ready; empty while it may.
        copied_pct: share of the scoring requests that it gets a copy of, as the edge confirmed; None if that is not known.
    """

    slot: str
    role: str
    package: str
    version: int | None
    desired_pct: int
    confirmed_pct: int | None
    ready: int | None
    wanted: int
    restarts: int
    failure: str
    copied_pct: float | None = 0.0


@dataclass(frozen=True)
class ReleaseReport:
    """The release under way."""

    id: str
    version: int
    phase: str
    split_pct: int
    reason: str
    controller: str
    lease_left_s: float


@dataclass(frozen=True)
class ScoresReport:
    """What readers of one output should see.

    Args:
        output: URL of the folder that they know.
        table: id of the table; empty if none.
        package: tag of the package that scored it; empty if none.
        reason: why they see it.
    """

    output: str
    table: str
    package: str
    reason: str


@dataclass(frozen=True)
class ModelReport:
    """One model: versions by role, slots, the release under way, and which scores readers see."""

    model: str
    champion: int | None
    candidate: int | None
    previous: int | None
    slots: tuple[SlotReport, ...]
    release: ReleaseReport | None
    scores: tuple[ScoresReport, ...] = ()


@dataclass(frozen=True)
class StackReport:
    """All of it.

    Args:
        home: folder of the installation.
        up: the supervisor and all its processes live.
        record: where the stack listens; None if none is recorded.
        processes: the supervisor first.
        models: by name.
    """

    home: str
    up: bool
    record: StackRecord | None
    processes: tuple[ProcessReport, ...]
    models: tuple[ModelReport, ...]


def read_report(settings: Settings, now: float) -> StackReport:
    """Gather the report. Needs neither Prefect nor MLflow.

    Args:
        settings: of the installation.
        now: seconds since the epoch.

    Raises:
        DatabaseError: the release database cannot be reached.
    """
    record = _record(settings)
    processes = _processes(settings, record, now) if record else ()
    up = bool(processes) and all(process.running for process in processes)
    return StackReport(str(settings.root), up, record, processes, _models(settings, now))


def _record(settings: Settings) -> StackRecord | None:
    try:
        return read_stack(settings)
    except StackError:
        return None


def _processes(settings: Settings, record: StackRecord, now: float) -> tuple[ProcessReport, ...]:
    instance = instance_of(settings.root)
    supervised = is_named(record.supervisor_pid, instance, SUPERVISOR)
    first = ProcessReport(SUPERVISOR, record.supervisor_pid, supervised, now - record.supervisor_created, 0, "")
    others = (
        ProcessReport(
            state.name,
            state.pid,
            is_named(state.pid, instance, state.name),
            now - state.started_at,
            state.restarts,
            state.last_end,
        )
        for state in read_states(settings)
    )
    return (first, *others)


def _models(settings: Settings, now: float) -> tuple[ModelReport, ...]:
    if not settings.database_url and not (settings.root / "db" / "release.db").exists():
        return ()
    database, scores = ReleaseDatabase(settings.release_database_url), ScoreDatabase(settings.release_database_url)
    try:
        database.prepare()
        active = {release.model: (release, lease) for release, lease in database.read_active()}
        models = [
            _model(plan, database.read_status(plan.model, now), active.get(plan.model), now) for plan in database.read_plans()
        ]
        return tuple(replace(model, scores=_scores(scores.read_shown(model.model))) for model in models)
    finally:
        database.close()
        scores.close()


def _model(plan: ModelPlan, status: ModelStatus | None, active: tuple[Release, Lease] | None, now: float) -> ModelReport:
    release = active[0] if active else None
    candidate = release.slot if release and release.candidate else None
    return ModelReport(
        model=plan.model,
        champion=_version(plan, plan.route.champion),
        candidate=release.version if release else None,
        previous=_version(plan, plan.route.previous),
        slots=tuple(_slot(plan, status, slot, candidate) for slot in Slot),
        release=_release(*active, now) if active else None,
    )


def _scores(shown: tuple[tuple[Pointer, ScoreTable | None], ...]) -> tuple[ScoresReport, ...]:
    return tuple(
        ScoresReport(pointer.output, pointer.table, table.package.tag if table else "", pointer.reason)
        for pointer, table in shown
    )


def _version(plan: ModelPlan, slot: Slot | None) -> int | None:
    package = plan.slot(slot).package if slot else None
    return package.version if package else None


def _slot(plan: ModelPlan, status: ModelStatus | None, slot: Slot, candidate: Slot | None) -> SlotReport:
    desired, observed = plan.slot(slot), status.slot(slot) if status else None
    roles = {candidate: "candidate", plan.route.previous: "previous", plan.route.champion: "champion"}
    return SlotReport(
        slot=slot.value,
        role=roles.get(slot, ""),
        package=desired.package.tag if desired.package else "",
        version=desired.package.version if desired.package else None,
        desired_pct=plan.route.share(slot),
        confirmed_pct=(status.route.share(slot) or 0) if status else None,
        ready=observed.ready if observed else None,
        wanted=desired.replicas,
        restarts=observed.restarts if observed else 0,
        failure=observed.failure if observed else "",
        copied_pct=_copied(plan, status, slot),
    )


def _copied(plan: ModelPlan, status: ModelStatus | None, slot: Slot) -> float | None:
    """Only the slot beside the champion's gets copies."""
    if plan.route.champion is not slot.other:
        return 0.0
    return status.route.mirror if status else None


def _release(release: Release, lease: Lease, now: float) -> ReleaseReport:
    return ReleaseReport(
        release.id, release.version, release.phase.value, release.split, release.reason, lease.owner, lease.expires_at - now
    )
