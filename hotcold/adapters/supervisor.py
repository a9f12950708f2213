"""The supervisor: circus keeps the stack's processes alive. `hotcold up` starts it detached; it holds no state that matters.

Circus listens on endpoints inside this process only: whoever can reach a circus endpoint can run any command.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from circus.arbiter import Arbiter
from circus.exc import ConflictError
from circus.process import DEAD_OR_ZOMBIE, UNEXISTING
from circus.watcher import Watcher
from tornado import gen

from hotcold.adapters.stack_processes import ProcessSpec, stack_processes
from hotcold.adapters.stack_record import read_stack
from hotcold.adapters.supervision import ProcessState, backoff_s, write_states
from hotcold.domain.errors import StackError
from hotcold.settings import Settings

_LOG = logging.getLogger("hotcold.supervisor")
_CHECK_S = 0.2
_QUICK_S = 10.0


class SupervisedWatcher(Watcher):  # type: ignore[misc]  # circus has no types
    """A watcher that waits between starts when its process keeps ending; circus would start it five times a second."""

    def __init__(self, spec: ProcessSpec, book: StateBook) -> None:
        # The shell opens the log and becomes the program. A pipe through the supervisor would break when that is killed.
        log_and_become = 'exec "$@" >>"$0" 2>&1'
        super().__init__(
            spec.name,
            "sh",
            args=["-c", log_and_become, str(spec.log), *spec.argv],
            env=spec.environment,
            working_dir=str(spec.folder),
            graceful_timeout=10,
            hooks=_hooks(book),
        )
        self._book = book

    @gen.coroutine
    def manage_processes(self) -> Any:
        """Reap what has ended since the arbiter looked: circus forgets it here without a word, so no end would be noted."""
        if not self.is_stopped():
            for process in list(self.processes.values()):
                if process.status in (DEAD_OR_ZOMBIE, UNEXISTING):
                    self.reap_process(process.pid)
        yield super().manage_processes()

    @gen.coroutine
    def spawn_processes(self) -> Any:
        """Start what is missing, unless the process ended so often that it has to wait."""
        if time.monotonic() >= self._book.not_before(self.name):
            yield super().spawn_processes()


class StateBook:
    """Notes starts and ends, and writes them for `hotcold status`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._states: dict[str, ProcessState] = {}
        self._not_before: dict[str, float] = {}

    def not_before(self, name: str) -> float:
        """Earliest next start, on the monotonic clock."""
        return self._not_before.get(name, 0.0)

    def note_start(self, watcher: Watcher, pid: int, **_: Any) -> bool:
        """A process was started. Circus goes on only if this answers true."""
        before = self._states.get(watcher.name)
        started = ProcessState(watcher.name, pid, time.time())
        if before:
            started = replace(before, pid=pid, started_at=started.started_at, restarts=before.restarts + 1)
        self._keep(started)
        _LOG.info("%s started as process %s", watcher.name, pid)
        return True

    def note_end(self, watcher: Watcher, exit_code: int | None, **_: Any) -> bool:
        """A process ended."""
        before = self._states[watcher.name]
        lasted_s = time.time() - before.started_at
        quick_ends = before.quick_ends + 1 if lasted_s < _QUICK_S else 0
        end = _how(exit_code, lasted_s)
        self._not_before[watcher.name] = time.monotonic() + backoff_s(quick_ends)
        self._keep(replace(before, quick_ends=quick_ends, last_end=end))
        _LOG.warning("%s (process %s) %s", watcher.name, before.pid, end)
        return True

    def _keep(self, state: ProcessState) -> None:
        self._states[state.name] = state
        try:
            write_states(self._settings, self._states.values())
        except StackError as error:
            # A full disk must not keep a process from being restarted.
            _LOG.warning("%s", error)


def _hooks(book: StateBook) -> dict[str, tuple[Callable[..., bool], bool]]:
    """Circus calls these; it goes on if one of them fails."""
    return {"after_spawn": (book.note_start, True), "after_reap": (book.note_end, True)}


def _how(exit_code: int | None, lasted_s: float) -> str:
    if exit_code is None:
        how = "ended"
    else:
        how = f"was ended by signal {-exit_code}" if exit_code < 0 else f"ended with exit code {exit_code}"
    return f"{how} after {lasted_s:.1f} s"


def main() -> None:
    """Supervise until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
    settings = Settings()
    book = StateBook(settings)
    watchers = [SupervisedWatcher(spec, book) for spec in stack_processes(settings, read_stack(settings))]
    endpoints = {"endpoint": "inproc://control", "pubsub_endpoint": "inproc://events"}
    arbiter = Arbiter(watchers, **endpoints, check_delay=_CHECK_S)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: arbiter.loop.add_callback_from_signal(_stop, arbiter))
    _LOG.info("supervising as process %s", os.getpid())
    arbiter.start()


def _stop(arbiter: Arbiter) -> None:
    """Circus refuses a stop that comes while it looks after its processes, and forgets it: ask again."""
    try:
        arbiter.stop()
    except ConflictError:
        if arbiter.running:
            arbiter.loop.call_later(_CHECK_S / 4, _stop, arbiter)


if __name__ == "__main__":
    main()
