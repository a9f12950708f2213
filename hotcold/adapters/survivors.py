"""Processes of an installation, found by the marker in their environment, and how they are ended.

The marker is `HOTCOLD_INSTANCE`: every process that the supervisor starts carries it, and so do its children. It finds
replicas and flow runs whose parents were killed, and never a process of another installation.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import psutil

from hotcold.domain.errors import StackError

MARKER = "HOTCOLD_INSTANCE"
PROCESS_NAME = "HOTCOLD_PROCESS"
REPLICA_NAME = "HOTCOLD_REPLICA"
SUPERVISOR = "supervisor"
# Set by Prefect for the process of a flow run.
_FLOW_RUN = "PREFECT__FLOW_RUN_ID"

_POLL_S = 0.05
_UNKILLABLE_S = 10.0


@dataclass(frozen=True)
class Survivor:
    """A living process of the installation.

    Args:
        process: handle; it stands for this process only, even if its id is used again.
        name: for people: `agent`, `replica flights/blue/0`, `flow run 1f3a9c02`.
    """

    process: psutil.Process
    name: str

    @property
    def is_replica(self) -> bool:
        """Scorer replicas outlive the stack's other processes on purpose."""
        return self.name.startswith("replica ")


def instance_of(home: Path) -> str:
    """Marker of the installation below a folder: 16 hexadecimal digits of the path's SHA-256."""
    return hashlib.sha256(str(home).encode()).hexdigest()[:16]


def is_named(pid: int, instance: str, name: str) -> bool:
    """Whether a process runs that is this installation's process of that name; an id alone may be somebody else's by now."""
    try:
        survivor = _survivor(psutil.Process(pid), instance)
    except psutil.NoSuchProcess:
        return False
    return survivor is not None and survivor.name == name


def find_survivors(instance: str) -> tuple[Survivor, ...]:
    """All living processes with the marker, except the caller and its ancestors."""
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = (_survivor(process, instance) for process in psutil.process_iter() if process.pid not in spared)
    return tuple(survivor for survivor in found if survivor is not None)


def _survivor(process: psutil.Process, instance: str) -> Survivor | None:
    try:
        environment = process.environ()
        if environment.get(MARKER) != instance or process.status() == psutil.STATUS_ZOMBIE:
            return None
        return Survivor(process, _name_of(environment))
    except (psutil.Error, OSError):
        # Another user's process, or one that has just ended: neither is ours to end.
        return None


def _name_of(environment: dict[str, str]) -> str:
    if replica := environment.get(REPLICA_NAME):
        return f"replica {replica}"
    if run := environment.get(_FLOW_RUN):
        return f"flow run {run[:8]}"
    return environment.get(PROCESS_NAME, "process")


def end_processes(
    find: Callable[[], tuple[Survivor, ...]], grace_s: float, last: Collection[str] = ()
) -> tuple[tuple[Survivor, bool], ...]:
    """End processes: SIGTERM, and SIGKILL for those that are still there after the grace.

    Args:
        find: lists the processes that have to go; asked again and again, so that one started meanwhile goes too.
        grace_s: longest wait for a voluntary end, seconds.
        last: names of processes that are asked only when the others have ended, since the others talk to them.

    Returns:
        Each process, and whether it had to be killed.

    Raises:
        StackError: a process is there still, long after SIGKILL.
    """
    asked: dict[int, Survivor] = {}
    killed: set[int] = set()
    kill_at = time.monotonic() + grace_s
    while remaining := find():
        others = tuple(survivor for survivor in remaining if survivor.name not in last)
        for survivor in remaining:
            if time.monotonic() >= kill_at:
                killed.add(survivor.process.pid)
                asked.setdefault(survivor.process.pid, survivor)
                _signal(survivor.process.kill)
            elif survivor.process.pid not in asked and (survivor.name not in last or not others):
                asked[survivor.process.pid] = survivor
                _signal(survivor.process.terminate)
        if time.monotonic() >= kill_at + _UNKILLABLE_S:
            pids = ", ".join(str(survivor.process.pid) for survivor in remaining)
            raise StackError(
                f"processes {pids} do not end, even by SIGKILL: they wait for a disk or a device; "
                f"see `ps -o stat,wchan -p {pids}`, and run `hotcold down` again"
            )
        time.sleep(_POLL_S)
    return tuple((survivor, pid in killed) for pid, survivor in asked.items())


def _signal(send: Callable[[], None]) -> None:
    try:
        send()
    except psutil.NoSuchProcess:
        return
