"""`hotcold scores`: which score tables there are, which of them readers see, and how to take one back."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotcold.cli.configuration import load_settings, user_name

if TYPE_CHECKING:
    from hotcold.adapters.score_database import ScoreDatabase
    from hotcold.domain.score_table import ScoreTable
    from hotcold.settings import Settings

app = typer.Typer(help="Score tables: list them, look at one, take one back.", no_args_is_help=True)

# Too long for people, or shown in lines of their own.
_NOT_SHOWN = frozenset({"quality", "histogram", "problems", "duplicates"})

Model = Annotated[str | None, typer.Argument(help="Registered model name; without it, all models.")]
Table = Annotated[str, typer.Argument(help="The table's id, or its beginning.")]
Output = Annotated[str, typer.Option(help="Its output, where the same table was written to several.")]
Reason = Annotated[str, typer.Option(help="Why; it is kept in the audit and shown to readers.")]


@app.command("list")
def list_tables(model: Model = None) -> None:
    """List score tables, the latest first; `*` marks those that readers see."""
    with _open(load_settings()) as database:
        tables, pointers = database.read_tables(model), database.read_pointers(model)
    shown = {(pointer.output, pointer.table) for pointer in pointers}
    if not tables:
        typer.echo("no score tables yet; start a run with the flow score-batch")
    for table in tables:
        mark = "*" if (table.output, table.id) in shown else " "
        reason = f": {table.reason}" if table.reason and not table.usable else ""
        typer.echo(
            f"{mark} {table.id}  {table.package.tag}  {_time(table.scored_at)}  {table.rows:>13,} rows  "
            f"{table.state.value:<9}  {table.output}{reason}"
        )
    for pointer in pointers:
        if not pointer.table:
            typer.echo(f"* readers of {pointer.output} see no table: {pointer.reason}")


@app.command()
def show(table: Table, output: Output = "") -> None:
    """Show what a table is, where it comes from, and what the quality gate said."""
    with _open(load_settings()) as database:
        found = database.read_table(table, output)
        shown = any((pointer.output, pointer.table) == (found.output, found.id) for pointer in database.read_pointers())
    summary = _summary(found, shown)
    rest = {name: value for name, value in found.lineage.items() if name not in _NOT_SHOWN | summary.keys()}
    _show_fields(summary | rest)
    for gate in found.lineage.get("quality", ()):
        typer.echo(_gate(gate))


@app.command()
def retract(table: Table, reason: Reason, output: Output = "") -> None:
    """Take a table back at once: readers see the one before, or none, and the output is scored again."""
    from hotcold.shown_scores import show_scores

    settings = load_settings()
    with _open(settings) as database:
        found = database.read_table(table, output)
        database.retract(found.model, found.output, found.id, reason, user_name(), time.time())
    typer.echo(f"table {found.id} of {found.model} is taken back; its output will be scored again")
    for sentence in show_scores(settings, found.model):
        typer.echo(sentence)


@contextmanager
def _open(settings: Settings) -> Iterator[ScoreDatabase]:
    from hotcold.adapters.score_database import ScoreDatabase

    database = ScoreDatabase(settings.release_database_url)
    try:
        database.prepare()
        yield database
    finally:
        database.close()


def _summary(table: ScoreTable, shown: bool) -> dict[str, Any]:
    return {
        "table": table.id,
        "model": table.model,
        "package": table.package.tag,
        "output": table.output,
        "input": table.input_url,
        "rows": table.rows,
        "scored": _time(table.scored_at),
        "state": f"{table.state.value}{f': {table.reason}' if table.reason else ''}",
        "readers": "see it" if shown else "do not see it",
        "lookups": "in the score store" if table.in_store else "not in the score store",
    }


def _show_fields(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        typer.echo(f"{name:<18} {value:,}" if type(value) is int else f"{name:<18} {value}")


def _gate(gate: Mapping[str, Any]) -> str:
    from hotcold.domain.gate import Gate, Verdict

    return Gate(**{**gate, "verdict": Verdict(gate["verdict"])}).sentence


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
