"""Parameters of the flows, as pydantic models: the Prefect UI shows them as forms."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from hotcold.domain.plan import Plan

ModelName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,60}$")]

_DEFAULT = Plan()


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
