"""What is to become of a release that nobody drives any more."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from hotcold.domain.release_state import LOST_CONTROLLER, Phase, Release

# A release that lost its drivers so often within an hour is more likely the reason for it than their victim.
MOST_TAKEOVERS_PER_H = 3
# Deployments whose runs go on with a release, by its strategy. Each takes `model`, `version` and `continues`.
GOES_ON: Mapping[str, str] = {
    "blue_green": "cut-over/cut-over",
    "shadow": "evaluate-shadow/evaluate-shadow",
    "canary": "promote-model/promote-model",
}


class Care(StrEnum):
    """What to do for a release."""

    LEAVE = "leave"
    RESUME = "resume"
    END = "end"
    TELL = "tell"


def care_for(release: Release, lease_expires_at: float, takeovers_last_h: int, now: float) -> tuple[Care, str]:
    """Decide what is to be done for a release under way.

    One that the state machine holds waits for a person and is left alone; one that an agent held for want of a driver waits for
    one. What is on its way back (`rolling_back`, `closing`) the agent brings to its end.

    Args:
        release: its present state.
        lease_expires_at: until when its driver is taken for alive, seconds since the epoch.
        takeovers_last_h: how often another driver took it over within the last hour.
        now: seconds since the epoch.

    Returns:
        What to do, and why, as one clause for people.
    """
    if lease_expires_at > now:
        return Care.LEAVE, "it is being driven"
    if reason := _needs_no_driver(release):
        return Care.LEAVE, reason
    if release.plan.strategy not in GOES_ON:
        return Care.TELL, f"no deployment goes on with the strategy {release.plan.strategy}; end it with `hotcold rollback`"
    if takeovers_last_h < MOST_TAKEOVERS_PER_H:
        return Care.RESUME, "its driver is gone"
    lost = f"it lost its driver {takeovers_last_h + 1} times within an hour"
    if release.split:
        # Whoever ended it would move live traffic, for a reason that is not the candidate's answers.
        return (
            Care.TELL,
            f"{lost} while it has live traffic; see its runs, then resume it or `hotcold rollback {release.model}`",
        )
    return Care.END, lost


def _needs_no_driver(release: Release) -> str:
    """Why; empty if it needs one."""
    if not release.active:
        return "it has ended"
    if release.phase in (Phase.ROLLING_BACK, Phase.CLOSING):
        return "the agent brings it to its end"
    if release.phase is Phase.HELD and not release.reason.startswith(LOST_CONTROLLER):
        return f"it waits for a person: {release.reason}"
    return ""
