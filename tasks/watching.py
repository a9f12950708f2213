"""Looks at evidence again and again in a thread, so that whoever drives a release goes on renewing its lease."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from prefect import get_run_logger

from hotcold.domain.errors import first_line
from hotcold.domain.gate import Gate, Verdict

LOOK_S = 1.0
# A look may take this share of the time, so that gathering evidence leaves the cores to whom it watches.
SHARE = 0.2


def doubtful(gate: Gate, reason: str) -> Gate:
    """A gate whose evidence does not come any more: what was SAFE is not known now."""
    if gate.verdict is not Verdict.SAFE:
        return gate
    return replace(gate, verdict=Verdict.UNKNOWN, observed=f"{gate.observed}; but now: {reason}")


@dataclass
class Look:
    """One kind of evidence.

    Args:
        take: gathers what has come since the last time.
        doubt: takes back what was SAFE, and names the reason.
        share: most of the time that looking may take.
    """

    take: Callable[[], None]
    doubt: Callable[[str], None]
    share: float = 1.0
    _next_s: float = field(default=0.0, init=False)

    def attempt(self) -> Exception | None:
        """Look if it is time to; what went wrong takes what was SAFE back, and the next look tries again."""
        began = time.monotonic()
        if began < self._next_s:
            return None
        try:
            self.take()
        except Exception as error:  # noqa: BLE001 - whatever it is, a thread that died would leave its last word behind
            self.doubt(first_line(error))
            return error
        finally:
            self._next_s = began + (time.monotonic() - began) / self.share
        return None


class EvidenceThread:
    """Takes looks until it is closed.

    Args:
        name: of the thread.
        looks: what to look at, each second.
    """

    def __init__(self, name: str, looks: Sequence[Look]) -> None:
        self._looks = tuple(looks)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._logger = get_run_logger()
        self._told: set[tuple[int, str]] = set()

    @property
    def is_alive(self) -> bool:
        """Somebody looks."""
        return self._thread.is_alive()

    def is_stopped(self) -> bool:
        """Nobody waits for a look any more."""
        return self._stopped.is_set()

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Stop looking."""
        self._stopped.set()
        if self._thread.ident:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(LOOK_S):
            for place, look in enumerate(self._looks):
                if error := look.attempt():
                    self._tell(place, error)

    def _tell(self, place: int, error: Exception) -> None:
        """Once for each kind."""
        kind = (place, type(error).__name__)
        if kind not in self._told:
            self._told.add(kind)
            self._logger.warning("the evidence is not complete: %s", error)
