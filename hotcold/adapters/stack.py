"""Brings the local stack up and takes it down. Both may be called at any time, any number of times."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import psutil

from hotcold.adapters.envoy import prepare_edge
from hotcold.adapters.home import prepare_home, rotate_logs
from hotcold.adapters.ports import choose_ports
from hotcold.adapters.readiness import missing_deployments, readiness_checks
from hotcold.adapters.stack_environment import checkout_root, process_environment
from hotcold.adapters.stack_record import StackRecord, read_stack, remove_stack, write_stack
from hotcold.adapters.stack_start import Start
from hotcold.adapters.supervision import states_file
from hotcold.adapters.survivors import SUPERVISOR, Survivor, end_processes, find_survivors, instance_of, is_named
from hotcold.adapters.webhook_secrets import webhook_secrets
from hotcold.domain.errors import StackError
from hotcold.settings import Settings

Say = Callable[[str], None]

_GRACE_S = 8.0
_LOCK_POLL_S = 0.1
# Flow runs, the worker and the agent write their last words to these.
_LAST = ("prefect-server", "mlflow-server")


def bring_up(settings: Settings, say: Say, wait_s: float = 180.0) -> StackRecord:
    """Start what does not run, and wait until every process is ready.

    Args:
        settings: of this installation.
        say: takes one line of progress at a time.
        wait_s: longest wait until all is ready, seconds.

    Returns:
        Where the stack listens.

    Raises:
        StackError: the folder or the disk does not do, a configured port is taken, or a process does not become ready; then
            nothing that was started here is left running.
    """
    prepare_home(settings)
    with _only_one(settings, say, wait_s):
        running = running_stack(settings)
        if running:
            return _complete(settings, running, say, wait_s)
        _clear_leftovers(settings, say)
        try:
            return _start(settings, say, wait_s)
        except BaseException:
            _end_all(settings)
            raise


def take_down(settings: Settings, say: Say, wait_s: float = 60.0) -> tuple[str, ...]:
    """End every process of this installation, replicas and flow runs too, whoever started them.

    Args:
        settings: of this installation.
        say: takes one line of progress at a time.
        wait_s: longest wait for another `up` or `down` to end, seconds.

    Returns:
        What was ended, one line for each process.

    Raises:
        StackError: another `up` or `down` does not end, or a process does not.
    """
    if not settings.run_dir.is_dir():
        return ()
    with _only_one(settings, say, wait_s):
        return _end_all(settings)


def running_stack(settings: Settings) -> StackRecord | None:
    """The record of the stack if its supervisor lives, else None."""
    try:
        record = read_stack(settings)
    except StackError:
        return None
    return record if is_named(record.supervisor_pid, instance_of(settings.root), SUPERVISOR) else None


@contextmanager
def _only_one(settings: Settings, say: Say, wait_s: float) -> Iterator[None]:
    """Hold the installation's lock; the kernel lets go of it if this process dies."""
    path = settings.run_dir / "stack.lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        deadline = time.monotonic() + wait_s
        waiting = False
        while not _locked(handle):
            if not waiting:
                say("waiting for another `hotcold up` or `hotcold down` of this home")
                waiting = True
            if time.monotonic() > deadline:
                raise StackError(f"another `hotcold up` or `down` has held {path} for {wait_s:g} s; end it and try again")
            time.sleep(_LOCK_POLL_S)
        yield
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _start(settings: Settings, say: Say, wait_s: float) -> StackRecord:
    since = time.time()
    ports = choose_ports(settings)
    any_address = "0.0.0.0"  # noqa: S104  # compared, not bound
    host = "127.0.0.1" if settings.edge_host == any_address else settings.edge_host
    record = StackRecord(
        edge_url=f"http://{host}:{ports.edge}",
        edge_port=ports.edge,
        admin_port=ports.admin,
        prefect_port=ports.prefect,
        mlflow_port=ports.mlflow,
        prefect_api_url=f"http://127.0.0.1:{ports.prefect}/api",
        mlflow_url=f"http://127.0.0.1:{ports.mlflow}",
        webhook_port=ports.webhook,
    )
    rotate_logs(settings)
    if settings.promote_on_alias:
        # What is wrong with the file is said here, not in a process's log.
        webhook_secrets(settings)
    write_stack(settings, record)
    prepare_edge(settings, record)
    pid = _detach_supervisor(settings, record)
    record = replace(record, supervisor_pid=pid, supervisor_created=since)
    write_stack(settings, record)
    Start(settings, record, say, readiness_checks(settings, record, since), deploys=True).wait(wait_s)
    return record


def _complete(settings: Settings, record: StackRecord, say: Say, wait_s: float) -> StackRecord:
    """The supervisor lives: make sure that all is there, and finish what an interrupted `up` left."""
    checks = readiness_checks(settings, record, since=0.0)
    deploys = bool(missing_deployments(record))
    if not deploys and all(check.is_ready() for check in checks):
        say("already up")
        return record
    say("the stack runs but is not complete; waiting for it")
    Start(settings, record, say, checks, deploys).wait(wait_s)
    return record


def _detach_supervisor(settings: Settings, record: StackRecord) -> int:
    """Start the supervisor in a session of its own, as nobody's child, so that it outlives this command and its terminal."""
    log = settings.log_dir / f"{SUPERVISOR}.log"
    start = '"$@" >>"$0" 2>&1 </dev/null & echo $!'
    answer = subprocess.run(
        ["sh", "-c", start, str(log), sys.executable, "-m", "hotcold.adapters.supervisor"],
        env=process_environment(settings, record, SUPERVISOR),
        cwd=checkout_root(),
        start_new_session=True,
        stdout=subprocess.PIPE,
        check=True,
    )
    return int(answer.stdout)


def _clear_leftovers(settings: Settings, say: Say) -> None:
    """End what a killed supervisor left. Replicas stay: the next agent takes them on, and they go on answering."""
    ended = _end(settings, replicas=False)
    remove_stack(settings)
    if ended:
        say(f"ended what an earlier stack had left: {', '.join(ended)}")


def _end_all(settings: Settings) -> tuple[str, ...]:
    ended = _end(settings, replicas=True)
    remove_stack(settings)
    states_file(settings).unlink(missing_ok=True)
    return ended


def _end(settings: Settings, *, replicas: bool) -> tuple[str, ...]:
    instance = instance_of(settings.root)

    def find() -> tuple[Survivor, ...]:
        return tuple(survivor for survivor in find_survivors(instance) if replicas or not survivor.is_replica)

    _kill_supervisor(find())
    ended = end_processes(find, _GRACE_S, _LAST)
    return tuple(f"{survivor.name} ({survivor.process.pid}{', killed' if killed else ''})" for survivor, killed in ended)


def _kill_supervisor(found: tuple[Survivor, ...]) -> None:
    """It goes first, so that it restarts nothing. It holds no state: what follows is the same as after its own crash."""
    for survivor in found:
        if survivor.name == SUPERVISOR:
            try:
                survivor.process.kill()
                survivor.process.wait(timeout=5)
            except (psutil.NoSuchProcess, psutil.TimeoutExpired):
                continue
