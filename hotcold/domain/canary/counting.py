"""From served answers to counts, a window of whole seconds at a time, all of it under one share.

Which entities count is decided by whoever sees all windows in the order of time; see `Tally`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from hotcold.domain.canary.counts import CanaryCounts, ScoreRange, SegmentCounts
from hotcold.domain.canary.limits import CanaryLimits
from hotcold.domain.evidence.error_ratio import ErrorCounts
from hotcold.domain.evidence.latency_counts import LatencyCounts, count_latencies
from hotcold.domain.evidence.split_counts import SplitCounts
from hotcold.domain.evidence.split_values import SplitValues, count_split
from hotcold.domain.evidence.value_counts import count_values
from hotcold.domain.shadow.comparison import EDGES_US
from hotcold.domain.shadow.counting import group_segments, log_losses, mean_of_seconds
from hotcold.domain.shadow.limits import Limits
from hotcold.domain.shadow.pairs import SeenEntities

# Of accuracy's values, a wrong decision is 1.
_WRONG = (0.0, 1.0)
_SECOND_US = 1_000_000


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers of both sides to consumers in one window, by time of arrival; each request once.

    Args:
        share_pct: of the candidate, confirmed by the edge for all of this time.
        arrived_us: shape (n,), int64, microseconds since the epoch, by the clock of the replica.
        entity: shape (n,), uint64: key of the entity; NO_ENTITY where the request had none.
        segment: shape (n,), int: index of the segment's name.
        segments: their names; empty for requests without one.
        is_candidate: shape (n,), bool: the candidate answered.
        good: shape (n,), bool: the answer was a good one.
        score: shape (n,): mean over its rows; NaN where there is none.
        total_us: shape (n,), int64: whole latency within the replica, µs.
        label: shape (n,): what happened, 0 to 1; NaN where it is not known, or belongs to several rows.
    """

    share_pct: int
    arrived_us: NDArray[np.int64]
    entity: NDArray[np.uint64]
    segment: NDArray[np.int64]
    segments: tuple[str, ...]
    is_candidate: NDArray[np.bool_]
    good: NDArray[np.bool_]
    score: NDArray[np.float64]
    total_us: NDArray[np.int64]
    label: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.arrived_us)

    @property
    def second(self) -> NDArray[np.int64]:
        """Shape (n,), seconds since the epoch."""
        return self.arrived_us // _SECOND_US

    def sides(self, chosen: NDArray[np.bool_]) -> SplitCounts:
        """How many of some answers came from which side; `chosen`: shape (n,)."""
        candidate = int(np.count_nonzero(chosen & self.is_candidate))
        return SplitCounts({self.share_pct: (candidate, int(np.count_nonzero(chosen)) - candidate)})

    def values(self, values: NDArray[np.float64], chosen: NDArray[np.bool_], bounds: tuple[float, float]) -> SplitValues:
        """Values of some answers by side; `values` and `chosen`: shape (n,), `bounds`: least and greatest that count."""
        return count_split(values[chosen], self.is_candidate[chosen], self.share_pct, *bounds)


