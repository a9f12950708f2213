"""The remembered plan: it comes back as it was, and trouble with its file is never an agent's end."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotcold.adapters.plan_memory import PlanMemory
from hotcold.domain.package import PackageRef
from hotcold.domain.serving import ModelPlan, Route, Slot, SlotPlan

FULL = ModelPlan(
    "flights",
    Route(30, champion=Slot.BLUE, previous=Slot.GREEN, generation=7, epoch=3),
    SlotPlan(PackageRef("flights", 1, "1.0.0", "a" * 64), 2),
    SlotPlan(PackageRef("flights", 2, "1.1.0", "b" * 64), 1),
)


@pytest.mark.parametrize("plans", [(), (FULL,), (ModelPlan("empty"), FULL)])
def test_plans_come_back_as_they_were(plans: tuple[ModelPlan, ...], tmp_path: Path) -> None:
    PlanMemory(tmp_path / "run" / "plans.json").write(plans)
    assert plans == PlanMemory(tmp_path / "run" / "plans.json").read()


def test_without_a_file_nothing_is_remembered(tmp_path: Path) -> None:
    assert () == PlanMemory(tmp_path / "plans.json").read()


@pytest.mark.parametrize("content", [b"", b"[{", b"{}{}", b"[1]", b'[{"model": "m"}]', b"\xff\xfe", b'{"a": 1}'])
def test_a_file_that_cannot_be_used_is_forgotten(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "plans.json"
    path.write_bytes(content)
    assert () == PlanMemory(path).read()


def test_a_folder_that_cannot_be_written_is_said_once_and_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "run").write_text("in the way")
    memory = PlanMemory(tmp_path / "run" / "plans.json")
    memory.write((FULL,))
    memory.write((FULL,))
    assert 1 == len(caplog.records)
    (tmp_path / "run").unlink()
    memory.write((FULL,))
    assert (FULL,) == memory.read()
