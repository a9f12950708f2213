"""Is a mean above or below what is tolerated: the change of paired scores, the excess log-loss, the share of slow answers?

One test for everything that is a bounded value per observation:

    paired score change     candidate's score minus champion's, signed, in either direction
    log-loss on labels      candidate's loss minus champion's, signed; clipped at a scale of about one nat
    accuracy on labels      1 where only the champion was right, -1 where only the candidate was, else 0
    decision flips          1 where the decision changed, else 0; see `flips`
    latency by block        share of the answers in one closed second that were over the budget; or candidate's minus champion's

An observation is independent of the others, given what came before: one for each entity, or one for each closed second where
all answers of the second count. It is final when it is counted. See `bets` for the mathematics.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotcold.domain.evidence.arguments import require, require_share, threshold
from hotcold.domain.evidence.bets import bet_sizes, log_gains, lower_bound
from hotcold.domain.evidence.finding import Finding, decide, explain, number, quantity
from hotcold.domain.evidence.forecast import first_decisive, observations_needed
from hotcold.domain.evidence.odds_mixture import log_mixture
from hotcold.domain.evidence.value_counts import NODES, ROUNDING, UNITS, ValueCounts, count_values
from hotcold.domain.gate import Verdict


@dataclass(frozen=True)
class MeanTest:
    """Whether the mean of bounded values is above or below a limit.

    Args:
        limit: what is tolerated, in the unit of the values.
        alpha: chance of a wrong HARM in a release, and of a wrong SAFE.
        scale: the largest value that is reckoned with, in either direction; larger ones are counted as this.
        signed: values are in [-scale, scale]; otherwise in [0, scale].
        two_sided: HARM if the mean is above the limit or below minus it; otherwise only above.
        signal: name of the gate.
        subject: of its sentence.
        unit: of effect and limit in findings.
        per: how many of that unit a value of 1 is: 100 for %, 1,000 for "per 1,000".
        counted: what an observation is, in the plural.

    Raises:
        EvidenceError: a limit, level or scale that makes no sense.
    """

    limit: float
    alpha: float = 0.05
    scale: float = 1.0
    signed: bool = True
    two_sided: bool = False
    signal: str = "score_change"
    subject: str = "the mean change of the score"
    unit: str = "points"
    per: float = 1.0
    counted: str = "pairs"

    def __post_init__(self) -> None:
        require_share("alpha", self.alpha)
        require(0 < self.scale < math.inf, "scale", self.scale, "more than 0, finite")
        lowest = -self.scale if self.signed and not self.two_sided else 0.0
        room = 4 * ROUNDING * self.scale
        allowed = f"more than {number(lowest)}, less than {number(self.scale)}"
        require(lowest + room < self.limit < self.scale - room, "limit", self.limit, allowed)
        require(self.signed or not self.two_sided, "two_sided", self.two_sided, "False for values that are never negative")

    def count(self, values: NDArray[Any]) -> ValueCounts:
        """Count n values on this test's scale.

        Args:
            values: shape (n,), one for each observation. What is NaN, infinite, or negative where that cannot be, is counted
                as invalid, and then nothing is SAFE.
        """
        values = np.asarray(values, dtype=np.float64)
        return count_values(values if self.signed else np.where(values < 0, np.nan, values), self.scale)

    def log_harm(self, counts: ValueCounts) -> float:
        """Log of the e-value against "the mean is within the limit", nats."""
        return self._evidence(self._wealth(counts))[0]

    def log_safe(self, counts: ValueCounts) -> float:
        """Log of the e-value against "the mean is at the limit or beyond", nats."""
        return self._evidence(self._wealth(counts))[1]

    def verdict(self, counts: ValueCounts) -> Verdict:
        """The verdict alone, in microseconds."""
        return self._verdict(self._wealth(counts), counts.invalid)

    def judge(self, counts: ValueCounts) -> Finding:
        """The verdict with effect, bounds, forecast and reasons."""
        wealth, total = self._wealth(counts), counts.total
        verdict = self._verdict(wealth, counts.invalid)
        lower, upper = self._bounds(counts)
        limit = self.limit * self.per
        return Finding(
            signal=self.signal,
            verdict=verdict,
            subject=self.subject,
            effect=counts.mean * self.scale * self.per if total else None,
            lower=lower * self.per,
            upper=upper * self.per,
            limit=limit,
            unit=self.unit,
            log_evidence=self._evidence(wealth)[0],
            observations=total,
            counted=self.counted,
            needed=observations_needed(
                lambda times: self._verdict(wealth, counts.invalid, times) is not Verdict.UNKNOWN, total
            ),
            alpha=self.alpha,
            why=explain_two_sided(verdict, limit, self.unit) if self.two_sided else explain(verdict, limit, limit, self.unit),
            seen=self._describe(counts),
            caveat=f"{counts.invalid:,} values were no numbers that can be, so it cannot be SAFE" if counts.invalid else "",
            floor=-limit if self.two_sided else None,
        )

    def observations_to_tell(self, like: ValueCounts) -> int | None:
        """Observations until this test gives its verdict, before anything was seen.

        Args:
            like: how values are assumed to be distributed; only their proportions matter.

        Returns:
            Where the evidence of the expected values suffices, to about 1 %; None if a billion would not tell.
        """
        require(like.total > 0, "assumed values", like.total, "one at least")
        wealth = self._wealth(like) / like.total
        return first_decisive(lambda total: self._verdict(wealth, like.invalid, total) is not Verdict.UNKNOWN)

    @cached_property
    def _values(self) -> NDArray[np.float64]:
        """The grid's points from the lowest possible value, as 0, to the scale, as 1."""
        return (NODES + 1) / 2 if self.signed else NODES[NODES >= 0]

    @cached_property
    def _sizes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of the bets on a mean above, and on one below. Verdict and bounds take the same, so that they never disagree."""
        limit = self.limit / self.scale
        lowest, highest = self._as_share(-limit if self.two_sided else limit), self._as_share(limit)
        return bet_sizes(lowest), bet_sizes(1 - highest)

    @cached_property
    def _gains(self) -> NDArray[np.float64]:
        """What each bet gains by each value: above the limit, below it and, if two-sided, below minus the limit, above that."""
        limit = self.limit / self.scale
        # Harm has to be proven against a limit a rounding further out, safety against one a rounding further in.
        bets = [self._above(limit + ROUNDING), self._below(limit - ROUNDING)]
        if self.two_sided:
            bets += [self._below(-limit - ROUNDING), self._above(-limit + ROUNDING)]
        return np.concatenate(bets)

    def _above(self, limit: float) -> NDArray[np.float64]:
        return log_gains(self._values, self._as_share(limit), self._sizes[0])

    def _below(self, limit: float) -> NDArray[np.float64]:
        return log_gains(1 - self._values, 1 - self._as_share(limit), self._sizes[1])

    def _as_share(self, value: float) -> float:
        return (value + 1) / 2 if self.signed else value

    def _weights(self, counts: ValueCounts) -> NDArray[np.float64]:
        """In values, not in units."""
        if self.signed:
            return counts.weights / UNITS
        negative = len(NODES) - len(self._values)
        require(not counts.weights[:negative].any(), "least value", "negative", "0 or more; count the values with `count`")
        return counts.weights[negative:] / UNITS

    def _wealth(self, counts: ValueCounts) -> NDArray[np.float64]:
        """Log of each bet's gain, shape (sizes, 2 or 4)."""
        return (self._gains @ self._weights(counts)).reshape(4 if self.two_sided else 2, -1).T

    def _evidence(self, wealth: NDArray[np.float64], times: float = 1.0) -> tuple[float, float]:
        """Of harm and of safety; of a multiple of the counts, for forecasts."""
        logs = log_mixture(times * wealth).tolist()
        if not self.two_sided:
            return logs[0], logs[1]
        # Half of the stake for each direction. For safety it need not be, but the bounds that are shown are those that decide.
        return max(logs[0], logs[2]) - math.log(2), min(logs[1], logs[3]) - math.log(2)

    def _verdict(self, wealth: NDArray[np.float64], invalid: int, times: float = 1.0) -> Verdict:
        needed = threshold(self.alpha)
        harm, safe = self._evidence(wealth, times)
        return decide(harm >= needed, safe >= needed, sound=not invalid)

    def _bounds(self, counts: ValueCounts) -> tuple[float, float]:
        """In the unit of the values; the ends of their range without evidence."""
        weights, (above, below) = self._weights(counts), self._sizes
        needed = threshold(self.alpha / 2 if self.two_sided else self.alpha)
        low = lower_bound(self._values, weights, above, needed)
        high = 1 - lower_bound(1 - self._values, weights, below, needed)
        lowest = -1.0 if self.signed else 0.0
        lower, upper = (lowest + share * (1 - lowest) for share in (low, high))
        return self.scale * max(lower - ROUNDING, lowest), self.scale * min(upper + ROUNDING, 1.0)

    def _describe(self, counts: ValueCounts) -> str:
        clipped = f", {counts.clipped:,} of them beyond {quantity(self.scale * self.per, self.unit)} and cut off there"
        return f"{counts.total:,} {self.counted}{clipped if counts.clipped else ''}"


def explain_two_sided(verdict: Verdict, limit: float, unit: str) -> str:
    """Why a test that looks for too much in either direction came to its verdict; `limit` is in the given unit."""
    within = f"between {number(-limit)} and {quantity(limit, unit)}"
    if verdict is Verdict.HARM:
        return f"No value within the bounds is {within}"
    if verdict is Verdict.SAFE:
        return f"All values within the bounds are {within}"
    return f"It is SAFE once both bounds are {within}, HARM once neither they nor anything between them is"
