"""From pairs to counts, a window of whole seconds at a time.

What counts once for each entity is decided by whoever sees all windows in order; so a window gives these observations as they
are, and everything else as counts already.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from hotcold.domain.errors import EvidenceError
from hotcold.domain.evidence.discordant import DiscordantCounts
from hotcold.domain.evidence.latency_counts import LatencyCounts, count_latencies
from hotcold.domain.evidence.value_counts import count_values
from hotcold.domain.score_histogram import ScoreHistogram, count_scores
from hotcold.domain.shadow.comparison import (
    DELAY_EDGES_S,
    EDGES_US,
    MAX_SEGMENTS,
    OTHER_SEGMENTS,
    Comparison,
    SegmentCounts,
    SideCounts,
)
from hotcold.domain.shadow.limits import Limits
from hotcold.domain.shadow.pairs import Pairs, SeenEntities, Side, first_of_each

_LEAST_PROBABILITY = 1e-7
# An excess log-loss beyond this counts as this, nats.
LOSS_SCALE = 1.0
_SECOND_US = 1_000_000


@dataclass(frozen=True, eq=False)
class Observations:
    """Pairs of a window by arrival, the first of each entity: what may count once for each of these.

    Args:
        entity: shape (n,), uint64; see Pairs.
        second: shape (n,), int64, seconds since the epoch.
        segment: shape (n,), int; index into segments.
        segments: names.
        change: shape (n,): mean change of the score; NaN where one side has no good answer, or a score that is no number.
        flips: shape (n,): share of the rows decided otherwise; likewise.
        scored: shape (n,), bool: both sides gave a good answer.
        errors: shape (n,): 1 if only the candidate failed, -1 if only the champion did, else 0.
        champion_us: shape (n,): its whole latency, µs.
        candidate_us: shape (n,): its whole latency, µs.
    """

    entity: NDArray[np.uint64]
    second: NDArray[np.int64]
    segment: NDArray[np.int64]
    segments: tuple[str, ...]
    change: NDArray[np.float64]
    flips: NDArray[np.float64]
    scored: NDArray[np.bool_]
    errors: NDArray[np.float64]
    champion_us: NDArray[np.int64]
    candidate_us: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LabelledObservations:
    """Labelled pairs of a window by arrival, the first of each entity.

    Args:
        entity: shape (n,), uint64; see Pairs.
        loss: shape (n,): candidate's log-loss minus champion's, nats; NaN where a score is no probability.
        right: shape (n,), int: 1 if only the candidate was right, -1 if only the champion was, else 0.
    """

    entity: NDArray[np.uint64]
    loss: NDArray[np.float64]
    right: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class WindowCounts:
    """One window.

    Args:
        counts: of everything that does not depend on which entities were seen before.
        first: what does.
        labelled: the same of labels.
        damage: what is wrong with files: how many, by reason and by the file that tells, which may do so in several windows.
        requests: keys of the request ids of its pairs, ascending, each once.
    """

    counts: Comparison
    first: Observations
    labelled: LabelledObservations
    damage: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    requests: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, dtype=np.uint64))


def count_window(pairs: Pairs, limits: Limits, budget_us: float) -> WindowCounts:
    """Count the pairs of a window.

    Args:
        pairs: all of whole seconds, by arrival; no request id twice.
        limits: with the threshold and the scales.
        budget_us: latency budget; answers that take as long or longer are slow.
    """
    changed = pairs.per_request(pairs.candidate.scores.astype(np.float64) - pairs.champion.scores)
    decided = [side.scores >= limits.threshold for side in (pairs.champion, pairs.candidate)]
    flips = np.where(np.isfinite(changed), pairs.per_request(decided[0] != decided[1]), np.nan)
    counts = Comparison(
        pairs=len(pairs),
        scored=int(np.count_nonzero(pairs.rows)),
        agreed=int(np.count_nonzero(flips == 0)),
        champion=_count_side(pairs, pairs.champion),
        candidate=_count_side(pairs, pairs.candidate),
    )
    errors = pairs.champion.answered.astype(np.float64) - pairs.candidate.answered
    second = pairs.arrived_us // _SECOND_US
    total_us = [side.stages_us.astype(np.int64).sum(axis=1) for side in (pairs.champion, pairs.candidate)]
    slow = (total_us[1] >= budget_us).astype(np.float64)
    counts = replace(
        counts,
        errors=count_values(mean_of_seconds(second, errors)),
        slow=count_values(mean_of_seconds(second, slow, pairs.candidate.answered)),
    )
    own = first_of_each(pairs.entity)
    values = (changed, flips, pairs.rows > 0, errors, *total_us)
    first = Observations(pairs.entity[own], second[own], pairs.segment[own], pairs.segments, *(value[own] for value in values))
    counts, labelled = _count_labels(pairs, counts, limits)
    return WindowCounts(counts, first, labelled, requests=np.sort(pairs.request))


def mean_of_seconds(
    second: NDArray[np.int64], values: NDArray[np.float64], among: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Mean of each second that has values.

    Args:
        second: shape (n,).
        values: shape (n,).
        among: shape (n,): those that count; None for all.
    """
    if among is not None:
        second, values = second[among], values[among]
    _, places = np.unique(second, return_inverse=True)
    return np.bincount(places, values) / np.bincount(places) if len(values) else np.empty(0)


