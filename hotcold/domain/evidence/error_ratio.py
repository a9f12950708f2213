"""Does the candidate fail more often than the champion? From failures alone, whatever the traffic does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from hotcold.domain.evidence.arguments import read_keys, require, require_share, threshold
from hotcold.domain.evidence.finding import Finding, decide, explain, scaled
from hotcold.domain.evidence.forecast import first_decisive, observations_needed
from hotcold.domain.evidence.odds_mixture import Hits, likely_ratio, log_evidence_above, log_evidence_below, ratio_bounds
from hotcold.domain.evidence.split_counts import SplitCounts
from hotcold.domain.gate import Verdict


@dataclass(frozen=True)
class ErrorCounts:
    """Entities that answers were counted for, and those among them that failed.

    An entity counts once in a release, with its first failure: a client that always fails is one failure, not a thousand. It
    stays on the candidate's side when the share grows, so that counting it again at each step would be no independent evidence.
    What is compared is therefore how many entities fail, not how many requests.

    Args:
        failures: entities that failed, by side and share at that time.
        answers: entities that were answered, by side and share.

    Raises:
        EvidenceError: more failures than answers.
    """

    failures: SplitCounts = field(default_factory=SplitCounts)
    answers: SplitCounts = field(default_factory=SplitCounts)

    def __post_init__(self) -> None:
        for share_pct, failed in self.failures.by_share.items():
            answered = self.answers.by_share.get(share_pct, (0, 0))
            fits = failed[0] <= answered[0] and failed[1] <= answered[1]
            require(fits, f"failures at {share_pct} % (candidate, champion)", failed, f"at most the answers, {answered}")

    def merge(self, other: ErrorCounts) -> ErrorCounts:
        """The counts of both; the order does not matter."""
        return ErrorCounts(self.failures.merge(other.failures), self.answers.merge(other.answers))

    def to_json(self) -> dict[str, object]:
        """As plain JSON values."""
        return {"failures": self.failures.to_json(), "answers": self.answers.to_json()}

    @classmethod
    def from_json(cls, document: Mapping[str, object]) -> ErrorCounts:
        """Inverse of `to_json`.

        Raises:
            EvidenceError: it is not what `to_json` writes.
        """
        failures, answers = read_keys(document, ("failures", "answers"), "error counts")
        return cls(SplitCounts.from_json(failures), SplitCounts.from_json(answers))  # type: ignore[arg-type]


@dataclass(frozen=True)
class ErrorRatioTest:
    """Conditional-binomial test of the candidate's error rate over the champion's; see `odds_mixture` for the mathematics.

    It serves for any rare event whose sides are to be compared: answers over the latency budget, fallbacks, refusals.

    Args:
        baseline: HARM once the ratio is above this; 1 is "as good as the champion".
        limit: SAFE once the ratio is below this.
        alpha: chance of a wrong HARM in a release, and of a wrong SAFE.
        signal: name of the gate.
        subject: of its sentence.

    Raises:
        EvidenceError: a limit or level that makes no sense.
    """

    baseline: float = 1.0
    limit: float = 2.0
    alpha: float = 0.05
    signal: str = "error_ratio"
    subject: str = "the ratio of the candidate's error rate to the champion's"

    def __post_init__(self) -> None:
        require_share("alpha", self.alpha)
        require(
            0 < self.baseline <= self.limit < math.inf, "baseline, limit", (self.baseline, self.limit), "0 < baseline <= limit"
        )

    def log_harm(self, failures: Hits) -> float:
        """Log of the e-value against "the ratio is at most the baseline", nats. `failures`: by share, as in SplitCounts."""
        return log_evidence_above(failures, self.baseline)

    def log_safe(self, failures: Hits) -> float:
        """Log of the e-value against "the ratio is the limit or more", nats."""
        return log_evidence_below(failures, self.limit)

    def verdict(self, counts: ErrorCounts) -> Verdict:
        """The verdict alone, in microseconds."""
        return self._verdict(counts.failures.by_share)

    def judge(self, counts: ErrorCounts) -> Finding:
        """The verdict with effect, bounds, forecast and reasons."""
        failures, answers = counts.failures, counts.answers
        verdict = self.verdict(counts)
        lower, upper = ratio_bounds(failures.by_share, threshold(self.alpha))
        return Finding(
            signal=self.signal,
            verdict=verdict,
            subject=self.subject,
            effect=likely_ratio(failures.by_share),
            lower=lower,
            upper=upper,
            limit=self.limit,
            unit="ratio",
            log_evidence=self.log_harm(failures.by_share),
            observations=answers.total,
            counted="answers",
            needed=self._needed(counts),
            alpha=self.alpha,
            why=explain(verdict, self.baseline, self.limit, "ratio") if failures.total else self._too_few(answers),
            seen=f"failed: {failures.candidate:,} of {answers.candidate:,} at the candidate,"
            f" {failures.champion:,} of {answers.champion:,} at the champion",
            baseline=self.baseline,
        )

    def failures_needed(self, share_pct: int) -> int | None:
        """The fewest failures that give a verdict: all of them the candidate's, or all the champion's."""
        candidates, champions = {share_pct: (1.0, 0.0)}, {share_pct: (0.0, 1.0)}
        needed = (
            first_decisive(lambda failures: self._decides(scaled(candidates, failures))),
            first_decisive(lambda failures: self._decides(scaled(champions, failures))),
        )
        return min((failures for failures in needed if failures is not None), default=None)

    def requests_to_tell(self, ratio: float, base_rate: float, share_pct: int) -> int | None:
        """Answers on both sides until this test gives its verdict, before anything was seen.

        The evidence grows by `growth_per_request` for each answer, so it takes about (ln(1 / alpha) + c) / growth, where c,
        between 1 and 3, is what the mixture costs. What is returned is where the evidence of the expected failures reaches
        ln(1 / alpha). In simulations, half of all releases were told within three quarters of that, six in ten by then, and
        nine in ten within about twice as many.

        Args:
            ratio: assumed ratio of the candidate's error rate to the champion's.
            base_rate: share of the champion's answers that fail.
            share_pct: candidate's share, percent.

        Returns:
            Answers to about 1 %; None if a billion would not tell: at 0 and 100 %, and for ratios near the limits.
        """
        require_share("base_rate", base_rate)
        require(0 <= ratio <= 1 / base_rate, "ratio", ratio, f"0 to {1 / base_rate:g}")
        share = share_pct / 100
        expected = (share * base_rate * ratio, (1 - share) * base_rate)
        return first_decisive(lambda answers: self._decides(scaled({share_pct: expected}, answers)))

    def _verdict(self, failures: Hits) -> Verdict:
        needed = threshold(self.alpha)
        harm = self.log_harm(failures) >= needed
        return decide(harm, not harm and self.log_safe(failures) >= needed)

    def _decides(self, failures: Hits) -> bool:
        return self._verdict(failures) is not Verdict.UNKNOWN

    def _needed(self, counts: ErrorCounts) -> int | None:
        failures = counts.failures.by_share
        return observations_needed(lambda times: self._decides(scaled(failures, times)), counts.answers.total)

    def _too_few(self, answers: SplitCounts) -> str:
        share_pct = max(answers.by_share, key=lambda share: sum(answers.by_share[share]), default=50)
        fewest = self.failures_needed(share_pct)
        at_least = f"; at {share_pct} % it takes {fewest} failures at least" if fewest else ""
        return f"Without failures nothing can be said about their ratio{at_least}"


def growth_per_request(ratio: float, base_rate: float, share_pct: int) -> float:
    """How much evidence of harm one more answer brings on average, if one knew the ratio.

    With w the share, b the base rate and p = w r / (w r + 1 - w), a failure comes with every 1 / (b (w r + 1 - w)) answers and
    brings KL(p || w) = p ln(p / w) + (1 - p) ln((1 - p) / (1 - w)).

    Args:
        ratio: r, more than 0.
        base_rate: b, share of the champion's answers that fail.
        share_pct: w, percent, 1 to 99.

    Returns:
        Nats per answer; no test can grow faster.

    Raises:
        EvidenceError: a rate or share that tells nothing.
    """
    require_share("base_rate", base_rate)
    require_share("share", share_pct / 100)
    require(ratio > 0, "ratio", ratio, "more than 0")
    share = share_pct / 100
    failures = base_rate * (share * ratio + 1 - share)
    hit = share * ratio / (share * ratio + 1 - share)
    return failures * (hit * math.log(hit / share) + (1 - hit) * math.log((1 - hit) / (1 - share)))
