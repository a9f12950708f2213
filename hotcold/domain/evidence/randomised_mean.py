"""Does the candidate change a mean, where each entity is asked of one side only: scores, losses, who was right?

There are no pairs here, and two means side by side would not do: the candidate's entities come late, when its share has grown,
and the champion's come early. A day whose mornings and evenings differ would look like a change. What is used instead is that
the split is a draw. An entity with the value v counts as

    d = (v - c) / w            if it is the candidate's, w the share at its first request
    d = -(v - c) / (1 - w)     if it is the champion's

Given everything that came before, and given what the entity would get from either side, the expectation of d is what the
candidate changes for this entity: the draw decides which of the two is seen, and the weights make up for its chances. That
holds whatever the traffic does, for every constant c; one near the mean of v makes d vary least. So "the mean change is at most
m" is tested by bets as in `bets`,

    1 + s (d - m) / (m - l) = (1 - s) + s (d - l) / (m - l),     l the least that d can be at this share,

averaged over a grid of sizes s and of constants c. Each is at least 0 and has the expectation 1 at m and less below, so the
mean over the grid is an e-process. It falls as m grows, so its inversion is a bound without holes. "At least m" is the same
with -v.

Source:
    Ham, Bojinov, Lindon and Tingley (2022), Design-based confidence sequences for anytime-valid causal inference,
    arXiv 2210.08639, for inference from the draw alone;
    Waudby-Smith, Wu, Ramdas, Karampatziakis and Mineiro (2024), Anytime-valid off-policy inference for contextual bandits,
    ACM/IMS Journal of Data Science 1, for bets on values weighted by the inverse of their chance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hotcold.domain.evidence.arguments import require, require_share, threshold
from hotcold.domain.evidence.crossing import last_true
from hotcold.domain.evidence.finding import Finding, decide, explain, number
from hotcold.domain.evidence.forecast import observations_needed
from hotcold.domain.evidence.odds_mixture import log_mean_exp
from hotcold.domain.evidence.paired_mean import explain_two_sided
from hotcold.domain.evidence.split_values import SplitValues
from hotcold.domain.evidence.value_counts import NODES, ROUNDING, UNITS, ValueCounts
from hotcold.domain.gate import Verdict

_SIZES = np.geomspace(0.01, 0.95, 12)
_CENTRES = np.linspace(-0.9, 0.9, 7)
# Values are rounded on both sides, each weighted by the inverse of its chance to be seen.
_ROUNDING = 2 * ROUNDING
# Of the search for a bound, which is found to a few millionths.
_STEPS = 20
# Of values in [-1, 1], no mean can change by more; exactly this cannot be tested.
_MOST = 2.0 - 1e-6


@dataclass(frozen=True)
class RandomisedMeanTest:
    """Whether the mean of a value changes by more than is tolerated, from entities that were assigned to a side by a draw.

    Args:
        limit: most that is tolerated, in the unit of the values.
        lowest: of the values; see `count_split`.
        highest: of the values.
        alpha: chance of a wrong HARM in a release, and of a wrong SAFE.
        two_sided: HARM if the change is above the limit or below minus it; otherwise only above.
        signal: name of the gate.
        subject: of its sentence.
        unit: of effect and limit in findings.
        per: how many of that unit a value of 1 is.
        counted: what an observation is, in the plural.

    Raises:
        EvidenceError: a limit, range or level that makes no sense.
    """

    limit: float
    lowest: float = 0.0
    highest: float = 1.0
    alpha: float = 0.05
    two_sided: bool = False
    signal: str = "score_shift"
    subject: str = "the candidate's mean score minus the champion's"
    unit: str = "points"
    per: float = 1.0
    counted: str = "entities"

    def __post_init__(self) -> None:
        require_share("alpha", self.alpha)
        require(-math.inf < self.lowest < self.highest < math.inf, "range", (self.lowest, self.highest), "lowest < highest")
        room = 4 * _ROUNDING * self._half
        most = self.highest - self.lowest - room
        require(room < self.limit < most, "limit", self.limit, f"more than {number(room)}, less than {number(most)}")

    @property
    def _half(self) -> float:
        return (self.highest - self.lowest) / 2

    def log_harm(self, values: SplitValues) -> float:
        """Log of the e-value against "the change is within the limit", nats."""
        return self._evidence(self._wealth(values))[0]

    def log_safe(self, values: SplitValues) -> float:
        """Log of the e-value against "the change is the limit or more", nats."""
        return self._evidence(self._wealth(values))[1]

    def verdict(self, values: SplitValues) -> Verdict:
        """The verdict alone."""
        return self._verdict(self._wealth(values), values.invalid)

    def judge(self, values: SplitValues) -> Finding:
        """The verdict with effect, bounds, forecast and reasons."""
        wealth, (candidate, champion) = self._wealth(values), values.totals
        verdict, total, limit = self._verdict(wealth, values.invalid), candidate + champion, self.limit * self.per
        lower, upper = self._bounds(values)
        effect, scale = _effect(values), self._half * self.per
        cut = (
            f", {values.clipped:,} of them cut off at {number(self.lowest)} or {number(self.highest)}" if values.clipped else ""
        )
        return Finding(
            signal=self.signal,
            verdict=verdict,
            subject=self.subject,
            effect=None if effect is None else effect * scale,
            lower=lower * scale,
            upper=upper * scale,
            limit=limit,
            unit=self.unit,
            log_evidence=self._evidence(wealth)[0],
            observations=total,
            counted=self.counted,
            needed=observations_needed(
                lambda times: self._verdict(wealth * times, values.invalid) is not Verdict.UNKNOWN, total
            ),
            alpha=self.alpha,
            why=explain_two_sided(verdict, limit, self.unit) if self.two_sided else explain(verdict, limit, limit, self.unit),
            seen=f"{candidate:,} {self.counted} at the candidate, {champion:,} at the champion{cut}",
            caveat=f"{values.invalid:,} values were no numbers that can be, so it cannot be SAFE" if values.invalid else "",
            floor=-limit if self.two_sided else None,
        )

    def _wealth(self, values: SplitValues) -> NDArray[np.float64]:
        """Log of each bet's gain: above the limit, below it and, if two-sided, below minus the limit, above that."""
        limit = self.limit / self._half
        # Harm has to be proven against a limit a rounding further out, safety against one a rounding further in.
        bets = [_above(values, limit + _ROUNDING), _below(values, limit - _ROUNDING)]
        if self.two_sided:
            bets += [_below(values, -limit - _ROUNDING), _above(values, -limit + _ROUNDING)]
        return np.stack(bets)

    def _evidence(self, wealth: NDArray[np.float64]) -> tuple[float, float]:
        logs = [log_mean_exp(bets) for bets in wealth]
        if not self.two_sided:
            return logs[0], logs[1]
        # Half of the stake for each direction.
        return max(logs[0], logs[2]) - math.log(2), min(logs[1], logs[3]) - math.log(2)

    def _verdict(self, wealth: NDArray[np.float64], invalid: int) -> Verdict:
        needed = threshold(self.alpha)
        harm, safe = self._evidence(wealth)
        return decide(harm >= needed, safe >= needed, sound=not invalid)

    def _bounds(self, values: SplitValues) -> tuple[float, float]:
        """In halves of the range; its ends without evidence."""
        needed = threshold(self.alpha / 2 if self.two_sided else self.alpha)
        seen = _seen(values)
        low = last_true(lambda change: log_mean_exp(_bets(seen, change)) >= needed, -_MOST, _MOST, _STEPS)
        mirrored = {share_pct: tuple((-nodes, weights) for nodes, weights in sides) for share_pct, sides in seen.items()}
        high = -last_true(lambda change: log_mean_exp(_bets(mirrored, change)) >= needed, -_MOST, _MOST, _STEPS)
        return max(low - _ROUNDING, -2.0), min(high + _ROUNDING, 2.0)


