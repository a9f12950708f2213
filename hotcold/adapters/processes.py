"""Processes of our own: started in a session of their own, named by id and start time, ended as a group."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from hotcold.domain.errors import StackError

_START_TIME_TOLERANCE_S = 0.05
_NICE_IN_BACKGROUND = 10
# The shortest that Linux knows.
_SHORT_TURN_NS = 100_000
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}


@dataclass(frozen=True)
class ProcessId:
    """Names one process for ever: an id alone is used again.

    Args:
        pid: process id.
        created_s: its start time, seconds since the epoch.
    """

    pid: int
    created_s: float


def start_process(argv: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, so that it outlives us and can be ended with all its children.

    Args:
        argv: program and arguments.
        environment: the whole environment.
        folder: working directory.
        log: takes its output; appended to.

    Raises:
        StackError: the program, the folder or the log is not there.
    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            return subprocess.Popen(
                argv,
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
    except OSError as error:
        raise StackError(f"cannot start {argv[0]} in {folder}: {error.strerror}") from error


def identify(pid: int) -> ProcessId | None:
    """Name of a living process; None if it has ended."""
    try:
        process = psutil.Process(pid)
        return ProcessId(pid, process.create_time()) if process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def is_alive(process: ProcessId) -> bool:
    """Whether this very process runs."""
    found = identify(process.pid)
    return found is not None and abs(found.created_s - process.created_s) < _START_TIME_TOLERANCE_S


def signal_group(process: ProcessId, number: signal.Signals) -> None:
    """Send a signal to the process and its children; nothing happens if it has ended."""
    if not is_alive(process):
        return
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return


def yield_processor(process: ProcessId, to_others: bool) -> bool:
    """Let the process and its threads have the processor only where others leave it, or as everybody else again.

    Linux divides the processor between sessions first (autogroups) where these are at the top of its control groups, and
    between processes inside of one; so both are told. An own session may be put back by everybody, a process only by who may
    raise priorities, so for others it is left alone. Whoever has a low share alone still keeps a core for more than a
    millisecond once he has it; so his turns are shortened, too.

    Args:
        process: the first of its session.
        to_others: False puts it back.

    Returns:
        False if the kernel is asked too often at the moment, so that it has to be asked again.
    """
    if not is_alive(process):
        return True
    nice = _NICE_IN_BACKGROUND if to_others else 0
    with suppress(ProcessLookupError, PermissionError):
        if _may_raise_priority():
            os.setpriority(os.PRIO_PGRP, process.pid, nice)
    _set_turns(process.pid, _SHORT_TURN_NS if to_others else 0)
    try:
        Path(f"/proc/{process.pid}/autogroup").write_text(str(nice))
    except BlockingIOError:
        return False
    except OSError:
        # Another system, or a kernel without them: then it is the process that counts.
        return True
    return True


def _set_turns(pid: int, longest_ns: int) -> None:
    """How long each thread keeps a core that others want; 0 for as long as usual. Threads that it starts later do the same.

    Linux 6.12 and later on x86-64 and arm64; nothing happens elsewhere.
    """
    number = _SCHED_SETATTR.get(platform.machine())
    if number is None or sys.platform != "linux":
        return
    call = ctypes.CDLL(None, use_errno=True).syscall
    threads: list[int] = []
    with suppress(OSError):
        threads = [int(folder.name) for folder in Path(f"/proc/{pid}/task").iterdir()]
    for thread in threads:
        # One may end under our eyes; the others are told all the same.
        with suppress(OSError):
            nice = os.getpriority(os.PRIO_PROCESS, thread)
            # struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period.
            wanted = struct.pack("=IIQiIQQQ", 48, 0, 0, nice, 0, longest_ns, 0, 0)
            call(number, thread, wanted, 0)


def _may_raise_priority() -> bool:
    # The limit is 20 minus the lowest nice value that is allowed.
    return os.geteuid() == 0 or (hasattr(psutil, "RLIMIT_NICE") and psutil.Process().rlimit(psutil.RLIMIT_NICE)[0] >= 20)


def free_port(host: str = "127.0.0.1") -> int:
    """A port that is free at this moment."""
    with socket.socket() as listener:
        listener.bind((host, 0))
        return int(listener.getsockname()[1])
