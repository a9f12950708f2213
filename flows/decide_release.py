"""Answer for a release that asks a person."""

import time
from typing import Annotated

from prefect import flow, get_run_logger
from pydantic import Field

from hotcold.settings import Settings
from tasks.approval import COMMANDS, Choice
from tasks.context import controller_name, open_database
from tasks.forms import ModelName

Reason = Annotated[str, Field(min_length=1, max_length=500)]


@flow(name="decide-release", flow_run_name="decide {model}", persist_result=False)
def decide_release(decision: Choice, reason: Reason, model: ModelName = "flights") -> str:
    """Answer the question that a promotion asks; the same as the form of its own run.

    Args:
        decision: promote: go on to the next step. hold: stay and ask again. roll back: all traffic back, at once.
        reason: Why; it is kept in the audit.
        model: Registered model name.
    """
    database = open_database(Settings())
    try:
        release = database.decide(model, COMMANDS[decision], controller_name(), reason, time.time())
    finally:
        database.close()
    text = f"release {release.id[:8]} of {model} at {release.split} %: {decision.value}"
    get_run_logger().info(text)
    return text
