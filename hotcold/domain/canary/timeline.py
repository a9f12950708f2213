"""From the audit of a release to the spans of its canary."""

from __future__ import annotations

from collections.abc import Iterable

from hotcold.domain.canary.spans import Span


def spans_of(moments: Iterable[tuple[float, int, bool]]) -> tuple[Span, ...]:
    """When the edge gave the candidate which share.

    Args:
        moments: of each event of the audit, oldest first: time in seconds since the epoch, the split that is desired from then
            on in percent, and whether the edge had confirmed it.

    Returns:
        Spans with a share, in order. The last one lasts as long as nothing else is desired.
    """
    spans: list[Span] = []
    for at, split, settled in moments:
        last = spans[-1] if spans else None
        if last and last.until_s is None and (last.share_pct != split or not settled):
            # A clock may have been set back meanwhile.
            spans[-1] = Span(last.share_pct, last.since_s, max(at, last.since_s))
        if settled and split and (not spans or spans[-1].until_s is not None):
            spans.append(Span(split, at))
    return tuple(spans)
