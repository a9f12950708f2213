"""On late labels: where only one of the two is right, is it the champion too often? McNemar's test at every peek."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from hotcold.domain.evidence.arguments import as_count, read_keys, require, require_share, threshold
from hotcold.domain.evidence.beta_mixture import log_evidence_above
from hotcold.domain.evidence.exceedance import share_bounds
from hotcold.domain.evidence.finding import Finding, decide, explain
from hotcold.domain.evidence.forecast import observations_needed
from hotcold.domain.gate import Verdict


@dataclass(frozen=True)
class DiscordantCounts:
    """Labelled pairs by who was right.

    Args:
        lost: only the champion was right.
        won: only the candidate was right.
        agreed: both were, or neither; says nothing about who is better.

    Raises:
        EvidenceError: counts that cannot be.
    """

    lost: int = 0
    won: int = 0
    agreed: int = 0

    def __post_init__(self) -> None:
        for name in ("lost", "won", "agreed"):
            as_count(name, getattr(self, name))

    def merge(self, other: DiscordantCounts) -> DiscordantCounts:
        """The counts of both; the order does not matter."""
        return DiscordantCounts(self.lost + other.lost, self.won + other.won, self.agreed + other.agreed)

    def to_json(self) -> dict[str, object]:
        """As plain JSON values."""
        return {"lost": self.lost, "won": self.won, "agreed": self.agreed}

    @classmethod
    def from_json(cls, document: Mapping[str, object]) -> DiscordantCounts:
        """Inverse of `to_json`.

        Raises:
            EvidenceError: it is not what `to_json` writes.
        """
        values = read_keys(document, ("lost", "won", "agreed"), "discordant counts")
        return cls(*(as_count("count", value) for value in values))


@dataclass(frozen=True)
class DiscordantTest:
    """Whether the candidate loses more than its half of the pairs that only one side gets right.

    Two versions that hardly ever disagree cannot be told apart by this, and are UNKNOWN. How much accuracy is at stake at most
    is the question of a `MeanTest` on 1, 0 and -1, which becomes SAFE for them.

    Args:
        baseline: HARM once the lost share of discordant pairs is above this; 0.5 is "as accurate as the champion".
        limit: SAFE once it is below this; 0.6 are three lost for two won.
        alpha: chance of a wrong HARM in a release, and of a wrong SAFE.
        mass: prior mass of the beta mixture, pairs.
        signal: name of the gate.

    Raises:
        EvidenceError: a limit, level or mass that makes no sense.

    Source:
        McNemar (1947), Note on the sampling error of the difference between correlated proportions or percentages.
    """

    baseline: float = 0.5
    limit: float = 0.6
    alpha: float = 0.05
    mass: float = 20.0
    signal: str = "accuracy"

    def __post_init__(self) -> None:
        for name in ("baseline", "limit", "alpha"):
            require_share(name, getattr(self, name))
        require(self.baseline <= self.limit, "limit", self.limit, f"at least the baseline, {self.baseline}")
        require(0 < self.mass < math.inf, "mass", self.mass, "more than 0, finite")

    def log_harm(self, lost: float, won: float) -> float:
        """Log of the e-value against "the candidate loses at most the baseline's share", nats."""
        return log_evidence_above(lost, won, self.baseline, self.mass)

    def log_safe(self, lost: float, won: float) -> float:
        """Log of the e-value against "the candidate loses the limit's share or more", nats."""
        return log_evidence_above(won, lost, 1 - self.limit, self.mass)

    def verdict(self, counts: DiscordantCounts) -> Verdict:
        """The verdict alone, in microseconds."""
        return self._verdict(counts.lost, counts.won)

    def judge(self, counts: DiscordantCounts) -> Finding:
        """The verdict with effect, bounds, forecast and reasons."""
        lost, won = counts.lost, counts.won
        discordant, total = lost + won, lost + won + counts.agreed
        verdict = self.verdict(counts)
        lower, upper = share_bounds(lost, discordant, self.alpha, self.mass)
        needed = observations_needed(lambda times: self._verdict(times * lost, times * won) is not Verdict.UNKNOWN, total)
        return Finding(
            signal=self.signal,
            verdict=verdict,
            subject="of the pairs that only one of the two gets right, the share that the candidate loses",
            effect=100 * lost / discordant if discordant else None,
            lower=100 * lower,
            upper=100 * upper,
            limit=100 * self.limit,
            unit="%",
            log_evidence=self.log_harm(lost, won),
            observations=total,
            counted="labelled pairs",
            needed=needed,
            alpha=self.alpha,
            why=explain(verdict, 100 * self.baseline, 100 * self.limit, "%"),
            seen=f"{lost:,} lost and {won:,} won of {total:,} labelled pairs",
            baseline=100 * self.baseline,
        )

    def _verdict(self, lost: float, won: float) -> Verdict:
        needed = threshold(self.alpha)
        harm = lost > self.baseline * (lost + won) and self.log_harm(lost, won) >= needed
        safe = not harm and lost < self.limit * (lost + won) and self.log_safe(lost, won) >= needed
        return decide(harm, safe)
