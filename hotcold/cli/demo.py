"""`hotcold demo`."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import typer

from hotcold.cli.configuration import load_settings

if TYPE_CHECKING:
    from hotcold.adapters.stack_record import StackRecord
    from hotcold.demo import Report
    from hotcold.settings import Settings


def demo() -> None:
    """Bring the stack up and play the story on real flights: release, score a month, evaluate in the shadow, cut over, undo."""
    from hotcold.adapters.prefect_api import PrefectApi
    from hotcold.adapters.release_database import ReleaseDatabase
    from hotcold.adapters.stack import bring_up
    from hotcold.demo import MODEL, Demo
    from hotcold.demo_batch import BatchStory

    settings = load_settings()
    began = time.monotonic()

    def say(line: str) -> None:
        typer.echo(f"{time.monotonic() - began:6.1f} s  {line}")

    record = bring_up(settings, say)
    prefect, database = PrefectApi(record.prefect_api_url), ReleaseDatabase(settings.release_database_url)
    batch = BatchStory(settings.root / "demo", record.edge_url, MODEL)
    try:
        database.prepare()
        report = Demo(record.edge_url, prefect, database, batch, settings.root / "demo", say).play()
    finally:
        prefect.close()
        database.close()
        batch.close()
    _show(report)
    _write(settings, report)
    _tell_where(record)


def _show(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    traffic = report.traffic
    table = Table(title="Live requests while a version was released and taken back")
    table.add_column("what")
    table.add_column("value", justify="right")
    rows = {
        "requests": f"{traffic.requests}",
        "failed": f"{traffic.failed}",
        "versions seen": ", ".join(f"{version}: {count}" for version, count in traffic.versions.items()),
        "in the shadow": ", ".join(f"{version} {verdict} after {s:.0f} s" for version, verdict, s in report.evaluated),
        "switch: decision to last answer by the old version": f"{report.cutover_s * 1e3:.0f} ms",
        "undo: decision to last answer by the new version": f"{report.undo_last_candidate_answer_s * 1e3:.0f} ms",
        "undo: decision to confirmation by the edge": f"{report.undo_s * 1e3:.0f} ms",
        "batch: flights scored, versions that readers saw": f"{report.batch_rows:,}: {' → '.join(report.scores_shown)}",
        "undo: decision to the scores from before": f"{report.scores_back_s * 1e3:.0f} ms",
        "p50 / p95 / p99": f"{traffic.p50_ms:.1f} / {traffic.p95_ms:.1f} / {traffic.p99_ms:.1f} ms",
        "AUC of the live answers": ", ".join(f"{version}: {auc:.3f}" for version, auc in report.auc_by_version.items()),
    }
    for what, value in rows.items():
        table.add_row(what, value)
    Console().print(table)


def _write(settings: Settings, report: Report) -> None:
    from hotcold.adapters.stack_record import write_json

    path = settings.root / "demo" / "report.json"
    write_json(path, report.to_json())
    typer.echo(f"report: {path} ({len(json.dumps(report.to_json()))} bytes)")


def _tell_where(record: StackRecord) -> None:
    typer.echo(f"Prefect: {record.prefect_api_url.removesuffix('/api')}   deployments, runs and their artifacts")
    typer.echo(f"MLflow:  {record.mlflow_url}   versions with their stages, aliases and metrics")
    typer.echo(f"edge:    {record.edge_url}/models/flights")
    typer.echo("The stack keeps running: `make down` ends it.")
