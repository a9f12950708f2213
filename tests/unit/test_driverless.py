"""What becomes of a release whose driver is gone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotcold.domain.driverless import GOES_ON, MOST_TAKEOVERS_PER_H, Care, care_for
from hotcold.domain.plan import STRATEGIES, Plan
from hotcold.domain.release import FINAL, Phase, Release, guard
from hotcold.domain.serving import Slot, SlotStatus

NOW, GONE, ALIVE = 1000.0, 999.0, 1001.0
RELEASE = Release("r", "m", 2, Plan(), Slot.GREEN, None, phase=Phase.SMOKE)


def care(release: Release, lease: float = GONE, takeovers: int = 0) -> Care:
    return care_for(release, lease, takeovers, NOW)[0]


def test_a_release_that_is_driven_is_left_alone() -> None:
    assert Care.LEAVE is care(RELEASE, ALIVE)


@pytest.mark.parametrize("phase", sorted(FINAL | {Phase.ROLLING_BACK, Phase.CLOSING}))
def test_what_has_ended_or_is_brought_to_its_end_by_the_agent_is_left_alone(phase: Phase) -> None:
    assert Care.LEAVE is care(replace(RELEASE, phase=phase))


@pytest.mark.parametrize("phase", [Phase.PACKAGING, Phase.DEPLOYING, Phase.SMOKE, Phase.SHADOW, Phase.CUTOVER, Phase.BAKING])
def test_a_release_without_a_driver_goes_on(phase: Phase) -> None:
    assert Care.RESUME is care(replace(RELEASE, phase=phase))


def test_what_waits_for_a_person_is_left_alone() -> None:
    assert Care.LEAVE is care(replace(RELEASE, phase=Phase.HELD, reason="no evidence from edge_probe within 300 s"))


@pytest.mark.parametrize("champion", [None, SlotStatus("d", 0, 1), SlotStatus("d", 1, 1)])
@pytest.mark.parametrize("phase", [Phase.BAKING, Phase.SHADOW])
def test_what_an_agent_held_because_the_driver_was_gone_goes_on(phase: Phase, champion: SlotStatus | None) -> None:
    held, _ = guard(replace(RELEASE, phase=phase, split=100), champion, 100)
    assert (Phase.HELD, Care.RESUME) == (held.phase, care(held))


def test_a_release_that_loses_its_driver_again_and_again_is_ended() -> None:
    assert Care.RESUME is care(RELEASE, takeovers=MOST_TAKEOVERS_PER_H - 1)
    assert Care.END is care(RELEASE, takeovers=MOST_TAKEOVERS_PER_H)


def test_but_not_if_that_would_move_live_traffic() -> None:
    told, why = care_for(replace(RELEASE, phase=Phase.BAKING, split=100), GONE, MOST_TAKEOVERS_PER_H, NOW)
    assert told is Care.TELL
    assert "hotcold rollback m" in why


def test_every_strategy_has_a_deployment_that_goes_on_with_it() -> None:
    assert set(STRATEGIES) <= GOES_ON.keys()
