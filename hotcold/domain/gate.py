"""What a gate says of a release."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """SAFE and HARM are claims that need evidence; without it the verdict is UNKNOWN."""

    SAFE = "SAFE"
    HARM = "HARM"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True)
class Gate:
    """One check with its verdict.

    Args:
        name: what was checked, for instance `replica_health`.
        verdict: SAFE, HARM or UNKNOWN.
        observed: what was seen, with its unit.
        limit: what is allowed, with its unit.
    """

    name: str
    verdict: Verdict
    observed: str = ""
    limit: str = ""

    @property
    def sentence(self) -> str:
        """The gate for people."""
        return f"{self.name} is {self.verdict}: {self.observed} (allowed: {self.limit})"


def first_harm(gates: Iterable[Gate]) -> Gate | None:
    """The first gate that reports harm, if any does."""
    return next((gate for gate in gates if gate.verdict is Verdict.HARM), None)


def missing_evidence(gates: Iterable[Gate], required: Iterable[str]) -> tuple[str, ...]:
    """Names of the required gates that are not SAFE; a gate that was not reported is UNKNOWN."""
    safe = {gate.name for gate in gates if gate.verdict is Verdict.SAFE}
    return tuple(name for name in required if name not in safe)
