"""Is a share above what is allowed: of slow answers, of failures, of flips?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from hotcold.domain.evidence.arguments import as_count, read_keys, require, require_share, threshold
from hotcold.domain.evidence.beta_mixture import log_evidence_above
from hotcold.domain.evidence.crossing import last_true
from hotcold.domain.evidence.finding import Finding, decide, explain
from hotcold.domain.evidence.forecast import first_decisive, observations_needed
from hotcold.domain.gate import Verdict

MASS = 50.0


@dataclass(frozen=True)
class ShareCounts:
    """Hits among observations that are independent of each other.

    Slow answers come in bursts and with certain clients. Count one answer of each entity, and at most one of each second, or
    give the share of slow answers in each closed second to `paired_mean`, which uses all of them.

    Args:
        hits: what is counted: slow answers, failures.
        total: all observations.

    Raises:
        EvidenceError: counts that cannot be.
    """

    hits: int = 0
    total: int = 0

    def __post_init__(self) -> None:
        require(
            as_count("hits", self.hits) <= as_count("total", self.total), "hits", self.hits, f"at most the total, {self.total}"
        )

    def merge(self, other: ShareCounts) -> ShareCounts:
        """The counts of both; the order does not matter."""
        return ShareCounts(self.hits + other.hits, self.total + other.total)

    def to_json(self) -> dict[str, object]:
        """As plain JSON values."""
        return {"hits": self.hits, "total": self.total}

    @classmethod
    def from_json(cls, document: Mapping[str, object]) -> ShareCounts:
        """Inverse of `to_json`.

        Raises:
            EvidenceError: it is not what `to_json` writes.
        """
        hits, total = read_keys(document, ("hits", "total"), "share counts")
        return cls(as_count("hits", hits), as_count("total", total))


@dataclass(frozen=True)
class ExceedanceTest:
    """Whether a share is above or below the allowed one; see `beta_mixture` for the mathematics.

    Args:
        allowed: tolerated share, in (0, 1); 0.01 gates the 99th percentile.
        alpha: chance of a wrong HARM in a release, and of a wrong SAFE.
        mass: prior mass of the beta mixture, observations.
        signal: name of the gate: `over_budget` for slow answers, `error_rate` for failures.
        subject: of its sentence.
        counted: what an observation is, in the plural.

    Raises:
        EvidenceError: a share, level or mass that makes no sense.
    """

    allowed: float
    alpha: float = 0.05
    mass: float = MASS
    signal: str = "over_budget"
    subject: str = "the share of the candidate's answers over the latency budget"
    counted: str = "answers"

    def __post_init__(self) -> None:
        require_share("allowed", self.allowed)
        require_share("alpha", self.alpha)
        require(0 < self.mass < math.inf, "mass", self.mass, "more than 0, finite")

    def log_harm(self, hits: float, total: float) -> float:
        """Log of the e-value against "the share is at most the allowed one", nats."""
        return log_evidence_above(hits, total - hits, self.allowed, self.mass)

    def log_safe(self, hits: float, total: float) -> float:
        """Log of the e-value against "the share is the allowed one or more", nats."""
        return log_evidence_above(total - hits, hits, 1 - self.allowed, self.mass)

    def verdict(self, counts: ShareCounts) -> Verdict:
        """The verdict alone, in microseconds."""
        return self._verdict(counts.hits, counts.total)

    def judge(self, counts: ShareCounts) -> Finding:
        """The verdict with effect, bounds, forecast and reasons."""
        hits, total = counts.hits, counts.total
        verdict = self.verdict(counts)
        lower, upper = share_bounds(hits, total, self.alpha, self.mass)
        return Finding(
            signal=self.signal,
            verdict=verdict,
            subject=self.subject,
            effect=100 * hits / total if total else None,
            lower=100 * lower,
            upper=100 * upper,
            limit=100 * self.allowed,
            unit="%",
            log_evidence=self.log_harm(hits, total),
            observations=total,
            counted=self.counted,
            needed=observations_needed(lambda times: self._decides(hits * times, total * times), total),
            alpha=self.alpha,
            why=explain(verdict, 100 * self.allowed, 100 * self.allowed, "%"),
            seen=f"{hits:,} of {total:,} {self.counted}",
        )

    def observations_to_tell(self, share: float) -> int | None:
        """Observations until this test gives its verdict, before anything was seen.

        Args:
            share: assumed share of hits, 0 to 1.

        Returns:
            Where the evidence of the expected hits suffices, to about 1 %; None if a billion observations would not tell.
        """
        require(0 <= share <= 1, "share", share, "0 to 1")
        return first_decisive(lambda total: self._decides(share * total, total))

    def _verdict(self, hits: float, total: float) -> Verdict:
        needed = threshold(self.alpha)
        # One of the two sides has no evidence at all, and working it out takes as long as for the other.
        if hits > self.allowed * total:
            return decide(self.log_harm(hits, total) >= needed, safe=False)
        return decide(harm=False, safe=self.log_safe(hits, total) >= needed)

    def _decides(self, hits: float, total: float) -> bool:
        return self._verdict(hits, total) is not Verdict.UNKNOWN


def exceedance_e_value(slow: int, total: int, allowed: float, mass: float = MASS) -> float:
    """Evidence against "at most `allowed` of answers are slow", valid at every peek.

    Args:
        slow: answers over the budget so far, 0 <= slow <= total.
        total: answers so far.
        allowed: tolerated share, in (0, 1); 0.01 gates the 99th percentile.
        mass: prior mass of the beta mixture; larger waits longer and sees finer.

    Returns:
        E-value, dimensionless, >= 0; reject at level alpha when it is >= 1 / alpha. Infinity where it is too large to say.

    Raises:
        EvidenceError: slow > total, or allowed outside (0, 1).

    Source:
        Howard et al. (2021), Time-uniform, nonparametric, nonasymptotic confidence sequences.
    """
    counts, test = ShareCounts(slow, total), ExceedanceTest(allowed, mass=mass)
    log_evidence = test.log_harm(counts.hits, counts.total)
    return math.exp(log_evidence) if log_evidence < 700 else math.inf


def share_bounds(hits: float, total: float, alpha: float, mass: float = MASS) -> tuple[float, float]:
    """All shares that the counts do not speak against.

    Args:
        hits: what was counted.
        total: all observations.
        alpha: chance that the lower bound is ever wrong; the same for the upper one.
        mass: prior mass of the beta mixture, around whichever share is tested.

    Returns:
        Lower and upper bound, in [0, 1].
    """
    return _lower_bound(hits, total, alpha, mass), 1 - _lower_bound(total - hits, total, alpha, mass)


def _lower_bound(hits: float, total: float, alpha: float, mass: float) -> float:
    """The evidence falls as the tested share grows; above the observed share there is none."""
    needed = threshold(alpha)
    if not hits:
        return 0.0
    low, high = 1e-9, min(hits / total, 1 - 1e-9)
    bound = last_true(lambda share: log_evidence_above(hits, total - hits, share, mass) >= needed, low, high)
    return 0.0 if bound <= low else bound
