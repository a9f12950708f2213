"""A forecast says how long a rise of errors stays unseen, and warns of plans that see disasters only."""

from __future__ import annotations

import pytest

from hotcold.adapters.canary_markdown import forecast_markdown
from hotcold.domain.canary.forecast import Traffic, forecast_canary
from hotcold.domain.errors import PlanError
from hotcold.domain.shadow.limits import Limits

STEPS = (5, 10, 25, 50)
BUSY, QUIET = Traffic(50.0, 0.01), Traffic(0.5, 0.01)


def test_larger_rises_larger_shares_and_more_traffic_are_told_sooner() -> None:
    busy, quiet = forecast_canary(BUSY, STEPS, Limits()), forecast_canary(QUIET, STEPS, Limits())
    for step, slow in zip(busy.steps, quiet.steps, strict=True):
        two, three, ten = (step.told_s[rise] or float("inf") for rise in (2, 3, 10))
        assert ten < three <= two
        assert ten < (slow.told_s[10] or float("inf"))
    told = [step.told_s[10] or float("inf") for step in busy.steps]
    assert told == sorted(told, reverse=True)


def test_the_edge_tells_of_a_disaster_within_seconds_and_of_what_is_allowed_never() -> None:
    at_5_pct = forecast_canary(Traffic(50.0, 0.1), (5,), Limits()).steps[0]
    assert (at_5_pct.told_s[10] or 999.0) < 10
    # One answer in 10,000 fails: ten times that is below what the edge allows, so only the ratio can tell.
    rare = forecast_canary(Traffic(50.0, 0.0001), (5,), Limits()).steps[0]
    assert (rare.told_s[10] or 0.0) > 600


def test_entities_that_come_again_make_the_ratio_slow() -> None:
    again = forecast_canary(Traffic(50.0, 0.001, entities_per_s=0.5), (50,), Limits()).steps[0]
    fresh = forecast_canary(Traffic(50.0, 0.001), (50,), Limits()).steps[0]
    assert (again.told_s[3] or 0.0) > 50 * (fresh.told_s[3] or float("inf"))


def test_a_plan_on_little_traffic_is_warned_of_and_one_on_enough_is_not() -> None:
    good = forecast_canary(BUSY, STEPS, Limits(), step_min_s=1200.0)
    assert ("", True) == (good.warning, {3, 10} <= set(good.told))
    disasters = forecast_canary(Traffic(5.0, 0.01), (5,), Limits(), step_min_s=1200.0)
    assert (10,) == disasters.told
    assert "can only catch disasters: in 40 min" not in disasters.warning
    assert "can only catch disasters" in disasters.warning
    nothing = forecast_canary(QUIET, (5,), Limits(), step_min_s=60.0, step_min_requests=0)
    assert ((), True) == (nothing.told, "cannot even tell" in nothing.warning)


def test_a_step_lasts_until_its_requests_have_come() -> None:
    assert 800.0 == forecast_canary(Traffic(5.0), (5,), Limits(), step_min_requests=200).steps[0].lasts_s


def test_the_page_shows_warning_and_steps() -> None:
    page = forecast_markdown(forecast_canary(QUIET, (5, 50), Limits()))
    assert "⚠ " in page
    assert "| 5 % |" in page
    assert "10x errors told after" in page


@pytest.mark.parametrize("rates", [(0.0, 0.01), (1.0, 0.0), (1.0, 1.0), (1.0, 0.1, 2.0)])
def test_traffic_that_cannot_be_is_refused(rates: tuple[float, ...]) -> None:
    with pytest.raises(PlanError, match="forecast: "):
        Traffic(*rates)


def test_a_plan_without_a_comparison_is_refused() -> None:
    with pytest.raises(PlanError, match="no step gives"):
        forecast_canary(BUSY, (0, 100), Limits())
