"""What the registry should show of a model, derived from the release database, which is the truth for traffic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hotcold.domain.release import Phase, Release
from hotcold.domain.serving import ModelPlan, Slot


@dataclass(frozen=True)
class Projection:
    """Versions by role, as the registry should name them.

    Args:
        model: registered model name.
        champion: version that serves.
        previous: version before, kept warm.
        candidate: version being released; None while no release is under way.
        archived: versions that were released and are no longer served.
        verdicts: for each released version, the outcome of its last release: `<phase>: <reason> (release <id>)`.
    """

    model: str
    champion: int | None
    previous: int | None
    candidate: int | None
    archived: tuple[int, ...]
    verdicts: dict[int, str]


def project(plan: ModelPlan, releases: Sequence[Release]) -> Projection:
    """Derive the registry's view.

    Args:
        plan: desired state of the model.
        releases: its releases, newest first.
    """
    champion = _version(plan, plan.route.champion)
    previous = _version(plan, plan.route.previous)
    active = next((release for release in releases if release.active), None)
    candidate = active.version if active else None
    kept = {champion, previous, candidate}
    # A version that never got as far as a slot was not archived by anybody; it may be fixed and tried again.
    served = [release.version for release in releases if not release.active and release.candidate is not None]
    verdicts: dict[int, str] = {}
    for release in releases:
        verdicts.setdefault(release.version, _verdict(release))
    return Projection(
        model=plan.model,
        champion=champion,
        previous=previous,
        candidate=candidate,
        archived=tuple(sorted(set(served) - kept)),
        verdicts=verdicts,
    )


def _version(plan: ModelPlan, slot: Slot | None) -> int | None:
    package = plan.slot(slot).package if slot else None
    return package.version if package else None


def _verdict(release: Release) -> str:
    reason = f": {release.reason}" if release.reason and release.phase is not Phase.PROMOTED else ""
    return f"{release.phase.value}{reason} (release {release.id[:8]})"
