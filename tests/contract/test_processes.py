"""Processes that are to yield do, and are put back as they were; also the threads that they have or start."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from hotcold.adapters.processes import ProcessId, identify, yield_processor
from tests.fixtures.stack import wait_for

# Starts a second thread when it is told to.
PROGRAM = "import sys, threading, time; sys.stdin.readline(); threading.Thread(target=time.sleep, args=(60,)).start()"


@pytest.fixture
def program() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, start_new_session=True) as started:
        yield started
        started.kill()


def session_nice(pid: int) -> int | None:
    """None where the kernel does not divide time between sessions."""
    file = Path(f"/proc/{pid}/autogroup")
    return int(file.read_text().split()[-1]) if file.exists() else None


def turns_ns(pid: int) -> list[int]:
    """Longest turn of each thread; empty where the kernel does not tell."""
    told = [(folder / "sched").read_text().splitlines() for folder in Path(f"/proc/{pid}/task").iterdir()]
    return [int(line.split()[-1]) for lines in told for line in lines if line.startswith("se.slice")]


def test_a_process_yields_with_all_its_threads_and_is_put_back(program: subprocess.Popen[bytes]) -> None:
    process = identify(program.pid)
    assert process
    before = turns_ns(program.pid)
    set_until_done(process, to_others=True)
    assert session_nice(program.pid) in (10, None)
    if os.geteuid() == 0:
        assert 10 == psutil.Process(program.pid).nice()
    assert program.stdin
    program.stdin.write(b"\n")
    program.stdin.flush()
    wait_for(lambda: psutil.Process(program.pid).num_threads() == 2, 20, "the second thread")
    if before:
        assert [100_000] * 2 == turns_ns(program.pid)
    set_until_done(process, to_others=False)
    assert session_nice(program.pid) in (0, None)
    assert 0 == psutil.Process(program.pid).nice()
    assert before * 2 == turns_ns(program.pid)


def set_until_done(process: ProcessId, to_others: bool) -> None:
    """The kernel takes a few changes a second."""
    wait_for(lambda: yield_processor(process, to_others), 10, "the kernel takes it")


def test_a_process_that_has_ended_is_left_alone(program: subprocess.Popen[bytes]) -> None:
    process = identify(program.pid)
    assert process
    program.kill()
    program.wait()
    assert yield_processor(process, to_others=True)
