"""When the edge gave the candidate which share of the live requests."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hotcold.domain.errors import EvidenceError

# Clocks of nodes differ. An answer of the time before, by a clock that is ahead, would count for the wrong share.
CLOCKS_S = 1.0


@dataclass(frozen=True)
class Span:
    """Time in which the edge gave the candidate a share that it had confirmed.

    Args:
        share_pct: of the candidate, percent.
        since_s: when the edge had confirmed it, seconds since the epoch.
        until_s: when another share was asked for; None: it lasts.

    Raises:
        EvidenceError: a share or times that cannot be.
    """

    share_pct: int
    since_s: float
    until_s: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.share_pct <= 100:
            raise EvidenceError(f"a span has a share of {self.share_pct} %; allowed is 0 to 100")
        if self.until_s is not None and not self.since_s <= self.until_s:
            raise EvidenceError(f"a span ends at {self.until_s} and begins at {self.since_s}; it has to end later")

    @property
    def draws(self) -> bool:
        """Both sides are asked, so that one can be compared with the other."""
        return 0 < self.share_pct < 100

    def seconds(self, settled_s: float) -> range:
        """Whole seconds that count.

        Args:
            settled_s: answers to requests that arrived later may not be in the log yet, seconds since the epoch.
        """
        end = settled_s if self.until_s is None else min(self.until_s - CLOCKS_S, settled_s)
        first, last = math.ceil(self.since_s + CLOCKS_S), math.floor(end)
        return range(first, max(last, first))
