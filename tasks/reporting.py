"""What a run did: tables that the Prefect UI shows, and the state in which it ends."""

from datetime import UTC, datetime

from prefect import State
from prefect.artifacts import create_table_artifact
from prefect.states import Completed, Failed

from hotcold.adapters.release_database import Event
from hotcold.domain.gate import Gate
from hotcold.domain.release import FINAL, Phase, Release


def publish_release_report(release: Release, events: tuple[Event, ...], gates: tuple[Gate, ...]) -> None:
    """One table of the phases, one of the gates."""
    candidate = release.candidate.tag if release.candidate else f"version {release.version}"
    champion = release.champion.tag if release.champion else "none"
    create_table_artifact(
        key=f"release-{release.model}",
        description=f"Release {release.id[:8]}: {candidate} against {champion}. Ended {release.phase.value}. {release.reason}",
        table=[
            {
                "time (UTC)": datetime.fromtimestamp(event.at, UTC).strftime("%H:%M:%S.%f")[:-3],
                "phase": event.phase.value,
                "candidate's share (%)": event.split,
                "reason": event.reason,
                "by": event.actor,
            }
            for event in events
        ],
    )
    if gates:
        create_table_artifact(
            key=f"gates-{release.model}",
            description=f"Gates of release {release.id[:8]}: {candidate}",
            table=[
                {"gate": gate.name, "verdict": gate.verdict.value, "observed": gate.observed, "allowed": gate.limit}
                for gate in gates
            ],
        )


def outcome(release: Release, deployment: str) -> State:
    """State in which a run ends that drove a release: completed if the candidate is the champion now.

    Args:
        release: as the run left it.
        deployment: that goes on with it, if it has not ended.
    """
    candidate = release.candidate.tag if release.candidate else f"version {release.version}"
    if release.phase is Phase.PROMOTED:
        return Completed(message=f"{candidate} is the champion of {release.model}")
    if release.phase in FINAL:
        return Failed(message=f"{candidate} was {release.phase.value.replace('_', ' ')}: {release.reason}")
    return Failed(
        message=f"{candidate} is {release.phase.value}: {release.reason or 'another controller drives it'}. "
        f"Start {deployment} again to go on, or roll-back to end it."
    )
