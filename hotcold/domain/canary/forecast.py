"""How long a step takes until a rise of errors is told: said before the release starts, so that nobody trusts it too much."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hotcold.domain.canary.judgement import edge_errors_test, error_ratio_test
from hotcold.domain.canary.limits import CanaryLimits
from hotcold.domain.errors import PlanError
from hotcold.domain.evidence.arguments import threshold
from hotcold.domain.scoring_progress import describe_seconds
from hotcold.domain.shadow.limits import Limits
from hotcold.domain.shadow.tables import Table

RISES = (2, 3, 10)
# A rise that is smaller than a disaster; a plan that would not tell it lets bad versions through.
_SERIOUS = 3
# How finely the answers of a second are divided.
_PARTS = 20_000
_MOST_ANSWERS = 200


@dataclass(frozen=True)
class Traffic:
    """What a forecast assumes.

    Args:
        requests_per_s: scoring requests, both sides together.
        error_rate: share of the champion's answers that fail, in (0, 1).
        entities_per_s: entities that were not seen before; None: as many as requests. Where the same ones come again and again,
            the error ratio learns little from them.

    Raises:
        PlanError: a rate that makes no sense.
    """

    requests_per_s: float
    error_rate: float = 0.01
    entities_per_s: float | None = None

    def __post_init__(self) -> None:
        self._require(0 < self.requests_per_s < math.inf, "requests_per_s", "more than 0, finite")
        self._require(0 < self.error_rate < 1, "error_rate", "more than 0, less than 1")
        known = self.entities_per_s is None or 0 < self.entities_per_s <= self.requests_per_s
        self._require(known, "entities_per_s", f"more than 0, at most requests_per_s ({self.requests_per_s:g})")

    def _require(self, holds: bool, name: str, allowed: str) -> None:
        if not holds:
            raise PlanError(f"forecast: {name} is {getattr(self, name)}; allowed is {allowed}")

    @property
    def observed_per_s(self) -> float:
        """Entities that may count, per second."""
        return self.requests_per_s if self.entities_per_s is None else self.entities_per_s

    def failing(self, rise: float) -> float:
        """Share of the candidate's answers that fail after a rise."""
        return min(rise * self.error_rate, 1.0)


@dataclass(frozen=True)
class StepForecast:
    """One step.

    Args:
        share_pct: of the candidate, percent.
        lasts_s: shortest time of the step, seconds.
        told_s: by rise of the candidate's errors, seconds until it is told from this step's evidence alone; None: it never is.
    """

    share_pct: int
    lasts_s: float
    told_s: Mapping[int, float | None]


@dataclass(frozen=True)
class Forecast:
    """What a plan can tell at the present traffic.

    Args:
        traffic: assumed.
        steps: in order.
        told: rises that would be told by the end of the last step, if each lasts no longer than it has to.
        warning: one sentence; empty if a serious rise is told.
    """

    traffic: Traffic
    steps: tuple[StepForecast, ...]
    told: tuple[int, ...]
    warning: str


def forecast_canary(
    traffic: Traffic,
    shares_pct: Sequence[int],
    limits: Limits,
    more: CanaryLimits | None = None,
    step_min_s: float = 300.0,
    step_min_requests: int = 200,
) -> Forecast:
    """Forecast what the steps of a canary can tell.

    Args:
        traffic: at present.
        shares_pct: the candidate's share at each step; 0 and 100 compare nothing and are left out.
        limits: of the plan.
        more: the rest of them; None for the defaults.
        step_min_s: shortest time of a step, seconds.
        step_min_requests: fewest answers of the candidate in a step.

    Raises:
        PlanError: no step is left.
    """
    more = more or CanaryLimits()
    shares = [share_pct for share_pct in shares_pct if 0 < share_pct < 100]
    if not shares:
        raise PlanError("forecast: no step gives the candidate a share between 0 and 100 %, so nothing is compared; add steps")
    steps = tuple(_forecast_step(traffic, share_pct, limits, more, step_min_s, step_min_requests) for share_pct in shares)
    told = tuple(rise for rise in RISES if _told_by_end(rise, traffic, steps, limits, more))
    return Forecast(traffic, steps, told, _warn(told, steps))


