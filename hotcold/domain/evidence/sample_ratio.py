"""Does traffic arrive as the split says? If not, something loses requests of one side, and no other gate means anything."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hotcold.domain.evidence.arguments import require, require_share, threshold
from hotcold.domain.evidence.beta_mixture import log_evidence_off
from hotcold.domain.evidence.crossing import last_true_ratio
from hotcold.domain.evidence.finding import Finding, decide, number, scaled
from hotcold.domain.evidence.forecast import observations_needed
from hotcold.domain.evidence.odds_mixture import Hits, excess, likely_ratio
from hotcold.domain.evidence.split_counts import SplitCounts
from hotcold.domain.gate import Verdict

_KEPT = 0.25
# Where what is kept does not matter any more, and the exponential would soon be too large for a float.
_LARGE = 100.0


@dataclass(frozen=True)
class SampleRatioTest:
    """Whether the candidate's share of entities is the configured one, at each split that there was.

    HARM of this signal says nothing bad of the candidate: it makes the rest of the evidence invalid, and the release holds. The
    evidence is the product, over the splits, of beta mixtures around the share that each should give; a quarter of the stake
    is not bet. So the chance of a false alarm stays visibly below alpha, which this process would come very close to: each
    entity moves it a little only, so that it hardly ever jumps far over the line.

    Entities count once in a release, at the split under which they first came. Requests would not do: one client that sends a
    tenth of them is on one side or the other.

    Args:
        tolerance: SAFE once the odds of being the candidate's are off by less than this factor minus one, in either direction.
        alpha: chance of a false alarm in a release, and of a wrong SAFE. Smaller than elsewhere, since an alarm voids
            everything.
        mass: prior mass of the beta mixtures, entities.
        signal: name of the gate.

    Raises:
        EvidenceError: a tolerance, level or mass that makes no sense.

    Source:
        Lindon and Malek (2022), Anytime-valid inference for multinomial count data, NeurIPS 35.
    """

    tolerance: float = 0.25
    alpha: float = 0.001
    mass: float = 20.0
    signal: str = "sample_ratio"

    def __post_init__(self) -> None:
        require_share("alpha", self.alpha)
        require(0 < self.tolerance < math.inf, "tolerance", self.tolerance, "more than 0, finite")
        require(0 < self.mass < math.inf, "mass", self.mass, "more than 0, finite")

    def log_harm(self, entities: Hits) -> float:
        """Log of the e-value against "the split is as configured", nats. `entities`: by share, as in SplitCounts."""
        return self._log_off(entities, 1.0)

    def log_safe(self, entities: Hits) -> float:
        """Log of the e-value against "the odds are off by the tolerance or more", nats; minus infinity where they look so."""
        most = 1 + self.tolerance
        # The likelihood has one peak; a ratio on the far side of a rejected one is still less likely, so the side decides.
        if not excess(entities, most) < 0 < excess(entities, 1 / most):
            return -math.inf
        return min(self._log_off(entities, most), self._log_off(entities, 1 / most))

    def verdict(self, entities: SplitCounts) -> Verdict:
        """The verdict alone, in microseconds."""
        return self._verdict(entities.by_share)

    def judge(self, entities: SplitCounts) -> Finding:
        """The verdict with effect, bounds, forecast and reasons."""
        by_share = entities.by_share
        verdict = self.verdict(entities)
        lower, upper = self._bounds(by_share)
        expected = sum(sum(pair) * share_pct / 100 for share_pct, pair in by_share.items())
        return Finding(
            signal=self.signal,
            verdict=verdict,
            subject="the ratio of the observed odds of being the candidate's to the configured odds",
            effect=likely_ratio(by_share),
            lower=lower,
            upper=upper,
            limit=1 + self.tolerance,
            unit="ratio",
            log_evidence=self.log_harm(by_share),
            observations=entities.total,
            counted="entities",
            needed=observations_needed(
                lambda times: self._verdict(scaled(by_share, times)) is not Verdict.UNKNOWN, entities.total
            ),
            alpha=self.alpha,
            why=self._explain(verdict),
            seen=f"{entities.candidate:,} of {entities.total:,} entities came to the candidate, {number(expected)} expected",
            baseline=1.0,
            floor=1 / (1 + self.tolerance),
        )

    def _verdict(self, entities: Hits) -> Verdict:
        needed = threshold(self.alpha)
        harm = self.log_harm(entities) >= needed
        return decide(harm, not harm and self.log_safe(entities) >= needed)

    def _log_off(self, entities: Hits, ratio: float) -> float:
        """Evidence against "the odds are `ratio` times the configured ones"."""
        telling = tuple(share_pct for share_pct in entities if 0 < share_pct < 100)
        if not telling:
            return 0.0
        candidate, champion = np.array([entities[share_pct] for share_pct in telling], dtype=np.float64).T
        won = float(np.add.reduce(log_evidence_off(candidate, champion, _shares(telling, ratio), self.mass)))
        return won + math.log1p(-_KEPT) if won > _LARGE else math.log(_KEPT + (1 - _KEPT) * math.exp(won))

    def _bounds(self, entities: Hits) -> tuple[float, float]:
        """From the likeliest ratio to where the evidence begins on both sides; empty if no ratio fits all splits."""
        needed, likely = threshold(self.alpha), likely_ratio(entities)
        if likely is None:
            return 0.0, math.inf
        lower = last_true_ratio(lambda ratio: ratio < likely and self._log_off(entities, ratio) >= needed)
        inverse = last_true_ratio(lambda inverse: inverse * likely < 1 and self._log_off(entities, 1 / inverse) >= needed)
        return lower, 1 / inverse if inverse else math.inf

    def _explain(self, verdict: Verdict) -> str:
        within = f"between {number(1 / (1 + self.tolerance))} and {number(1 + self.tolerance)}"
        if verdict is Verdict.HARM:
            return "The split is not the configured one: answers are lost or doubled, and what was counted means nothing"
        if verdict is Verdict.SAFE:
            return f"All values within the bounds are {within}"
        return f"It is an alarm once 1 is outside the bounds, SAFE once both bounds are {within}"


@lru_cache(maxsize=1024)
def _shares(shares_pct: tuple[int, ...], ratio: float) -> tuple[float, ...]:
    """The candidate's shares if its odds are a multiple of the configured ones."""
    return tuple(ratio * share_pct / (ratio * share_pct + 100 - share_pct) for share_pct in shares_pct)
