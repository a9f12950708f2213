"""Is a latency quantile of the candidate above the champion's?

One could wait until the candidate's lower bound is above the champion's upper bound. What is done here, see
`quantile_evidence`, says the same and sooner: neither bound has to be far from the quantile on its own, because the evidence
of both sides multiplies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from hotcold.domain.evidence.arguments import require, require_share, threshold
from hotcold.domain.evidence.crossing import last_true_ratio
from hotcold.domain.evidence.finding import Finding, decide, explain, number
from hotcold.domain.evidence.forecast import observations_needed
from hotcold.domain.evidence.latency_counts import LatencyCounts
from hotcold.domain.evidence.odds_mixture import log_share_evidence
from hotcold.domain.evidence.quantile_evidence import is_slower, log_slower
from hotcold.domain.gate import Verdict


@dataclass(frozen=True)
class QuantileTest:
    """Whether a latency quantile of the candidate is above or below a multiple of the champion's.

    Args:
        quantile: q, in (0, 1); 0.99 for p99.
        baseline: HARM once the ratio of the quantiles is above this; 1 is "as fast as the champion".
        limit: SAFE once the ratio is below this.
        alpha: chance of a wrong HARM in a release, and of a wrong SAFE.
        signal: name of the gate.

    Raises:
        EvidenceError: a quantile, limit or level that makes no sense.

    Source:
        Howard and Ramdas (2022), Sequential estimation of quantiles with applications to A/B testing and best-arm
        identification, Bernoulli 28. Products of e-values: Vovk and Wang (2021), E-values: calibration, combination and
        applications.
    """

    quantile: float = 0.99
    baseline: float = 1.0
    limit: float = 1.25
    alpha: float = 0.05
    signal: str = "latency_quantile"

    def __post_init__(self) -> None:
        require_share("quantile", self.quantile)
        require_share("alpha", self.alpha)
        require(
            0 < self.baseline <= self.limit < math.inf, "baseline, limit", (self.baseline, self.limit), "0 < baseline <= limit"
        )

    def log_harm(self, candidate: LatencyCounts, champion: LatencyCounts) -> float:
        """Log of the e-value against "the ratio of the quantiles is at most the baseline", nats."""
        return log_slower(candidate, champion, self.quantile, self.baseline)

    def log_safe(self, candidate: LatencyCounts, champion: LatencyCounts) -> float:
        """Log of the e-value against "the ratio is the limit or more", nats."""
        return log_slower(champion, candidate, self.quantile, 1 / self.limit)

    def verdict(self, candidate: LatencyCounts, champion: LatencyCounts, times: float = 1.0) -> Verdict:
        """The verdict alone.

        Args:
            candidate: its latencies.
            champion: the champion's; the bins have to be the same.
            times: judge a multiple of the counts, for forecasts.

        Raises:
            EvidenceError: the bins differ.
        """
        same = candidate.edges_us == champion.edges_us
        require(same, "edges of the champion's bins", f"{len(champion.edges_us)} others", "the candidate's")
        needed = threshold(self.alpha)
        harm = is_slower(candidate, champion, self.quantile, self.baseline, needed, times)
        safe = not harm and is_slower(champion, candidate, self.quantile, 1 / self.limit, needed, times)
        return decide(harm, safe, sound=not (candidate.invalid or champion.invalid))

    def judge(self, candidate: LatencyCounts, champion: LatencyCounts) -> Finding:
        """The verdict with effect, bounds, forecast and reasons. Raises as `verdict` does."""
        verdict = self.verdict(candidate, champion)
        lower, upper = self._ratio_bounds(candidate, champion)
        total = candidate.total + champion.total
        invalid = candidate.invalid + champion.invalid
        return Finding(
            signal=self.signal,
            verdict=verdict,
            subject=f"the ratio of the candidate's {100 * self.quantile:g}th latency percentile to the champion's",
            effect=self._effect(candidate, champion),
            lower=lower,
            upper=upper,
            limit=self.limit,
            unit="ratio",
            log_evidence=self.log_harm(candidate, champion),
            observations=total,
            counted="observations",
            needed=observations_needed(lambda times: self.verdict(candidate, champion, times) is not Verdict.UNKNOWN, total),
            alpha=self.alpha,
            why=explain(verdict, self.baseline, self.limit, "ratio"),
            seen=f"candidate {self._describe(candidate)}; champion {self._describe(champion)}",
            caveat=f"{invalid:,} latencies were not numbers, so it cannot be SAFE" if invalid else "",
            baseline=self.baseline,
        )

    def _ratio_bounds(self, candidate: LatencyCounts, champion: LatencyCounts) -> tuple[float, float]:
        needed = threshold(self.alpha)
        lower = last_true_ratio(lambda factor: log_slower(candidate, champion, self.quantile, factor) >= needed)
        inverse = last_true_ratio(lambda factor: log_slower(champion, candidate, self.quantile, factor) >= needed)
        return lower, 1 / inverse if inverse else math.inf

    def _effect(self, candidate: LatencyCounts, champion: LatencyCounts) -> float | None:
        """Of the upper ends of the bins that the quantiles lie in; None if a side has no latencies, or no end."""
        ends = [_upper_end(side, side.quantile_bin(self.quantile)) for side in (candidate, champion)]
        if not candidate.total or not champion.total or math.inf in ends or not ends[1]:
            return None
        return ends[0] / ends[1]

    def _describe(self, side: LatencyCounts) -> str:
        lower, upper = quantile_bounds(side, self.quantile, self.alpha)
        return f"{number(lower / 1000)} to {number(upper / 1000)} ms from {side.total:,} observations"


def quantile_bounds(side: LatencyCounts, quantile: float, alpha: float) -> tuple[float, float]:
    """Confidence sequence for one quantile of one side.

    Args:
        side: its latencies.
        quantile: q, in (0, 1).
        alpha: chance that the lower bound is ever wrong; the same for the upper one.

    Returns:
        Lower and upper bound, µs: edges of bins, or 0 and infinity.

    Raises:
        EvidenceError: a quantile or level outside (0, 1).

    Source:
        Howard and Ramdas (2022), see above.
    """
    require_share("quantile", quantile)
    needed = threshold(alpha)
    is_below = log_share_evidence(side.above, side.below, 1 - quantile)[:-1] >= needed
    is_above = log_share_evidence(side.below, side.above, quantile)[:-1] >= needed
    lower = max((edge for edge, holds in zip(side.edges_us, is_below, strict=True) if holds), default=0)
    upper = min((edge for edge, holds in zip(side.edges_us, is_above, strict=True) if holds), default=math.inf)
    return float(lower), float(upper)


def _upper_end(side: LatencyCounts, index: int) -> float:
    return float(side.edges_us[index]) if index < len(side.edges_us) else math.inf
