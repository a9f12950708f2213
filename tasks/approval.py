"""Asks a person in the Prefect UI: the run is paused there with a form, while its driver goes on watching the gates."""

import threading
import time
from collections.abc import Sequence
from contextvars import copy_context
from enum import StrEnum

import httpx
from prefect import get_run_logger
from prefect.exceptions import PrefectException, PrefectSignal
from prefect.flow_runs import pause_flow_run, resume_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run
from pydantic import Field

from hotcold.adapters.release_database import ReleaseDatabase
from hotcold.domain.errors import HotcoldError, NothingToDecideError
from hotcold.domain.gate import Gate
from hotcold.domain.release import Command, Release

_POLL_S = 0.5
_CLOSE_S = 30.0
# What Prefect's client raises where the server is away, or the run is not in the state that is needed.
_UNREACHABLE = (PrefectException, RuntimeError, OSError, httpx.HTTPError)
# Prefect ends a pause that takes longer; how long a person may take is for the plan to say.
_LONGEST_S = 365 * 86_400


class Choice(StrEnum):
    """What a person may answer."""

    PROMOTE = "promote"
    HOLD = "hold"
    ROLL_BACK = "roll back"


COMMANDS = {Choice.PROMOTE: Command.APPROVE, Choice.HOLD: Command.HOLD, Choice.ROLL_BACK: Command.ROLL_BACK}


class Answer(RunInput):
    """The form."""

    decision: Choice = Field(
        Choice.HOLD,
        description="promote: go on to the next step. hold: stay and ask again. roll back: all traffic back, at once.",
    )
    reason: str = Field("", max_length=500, description="Why; it is kept in the audit.")
    who: str = Field("", max_length=100, description="Your name, for the audit.")


class Question:
    """One question to a person, until it is answered or withdrawn. Only the run that drives the release can ask.

    Args:
        database: takes the answer.
        release: that waits.
        gates: what the person should know.
    """

    def __init__(self, database: ReleaseDatabase, release: Release, gates: Sequence[Gate]) -> None:
        self._database = database
        self._release = release
        self._form = Answer.with_initial_data(description=evidence_text(release, gates))
        self._run_id = flow_run.id
        self._withdrawn = False
        self._logger = get_run_logger()
        # The pause belongs to the run, which Prefect knows by its context.
        self._thread = threading.Thread(target=copy_context().run, args=(self._ask,), name="question", daemon=True)
        self._thread.start()

    @property
    def is_open(self) -> bool:
        """Nobody has answered yet."""
        return self._thread.is_alive()

    def withdraw(self) -> None:
        """Let the run go on: what was asked is decided. Whoever drives the release does not wait for it."""
        self._withdrawn = True
        threading.Thread(target=copy_context().run, args=(self._resume,), name="withdraw question", daemon=True).start()

    def close(self) -> None:
        """Wait until the run goes on."""
        self._thread.join(timeout=_CLOSE_S)

    def _resume(self) -> None:
        """Until the run is paused, which takes Prefect a moment, it cannot be resumed."""
        deadline = time.monotonic() + _CLOSE_S
        while self._thread.is_alive() and self._run_id and time.monotonic() < deadline:
            try:
                resume_flow_run(self._run_id, run_input={"decision": Choice.HOLD.value, "reason": "decided otherwise"})
            except _UNREACHABLE as error:
                self._logger.debug("the question is still open: %s", error)
            time.sleep(_POLL_S)

    def _ask(self) -> None:
        try:
            answer = pause_flow_run(wait_for_input=self._form, timeout=_LONGEST_S, poll_interval=_POLL_S)  # type: ignore[call-overload]
        except (*_UNREACHABLE, PrefectSignal) as error:
            # It can be answered by the flow decide-release all the same.
            self._logger.warning("the Prefect UI cannot ask: %s", error)
            return
        if not self._withdrawn:
            self._decide(answer)

    def _decide(self, answer: Answer) -> None:
        actor = f"{answer.who or 'somebody'} in the Prefect UI"
        reason = answer.reason or f"{answer.decision.value}, without a reason"
        try:
            self._database.decide(self._release.model, COMMANDS[answer.decision], actor, reason, time.time())
        except NothingToDecideError as error:
            self._logger.warning("the answer of %s came too late: %s", actor, error)
        except HotcoldError as error:
            self._logger.warning("the answer of %s is lost, and asked for again: %s", actor, error)


def evidence_text(release: Release, gates: Sequence[Gate]) -> str:
    """What a person should know before an answer, as markdown.

    Args:
        release: that waits.
        gates: all verdicts so far.
    """
    candidate = release.candidate.tag if release.candidate else f"version {release.version}"
    lines = [f"**{candidate}** answers {release.split} % of the requests. {release.waiting}.", ""]
    lines += ["| gate | verdict | observed | allowed |", "|---|---|---|---|"]
    lines += [f"| {gate.name} | {gate.verdict} | {_cell(gate.observed)} | {_cell(gate.limit)} |" for gate in gates]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
