"""What a canary tolerates beyond the limits that it shares with a shadow comparison."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hotcold.domain.errors import PlanError


@dataclass(frozen=True)
class CanaryLimits:
    """Limits that only live traffic needs.

    Args:
        error_ratio: SAFE once the candidate's error rate is below this multiple of the champion's. HARM is any rise.
        lost_accuracy_pct: most that the share of right decisions may fall, in percent of all labelled entities.
        lowest_score: scores below count as this; there are no pairs, so it is the scores that need a range, not their changes.
        highest_score: scores above count as this.
        greatest_loss: log-losses above count as this, nats.
        not_logged_pct: most answers that the log may have dropped, in percent; with more, nothing that rests on it is SAFE.

    Raises:
        PlanError: a limit that makes no sense.
    """

    error_ratio: float = 2.0
    lost_accuracy_pct: float = 2.0
    lowest_score: float = 0.0
    highest_score: float = 1.0
    greatest_loss: float = 4.0
    not_logged_pct: float = 1.0

    def __post_init__(self) -> None:
        self._require(1 < self.error_ratio < 1000, "error_ratio", "more than 1, less than 1000")
        self._require(0.01 <= self.lost_accuracy_pct < 99, "lost_accuracy_pct", "0.01 to 99")
        ordered = -math.inf < self.lowest_score < self.highest_score < math.inf
        self._require(ordered, "highest_score", f"finite, more than lowest_score ({self.lowest_score})")
        self._require(0.1 <= self.greatest_loss <= 16, "greatest_loss", "0.1 to 16")
        self._require(0 <= self.not_logged_pct < 100, "not_logged_pct", "0 to 100")

    def _require(self, holds: bool, name: str, allowed: str) -> None:
        if not holds:
            raise PlanError(f"plan: canary limits: {name} is {getattr(self, name)}; allowed is {allowed}")

    @property
    def scores(self) -> tuple[float, float]:
        """Range of the scores."""
        return self.lowest_score, self.highest_score
