"""One agent per node: a lock that the kernel lets go of when the process dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from hotcold.domain.errors import StackError
from hotcold.settings import Settings


@contextmanager
def hold_node(settings: Settings) -> Iterator[None]:
    """Hold this node's lock while the block runs.

    Raises:
        StackError: another agent of this home runs.
    """
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    path = settings.run_dir / "agent.lock"
    # Not inherited by the replicas, which outlive the agent.
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(f"another agent holds {path}; one agent runs a node: end it, or set HOTCOLD_HOME") from None
        yield
    finally:
        os.close(handle)