_Seen = dict[int, tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...]]


def _telling(values: SplitValues) -> list[int]:
    """At 0 and 100 % there is no draw."""
    return [share_pct for share_pct in values.by_share if 0 < share_pct < 100]


def _above(values: SplitValues, change: float) -> NDArray[np.float64]:
    """Log of each bet's gain against "the candidate changes the mean by at most this", shape (sizes x constants,)."""
    return _total(values, change, 1)


def _below(values: SplitValues, change: float) -> NDArray[np.float64]:
    """The same against "at least this"."""
    return _total(values, -change, -1)


def _total(values: SplitValues, change: float, order: int) -> NDArray[np.float64]:
    """Read backwards, the grid has each value with the other sign."""
    total = np.zeros(len(_SIZES) * len(_CENTRES))
    for share_pct in _telling(values):
        for gains, side in zip(_gains_of_grid(share_pct, change), values.by_share[share_pct], strict=True):
            total += gains @ (side.weights[::order] / UNITS)
    return total


@lru_cache(maxsize=256)
def _gains_of_grid(share_pct: int, change: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    candidate, champion = (_gains(NODES, share_pct, change, is_candidate) for is_candidate in (True, False))
    return candidate, champion


def _gains(values: NDArray[np.float64], share_pct: int, change: float, is_candidate: bool) -> NDArray[np.float64]:
    """Log of what each bet gains by each value of one side, shape (sizes x constants, n)."""
    share, centre = share_pct / 100, _CENTRES[:, np.newaxis]
    weight = 1 / share if is_candidate else -1 / (1 - share)
    least = -np.maximum((1 + centre) / share, (1 - centre) / (1 - share))
    stake = (weight * (values - centre) - least) / (change - least)
    gains = np.log((1 - _SIZES)[:, np.newaxis, np.newaxis] + _SIZES[:, np.newaxis, np.newaxis] * stake)
    return gains.reshape(len(_SIZES) * len(_CENTRES), len(values))


def _seen(values: SplitValues) -> _Seen:
    """Points of the grid that have weight, and how many values that is."""
    return {share_pct: tuple(map(_used, values.by_share[share_pct])) for share_pct in _telling(values)}


def _used(side: ValueCounts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    used = np.flatnonzero(side.weights)
    return NODES[used], side.weights[used] / UNITS


def _bets(seen: _Seen, change: float) -> NDArray[np.float64]:
    total = np.zeros(len(_SIZES) * len(_CENTRES))
    for share_pct, sides in seen.items():
        for is_candidate, (nodes, weights) in zip((True, False), sides, strict=True):
            total += _gains(nodes, share_pct, change, is_candidate) @ weights
    return total


def _effect(values: SplitValues) -> float | None:
    """Difference of the means at each share, weighted by how many values there are; None if none has both."""
    both = [sides for share_pct, sides in values.by_share.items() if 0 < share_pct < 100 and all(side.total for side in sides)]
    total = sum(candidate.total + champion.total for candidate, champion in both)
    if not total:
        return None
    return sum((candidate.total + champion.total) * (candidate.mean - champion.mean) for candidate, champion in both) / total
