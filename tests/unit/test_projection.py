"""What the registry shows is derived from the release database."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotcold.domain.gate import Verdict
from hotcold.domain.package import PackageRef
from hotcold.domain.plan import Plan
from hotcold.domain.projection import project
from hotcold.domain.release import Phase, Release
from hotcold.domain.serving import ModelPlan, Route, Slot, SlotPlan


def package(version: int) -> PackageRef:
    return PackageRef("m", version, f"1.{version}.0", f"{version}" * 64)


def release(version: int, phase: Phase, reason: str = "", packaged: bool = True) -> Release:
    candidate = package(version) if packaged else None
    return Release(f"id{version}", "m", version, Plan(), Slot.GREEN, None, candidate=candidate, phase=phase, reason=reason)


def test_roles_follow_the_route_and_the_release_under_way() -> None:
    plan = ModelPlan("m", Route(100, Slot.GREEN, Slot.BLUE), SlotPlan(package(2), 1), SlotPlan(package(3), 1))
    story = [
        release(4, Phase.BAKING),
        release(3, Phase.PROMOTED),
        release(2, Phase.PROMOTED),
        release(1, Phase.ROLLED_BACK, "slow"),
    ]
    view = project(plan, story)
    assert (3, 2, 4, (1,)) == (view.champion, view.previous, view.candidate, view.archived)
    assert "rolled_back: slow (release id1)" == view.verdicts[1]


def test_a_version_that_was_never_packaged_is_not_archived() -> None:
    view = project(ModelPlan("m"), [release(1, Phase.REJECTED, "no schema", packaged=False)])
    assert (None, None, None, ()) == (view.champion, view.previous, view.candidate, view.archived)
    assert "rejected: no schema (release id1)" == view.verdicts[1]


@pytest.mark.parametrize(("verdict", "waiting"), [(Verdict.SAFE, (2,)), (Verdict.UNKNOWN, (2,)), (Verdict.HARM, ())])
def test_a_version_that_was_only_evaluated_is_not_archived_and_waits_unless_it_does_harm(
    verdict: Verdict, waiting: tuple[int, ...]
) -> None:
    plan = ModelPlan("m", Route(0, Slot.BLUE), SlotPlan(package(1), 1))
    evaluated = replace(release(2, Phase.EVALUATED, "because"), verdict=verdict)
    view = project(plan, [evaluated, release(1, Phase.PROMOTED)])
    assert (1, None, (), waiting) == (view.champion, view.candidate, view.archived, view.waiting)
    assert f"evaluated {verdict}: because (release id2)" == view.verdicts[2]
    # What was released before it was evaluated again stays archived.
    assert (2,) == project(plan, [evaluated, release(2, Phase.ROLLED_BACK)]).archived