def _forecast_step(
    traffic: Traffic, share_pct: int, limits: Limits, more: CanaryLimits, step_min_s: float, step_min_requests: int
) -> StepForecast:
    of_candidate = traffic.requests_per_s * share_pct / 100
    told = {rise: _told_s(rise, traffic, share_pct, limits, more) for rise in RISES}
    return StepForecast(share_pct, max(step_min_s, step_min_requests / of_candidate), told)


def _told_s(rise: int, traffic: Traffic, share_pct: int, limits: Limits, more: CanaryLimits) -> float | None:
    """By the first of the two gates that tell of errors."""
    ratio = traffic.failing(rise) / traffic.error_rate
    entities = error_ratio_test(limits, more).requests_to_tell(ratio, traffic.error_rate, share_pct)
    by_ratio = None if entities is None or ratio <= 1 else entities / traffic.observed_per_s
    by_rate = _told_by_rate_s(traffic.failing(rise), traffic.requests_per_s * share_pct / 100, limits)
    return min((seconds for seconds in (by_ratio, by_rate) if seconds is not None), default=None)


def _told_by_rate_s(failing: float, answers_per_s: float, limits: Limits) -> float | None:
    """Seconds until the edge's failures are above what is allowed; None if they are not."""
    if failing <= limits.error_pct / 100:
        return None
    test = edge_errors_test(limits)
    seconds = test.observations_to_tell(test.count(_shares_of_seconds(failing, answers_per_s)))
    # On little traffic, not every second has an answer.
    return None if seconds is None else seconds / -math.expm1(-answers_per_s)


def _shares_of_seconds(failing: float, answers_per_s: float) -> NDArray[np.float64]:
    """Shares of failed answers as they come in many seconds, each with the average number of answers, one at least."""
    answers = int(min(max(round(answers_per_s), 1), _MOST_ANSWERS))
    failed = np.arange(answers + 1)
    below = special.bdtr(failed, answers, failing)
    times = np.diff(np.rint(_PARTS * below), prepend=0.0).astype(np.int64)
    return np.repeat(failed / answers, times)


def _told_by_end(rise: int, traffic: Traffic, steps: Sequence[StepForecast], limits: Limits, more: CanaryLimits) -> bool:
    """By the evidence of all steps together, or by that of one."""
    if any(step.told_s[rise] is not None and step.told_s[rise] <= step.lasts_s for step in steps):  # type: ignore[operator]
        return True
    failures: dict[int, tuple[float, float]] = {}
    for step in steps:
        share, seen = step.share_pct / 100, step.lasts_s * traffic.observed_per_s
        failures[step.share_pct] = (seen * share * traffic.failing(rise), seen * (1 - share) * traffic.error_rate)
    return error_ratio_test(limits, more).log_harm(failures) >= threshold(limits.alpha / 2)


def _warn(told: Sequence[int], steps: Sequence[StepForecast]) -> str:
    if _SERIOUS in told:
        return ""
    lasts = describe_seconds(sum(step.lasts_s for step in steps))
    if not told:
        return (
            f"In {lasts}, this plan cannot even tell that errors have risen {RISES[-1]} times: make its steps longer, its"
            " shares larger, or compare with copies of the requests first"
        )
    return (
        f"This plan can only catch disasters: in {lasts} it tells that errors have risen {told[0]} times, but not"
        f" {_SERIOUS} times; make its steps longer or its shares larger to see more"
    )


def forecast_table(forecast: Forecast) -> Table:
    """A row for each step; a time that the step does not last, unless it is made longer, is said to be so."""
    columns = ("step", "lasts at least", *(f"{rise}x errors told after" for rise in RISES))
    rows = tuple(
        (f"{step.share_pct} %", describe_seconds(step.lasts_s), *(_told(step, rise) for rise in RISES))
        for step in forecast.steps
    )
    traffic = forecast.traffic
    caption = f"At {traffic.requests_per_s:g} requests/s, of which {100 * traffic.error_rate:g} % fail"
    return Table(caption, columns, rows, 1)


def _told(step: StepForecast, rise: int) -> str:
    seconds = step.told_s[rise]
    if seconds is None:
        return "not by errors alone"
    return describe_seconds(seconds) if seconds <= step.lasts_s else f"{describe_seconds(seconds)}, longer than the step"
