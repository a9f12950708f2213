"""What goes wrong around a simulated release, and an edge that does what it is told, but late."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from numpy.random import Generator

# How often, and for how many seconds at least and at most.
KINDS: Mapping[str, tuple[float, int, int]] = {
    "driver killed": (0.3, 10_000, 10_001),
    "driver paused": (0.2, 4, 40),
    "clock jumps": (0.2, 20, 120),
    "replica dies": (0.2, 3, 10),
    "candidate dies": (0.04, 3, 10),
    "champion dies": (0.06, 5, 40),
    "status unknown": (0.2, 5, 40),
    "metrics empty": (0.2, 10, 90),
    "edge stuck": (0.05, 10, 30),
    "undo": (0.04, 10_000, 10_001),
}
_CALM, _WITHIN_S, _JUMP_S = 0.4, 500, 3600.0
_SLOW_EDGE, _SLOW_EDGE_S = 0.1, 8


@dataclass(frozen=True)
class Faults:
    """When something is wrong.

    Args:
        times: since when and until when, in true seconds, by kind; see KINDS.
        jump_s: what a clock that jumps is off.
    """

    times: Mapping[str, tuple[int, int]]
    jump_s: float = 0.0

    def on(self, kind: str, at_s: float) -> bool:
        """Something is wrong at a moment."""
        since, until = self.times.get(kind, (0, 0))
        return since <= at_s < until

    def clock(self, at_s: float) -> float:
        """What a clock shows at a moment, seconds since the epoch."""
        return 1e9 + at_s + (self.jump_s if self.on("clock jumps", at_s) else 0.0)


def draw_faults(random: Generator) -> Faults:
    """Nothing at all in some releases, and in the others what there is, each at any time."""
    if random.random() < _CALM:
        return Faults({})
    times: dict[str, tuple[int, int]] = {}
    for kind, (chance, least, most) in KINDS.items():
        if random.random() < chance:
            since = int(random.integers(1, _WITHIN_S))
            times[kind] = (since, since + int(random.integers(least, most)))
    return Faults(times, float(random.choice([-_JUMP_S, _JUMP_S])))


class Edge:
    """Gives the candidate the share that was desired last, some seconds later.

    Args:
        random: source of the delays.
        faults: during which it does nothing.
    """

    def __init__(self, random: Generator, faults: Faults) -> None:
        self._random, self._faults = random, faults
        self.share, self.desired, self._due_s = 0, 0, 0.0

    @property
    def is_behind(self) -> bool:
        """It has yet to do what is desired."""
        return self.share != self.desired

    def desire(self, share_pct: int, now_s: float) -> None:
        """The desired route changes, percent for the candidate."""
        late = self._random.random() < _SLOW_EDGE
        self.desired, self._due_s = share_pct, now_s + (int(self._random.integers(1, _SLOW_EDGE_S)) if late else 1)

    def is_due(self, now_s: float) -> bool:
        """The change takes effect now."""
        return self.is_behind and now_s >= self._due_s and not self._faults.on("edge stuck", now_s)
