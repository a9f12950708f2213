"""Decisions that the candidate takes otherwise than the champion: how many, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass

from hotcold.domain.evidence.arguments import require
from hotcold.domain.evidence.finding import Finding, number
from hotcold.domain.evidence.paired_mean import MeanTest

PER = 1000.0


def flip_test(allowed_per_1000: float, alpha: float = 0.05) -> MeanTest:
    """The test of decision flips.

    Its values are 1 where candidate and champion decide differently at the model's threshold, else 0; or the share of an
    entity's requests where they do, one value for each entity.

    Args:
        allowed_per_1000: tolerated flips among 1,000 requests.
        alpha: chance of a wrong HARM in a release, and of a wrong SAFE.

    Raises:
        EvidenceError: a limit or level that makes no sense.
    """
    return MeanTest(
        limit=allowed_per_1000 / PER,
        alpha=alpha,
        signed=False,
        signal="decision_flips",
        subject="the rate of decisions that differ",
        unit="per 1,000",
        per=PER,
    )


@dataclass(frozen=True)
class FlipPrice:
    """What the flips among 1,000 requests cost, in the unit of the cost per flip.

    Args:
        observed: at the rate that was observed; None if nothing was.
        lower: at the lower bound of the rate.
        upper: at its upper bound.
    """

    observed: float | None
    lower: float
    upper: float

    @property
    def sentence(self) -> str:
        """The price for people."""
        if self.observed is None:
            return "What the flips cost is not known: there is no evidence."
        bounds = f"between {number(self.lower)} and {number(self.upper)}"
        return f"The flips among 1,000 requests cost {number(self.observed)}, {bounds}."


def price_flips(finding: Finding, cost_per_flip: float) -> FlipPrice:
    """The price with the same bounds as the rate, valid at every peek.

    Args:
        finding: of a `flip_test`.
        cost_per_flip: what one decision that differs costs on average; 0 or more, in any currency.

    Raises:
        EvidenceError: a negative cost, or a finding of another test.
    """
    require(0 <= cost_per_flip < float("inf"), "cost per flip", cost_per_flip, "0 or more, finite")
    require(finding.unit == "per 1,000", "unit of the finding", finding.unit, "per 1,000; give the finding of a flip_test")
    observed = None if finding.effect is None else finding.effect * cost_per_flip
    return FlipPrice(observed, finding.lower * cost_per_flip, finding.upper * cost_per_flip)
