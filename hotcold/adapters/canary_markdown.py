"""What a canary can tell at the present traffic, as Markdown for the Prefect UI."""

from __future__ import annotations

from hotcold.adapters.shadow_markdown import table_markdown, text_markdown
from hotcold.domain.canary.forecast import Forecast, forecast_table
from hotcold.domain.scoring_progress import describe_seconds

_READING = (
    "A time is when the evidence to be expected suffices: half of all releases are told sooner, nine in ten within twice"
    " as long. Errors are counted once for each entity, and by second at the edge; the first of the two that tells is shown."
)


def forecast_markdown(forecast: Forecast) -> str:
    """A forecast as Markdown: the warning first, if there is one.

    Args:
        forecast: of a plan.
    """
    told = ", ".join(f"{rise}x" for rise in forecast.told) or "none"
    lasts = describe_seconds(sum(step.lasts_s for step in forecast.steps))
    parts = (
        "# What this plan can tell",
        f"⚠ {text_markdown(forecast.warning)}." if forecast.warning else "",
        f"Rises of errors that are told within the {lasts} that it takes at least: {told}.",
        table_markdown(forecast_table(forecast)),
        _READING,
    )
    return "\n\n".join(part for part in parts if part) + "\n"
