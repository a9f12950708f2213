"""What a comparison has counted so far: integers that add up, whoever counted them and in whatever pieces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, Self, TypeVar

from hotcold.domain.evidence.discordant import DiscordantCounts
from hotcold.domain.evidence.latency_counts import LatencyCounts, no_latencies
from hotcold.domain.evidence.value_counts import ValueCounts
from hotcold.domain.score_histogram import ScoreHistogram, merge_histograms
from hotcold.domain.shadow.pairs import STAGES

# Of answers and their stages: steps of a tenth, from 1 µs to a minute.
EDGES_US = tuple(sorted({round(1.1**step) for step in range(189)}))
# Of labels: from a second to a year.
DELAY_EDGES_S = tuple(sorted({round(1.2**step) for step in range(96)}))
TIMED = (*STAGES, "total")
# More segments than these are counted as one; a caller may send any.
MAX_SEGMENTS = 200
OTHER_SEGMENTS = "(others)"


@dataclass(frozen=True)
class SideCounts:
    """Answers of one side.

    Args:
        scores: of all pairs with a good answer by both.
        times: latencies by stage, in the order of TIMED, of the same answers.
        first_of_second: whole latencies of one answer for each second, and never two of an entity.
        positives: scores whose label says yes.
        negatives: scores whose label says no.
        loss: sum of their log-losses, nats.
    """

    scores: ScoreHistogram = field(default_factory=ScoreHistogram)
    times: tuple[LatencyCounts, ...] = field(default_factory=lambda: (no_latencies(EDGES_US),) * len(TIMED))
    first_of_second: LatencyCounts = field(default_factory=lambda: no_latencies(EDGES_US))
    positives: ScoreHistogram = field(default_factory=ScoreHistogram)
    negatives: ScoreHistogram = field(default_factory=ScoreHistogram)
    loss: float = 0.0

    def merge(self, other: SideCounts) -> SideCounts:
        """The counts of both; the order does not matter."""
        return SideCounts(
            merge_histograms((self.scores, other.scores)),
            tuple(own.merge(more) for own, more in zip(self.times, other.times, strict=True)),
            self.first_of_second.merge(other.first_of_second),
            merge_histograms((self.positives, other.positives)),
            merge_histograms((self.negatives, other.negatives)),
            self.loss + other.loss,
        )


@dataclass(frozen=True)
class SegmentCounts:
    """Observations in one segment, one for each entity.

    Args:
        change: of the score.
        flips: of decisions.
        errors: failed by the candidate alone, minus failed by the champion alone.
    """

    change: ValueCounts = field(default_factory=ValueCounts)
    flips: ValueCounts = field(default_factory=ValueCounts)
    errors: ValueCounts = field(default_factory=ValueCounts)

    def merge(self, other: SegmentCounts) -> SegmentCounts:
        """The counts of both; the order does not matter."""
        return SegmentCounts(self.change.merge(other.change), self.flips.merge(other.flips), self.errors.merge(other.errors))


@dataclass(frozen=True)
class Comparison:
    """All counts of a comparison.

    Args:
        pairs: requests that both sides have in their logs.
        scored: pairs with a good answer by both.
        agreed: scored pairs with the same decision on every row.
        entities: observations: the first pair of each entity, and each pair without one.
        change: mean change of the score per request, one value for each of these.
        flips: share of its rows that are decided otherwise, likewise.
        loss: candidate's log-loss minus champion's, of the first labelled pair of each entity.
        accuracy: who was right, of the same pairs.
        errors: share of the answers that the candidate fails alone, minus what the champion fails alone, by closed second.
        slow: share of the candidate's answers over the latency budget, by closed second.
        champion: its answers.
        candidate: its answers.
        labelled: pairs with a label.
        delays: from the request to its label, in bins of seconds.
        segments: by name.
        left_out: rows that are in no pair, by reason.
    """

    pairs: int = 0
    scored: int = 0
    agreed: int = 0
    entities: int = 0
    change: ValueCounts = field(default_factory=ValueCounts)
    flips: ValueCounts = field(default_factory=ValueCounts)
    loss: ValueCounts = field(default_factory=ValueCounts)
    accuracy: DiscordantCounts = field(default_factory=DiscordantCounts)
    errors: ValueCounts = field(default_factory=ValueCounts)
    slow: ValueCounts = field(default_factory=ValueCounts)
    champion: SideCounts = field(default_factory=SideCounts)
    candidate: SideCounts = field(default_factory=SideCounts)
    labelled: int = 0
    delays: LatencyCounts = field(default_factory=lambda: no_latencies(DELAY_EDGES_S))
    segments: Mapping[str, SegmentCounts] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)

    def merge(self, other: Comparison) -> Comparison:
        """The counts of both; the order does not matter, as long as no entity and no second is in both."""
        sums = {name: getattr(self, name) + getattr(other, name) for name in _SUMS}
        merged = {name: getattr(self, name).merge(getattr(other, name)) for name in _MERGED}
        left_out = {
            reason: self.left_out.get(reason, 0) + other.left_out.get(reason, 0)
            for reason in sorted({*self.left_out, *other.left_out})
        }
        return replace(self, **sums, **merged, segments=merge_segments(self.segments, other.segments), left_out=left_out)


_SUMS = ("pairs", "scored", "agreed", "entities", "labelled")
_MERGED = ("change", "flips", "loss", "accuracy", "errors", "slow", "champion", "candidate", "delays")


class _Mergeable(Protocol):
    def merge(self, other: Self, /) -> Self: ...


_Counts = TypeVar("_Counts", bound=_Mergeable)


def merge_segments(own: Mapping[str, _Counts], more: Mapping[str, _Counts]) -> dict[str, _Counts]:
    """Counts of both by segment; beyond MAX_SEGMENTS names they are counted as one.

    Args:
        own: by name.
        more: by name.
    """
    merged = dict(own)
    for name, counts in more.items():
        known = name in merged or len(merged) < MAX_SEGMENTS
        place = name if known else OTHER_SEGMENTS
        merged[place] = merged[place].merge(counts) if place in merged else counts
    return merged
