"""Parameters of the flows, as pydantic models: the Prefect UI shows them as forms."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from hotcold.domain.canary.plan import CANARY_GATES, CANARY_NEEDED, CanaryPlan
from hotcold.domain.latency import LATENCY_BUDGETS_MS
from hotcold.domain.plan import SHADOW_GATES, SHADOW_NEEDED, Plan
from hotcold.domain.shadow.limits import Limits
from tasks.form_fields import field_like

ModelName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,60}$")]
ReleaseId = Annotated[str, Field(pattern=r"^[0-9a-f-]{0,36}$")]
ShadowGate = Annotated[str, Field(json_schema_extra={"enum": list(SHADOW_GATES)})]
LatencyBudget = Annotated[float, Field(json_schema_extra={"enum": list(LATENCY_BUDGETS_MS)})]

CanaryGate = Annotated[str, Field(json_schema_extra={"enum": list(CANARY_GATES)})]
SharePct = Annotated[int, Field(ge=1, le=100)]

_DEFAULT, _LIMITS, _CANARY = Plan(), Limits(), CanaryPlan()


class BlueGreenPlan(BaseModel):
    """How a blue-green release proceeds; see `hotcold.domain.plan.Plan`."""

    model_config = ConfigDict(extra="forbid", title="Plan")

    replicas: int = Field(
        _DEFAULT.replicas, ge=1, le=64, description="Replicas of the candidate. All have to be ready before it gets traffic."
    )
    bake_s: float = Field(
        _DEFAULT.bake_s,
        ge=0,
        le=86_400,
        description="Seconds under full traffic, every gate SAFE, before the candidate becomes champion.",
    )
    max_bake_s: float = Field(
        _DEFAULT.max_bake_s,
        ge=0,
        le=86_400,
        description="After so many seconds without the evidence to promote, `on_unknown` decides.",
    )
    on_unknown: Literal["hold", "roll_back"] = Field(
        "hold", description="Without evidence at the end: hold for a person, or roll back."
    )
    ready_timeout_s: float = Field(
        _DEFAULT.ready_timeout_s, gt=0, le=86_400, description="Longest wait, in seconds, until all replicas are ready."
    )
    allow_breaking_schema: bool = Field(
        False, description="Release a version that refuses requests which the champion takes (a major version)."
    )

    def to_plan(self) -> Plan:
        """The plan as the state machine wants it.

        Raises:
            PlanError: the values contradict each other.
        """
        return Plan.from_json(self.model_dump())


class Tolerated(BaseModel):
    """How much worse or different the candidate may be; see `hotcold.domain.shadow.limits.Limits`."""

    model_config = ConfigDict(extra="forbid", title="Limits")

    threshold: float = field_like(_LIMITS, "threshold")
    score_change: float = field_like(_LIMITS, "score_change", gt=0)
    score_scale: float = field_like(_LIMITS, "score_scale", gt=0)
    flips_per_1000: float = field_like(_LIMITS, "flips_per_1000", gt=0, lt=999)
    error_pct: float = field_like(_LIMITS, "error_pct", gt=0, lt=100)
    slow_pct: float = field_like(_LIMITS, "slow_pct", gt=0, lt=100)
    lost_pct: float = field_like(_LIMITS, "lost_pct", gt=0, lt=100)
    unpaired_pct: float = field_like(_LIMITS, "unpaired_pct", ge=0, lt=100)
    log_loss: float = field_like(_LIMITS, "log_loss", gt=0, lt=0.99)
    lost_labels_pct: float = field_like(_LIMITS, "lost_labels_pct", gt=50, lt=100)
    p99_ratio: float = field_like(_LIMITS, "p99_ratio", ge=1, lt=1000)
    cost_per_flip: float | None = field_like(_LIMITS, "cost_per_flip", ge=0)
    alpha: float = field_like(_LIMITS, "alpha", gt=0, lt=0.5)


class ShadowPlan(BaseModel):
    """How a candidate is evaluated on copies of live requests; see `hotcold.domain.plan.Plan`."""

    model_config = ConfigDict(extra="forbid", title="Shadow plan")

    mirror_pct: float = Field(
        _DEFAULT.mirror_pct,
        gt=0,
        le=100,
        description="Share of the live requests that are copied to the candidate, in percent.",
    )
    shadow_min_s: float = Field(
        _DEFAULT.shadow_min_s, ge=0, le=604_800, description="Shortest time under copies, in seconds, before it is found SAFE."
    )
    shadow_max_s: float = Field(
        _DEFAULT.shadow_max_s, gt=0, le=604_800, description="After so many seconds without a verdict, it is UNKNOWN."
    )
    shadow_min_pairs: int = Field(
        _DEFAULT.shadow_min_pairs, ge=0, le=10**9, description="Fewest requests with an answer by both before it is found SAFE."
    )
    shadow_gates: list[ShadowGate] = Field(
        list(SHADOW_NEEDED), min_length=1, description="What has to be SAFE. Any gate that says HARM ends it all the same."
    )
    latency_budget_ms: LatencyBudget = Field(
        _DEFAULT.latency_budget_ms, description="An answer that takes as long or longer is slow."
    )
    replicas: int = Field(_DEFAULT.replicas, ge=1, le=64, description="Replicas of the candidate.")
    ready_timeout_s: float = Field(
        _DEFAULT.ready_timeout_s, gt=0, le=86_400, description="Longest wait, in seconds, until all replicas are ready."
    )
    allow_breaking_schema: bool = Field(
        False, description="Evaluate a version that refuses requests which the champion takes (a major version)."
    )
    limits: Tolerated = Field(default_factory=Tolerated, description="How much worse or different the candidate may be.")

    def to_plan(self) -> Plan:
        """The plan as the state machine wants it.

        Raises:
            PlanError: the values contradict each other.
        """
        return Plan.from_json({"strategy": "shadow", **self.model_dump()})


class CanarySteps(BaseModel):
    """How the candidate's share grows; see `hotcold.domain.canary.plan.CanaryPlan`."""

    model_config = ConfigDict(extra="forbid", title="Steps")

    steps: list[SharePct] = Field(
        list(_CANARY.steps), min_length=1, description="The candidate's share at each step, in percent, rising. 100 follows."
    )
    step_min_s: float = Field(
        _CANARY.step_min_s, ge=0, le=604_800, description="Shortest time at a share that the edge has confirmed, in seconds."
    )
    step_min_requests: int = Field(
        _CANARY.step_min_requests, ge=0, le=10**9, description="Fewest answers of the candidate in a step."
    )
    step_max_s: float = Field(
        _CANARY.step_max_s,
        gt=0,
        le=604_800,
        description="After so many seconds at a share without the evidence to go on, `on_unknown` decides.",
    )
    gates: list[CanaryGate] = Field(
        list(CANARY_NEEDED),
        min_length=1,
        description="What has to be SAFE before a step ends. Any gate that says HARM ends it all the same.",
    )
    approvals: list[SharePct] = Field(
        [], description="Shares that are entered only when a person agrees; 100 is all the traffic."
    )
    answer_s: float = Field(_CANARY.answer_s, gt=0, le=604_800, description="How long a person may take to answer, in seconds.")
    on_no_answer: Literal["hold", "roll_back", "promote"] = Field(
        "hold", description="Without an answer: go on asking, roll back, or promote."
    )


class PromotionPlan(ShadowPlan):
    """How a version is promoted; see `hotcold.domain.plan.Plan`."""

    model_config = ConfigDict(extra="forbid", title="Promotion plan")

    strategy: Literal["canary", "blue_green"] = Field(
        "canary", description="canary: a growing share of the entities, step by step. blue_green: all traffic at once."
    )
    shadow_first: bool = Field(
        True, description="Compare on copies of live requests first; only a version that is SAFE there gets live requests."
    )
    canary: CanarySteps = Field(default_factory=CanarySteps, description="Steps, their evidence, and who is asked.")
    bake_s: float = Field(
        _DEFAULT.bake_s, ge=0, le=86_400, description="Seconds under full traffic before the candidate becomes champion."
    )
    max_bake_s: float = Field(
        _DEFAULT.max_bake_s, ge=0, le=86_400, description="After so many seconds without evidence, `on_unknown` decides."
    )
    on_unknown: Literal["hold", "roll_back"] = Field(
        "hold", description="Without the evidence to go on at the end of a step: ask a person, or roll back."
    )

    def to_plan(self) -> Plan:
        """The plan as the state machine wants it.

        Raises:
            PlanError: the values contradict each other.
        """
        return Plan.from_json(self.model_dump())
