"""What one comparison says, for the release, for the report and for people who were not there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from hotcold.domain.gate import Gate, Verdict


@dataclass(frozen=True)
class Finding:
    """A verdict with what it rests on. Effect, bounds and limit are in the same unit.

    Args:
        signal: name of the gate, for instance `error_ratio`.
        verdict: SAFE, HARM or UNKNOWN.
        subject: what the effect is, as the subject of a sentence.
        effect: what was observed; None if nothing was.
        lower: the effect is above this; minus infinity, or the least there is, without evidence.
        upper: the effect is below this.
        limit: what is tolerated.
        unit: of effect, bounds and limit: `ratio`, which is not printed, `%`, `per 1,000`, `nats`.
        log_evidence: log of the e-value against "no harm", nats; at ln(1 / alpha) it is HARM.
        observations: what was counted as one, on both sides.
        counted: what these are, in the plural.
        needed: how many more of them until it can be told, if things go on as now; None if that cannot be said.
        alpha: chance that it is ever HARM in a release without harm; and that it is ever SAFE in one with harm at the limit.
        why: the reason for the verdict, one sentence.
        seen: the counts, for people.
        caveat: why nothing can be SAFE, one sentence; empty if nothing speaks against it.
        baseline: HARM once all that lies within the bounds is above this; None: above the limit.
        floor: what is below this is not tolerated either; None where only large effects are harm.
    """

    signal: str
    verdict: Verdict
    subject: str
    effect: float | None
    lower: float
    upper: float
    limit: float
    unit: str
    log_evidence: float
    observations: int
    counted: str
    needed: int | None
    alpha: float
    why: str
    seen: str
    caveat: str = ""
    baseline: float | None = None
    floor: float | None = None

    @property
    def sentence(self) -> str:
        """The finding for people: what was observed, the bounds, the limit, the verdict and why."""
        head = f"{self.signal} is {self.verdict}: {self._observed()}, limit {quantity(self.limit, self.unit)} ({self.seen})"
        return ". ".join(part for part in (head, self.why, self.caveat, self._outlook(), self._assurance()) if part) + "."

    def to_gate(self) -> Gate:
        """As the release's state machine takes it."""
        observed = "; ".join(part for part in (self._observed(), self.seen, self.caveat) if part)
        return Gate(self.signal, self.verdict, observed, quantity(self.limit, self.unit))

    def to_json(self) -> dict[str, object]:
        """As plain JSON values, with the sentence; what is infinite or unknown is null."""
        values: dict[str, object] = {**asdict(self), "verdict": self.verdict.value, "sentence": self.sentence}
        return {name: None if _is_endless(value) else value for name, value in values.items()}

    def _observed(self) -> str:
        if self.effect is None:
            return "there is no evidence"
        bounds = f"between {number(self.lower)} and {quantity(self.upper, self.unit)}"
        return f"{self.subject} is {quantity(self.effect, self.unit)}, {bounds}"

    def _outlook(self) -> str:
        if self.verdict is not Verdict.UNKNOWN:
            return ""
        if self.needed:
            return f"If things go on as now, about {number(self.needed)} more {self.counted} will tell"
        return "How much more is needed cannot be said yet"

    def _assurance(self) -> str:
        """HARM and SAFE are claims; this is how far to trust them."""
        if self.verdict is Verdict.UNKNOWN:
            return ""
        without = "no harm" if self.verdict is Verdict.HARM else "harm beyond the limit"
        return f"With {without}, at most {number(self.alpha * 100)} % of releases would come to this, however often one looks"


def decide(harm: bool, safe: bool, sound: bool = True) -> Verdict:
    """Harm first; what is not sound cannot be SAFE.

    Args:
        harm: the evidence of harm suffices.
        safe: the evidence against harm suffices.
        sound: nothing was counted that makes the evidence incomplete.
    """
    if harm:
        return Verdict.HARM
    return Verdict.SAFE if safe and sound else Verdict.UNKNOWN


def explain(verdict: Verdict, baseline: float, limit: float, unit: str) -> str:
    """Why a test that looks for too much of something came to its verdict.

    Args:
        verdict: its verdict.
        baseline: HARM if the lower bound is above this.
        limit: SAFE if the upper bound is below this.
        unit: of both.
    """
    above, below = quantity(baseline, unit), quantity(limit, unit)
    if verdict is Verdict.HARM:
        return f"Even the lower bound is above {above}"
    if verdict is Verdict.SAFE:
        return f"Even the upper bound is below {below}"
    return f"It is HARM once the lower bound is above {above}, SAFE once the upper bound is below {below}"


def number(value: float) -> str:
    """Three digits, for people."""
    if math.isnan(value):
        return "unknown"
    if math.isinf(value):
        return "infinity" if value > 0 else "minus infinity"
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def quantity(value: float, unit: str) -> str:
    """A number with its unit; a ratio has none."""
    return number(value) if unit == "ratio" else f"{number(value)} {unit}"


def scaled(counts: Mapping[int, tuple[float, float]], times: float) -> dict[int, tuple[float, float]]:
    """A multiple of counts by share, for forecasts."""
    return {share_pct: (candidate * times, champion * times) for share_pct, (candidate, champion) in counts.items()}


def _is_endless(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
