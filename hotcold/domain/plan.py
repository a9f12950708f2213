"""How a release is to proceed: frozen when it starts, so that nobody can move the goalposts under way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from hotcold.domain.canary.plan import CanaryPlan
from hotcold.domain.edge import refuse_mirror
from hotcold.domain.errors import PlanError
from hotcold.domain.latency import LATENCY_BUDGETS_MS
from hotcold.domain.shadow.limits import Limits

STRATEGIES = ("blue_green", "shadow", "canary")
ON_UNKNOWN = ("hold", "roll_back")
GATES = ("replica_health", "edge_probe")
# What copies of live requests can tell of a candidate. The first are what it needs for the verdict SAFE unless the plan says
# else; labels come late, and a 99th percentile takes hours. Any gate that says HARM ends it all the same.
SHADOW_NEEDED = (
    "replica_health",
    "copies",
    "pairing",
    "score_spread",
    "error_rate",
    "latency_budget",
    "score_change",
    "decision_flips",
)
SHADOW_GATES = (*SHADOW_NEEDED, "latency_p99", "log_loss", "accuracy")


@dataclass(frozen=True)
class Plan:
    """Strategy, limits and gates of one release. Durations are in seconds.

    Args:
        strategy: `blue_green`: all traffic moves at once, after smoke tests, and is watched for `bake_s`. `shadow`: no traffic
            moves; the candidate gets copies of live requests until there is a verdict. `canary`: the candidate gets a growing
            share of the entities, step by step.
        replicas: replicas of the candidate; all have to be ready before it gets traffic.
        package_timeout_s: longest time to build the package.
        ready_timeout_s: longest time until all replicas of the candidate are ready.
        smoke_timeout_s: longest time for the smoke tests.
        route_timeout_s: longest time until the edge confirms the switch.
        bake_s: time under full traffic, every gate SAFE, before the candidate becomes champion.
        max_bake_s: after this time without the evidence to promote, `on_unknown` decides.
        on_unknown: `hold` for a person, or `roll_back`.
        required_gates: gates that have to be SAFE for the promotion.
        allow_breaking_schema: release a version whose input schema refuses requests that the champion takes.
        mirror_pct: share of the scoring requests that are copied to the candidate, in percent, at most four decimals.
        shadow_min_s: shortest time under copies before a candidate is found SAFE.
        shadow_min_pairs: fewest requests with an answer by both before a candidate is found SAFE.
        shadow_max_s: after this time under copies without a verdict, it is UNKNOWN.
        shadow_gates: gates that have to be SAFE for the verdict SAFE.
        latency_budget_ms: an answer that takes as long or longer is slow; one of `LATENCY_BUDGETS_MS`.
        limits: what a comparison of the candidate with the champion tolerates.
        shadow_first: give live requests only to a candidate that copies of them found SAFE.
        canary: steps of a canary.
    """

    strategy: str = "blue_green"
    replicas: int = 2
    package_timeout_s: float = 300.0
    ready_timeout_s: float = 120.0
    smoke_timeout_s: float = 60.0
    route_timeout_s: float = 15.0
    bake_s: float = 30.0
    max_bake_s: float = 300.0
    on_unknown: str = "hold"
    required_gates: tuple[str, ...] = GATES
    allow_breaking_schema: bool = False
    mirror_pct: float = 100.0
    shadow_min_s: float = 60.0
    shadow_min_pairs: int = 1000
    shadow_max_s: float = 3600.0
    shadow_gates: tuple[str, ...] = SHADOW_NEEDED
    latency_budget_ms: float = 50.0
    limits: Limits = field(default_factory=Limits)
    shadow_first: bool = False
    canary: CanaryPlan = field(default_factory=CanaryPlan)

    def __post_init__(self) -> None:
        self._require(self.strategy in STRATEGIES, "strategy", self.strategy, " or ".join(STRATEGIES))
        self._require(self.on_unknown in ON_UNKNOWN, "on_unknown", self.on_unknown, " or ".join(ON_UNKNOWN))
        self._require(1 <= self.replicas <= 64, "replicas", self.replicas, "1 to 64")
        for name in ("package_timeout_s", "ready_timeout_s", "smoke_timeout_s", "route_timeout_s"):
            self._require(0 < getattr(self, name) <= 86_400, name, getattr(self, name), "more than 0, at most 86400")
        self._require(0 <= self.bake_s <= 86_400, "bake_s", self.bake_s, "0 to 86400")
        self._require(self.max_bake_s >= self.bake_s, "max_bake_s", self.max_bake_s, f"at least bake_s ({self.bake_s})")
        unknown = sorted(set(self.required_gates) - set(GATES))
        self._require(not unknown, "required_gates", ", ".join(unknown), ", ".join(GATES))
        self._check_shadow()

    def _check_shadow(self) -> None:
        mirrors = self.mirror_pct > 0 and not refuse_mirror(self.mirror_pct)
        self._require(mirrors, "mirror_pct", self.mirror_pct, "more than 0, at most 100, with at most four decimals")
        self._require(0 <= self.shadow_min_s <= 604_800, "shadow_min_s", self.shadow_min_s, "0 to 604800")
        longest = f"at least shadow_min_s ({self.shadow_min_s}), more than 0, at most 604800"
        bounded = self.shadow_min_s <= self.shadow_max_s and 0 < self.shadow_max_s <= 604_800
        self._require(bounded, "shadow_max_s", self.shadow_max_s, longest)
        self._require(0 <= self.shadow_min_pairs <= 10**9, "shadow_min_pairs", self.shadow_min_pairs, "0 to 1000000000")
        known = bool(self.shadow_gates) and set(self.shadow_gates) <= set(SHADOW_GATES)
        self._require(known, "shadow_gates", ", ".join(self.shadow_gates), f"one or more of {', '.join(SHADOW_GATES)}")
        budgets = ", ".join(f"{budget:g}" for budget in LATENCY_BUDGETS_MS)
        self._require(self.latency_budget_ms in LATENCY_BUDGETS_MS, "latency_budget_ms", self.latency_budget_ms, budgets)

    @staticmethod
    def _require(holds: bool, name: str, seen: object, allowed: str) -> None:
        if not holds:
            raise PlanError(f"plan: {name} is {seen}; allowed is {allowed}")

    def to_json(self) -> dict[str, Any]:
        """The plan as plain JSON values."""
        lists = {"required_gates": list(self.required_gates), "shadow_gates": list(self.shadow_gates)}
        return {**asdict(self), **lists, "canary": self.canary.to_json()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Plan:
        """Inverse of `to_json`; missing keys take their defaults.

        Raises:
            PlanError: an unknown key, a value of another type, or one out of range.
        """
        known = [known.name for known in fields(cls)]
        if unknown := sorted(set(document) - set(known)):
            raise PlanError(f"plan: unknown key {unknown[0]!r}; known are {', '.join(known)}")
        values = dict(document)
        try:
            values |= {name: tuple(values[name]) for name in ("required_gates", "shadow_gates") if name in values}
            values |= {"limits": Limits.from_json(values["limits"])} if "limits" in values else {}
            values |= {"canary": CanaryPlan.from_json(values["canary"])} if "canary" in values else {}
            return cls(**values)
        except TypeError as error:
            raise PlanError(f"plan: a value has the wrong type ({error}); see the defaults in Plan") from error

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, in hexadecimal."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()
