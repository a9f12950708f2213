"""How a canary proceeds: its steps, what each needs, and where a person is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from hotcold.domain.errors import PlanError

# Before the evidence of whole days no version can be told from another; so these are what a step needs unless the plan says
# else. Any gate that says HARM ends it all the same.
CANARY_NEEDED = ("replica_health", "error_rate", "latency_budget", "score_shift", "sample_ratio")
CANARY_GATES = (*CANARY_NEEDED, "error_ratio", "latency_p99", "log_loss", "accuracy", "worst_segment")
ON_NO_ANSWER = ("hold", "roll_back", "promote")
_LONGEST_S = 604_800.0
_TUPLES = ("steps", "gates", "approvals")


@dataclass(frozen=True)
class CanaryPlan:
    """Steps of a canary. Durations are in seconds, shares in percent.

    Args:
        steps: the candidate's share at each step, rising. The cut-over to 100 follows the last one; naming it changes nothing.
        step_min_s: shortest time at a share that the edge has confirmed.
        step_min_requests: fewest answers of the candidate in a step.
        step_max_s: after this time at a share without the evidence to go on, the plan's `on_unknown` decides.
        gates: gates that have to be SAFE before a step ends.
        approvals: shares that are entered only when a person agrees; 100 is the cut-over.
        answer_s: how long a person may take to answer.
        on_no_answer: `hold` and go on asking, `roll_back`, or `promote`.

    Raises:
        PlanError: steps that do not rise, or a value that makes no sense.
    """

    steps: tuple[int, ...] = (5, 10, 25, 50)
    step_min_s: float = 300.0
    step_min_requests: int = 200
    step_max_s: float = 3600.0
    gates: tuple[str, ...] = CANARY_NEEDED
    approvals: tuple[int, ...] = ()
    answer_s: float = 86_400.0
    on_no_answer: str = "hold"

    def __post_init__(self) -> None:
        self._check_steps()
        self._require(0 <= self.step_min_s <= _LONGEST_S, "step_min_s", f"0 to {_LONGEST_S:g}")
        self._require(0 <= self.step_min_requests <= 10**9, "step_min_requests", "0 to 1000000000")
        bounded = self.step_min_s <= self.step_max_s and 0 < self.step_max_s <= _LONGEST_S
        self._require(bounded, "step_max_s", f"at least step_min_s ({self.step_min_s:g}), more than 0, at most {_LONGEST_S:g}")
        known = bool(self.gates) and set(self.gates) <= set(CANARY_GATES)
        self._require(known, "gates", f"one or more of {', '.join(CANARY_GATES)}")
        self._require(0 < self.answer_s <= _LONGEST_S, "answer_s", f"more than 0, at most {_LONGEST_S:g}")
        self._require(self.on_no_answer in ON_NO_ANSWER, "on_no_answer", ", ".join(ON_NO_ANSWER))

    def _check_steps(self) -> None:
        whole = all(type(step) is int and 1 <= step <= 100 for step in self.steps)
        rising = all(before < after for before, after in zip(self.steps, self.steps[1:], strict=False))
        self._require(
            bool(self.steps) and whole and rising, "steps", "one or more whole percentages from 1 to 100, each larger"
        )
        self._require(
            set(self.approvals) <= {*self.steps, 100}, "approvals", f"shares of {', '.join(map(str, self.steps))}, or 100"
        )

    def _require(self, holds: bool, name: str, allowed: str) -> None:
        if not holds:
            seen = getattr(self, name)
            shown = ", ".join(map(str, seen)) or "empty" if isinstance(seen, tuple) else seen
            raise PlanError(f"plan: canary: {name} is {shown}; allowed is {allowed}")

    @property
    def shares(self) -> tuple[int, ...]:
        """The candidate's share at each step before the cut-over."""
        return tuple(step for step in self.steps if step < 100)

    def share(self, step: int) -> int:
        """The candidate's share in a step, percent.

        Args:
            step: 0 before the first; one more than there are is the cut-over.
        """
        return (0, *self.shares, 100)[step]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), **{name: list(getattr(self, name)) for name in _TUPLES}}

    @classmethod
    def from_json(cls, document: object) -> CanaryPlan:
        """Inverse of `to_json`; missing keys take their defaults.

        Raises:
            PlanError: an unknown key, a value of another type, or one out of range.
        """
        known = [field.name for field in fields(cls)]
        if not isinstance(document, Mapping):
            raise PlanError(f"plan: canary is {type(document).__name__}; allowed is an object with {', '.join(known)}")
        if unknown := sorted(set(document) - set(known)):
            raise PlanError(f"plan: canary: unknown key {unknown[0]!r}; known are {', '.join(known)}")
        try:
            values: dict[str, Any] = {name: tuple(value) if name in _TUPLES else value for name, value in document.items()}
            return cls(**values)
        except TypeError as error:
            raise PlanError(f"plan: canary: a value has the wrong type ({error}); see the defaults in CanaryPlan") from error