def _count_side(pairs: Pairs, side: Side) -> SideCounts:
    stages = side.stages_us[pairs.rows > 0].astype(np.int64)
    columns = (*stages.T, stages.sum(axis=1))
    return SideCounts(count_scores(side.scores), tuple(count_latencies(column, EDGES_US) for column in columns))


def _count_labels(pairs: Pairs, counts: Comparison, limits: Limits) -> tuple[Comparison, LabelledObservations]:
    """Of requests with one row; which row of several a label belongs to, nobody says."""
    chosen = np.flatnonzero(np.isfinite(pairs.label) & (pairs.rows == 1))
    row = (np.cumsum(pairs.rows) - pairs.rows)[chosen]
    both = (pairs.champion, pairs.candidate)
    # Scores that are no numbers are told of elsewhere; right or wrong they are not.
    usable = np.isfinite(both[0].scores[row]) & np.isfinite(both[1].scores[row])
    chosen, row = chosen[usable], row[usable]
    label = pairs.label[chosen].astype(np.float64)
    sides = [side.scores[row].astype(np.float64) for side in both]
    losses = [log_losses(scores, label) for scores in sides]
    right = [(scores >= limits.threshold) == (label >= 0.5) for scores in sides]
    own = first_of_each(pairs.entity[chosen])
    labelled = LabelledObservations(
        pairs.entity[chosen][own],
        (losses[1] - losses[0])[own],
        (right[1].astype(np.int64) - right[0])[own],
    )
    champion, candidate = (
        replace(side, positives=_histogram(scores[label >= 0.5]), negatives=_histogram(scores[label < 0.5]), loss=_sum(loss))
        for side, scores, loss in zip((counts.champion, counts.candidate), sides, losses, strict=True)
    )
    delays = count_latencies(np.maximum(pairs.delay_s[chosen], 0), DELAY_EDGES_S)
    return replace(counts, champion=champion, candidate=candidate, labelled=len(label), delays=delays), labelled


