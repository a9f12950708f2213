"""What can befall the replicas of a slot: they hang, die, or become ten times slower. For benchmarks and tests alike."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from hotcold.adapters.survivors import find_survivors, instance_of
from hotcold.domain.errors import StackError
from hotcold.domain.serving import Slot

# Gives the replicas that live now.
FindReplicas = Callable[[], Sequence[psutil.Process]]

# Lets each run a tenth of the time, one after the other: ten times slower, whatever they do. A process of its own, since it
# must not take the load's time; it ends with them or with whoever started it, and leaves nobody stopped.
_SLOWER = """
import os, signal, sys, time
parent, turn_s, pids = os.getppid(), float(sys.argv[1]), {int(pid) for pid in sys.argv[2:]}
def tell(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pids.discard(pid)
for pid in list(pids):
    tell(pid, signal.SIGSTOP)
while pids and os.getppid() == parent:
    for pid in list(pids):
        tell(pid, signal.SIGCONT)
        time.sleep(turn_s)
        tell(pid, signal.SIGSTOP)
        time.sleep(max(10 * turn_s / max(len(pids), 1) - turn_s, 0))
"""


def find_replicas(root: Path, model: str, slot: Slot) -> list[psutil.Process]:
    """Living replicas of a slot.

    Args:
        root: home of the installation.
        model: that they serve.
        slot: that they are in.
    """
    prefix = f"replica {model}/{slot.value}/"
    return [survivor.process for survivor in find_survivors(instance_of(root)) if survivor.name.startswith(prefix)]


@contextmanager
def hanging(find: FindReplicas, stopped_s: float | None = None, well_s: float = 1.0) -> Iterator[None]:
    """They take connections and answer nothing.

    Args:
        find: gives the replicas.
        stopped_s: after so many seconds they are well for a while, and hang anew, over and over; None: they hang to the end.
        well_s: that while, seconds.

    Raises:
        StackError: there are none.
    """
    processes = _require(find)
    with _meanwhile(lambda ended: _stop_and_go(processes, ended, stopped_s, well_s)):
        yield


@contextmanager
def dying(find: FindReplicas, every_s: float | None = None) -> Iterator[None]:
    """They are killed; the agent starts others, which takes processor time like any start.

    Args:
        find: gives the replicas.
        every_s: those that live then are killed again, every so many seconds; None: only once.

    Raises:
        StackError: there are none.
    """
    _send(_require(find), signal.SIGKILL)
    with _meanwhile(lambda ended: _kill_again(find, ended, every_s)):
        yield


@contextmanager
def slowed(find: FindReplicas, turn_s: float = 0.005) -> Iterator[None]:
    """They become ten times slower.

    Args:
        find: gives the replicas.
        turn_s: each runs for so long, and then not for nine times as long. Shorter turns slow down more requests, but each
            signal wakes every thread of a replica, which no slow model does.

    Raises:
        StackError: there are none.
    """
    processes = _require(find)
    argv = [sys.executable, "-c", _SLOWER, str(turn_s), *(str(process.pid) for process in processes)]
    # A session of its own, since Linux divides the processor between sessions first.
    throttle = subprocess.Popen(argv, start_new_session=True)
    try:
        yield
    finally:
        throttle.kill()
        throttle.wait()
        _send(processes, signal.SIGCONT)


@contextmanager
def _meanwhile(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Do something in a thread while the block runs."""
    ended = threading.Event()
    thread = threading.Thread(target=work, args=(ended,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _stop_and_go(processes: Sequence[psutil.Process], ended: threading.Event, stopped_s: float | None, well_s: float) -> None:
    while not ended.is_set():
        _send(processes, signal.SIGSTOP)
        ended.wait(stopped_s)
        _send(processes, signal.SIGCONT)
        ended.wait(well_s)


def _kill_again(find: FindReplicas, ended: threading.Event, every_s: float | None) -> None:
    while not ended.wait(every_s):
        _send(find(), signal.SIGKILL)


def _send(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        # Whoever has ended needs no signal: the agent ends replicas, too.
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _require(find: FindReplicas) -> Sequence[psutil.Process]:
    processes = find()
    if not processes:
        raise StackError("there is no replica that anything could befall; wait until one is ready")
    return processes
