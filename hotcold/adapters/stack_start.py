"""Waits until a starting stack is ready, all processes at once, and says why if one of them cannot become so."""

from __future__ import annotations

import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from hotcold.adapters.readiness import Check
from hotcold.adapters.stack_processes import deployer
from hotcold.adapters.stack_record import StackRecord
from hotcold.adapters.supervision import read_states
from hotcold.adapters.survivors import SUPERVISOR, instance_of, is_named
from hotcold.domain.errors import StackError
from hotcold.settings import Settings

_POLL_S = 0.1
_HOPELESS_ENDS = 4
_TAIL_LINES = 15
DEPLOY = "deployments"


class Start:
    """A stack on its way up.

    Args:
        settings: of this installation.
        record: where its processes listen.
        say: takes one line of progress at a time.
        checks: what has to hold.
        deploys: bring the deployments to the Prefect server too.
    """

    def __init__(
        self, settings: Settings, record: StackRecord, say: Callable[[str], None], checks: Sequence[Check], deploys: bool
    ) -> None:
        self._settings = settings
        self._record = record
        self._say = say
        self._began = time.monotonic()
        self._given_up = threading.Event()
        self._deploying: subprocess.Popen[bytes] | None = self._deploy() if deploys else None
        deployed = (Check(DEPLOY, self._is_deployed),) if deploys else ()
        self._checks = (*checks, *deployed)

    def wait(self, wait_s: float) -> None:
        """Return when every check holds.

        Raises:
            StackError: one does not within `wait_s` seconds, or its process keeps ending; with the end of its log.
        """
        with ThreadPoolExecutor(max_workers=len(self._checks), thread_name_prefix="ready") as pool:
            waiting = {pool.submit(self._until_ready, check): check.name for check in self._checks}
            try:
                while waiting:
                    self._collect(waiting)
                    self._require_hope(set(waiting.values()), wait_s)
            finally:
                self._given_up.set()
                self._end_deploying()

    def _collect(self, waiting: dict[Future[None], str]) -> None:
        done, _ = wait(waiting, timeout=_POLL_S, return_when=FIRST_COMPLETED)
        for future in done:
            name = waiting.pop(future)
            future.result()
            self._say(f"{name:<15} ready after {time.monotonic() - self._began:4.1f} s")

    def _until_ready(self, check: Check) -> None:
        while not self._given_up.is_set() and not check.is_ready():
            self._given_up.wait(_POLL_S)

    def _require_hope(self, waiting: set[str], wait_s: float) -> None:
        if not is_named(self._record.supervisor_pid, instance_of(self._settings.root), SUPERVISOR):
            raise self._failure(SUPERVISOR, "ended")
        for state in read_states(self._settings):
            if state.name in waiting and state.quick_ends >= _HOPELESS_ENDS:
                raise self._failure(state.name, f"ended {state.quick_ends} times in a row; the last time it {state.last_end}")
        if self._deploying and self._deploying.poll() not in (None, 0):
            raise self._failure("deploy", f"ended with exit code {self._deploying.returncode}")
        if waiting and time.monotonic() - self._began > wait_s:
            raise self._failure(min(waiting).replace(DEPLOY, "deploy"), f"is not ready after {wait_s:g} s")

    def _failure(self, name: str, what: str) -> StackError:
        log = self._settings.log_dir / f"{name}.log"
        tail = "\n".join(f"    {line}" for line in last_lines(log, _TAIL_LINES))
        return StackError(f"{name} {what}; correct what its log says and run `hotcold up` again. The end of {log}:\n{tail}")

    def _deploy(self) -> subprocess.Popen[bytes]:
        spec = deployer(self._settings, self._record)
        with spec.log.open("ab") as log:
            return subprocess.Popen(
                spec.argv,
                env=spec.environment,
                cwd=spec.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _is_deployed(self) -> bool:
        return self._deploying is not None and self._deploying.poll() == 0

    def _end_deploying(self) -> None:
        if self._deploying and self._deploying.poll() is None:
            self._deploying.kill()
            self._deploying.wait()


def last_lines(path: Path, count: int) -> tuple[str, ...]:
    """The last lines of a log; empty if there is none."""
    try:
        with path.open(errors="replace") as file:
            return tuple(line.rstrip("\n") for line in deque(file, maxlen=count))
    except OSError:
        return ()
