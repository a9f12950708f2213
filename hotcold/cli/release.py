"""`hotcold release` and `hotcold rollback`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotcold.cli.configuration import load_settings, user_name
from hotcold.domain.errors import ActiveReleaseError, EdgeError, PlanError, ReleaseError

if TYPE_CHECKING:
    from hotcold.adapters.prefect_api import FlowRun, PrefectApi
    from hotcold.adapters.release_database import ReleaseDatabase
    from hotcold.domain.release import Release
    from hotcold.settings import Settings

_POLL_S = 0.2

Model = Annotated[str, typer.Argument(help="Registered model name.")]
Version = Annotated[int | None, typer.Option(min=1, help="Registry version; without it, the one with the alias `candidate`.")]
PlanFile = Annotated[Path | None, typer.Option("--plan", help="Plan as a YAML or JSON file; the options below win over it.")]
Replicas = Annotated[int | None, typer.Option(min=1, max=64, help="Replicas of the candidate.")]
Bake = Annotated[float | None, typer.Option("--bake-s", min=0, help="Seconds under full traffic before it becomes champion.")]
OnUnknown = Annotated[str | None, typer.Option(help="Without evidence at the end: `hold` for a person, or `roll_back`.")]
Breaking = Annotated[
    bool | None, typer.Option("--allow-breaking-schema", help="Release a version that refuses requests of today.")
]
Wait = Annotated[bool, typer.Option(help="Follow the release to its end, or only start it.")]
Reason = Annotated[str, typer.Option(help="Why; it is kept in the audit.")]


def release(
    model: Model,
    version: Version = None,
    plan: PlanFile = None,
    replicas: Replicas = None,
    bake_s: Bake = None,
    on_unknown: OnUnknown = None,
    allow_breaking_schema: Breaking = None,
    wait: Wait = True,
) -> None:
    """Release a version of a model: start the flow `cut-over`, follow its phases, and end with its outcome."""
    from hotcold.adapters.prefect_api import PrefectApi
    from hotcold.adapters.release_database import ReleaseDatabase
    from hotcold.adapters.stack_record import read_stack

    settings = load_settings()
    chosen = {"replicas": replicas, "bake_s": bake_s, "on_unknown": on_unknown, "allow_breaking_schema": allow_breaking_schema}
    parameters = _parameters(model, version, plan, {key: value for key, value in chosen.items() if value is not None})
    prefect = PrefectApi(read_stack(settings).prefect_api_url)
    database = ReleaseDatabase(settings.release_database_url)
    try:
        database.prepare()
        run = prefect.start("cut-over/cut-over", parameters)
        typer.echo(f"flow run {run.name} ({run.id})")
        if wait:
            _follow(prefect, database, run)
    finally:
        database.close()
        prefect.close()


def rollback(model: Model, reason: Reason = "rolled back from the command line") -> None:
    """Give all traffic back to the champion before, and readers of batch scores its tables, at once.

    Needs neither Prefect nor MLflow.
    """
    from hotcold.adapters.release_database import ReleaseDatabase
    from hotcold.rollback import roll_back

    settings = load_settings()
    database = ReleaseDatabase(settings.release_database_url)
    try:
        database.prepare()
        undone = roll_back(database, model, user_name(), reason)
    except EdgeError:
        # The decision is written all the same, and readers of scores do not wait for the edge.
        _show_scores(settings, model)
        raise
    finally:
        database.close()
    champion = undone.release.champion.tag if undone.release.champion else "nobody"
    typer.echo(f"{champion} has the traffic; the edge confirmed it after {undone.confirmed_s * 1e3:.0f} ms")
    _show_scores(settings, model)


def _show_scores(settings: Settings, model: str) -> None:
    from hotcold.shown_scores import show_scores

    for sentence in show_scores(settings, model):
        typer.echo(sentence)


def _parameters(model: str, version: int | None, file: Path | None, chosen: dict[str, Any]) -> dict[str, Any]:
    from hotcold.domain.plan import Plan

    plan = _read_plan(file) | chosen if file else chosen
    # Refused here already if it contradicts itself.
    Plan.from_json(plan)
    return {"model": model, "version": version, "plan": plan}


def _read_plan(file: Path) -> dict[str, Any]:
    import yaml

    try:
        document = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PlanError(
            f"the plan {file} cannot be read: {error}; needed is YAML or JSON with keys such as `bake_s`"
        ) from error
    if not isinstance(document, dict):
        raise PlanError(f"the plan {file} holds a {type(document).__name__}; needed are keys and values such as `bake_s: 30`")
    return document


def _follow(prefect: PrefectApi, database: ReleaseDatabase, run: FlowRun) -> None:
    """Print each phase as it comes; raise unless the candidate is promoted."""
    began, shown, release_id = time.monotonic(), 0, ""
    while True:
        # The run first, the release after it: so the last phase is never missed.
        run = prefect.read(run.id)
        release_id = release_id or _release_of(database, run)
        if release_id:
            events = database.read_events(release_id)
            for event in events[shown:]:
                reason = f": {event.reason}" if event.reason else ""
                typer.echo(f"  {time.monotonic() - began:6.1f} s  {event.phase.value:<12} candidate {event.split:>3} %{reason}")
            shown = len(events)
        if run.ended:
            _conclude(run, database.read_release(release_id) if release_id else None)
            return
        time.sleep(_POLL_S)


def _release_of(database: ReleaseDatabase, run: FlowRun) -> str:
    """The release that the run drives; its lease names the run."""
    return next((release.id for release, lease in database.read_active() if run.id in lease.owner), "")


def _conclude(run: FlowRun, release: Release | None) -> None:
    from hotcold.domain.release import Phase

    if release and release.phase is Phase.PROMOTED:
        typer.echo(run.message or f"{release.model} version {release.version} is the champion")
        return
    kind = ActiveReleaseError if ActiveReleaseError.__name__ in run.message else ReleaseError
    message = run.message.rpartition(f"{ActiveReleaseError.__name__}: ")[2]
    raise kind(f"{message or f'flow run {run.name} ended as {run.state}'} (flow run {run.name}, {run.state.lower()})")
