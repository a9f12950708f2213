"""Keeps what readers of scores see in line with the release database: a thread beside the agent's loop.

A thread of its own, so that a slow disk never holds replicas and traffic up.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from hotcold.adapters.score_database import ScoreDatabase
from hotcold.adapters.score_pointer import project_scores
from hotcold.adapters.score_store import ScoreStore, open_score_store
from hotcold.domain.errors import HotcoldError
from hotcold.settings import Settings

_LOG = logging.getLogger("hotcold.scores")
_INTERVAL_S = 0.2
_REPEAT_S = 30.0
_RETRY_S = 1.0


class ScoreControl:
    """Projects the scores of a model when one of its pointers moves, and of all models twice a minute.

    Args:
        database: says what readers should see.
        open_store: opens where live lookups read, on the first tick.
        monotonic: seconds on a clock that does not jump.
    """

    def __init__(
        self,
        database: ScoreDatabase,
        open_store: Callable[[], ScoreStore],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._open_store = open_store
        self._monotonic = monotonic
        self._store: ScoreStore | None = None
        self._shown: dict[str, int] = {}
        self._due_s: dict[str, float] = {}
        self._said: dict[str, str] = {}

    def run(self, stopped: threading.Event) -> None:
        """Tick until told to stop."""
        while not stopped.wait(_INTERVAL_S):
            try:
                self.tick()
            except Exception as error:  # noqa: BLE001 - whatever goes wrong with scores, the agent and the next try go on
                self._say("", error)
                stopped.wait(_RETRY_S)

    def tick(self) -> None:
        """Look what moved, and project it."""
        try:
            if self._store is None:
                self._database.prepare()
                self._store = self._open_store()
            pointers = self._database.read_pointers()
        except HotcoldError as error:
            self._say("", error)
            return
        self._unsay("")
        generations: dict[str, int] = {}
        for pointer in pointers:
            generations[pointer.model] = max(generations.get(pointer.model, 0), pointer.generation)
        for model, generation in generations.items():
            self._look_after(model, generation)

    def _look_after(self, model: str, generation: int) -> None:
        now_s = self._monotonic()
        if self._shown.get(model) == generation and now_s < self._due_s.get(model, now_s):
            return
        moved = self._shown.get(model) != generation
        self._shown[model] = generation
        try:
            pointers = project_scores(self._database, model, self._store)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong with one model, the others go on
            self._due_s[model] = now_s + _RETRY_S
            self._say(model, error)
            return
        self._due_s[model] = now_s + _REPEAT_S
        self._unsay(model)
        if moved:
            seen = {pointer.output: pointer.table or "no table" for pointer in pointers}
            _LOG.info("readers see other scores", extra={"model": model, "generation": generation, "outputs": seen})

    def _say(self, model: str, error: Exception) -> None:
        """Log a trouble once, not at each attempt."""
        reason = str(error) if isinstance(error, HotcoldError) else repr(error)
        if self._said.get(model) != reason:
            self._said[model] = reason
            _LOG.error("readers of scores may not see what they should", extra={"model": model, "reason": reason})

    def _unsay(self, model: str) -> None:
        if self._said.pop(model, None):
            _LOG.info("readers of scores see what they should again", extra={"model": model})


def start_score_control(settings: Settings, stopped: threading.Event) -> threading.Thread:
    """Start the thread; it ends soon after `stopped` is set, and with the process in any case."""
    database = ScoreDatabase(settings.release_database_url)
    control = ScoreControl(database, lambda: open_score_store(settings.score_store))
    thread = threading.Thread(target=control.run, args=(stopped,), name="scores", daemon=True)
    thread.start()
    return thread
