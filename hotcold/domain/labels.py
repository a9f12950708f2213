"""Late labels: what one is, which requests it belongs to, and what holds where several are claimed of one request.

The rule of contradictions: of a request with two different labels none is used, whichever came last. The same label twice is
one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotcold.domain.label_counts import LabelCounts

Labels = NDArray[np.float32]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]


def are_labels(values: NDArray[np.float64]) -> Mask:
    """Which values can be labels: 0, 1, or a share in between; NaN stands for nothing.

    Args:
        values: shape (n,).
    """
    with np.errstate(invalid="ignore"):
        return np.asarray((values >= 0) & (values <= 1))


@dataclass(frozen=True, eq=False)
class Claims:
    """The smallest and the greatest label that is claimed of each of n requests; NaN where none is.

    Args:
        low: shape (n,).
        high: shape (n,); the request's labels contradict each other where it is not `low`.
    """

    low: Labels
    high: Labels

    @classmethod
    def none(cls, count: int) -> Claims:
        """Nothing is claimed of any."""
        return cls(np.full(count, np.nan, np.float32), np.full(count, np.nan, np.float32))

    @property
    def are_made(self) -> Mask:
        """Of which requests something is claimed."""
        return ~np.isnan(self.low)

    @property
    def agree(self) -> Mask:
        """Which requests have one label, however often."""
        return np.asarray(self.low == self.high)

    def joined(self, other: Claims) -> Claims:
        """Both together."""
        return Claims(np.fmin(self.low, other.low), np.fmax(self.high, other.high))


@dataclass(frozen=True, eq=False)
class Settlement:
    """What is to be kept of new claims.

    Args:
        first: requests of which one more label is kept.
        first_labels: that label, for each of them.
        second: requests of which another one is kept, so that the contradiction stays known.
        second_labels: that label, for each of them.
        joined: requests that have a label now and had none.
        counts: by requests.
    """

    first: Indices
    first_labels: Labels
    second: Indices
    second_labels: Labels
    joined: Mask
    counts: LabelCounts


def settle(new: Claims, stored: Claims, is_own: Mask) -> Settlement:
    """Compare new claims about n requests with those that are kept already.

    At most two different labels are kept of a request: more would say nothing more than that they contradict each other.

    Args:
        new: a label at least for each request.
        stored: what is kept.
        is_own: some of it came with this run.
    """
    was_agreed, all_claims = stored.are_made & stored.agree, new.joined(stored)
    contradicts = ~all_claims.agree
    joined = ~stored.are_made & new.agree
    breaks = was_agreed & contradicts
    first = ~stored.are_made | breaks
    # Of a request that had a label, that one of the new ones which differs.
    differing = np.where(breaks & (new.low == stored.low), new.high, new.low)
    second = ~stored.are_made & ~new.agree
    repeats = was_agreed & ~contradicts
    counts = LabelCounts(
        # A label that came with this run and is contradicted by it now was counted as joined.
        joined=_count(joined) - _count(breaks & is_own),
        contradicting=_count(contradicts & (~is_own | breaks | ~stored.are_made)),
        repeated=_count(repeats & is_own),
        known=_count(repeats & ~is_own),
    )
    return Settlement(np.flatnonzero(first), differing[first], np.flatnonzero(second), new.high[second], joined, counts)


def _count(mask: Mask) -> int:
    return int(np.count_nonzero(mask))


class TimedLabels:
    """Labels of entities at times, sorted, so that a request finds all that may be its own at the cost of a search.

    Args:
        entities: shape (n,), small integers from 0.
        times_us: shape (n,), microseconds since the epoch.
        labels: shape (n,).
    """

    def __init__(self, entities: Indices, times_us: Indices, labels: Labels) -> None:
        # By rank, entity and time fit into one integer, whatever the times are.
        self._times = np.unique(times_us)
        keys = self._key(entities, np.searchsorted(self._times, times_us))
        self.order = np.argsort(keys, kind="stable")
        self._keys, self._labels = keys[self.order], labels[self.order]
        # Runs of equal labels: a range lies within one run, or its labels contradict each other.
        starts = np.flatnonzero(np.diff(self._labels, prepend=np.nan) != 0)
        self._starts = np.append(starts, len(labels))
        self._run = np.repeat(np.arange(len(starts)), np.diff(self._starts))
        self._touched = np.zeros(len(labels) + 1, np.int64)

    def _key(self, entities: Indices, ranks: NDArray[Any]) -> Indices:
        return np.asarray(entities * (len(self._times) + 1) + ranks, np.int64)

    def match(self, entities: Indices, arrived_us: Indices, tolerance_us: int) -> tuple[Mask, Claims, Indices]:
        """The labels of m requests.

        Args:
            entities: shape (m,).
            arrived_us: shape (m,), microseconds since the epoch.
            tolerance_us: how far from a label's time its requests may have arrived, before or after.

        Returns:
            Which of the requests have a label; for each of those what is claimed, and the first label's place in the input.
        """
        begin = np.searchsorted(self._keys, self._key(entities, np.searchsorted(self._times, arrived_us - tolerance_us)))
        ranks = np.searchsorted(self._times, arrived_us + tolerance_us, "right")
        end = np.searchsorted(self._keys, self._key(entities, ranks))
        has_label = end > begin
        begin, end = begin[has_label], end[has_label]
        np.add.at(self._touched, begin, 1)
        np.add.at(self._touched, end, -1)
        next_run = np.minimum(self._starts[self._run[begin] + 1], len(self._labels) - 1)
        one = self._labels[begin]
        other = np.where(self._run[end - 1] == self._run[begin], one, self._labels[next_run])
        return has_label, Claims(np.minimum(one, other), np.maximum(one, other)), self.order[begin]

    def unmatched(self) -> Indices:
        """Places in the input of the labels that no request has had so far."""
        return np.asarray(self.order[np.cumsum(self._touched)[:-1] == 0])
