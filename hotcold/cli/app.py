"""The command line `hotcold`. Heavy imports happen inside the commands, so that `--help` and `rollback` start at once."""

from __future__ import annotations

import sys

import typer

from hotcold.cli import decide, demo, logs, release, scores, stack, status
from hotcold.domain.errors import ActiveReleaseError, HotcoldError

FAILED = 1
REFUSED = 3

app = typer.Typer(
    name="hotcold",
    help="One release decision moves a model's live traffic and its batch scoring together, and can be undone in a second.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused because another release of the model is under way.",
)
app.command()(stack.up)
app.command()(stack.down)
app.command()(status.status)
app.command()(logs.logs)
app.command()(release.release)
app.command()(release.rollback)
app.command()(decide.decide)
app.command()(demo.demo)
app.add_typer(scores.app, name="scores")


def main() -> None:
    """Entry point: an error raised on purpose is one message, never a traceback."""
    try:
        app()
    except HotcoldError as error:
        typer.echo(f"hotcold: {error}", err=True)
        sys.exit(REFUSED if isinstance(error, ActiveReleaseError) else FAILED)
