"""How a release proceeds while its candidate gets copies of live requests."""

from __future__ import annotations

from dataclasses import replace

from hotcold.domain.gate import Verdict, first_harm, missing_evidence
from hotcold.domain.release_moves import digest_of, enter, fails_alone, go_on, hold, is_left_alone, take_back
from hotcold.domain.release_state import Observation, Phase, Release, moves_traffic, phases_of


def watch_copies(release: Release, seen: Observation) -> Release:
    """Go on copying until there is a verdict, or the plan's time is over."""
    plan = release.plan
    if reason := _end_of_candidate(release, seen):
        return _conclude(release, Verdict.HARM, reason)
    if harm := first_harm(seen.gates):
        return _conclude(release, Verdict.HARM, harm.sentence)
    if release.quiet_s >= plan.route_timeout_s:
        return _give_up(release, seen)
    lacking = _lacking(release, seen)
    if not lacking and release.in_phase_s >= plan.shadow_min_s:
        return _conclude(release, Verdict.SAFE, f"every gate is SAFE: {', '.join(plan.shadow_gates)}")
    if release.in_phase_s < plan.shadow_max_s:
        return release
    return _conclude(release, Verdict.UNKNOWN, f"{lacking} within {plan.shadow_max_s:g} s")


def close_evaluation(release: Release, seen: Observation) -> Release:
    """End once nothing is copied any more."""
    return enter(release, Phase.EVALUATED, release.reason) if is_left_alone(release, seen) else release


def _conclude(release: Release, verdict: Verdict, reason: str) -> Release:
    """An evaluation ends here; on the way to live traffic, SAFE goes on, HARM ends it, and the plan decides on UNKNOWN."""
    found = replace(release, verdict=verdict)
    if not moves_traffic(release.plan):
        return replace(enter(found, Phase.CLOSING, reason), verdict=verdict)
    if verdict is Verdict.HARM:
        return take_back(found, reason)
    if verdict is Verdict.SAFE:
        return replace(go_on(found), reason=reason)
    unknown = f"the copies did not tell: {reason}"
    if release.plan.on_unknown == "roll_back":
        return take_back(found, unknown)
    if Phase.CANARY not in phases_of(release.plan):
        return hold(found, unknown)
    return replace(go_on(found), waiting=unknown, reason=unknown)


def _lacking(release: Release, seen: Observation) -> str:
    """What is not there yet for the verdict SAFE; empty if nothing is."""
    plan = release.plan
    if missing := missing_evidence(seen.gates, plan.shadow_gates):
        return f"no evidence from {', '.join(missing)}"
    if (seen.pairs or 0) < plan.shadow_min_pairs:
        return f"{seen.pairs or 0} of {plan.shadow_min_pairs} pairs"
    return "" if seen.edge_mirror == release.mirror_pct else "no confirmation of the copies by the edge"


def _end_of_candidate(release: Release, seen: Observation) -> str:
    """Why there is no candidate left to compare; empty while there is one or it is not known.

    Without a death it may be the edge that does not see its replicas for a moment.
    """
    slot = seen.candidate
    if slot is None or slot.digest != digest_of(release):
        return ""
    return slot.failure or ("no replica of the candidate is ready" if slot.restarts and fails_alone(release, seen) else "")


def _give_up(release: Release, seen: Observation) -> Release:
    limit = f"within {release.plan.route_timeout_s:g} s"
    if fails_alone(release, seen):
        return _conclude(release, Verdict.HARM, f"no replica of the candidate answered {limit}")
    return _conclude(release, Verdict.UNKNOWN, f"the edge did not confirm the copies {limit}")
