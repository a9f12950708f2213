"""The supervisor with processes of its own: it restarts at once, waits when that does not help, and tells why."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from hotcold.adapters.stack_record import StackRecord, write_stack
from hotcold.adapters.supervision import ProcessState, backoff_s, read_states
from hotcold.settings import Settings
from tests.fixtures.stack import wait_for

# The supervisor itself, with other processes than the stack's.
PROGRAM = """
import os, pathlib, sys
from hotcold.adapters import supervisor
from hotcold.adapters.stack_processes import ProcessSpec

def spec(name, program):
    log = pathlib.Path(sys.argv[1]) / f"{name}.log"
    return ProcessSpec(name, ("sh", "-c", program), dict(os.environ), pathlib.Path("/"), log)

supervisor.stack_processes = lambda settings, record: (spec("steady", "exec sleep 600"), spec("broken", "echo no >&2; exit 3"))
if sys.argv[2] == "late":
    # As if each process ended just after circus had looked for ended ones.
    supervisor.Arbiter.reap_processes = lambda self: None
supervisor.main()
"""


@pytest.fixture(params=["in time", "late"])
def settings(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Settings]:
    """A home whose supervisor runs two processes: a steady one and one that always fails. It hears of ends in time, or late."""
    made = Settings(_env_file=None, home=tmp_path / "var")
    write_stack(made, StackRecord("http://127.0.0.1:1", 1, 2, 3, 4, "http://127.0.0.1:3/api", "http://127.0.0.1:4"))
    environment = os.environ | {"HOTCOLD_HOME": str(made.root)}
    with (tmp_path / "supervisor.log").open("wb") as log:
        supervisor = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path), request.param], env=environment, stdout=log, stderr=log
        )
    try:
        wait_for(lambda: len(read_states(made)) == 2, 20, "two processes")
        yield made
    finally:
        supervisor.terminate()
        try:
            assert 0 == supervisor.wait(timeout=20)
        finally:
            supervisor.kill()
            supervisor.wait()


def state(settings: Settings, name: str) -> ProcessState:
    return next(entry for entry in read_states(settings) if entry.name == name)


def test_a_killed_process_is_started_again_at_once(settings: Settings) -> None:
    before = state(settings, "steady")
    os.kill(before.pid, signal.SIGKILL)
    wait_for(lambda: state(settings, "steady").pid != before.pid, 1.0, "another start")
    assert (1, True) == (state(settings, "steady").restarts, "signal 9" in state(settings, "steady").last_end)


def test_a_process_that_keeps_failing_has_to_wait_and_the_reason_is_kept(settings: Settings, tmp_path: Path) -> None:
    wait_for(lambda: state(settings, "broken").quick_ends >= 3, 10, "three failures")
    broken = state(settings, "broken")
    assert "ended with exit code 3" in broken.last_end
    assert broken.restarts <= broken.quick_ends
    assert "no" == (tmp_path / "broken.log").read_text().splitlines()[0]


def test_a_supervisor_that_is_asked_to_end_takes_its_processes_with_it(settings: Settings) -> None:
    """Circus alone would forget a request that comes at the wrong moment."""
    steady = psutil.Process(state(settings, "steady").pid)
    supervisor = psutil.Process(steady.ppid())
    supervisor.terminate()
    wait_for(lambda: supervisor.status() == psutil.STATUS_ZOMBIE, 10, "the end of the supervisor")
    assert not steady.is_running()


def test_waits_grow_to_ten_seconds() -> None:
    assert [0.0, 0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0] == [backoff_s(ends) for ends in range(9)]
    assert 10.0 == backoff_s(10_000)
