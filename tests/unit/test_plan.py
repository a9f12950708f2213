"""A plan says what is allowed, and its form in the UI is the same plan."""

from __future__ import annotations

import pytest

from hotcold.domain.errors import PlanError
from hotcold.domain.plan import Plan


def test_a_plan_survives_json() -> None:
    plan = Plan(replicas=3, bake_s=5, required_gates=("edge_probe",), shadow_gates=("error_rate",), mirror_pct=0.5)
    assert plan == Plan.from_json(plan.to_json())
    assert plan.digest == Plan.from_json(plan.to_json()).digest != Plan().digest


@pytest.mark.parametrize("budget_ms", [5, 10, 20, 25, 50, 100, 200, 250, 500, 1000])
def test_the_usual_latency_budgets_can_be_counted(budget_ms: float) -> None:
    assert budget_ms == Plan(latency_budget_ms=budget_ms).latency_budget_ms


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"speed": 3}, r"unknown key 'speed'; known are strategy"),
        ({"strategy": "luck"}, r"strategy is luck; allowed is blue_green or shadow or canary"),
        ({"canary": {"steps": []}}, r"canary: steps is empty; allowed is one or more whole percentages from 1 to 100"),
        ({"canary": {"steps": [10, 5]}}, r"canary: steps is 10, 5; allowed is one or more whole percentages"),
        ({"canary": {"steps": [5, 5]}}, r"canary: steps is 5, 5"),
        ({"canary": {"steps": [5, 101]}}, r"canary: steps is 5, 101"),
        ({"canary": {"steps": [0, 5]}}, r"canary: steps is 0, 5"),
        ({"canary": {"steps": [5.5]}}, r"canary: steps is 5.5"),
        ({"canary": {"steps": 5}}, r"canary: a value has the wrong type"),
        ({"canary": [5]}, r"canary is list; allowed is an object"),
        ({"canary": {"luck": 1}}, r"canary: unknown key 'luck'; known are steps"),
        ({"canary": {"gates": ["luck"]}}, r"canary: gates is luck; allowed is one or more of replica_health, error_rate"),
        ({"canary": {"gates": []}}, r"canary: gates is empty"),
        ({"canary": {"approvals": [7]}}, r"canary: approvals is 7; allowed is shares of 5, 10, 25, 50, or 100"),
        ({"canary": {"step_min_s": 60, "step_max_s": 30}}, r"canary: step_max_s is 30; allowed is at least step_min_s \(60\)"),
        ({"canary": {"answer_s": 0}}, r"canary: answer_s is 0"),
        ({"canary": {"on_no_answer": "luck"}}, r"canary: on_no_answer is luck; allowed is hold, roll_back, promote"),
        ({"replicas": 0}, r"replicas is 0; allowed is 1 to 64"),
        ({"replicas": "two"}, r"a value has the wrong type"),
        ({"bake_s": -1}, r"bake_s is -1; allowed is 0 to 86400"),
        ({"bake_s": 60, "max_bake_s": 30}, r"max_bake_s is 30; allowed is at least bake_s \(60\)"),
        ({"on_unknown": "promote"}, r"on_unknown is promote; allowed is hold or roll_back"),
        ({"required_gates": ["luck"]}, r"required_gates is luck; allowed is replica_health, edge_probe"),
        ({"ready_timeout_s": float("nan")}, r"ready_timeout_s is nan"),
        ({"mirror_pct": 0}, r"mirror_pct is 0; allowed is more than 0, at most 100"),
        ({"mirror_pct": 100.5}, r"mirror_pct is 100.5"),
        ({"mirror_pct": 0.00001}, r"with at most four decimals"),
        ({"shadow_min_s": -1}, r"shadow_min_s is -1"),
        ({"shadow_min_s": 60, "shadow_max_s": 30}, r"shadow_max_s is 30; allowed is at least shadow_min_s \(60\)"),
        ({"shadow_min_s": 0, "shadow_max_s": 0}, r"shadow_max_s is 0; .*more than 0"),
        ({"shadow_max_s": float("inf")}, r"shadow_max_s is inf"),
        ({"shadow_min_pairs": -1}, r"shadow_min_pairs is -1"),
        ({"shadow_gates": ["luck"]}, r"shadow_gates is luck; allowed is one or more of replica_health, copies"),
        ({"shadow_gates": []}, r"shadow_gates is ; allowed is one or more"),
        ({"shadow_gates": 3}, r"a value has the wrong type"),
        ({"latency_budget_ms": 60}, r"latency_budget_ms is 60; allowed is 0.1, 0.15, .* 50, 70, 100, .* 1000, 2000, 5000"),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused_with_what_is_allowed(document: dict[str, object], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Plan.from_json(document)
