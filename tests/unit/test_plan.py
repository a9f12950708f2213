"""A plan says what is allowed, and its form in the UI is the same plan."""

from __future__ import annotations

import pytest

from hotcold.domain.errors import PlanError
from hotcold.domain.plan import Plan


def test_a_plan_survives_json() -> None:
    plan = Plan(replicas=3, bake_s=5, required_gates=("edge_probe",))
    assert plan == Plan.from_json(plan.to_json())
    assert plan.digest == Plan.from_json(plan.to_json()).digest != Plan().digest


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"speed": 3}, r"unknown key 'speed'; known are strategy"),
        ({"strategy": "canary"}, r"strategy is canary; allowed is blue_green"),
        ({"replicas": 0}, r"replicas is 0; allowed is 1 to 64"),
        ({"replicas": "two"}, r"a value has the wrong type"),
        ({"bake_s": -1}, r"bake_s is -1; allowed is 0 to 86400"),
        ({"bake_s": 60, "max_bake_s": 30}, r"max_bake_s is 30; allowed is at least bake_s \(60\)"),
        ({"on_unknown": "promote"}, r"on_unknown is promote; allowed is hold or roll_back"),
        ({"required_gates": ["luck"]}, r"required_gates is luck; allowed is replica_health, edge_probe"),
        ({"ready_timeout_s": float("nan")}, r"ready_timeout_s is nan"),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused_with_what_is_allowed(document: dict[str, object], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Plan.from_json(document)
