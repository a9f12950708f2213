"""What the registry should show of a model, derived from the release database, which is the truth for traffic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hotcold.domain.gate import Verdict
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
        waiting: versions that were evaluated without harm, and wait for a release as a freshly trained one does.
    """

    model: str
    champion: int | None
    previous: int | None
    candidate: int | None
    archived: tuple[int, ...]
    verdicts: dict[int, str]
    waiting: tuple[int, ...] = ()


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
    # A version that never got as far as a slot was not archived by anybody; it may be fixed and tried again. Nor was one that
    # was only evaluated.
    ended = [release for release in releases if not release.active and release.phase is not Phase.EVALUATED]
    served = [release.version for release in ended if release.candidate is not None]
    latest: dict[int, Release] = {}
    for release in releases:
        latest.setdefault(release.version, release)
    return Projection(
        model=plan.model,
        champion=champion,
        previous=previous,
        candidate=candidate,
        archived=tuple(sorted(set(served) - kept)),
        verdicts={version: _verdict(release) for version, release in latest.items()},
        waiting=tuple(sorted(version for version, release in latest.items() if _waits(release))),
    )


def _version(plan: ModelPlan, slot: Slot | None) -> int | None:
    package = plan.slot(slot).package if slot else None
    return package.version if package else None


def _waits(release: Release) -> bool:
    return release.phase is Phase.EVALUATED and release.verdict is not Verdict.HARM


def _verdict(release: Release) -> str:
    reason = f": {release.reason}" if release.reason and release.phase is not Phase.PROMOTED else ""
    # What copies told is the outcome only where nothing came after them.
    verdict = f" {release.verdict}" if release.verdict and release.phase is Phase.EVALUATED else ""
    return f"{release.phase.value}{verdict}{reason} (release {release.id[:8]})"
