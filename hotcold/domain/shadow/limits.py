"""What a comparison of candidate and champion tolerates: frozen with the release, so that nobody can move the goalposts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from hotcold.domain.errors import PlanError


@dataclass(frozen=True)
class Limits:
    """How much worse or different a candidate may be.

    Args:
        threshold: the decision is yes for scores from here on.
        score_change: largest mean change of the score, in either direction, in its own unit.
        score_scale: the largest change of one score that is reckoned with; larger ones count as this.
        flips_per_1000: most decisions that differ, among 1,000 requests.
        error_pct: most answers of a second, on average, that the candidate fails and the champion gives, in percent; 2 % take
            five minutes to tell.
        slow_pct: most answers of a second, on average, that take the candidate longer than the latency budget, in percent; 2 %
            take five minutes to tell.
        lost_pct: most copies of a second, on average, that get no answer, in percent.
        unpaired_pct: most requests that only one side has in its log, in percent; with more, nothing is SAFE.
        log_loss: how much larger the mean log-loss may be on labels, nats.
        lost_labels_pct: of the labelled requests that only one of the two gets right, the most that the candidate may lose, in
            percent.
        p99_ratio: most that the candidate's 99th percentile of latency may be, as a multiple of the champion's.
        cost_per_flip: what a decision that differs costs on average, in any currency; empty: not known.
        alpha: chance that a gate ever says HARM of a candidate without harm, and SAFE of one beyond its limit.

    Raises:
        PlanError: a limit that makes no sense.
    """

    threshold: float = 0.5
    score_change: float = 0.05
    score_scale: float = 0.5
    flips_per_1000: float = 100.0
    error_pct: float = 2.0
    slow_pct: float = 2.0
    lost_pct: float = 5.0
    unpaired_pct: float = 1.0
    log_loss: float = 0.02
    lost_labels_pct: float = 60.0
    p99_ratio: float = 1.5
    cost_per_flip: float | None = None
    alpha: float = 0.05

    def __post_init__(self) -> None:
        for name in ("error_pct", "slow_pct", "lost_pct"):
            self._require(0.001 <= getattr(self, name) < 99, name, "0.001 to 99")
        self._require(abs(self.threshold) < float("inf"), "threshold", "a finite number")
        self._require(0 < self.score_scale < float("inf"), "score_scale", "more than 0, finite")
        # Evidence is counted on a grid; a limit has to be more than its rounding.
        within = 1e-5 * self.score_scale <= self.score_change < 0.99 * self.score_scale
        self._require(within, "score_change", f"a hundred-thousandth of score_scale up to score_scale ({self.score_scale})")
        self._require(0.01 <= self.flips_per_1000 < 990, "flips_per_1000", "0.01 to 990")
        self._require(0 <= self.unpaired_pct < 100, "unpaired_pct", "0 to 100")
        self._require(1e-5 <= self.log_loss < 0.99, "log_loss", "0.00001 to 0.99")
        self._require(50 < self.lost_labels_pct < 100, "lost_labels_pct", "more than 50, less than 100")
        self._require(1 <= self.p99_ratio < 1000, "p99_ratio", "1 to 1000")
        self._require(self.cost_per_flip is None or 0 <= self.cost_per_flip < float("inf"), "cost_per_flip", "0 or more")
        self._require(0 < self.alpha < 0.5, "alpha", "more than 0, less than 0.5")

    def _require(self, holds: bool, name: str, allowed: str) -> None:
        if not holds:
            raise PlanError(f"plan: limits: {name} is {getattr(self, name)}; allowed is {allowed}")

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: object) -> Limits:
        """Inverse of `to_json`; missing keys take their defaults.

        Raises:
            PlanError: an unknown key, a value of another type, or one out of range.
        """
        known = [field.name for field in fields(cls)]
        if not isinstance(document, Mapping):
            raise PlanError(f"plan: limits are {type(document).__name__}; allowed is an object with {', '.join(known)}")
        if unknown := sorted(set(document) - set(known)):
            raise PlanError(f"plan: limits: unknown key {unknown[0]!r}; known are {', '.join(known)}")
        try:
            return cls(**document)
        except TypeError as error:
            raise PlanError(f"plan: limits: a value has the wrong type ({error}); see the defaults in Limits") from error
