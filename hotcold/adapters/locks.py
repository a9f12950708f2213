"""Locks that the kernel lets go of when the process dies, however it dies."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hotcold.domain.errors import BatchError, StackError
from hotcold.settings import Settings

_POLL_S = 0.01


@contextmanager
def hold_node(settings: Settings) -> Iterator[None]:
    """Hold this node's lock while the block runs: one agent per node.

    Raises:
        StackError: another agent of this home runs.
    """
    path = settings.run_dir / "agent.lock"
    with _hold(path) as is_held:
        if not is_held:
            raise StackError(f"another agent holds {path}; one agent runs a node: end it, or set HOTCOLD_HOME")
        yield


@contextmanager
def hold_output(settings: Settings, output_url: str) -> Iterator[None]:
    """Hold the lock of an output of batch runs while the block runs: one run at a time fills and publishes it.

    Runs on other machines are kept apart by Prefect's concurrency limit; what they would write is the same bytes anyway.

    Raises:
        BatchError: another run of this home is at it.
    """
    name = hashlib.sha256(output_url.encode()).hexdigest()[:16]
    with _hold(settings.run_dir / f"scores-{name}.lock") as is_held:
        if not is_held:
            raise BatchError(f"another run writes to {output_url}; wait for it to end, or cancel it in the Prefect UI")
        yield


@contextmanager
def hold_file(path: Path, wait_s: float) -> Iterator[bool]:
    """Hold a lock file beside what it guards, for the moment of a small change; waits for whoever is at it.

    Args:
        path: the lock file; made if it is missing.
        wait_s: longest wait, seconds: its holder may hang.

    Yields:
        Whether it is held.

    Raises:
        OSError: the file cannot be made.
    """
    deadline = time.monotonic() + wait_s
    while True:
        with _hold(path) as is_held:
            if is_held or time.monotonic() >= deadline:
                yield is_held
                return
        time.sleep(_POLL_S)


@contextmanager
def _hold(path: Path) -> Iterator[bool]:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not inherited by processes that outlive this one, such as replicas.
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)
