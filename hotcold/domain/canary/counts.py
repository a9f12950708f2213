"""What has been counted of a canary's served answers: integers that add up, whoever counted them and in whatever pieces."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from hotcold.domain.evidence.error_ratio import ErrorCounts
from hotcold.domain.evidence.latency_counts import LatencyCounts, no_latencies
from hotcold.domain.evidence.split_counts import SplitCounts
from hotcold.domain.evidence.split_values import SplitValues
from hotcold.domain.evidence.value_counts import ValueCounts
from hotcold.domain.shadow.comparison import EDGES_US, merge_segments


@dataclass(frozen=True)
class ScoreRange:
    """Least and greatest score of one side, to see whether its scores vary at all.

    Args:
        least: infinity if there is none.
        greatest: minus infinity if there is none.
    """

    least: float = math.inf
    greatest: float = -math.inf

    @property
    def varies(self) -> bool:
        """There are two different scores at least."""
        return self.least < self.greatest

    def merge(self, other: ScoreRange) -> ScoreRange:
        """The range of both; the order does not matter."""
        return ScoreRange(min(self.least, other.least), max(self.greatest, other.greatest))


@dataclass(frozen=True)
class SegmentCounts:
    """Entities of one segment, each counted once.

    Args:
        errors: which of them failed.
        scores: of their first answers.
    """

    errors: ErrorCounts = field(default_factory=ErrorCounts)
    scores: SplitValues = field(default_factory=SplitValues)

    def merge(self, other: SegmentCounts) -> SegmentCounts:
        """The counts of both; the order does not matter."""
        return SegmentCounts(self.errors.merge(other.errors), self.scores.merge(other.scores))


@dataclass(frozen=True)
class CanaryCounts:
    """All counts of a canary, by side and share.

    An entity counts once in the release for each of the following, with its first answer, first failure, or first answer that
    has a label; each request without an entity does, since the edge draws a side for each of them.

    Args:
        answers: requests that were answered, each of them.
        entities: first answers.
        errors: entities that failed. One that fails later than with its first answer counts as answered twice, the second time
            under the share of its failure.
        slow: share of the candidate's good answers over the latency budget, by closed second.
        champion_us: latencies of one first answer for each second.
        candidate_us: the same.
        scores: mean score of each first answer, if that was a good one.
        loss: log-losses.
        wrong: 1 for a wrong decision, 0 for a right one.
        champion_range: of the scores of first answers.
        candidate_range: the same.
        segments: by name.
        left_out: rows that count for nothing, and what is wrong with the log, by reason.
    """

    answers: SplitCounts = field(default_factory=SplitCounts)
    entities: SplitCounts = field(default_factory=SplitCounts)
    errors: ErrorCounts = field(default_factory=ErrorCounts)
    slow: ValueCounts = field(default_factory=ValueCounts)
    champion_us: LatencyCounts = field(default_factory=lambda: no_latencies(EDGES_US))
    candidate_us: LatencyCounts = field(default_factory=lambda: no_latencies(EDGES_US))
    scores: SplitValues = field(default_factory=SplitValues)
    loss: SplitValues = field(default_factory=SplitValues)
    wrong: SplitValues = field(default_factory=SplitValues)
    champion_range: ScoreRange = field(default_factory=ScoreRange)
    candidate_range: ScoreRange = field(default_factory=ScoreRange)
    segments: Mapping[str, SegmentCounts] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)

    def merge(self, other: CanaryCounts) -> CanaryCounts:
        """The counts of both; the order does not matter, as long as no entity and no second is in both."""
        merged = {name: getattr(self, name).merge(getattr(other, name)) for name in _MERGED}
        reasons = sorted({*self.left_out, *other.left_out})
        left_out = {reason: self.left_out.get(reason, 0) + other.left_out.get(reason, 0) for reason in reasons}
        return CanaryCounts(**merged, segments=merge_segments(self.segments, other.segments), left_out=left_out)


_MERGED = (
    *("answers", "entities", "errors", "slow", "champion_us", "candidate_us", "scores", "loss", "wrong"),
    *("champion_range", "candidate_range"),
)