@dataclass
class Tally:
    """Adds windows up, in the order of time.

    Args:
        limits: with the threshold of decisions.
        more: with the range of the scores.
        budget_us: latency budget; answers that take as long or longer are slow.
    """

    limits: Limits
    more: CanaryLimits
    budget_us: float
    _sums: CanaryCounts = field(default_factory=CanaryCounts)
    _damage: dict[str, dict[str, int]] = field(default_factory=dict)
    _seen: SeenEntities = field(default_factory=SeenEntities)
    _failed: SeenEntities = field(default_factory=SeenEntities)
    _labelled: SeenEntities = field(default_factory=SeenEntities)

    def add(self, answers: Answers, left_out: Mapping[str, int], damage: Mapping[str, Mapping[str, int]]) -> None:
        """Add a window that begins after all those before have ended.

        Args:
            answers: of the window.
            left_out: rows of it that count for nothing, by reason.
            damage: what is wrong with files: how many, by reason and by file; a file may tell it in several windows.
        """
        window = replace(self._count(answers), left_out=left_out)
        self._sums = self._sums.merge(window)
        for reason, files in damage.items():
            self._damage.setdefault(reason, {}).update(files)

    @property
    def counts(self) -> CanaryCounts:
        """The counts so far; what several windows tell of one file counts once."""
        damage = {reason: sum(files.values()) for reason, files in self._damage.items()}
        return replace(self._sums, left_out={**self._sums.left_out, **damage})

    def _count(self, answers: Answers) -> CanaryCounts:
        new = self._seen.take_new(answers.entity)
        errors = self._count_errors(answers, new)
        first = new & answers.good
        mine, others = first & answers.is_candidate, first & ~answers.is_candidate
        slow = (answers.total_us >= self.budget_us).astype(np.float64)
        counts = CanaryCounts(
            answers=answers.sides(np.full(len(answers), True)),
            entities=answers.sides(new),
            errors=_errors(answers, *errors),
            slow=count_values(mean_of_seconds(answers.second, slow, answers.good & answers.is_candidate)),
            champion_us=_first_of_second(answers, others),
            candidate_us=_first_of_second(answers, mine),
            scores=answers.values(answers.score, first, self.more.scores),
            champion_range=_range(answers.score[others]),
            candidate_range=_range(answers.score[mine]),
            segments=self._count_segments(answers, new, *errors),
        )
        return self._count_labels(answers, counts)

    def _count_errors(self, answers: Answers, new: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which answers count as failures, and as answers, of their entities; both of shape (n,). Each failure is an answer."""
        at = np.flatnonzero(~answers.good)
        failed = np.zeros(len(answers), dtype=np.bool_)
        failed[at[self._failed.take_new(answers.entity[at])]] = True
        return failed, new | failed

    def _count_segments(
        self, answers: Answers, new: NDArray[np.bool_], failed: NDArray[np.bool_], answered: NDArray[np.bool_]
    ) -> dict[str, SegmentCounts]:
        return {
            name: SegmentCounts(
                _errors(answers, failed & chosen, chosen),
                answers.values(answers.score, chosen & new & answers.good, self.more.scores),
            )
            for name, chosen in group_segments(answers.segment, answers.segments, answered)
        }

    def _count_labels(self, answers: Answers, counts: CanaryCounts) -> CanaryCounts:
        """Scores that are no numbers are told of elsewhere; right or wrong they are not."""
        at = np.flatnonzero(answers.good & np.isfinite(answers.label) & np.isfinite(answers.score))
        chosen = np.zeros(len(answers), dtype=np.bool_)
        chosen[at[self._labelled.take_new(answers.entity[at])]] = True
        decided, happened = answers.score >= self.limits.threshold, answers.label >= 0.5
        wrong = (decided != happened).astype(np.float64)
        losses = log_losses(answers.score, answers.label)
        return replace(
            counts,
            loss=answers.values(losses, chosen, (0.0, self.more.greatest_loss)),
            wrong=answers.values(wrong, chosen, _WRONG),
        )


def _errors(answers: Answers, failed: NDArray[np.bool_], answered: NDArray[np.bool_]) -> ErrorCounts:
    return ErrorCounts(answers.sides(failed), answers.sides(answered))


def _first_of_second(answers: Answers, chosen: NDArray[np.bool_]) -> LatencyCounts:
    at = np.flatnonzero(chosen)
    first = np.unique(answers.second[at], return_index=True)[1]
    return count_latencies(answers.total_us[at[first]], EDGES_US)


def _range(scores: NDArray[np.float64]) -> ScoreRange:
    finite = scores[np.isfinite(scores)]
    return ScoreRange(float(finite.min()), float(finite.max())) if len(finite) else ScoreRange()
