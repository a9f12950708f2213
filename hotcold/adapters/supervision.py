"""What the supervisor knows of its processes, as a file that `hotcold status` reads; it needs no open port."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from hotcold.adapters.stack_record import write_json
from hotcold.settings import Settings


@dataclass(frozen=True)
class ProcessState:
    """One supervised process.

    Args:
        name: its name.
        pid: process id of the latest start.
        started_at: time of the latest start, seconds since the epoch.
        restarts: starts after the first.
        quick_ends: how often in a row it ended within seconds of its start.
        last_end: how it last ended, for people; empty if it never did.
    """

    name: str
    pid: int
    started_at: float
    restarts: int = 0
    quick_ends: int = 0
    last_end: str = ""


def states_file(settings: Settings) -> Path:
    """The file that holds the states."""
    return settings.run_dir / "processes.json"


def read_states(settings: Settings) -> tuple[ProcessState, ...]:
    """States as last written, by name; empty if there are none. The processes may have died with their supervisor."""
    try:
        return tuple(ProcessState(**entry) for entry in json.loads(states_file(settings).read_bytes()))
    except (OSError, ValueError, TypeError):
        return ()


def write_states(settings: Settings, states: Iterable[ProcessState]) -> None:
    """Replace the states.

    Raises:
        StackError: the file cannot be written.
    """
    write_json(states_file(settings), [asdict(state) for state in states])


def backoff_s(quick_ends: int) -> float:
    """Seconds to wait before the next start: none after the first quick end, then 0.5, doubling up to 10."""
    return 0.0 if quick_ends < 2 else float(min(0.5 * 2 ** min(quick_ends - 2, 10), 10.0))
