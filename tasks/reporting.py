"""Artifacts: what a run did, as tables that the Prefect UI shows."""

from datetime import UTC, datetime

from prefect.artifacts import create_table_artifact

from hotcold.adapters.release_database import Event
from hotcold.domain.gate import Gate
from hotcold.domain.release import Release


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
