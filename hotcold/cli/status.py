"""`hotcold status`."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from hotcold.cli.configuration import load_settings

if TYPE_CHECKING:
    from hotcold.status import ModelReport, ProcessReport, SlotReport, StackReport

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def status(as_json: AsJson = False) -> None:
    """Show processes, models, slots, split and the release under way. Exit code 1 if the stack is not fully up."""
    from hotcold.status import read_report

    report = read_report(load_settings(), time.time())
    if as_json:
        typer.echo(json.dumps(asdict(report), indent=2))
    else:
        _show(report)
    if not report.up:
        raise typer.Exit(1)


def _show(report: StackReport) -> None:
    typer.echo(f"{report.home}: {'up' if report.up else 'not up; start it with `hotcold up`'}")
    for process in report.processes:
        typer.echo(f"  {process.name:<15} {_process(process)}")
    for model in report.models:
        _show_model(model)


def _process(process: ProcessReport) -> str:
    state = f"process {process.pid}, up {_duration(process.up_s)}" if process.running else "not running"
    restarts = f", {process.restarts} restarts" if process.restarts else ""
    return f"{state}{restarts}{f', last {process.last_end}' if process.last_end else ''}"


def _show_model(model: ModelReport) -> None:
    roles = (("champion", model.champion), ("candidate", model.candidate), ("previous", model.previous))
    typer.echo(f"{model.model}: " + ", ".join(f"{role} {f'v{version}' if version else 'none'}" for role, version in roles))
    for slot in model.slots:
        typer.echo(f"  {slot.slot:<6} {_slot(slot)}")
    if release := model.release:
        reason = f": {release.reason}" if release.reason else ""
        typer.echo(f"  release of v{release.version} is {release.phase}{reason}; driven by {release.controller}")
    for scores in model.scores:
        seen = f"table {scores.table} by {scores.package}" if scores.table else f"no table: {scores.reason}"
        typer.echo(f"  readers of {scores.output} see {seen}")


def _slot(slot: SlotReport) -> str:
    if not slot.package:
        return "empty"
    confirmed = "unconfirmed" if slot.confirmed_pct is None else f"{slot.confirmed_pct} % confirmed"
    ready = "?" if slot.ready is None else slot.ready
    failure = f"; {slot.failure}" if slot.failure else ""
    copies = f", copies of {slot.copied_pct:g} %" if slot.copied_pct else ""
    share = f"{slot.desired_pct} % ({confirmed}){copies}"
    return f"{slot.role:<9} {slot.package}  {share}, {ready} of {slot.wanted} replicas ready{failure}"


def _duration(seconds: float) -> str:
    minutes, rest_s = divmod(int(max(seconds, 0)), 60)
    hours, rest_min = divmod(minutes, 60)
    return f"{hours} h {rest_min} min" if hours else f"{minutes} min {rest_s} s" if minutes else f"{rest_s} s"
