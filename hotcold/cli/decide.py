"""`hotcold decide`: answer for a release that asks a person."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Annotated

import typer

from hotcold.cli.configuration import load_settings, user_name

Model = Annotated[str, typer.Argument(help="Registered model name.")]
Reason = Annotated[str, typer.Option(help="Why; it is kept in the audit.")]


class Decision(StrEnum):
    """What can be answered."""

    PROMOTE = "promote"
    HOLD = "hold"
    ROLL_BACK = "roll-back"


Chosen = Annotated[Decision, typer.Argument(help="promote: go on. hold: ask again. roll-back: all traffic back.")]


def decide(model: Model, decision: Chosen, reason: Reason = "decided on the command line") -> None:
    """Answer the question of a promotion; its driver obeys within a tick."""
    from hotcold.adapters.release_database import ReleaseDatabase
    from hotcold.domain.release import Command

    commands = {Decision.PROMOTE: Command.APPROVE, Decision.HOLD: Command.HOLD, Decision.ROLL_BACK: Command.ROLL_BACK}
    database = ReleaseDatabase(load_settings().release_database_url)
    try:
        database.prepare()
        release = database.decide(model, commands[decision], user_name(), reason, time.time())
    finally:
        database.close()
    typer.echo(f"release {release.id[:8]} of {model} at {release.split} %: {decision.value}; {release.waiting}")
