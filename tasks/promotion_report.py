"""What a promotion shows of itself: a forecast before it begins, and its story with a picture."""

import base64
from collections.abc import Sequence
from datetime import UTC, datetime

from prefect.artifacts import create_markdown_artifact

from hotcold.adapters.release_database import Event
from hotcold.adapters.release_picture import draw_release
from hotcold.domain.release import Release
from hotcold.domain.visible import visible

_LONGEST = 300


def publish_timeline(release: Release, events: Sequence[Event]) -> None:
    """The story of a release as a page: the picture first, then each step with what the gates said."""
    candidate = release.candidate.tag if release.candidate else f"version {release.version}"
    title = f"Release {release.id[:8]}: {candidate} {release.phase.value.replace('_', ' ')}"
    picture = base64.b64encode(draw_release(events, title)).decode()
    lines = [f"# {title}", "", release.reason, "", f"![share and gates over time](data:image/png;base64,{picture})", ""]
    lines += ["| time (UTC) | phase | share | why | by |", "|---|---|---|---|---|"]
    lines += [_row(event) for event in events if event.reason or event.settled or event.waiting]
    create_markdown_artifact(key=f"timeline-{release.model}", description=visible(title, _LONGEST), markdown="\n".join(lines))


def _row(event: Event) -> str:
    time = datetime.fromtimestamp(event.at, UTC).strftime("%H:%M:%S")
    why = visible(event.waiting or event.reason, _LONGEST).replace("|", "\\|")
    return f"| {time} | {event.phase.value} | {event.split} % | {why} | {visible(event.actor, 80)} |"