def log_losses(scores: NDArray[np.float64], label: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-loss of each score, shape (n,), nats; NaN where it is no probability.

    Args:
        scores: shape (n,).
        label: shape (n,), 0 to 1.
    """
    probability = np.where((scores >= 0) & (scores <= 1), np.clip(scores, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY), np.nan)
    losses: NDArray[np.float64] = -(label * np.log(probability) + (1 - label) * np.log1p(-probability))
    return losses


def _sum(losses: NDArray[np.float64]) -> float:
    return float(np.nansum(losses))


def _histogram(scores: NDArray[np.float64]) -> ScoreHistogram:
    return count_scores(scores.astype(np.float32))


@dataclass
class Accumulation:
    """Adds windows up, in the order of time; an entity counts once, with its first pair, and so does a request id.

    Which ids were seen takes eight bytes for each pair.

    Args:
        limits: with the scales.
    """

    limits: Limits
    _sums: Comparison = field(default_factory=Comparison)
    _damage: dict[str, dict[str, int]] = field(default_factory=dict)
    _seen: SeenEntities = field(default_factory=SeenEntities)
    _labelled: SeenEntities = field(default_factory=SeenEntities)
    _requests: SeenEntities = field(default_factory=SeenEntities)

    def repeated(self, window: WindowCounts) -> NDArray[np.uint64]:
        """Keys of the request ids of a window that were counted in another one. It has to be counted again without these."""
        return window.requests[self._requests.known(window.requests)]

    def add(self, window: WindowCounts) -> None:
        """Add a window that begins after all those before have ended.

        Raises:
            EvidenceError: a request of it was counted before.
        """
        if not self._requests.take_new(window.requests).all():
            raise EvidenceError(
                "a window has request ids that were counted before, and each may count once; count it again without `repeated`"
            )
        new = self._seen.take_new(window.first.entity)
        labelled = self._labelled.take_new(window.labelled.entity)
        self._sums = (
            self._sums.merge(window.counts)
            .merge(_count_first(window.first, new, self.limits))
            .merge(_count_labelled(window.labelled, labelled))
        )
        for reason, files in window.damage.items():
            self._damage.setdefault(reason, {}).update(files)

    @property
    def comparison(self) -> Comparison:
        """The counts so far; what several windows tell of one file counts once."""
        damage = {reason: sum(files.values()) for reason, files in self._damage.items()}
        return replace(self._sums, left_out={**self._sums.left_out, **damage})


def _count_first(first: Observations, new: NDArray[np.bool_], limits: Limits) -> Comparison:
    scored = new & first.scored
    seconds = np.unique(first.second[scored], return_index=True)[1]
    latencies = (count_latencies(side[scored][seconds], EDGES_US) for side in (first.champion_us, first.candidate_us))
    champion, candidate = (SideCounts(first_of_second=latency) for latency in latencies)
    return Comparison(
        entities=int(np.count_nonzero(new)),
        change=count_values(first.change[scored], limits.score_scale),
        flips=count_values(first.flips[scored]),
        champion=champion,
        candidate=candidate,
        segments=_count_segments(first, new, limits),
    )


def _count_segments(first: Observations, new: NDArray[np.bool_], limits: Limits) -> dict[str, SegmentCounts]:
    counted: dict[str, SegmentCounts] = {}
    for name, chosen in group_segments(first.segment, first.segments, new):
        scored = chosen & first.scored
        counted[name] = SegmentCounts(
            count_values(first.change[scored], limits.score_scale),
            count_values(first.flips[scored]),
            count_values(first.errors[chosen]),
        )
    return counted


def group_segments(
    segment: NDArray[np.int64], segments: Sequence[str], chosen: NDArray[np.bool_]
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Observations by segment, at most MAX_SEGMENTS of them; the rest together.

    Args:
        segment: shape (n,), index into the names.
        segments: their names.
        chosen: shape (n,): observations that count.

    Yields:
        Name and those among the chosen that are in it, shape (n,); none that is empty.
    """
    sizes = np.bincount(segment[chosen], minlength=len(segments))
    # The largest ones by name, all others together: a caller may send a segment of its own with each request.
    kept = np.argsort(-sizes, kind="stable")[:MAX_SEGMENTS]
    names = [*(segments[index] for index in kept.tolist()), OTHER_SEGMENTS]
    group_of = np.full(len(segments), len(kept))
    group_of[kept] = np.arange(len(kept))
    group = group_of[segment]
    for index in np.unique(group[chosen]).tolist():
        yield names[index], chosen & (group == index)


def _count_labelled(labelled: LabelledObservations, new: NDArray[np.bool_]) -> Comparison:
    right = labelled.right[new]
    lost, won = (int(np.count_nonzero(right == sign)) for sign in (-1, 1))
    return Comparison(
        loss=count_values(labelled.loss[new], LOSS_SCALE), accuracy=DiscordantCounts(lost, won, len(right) - lost - won)
    )


def total_times(counts: SideCounts) -> LatencyCounts:
    """Whole latencies of all answers of one side."""
    return counts.times[-1]
