"""Answers of champion and candidate to the same requests, as arrays; and which of them say something new."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Key of a request without an entity: each of these is an observation of its own.
NO_ENTITY = 0
STAGES = ("pre", "infer", "post")


@dataclass(frozen=True, eq=False)
class Side:
    """Answers of one side to n requests with m scores in all.

    Args:
        answered: shape (n,), bool: the answer was a good one. Others have no scores here.
        scores: shape (m,), float32, request after request.
        stages_us: shape (n, 3), µs: how long decoding, scoring and encoding took.
    """

    answered: NDArray[np.bool_]
    scores: NDArray[np.float32]
    stages_us: NDArray[np.uint32]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Requests that both sides have in their logs, by time of arrival at the champion.

    Args:
        arrived_us: shape (n,), int64, microseconds since the epoch, by the clock of the champion's replica.
        entity: shape (n,), uint64: key of the entity; NO_ENTITY where the request had none.
        segment: shape (n,), int: index of the segment's name.
        segments: their names; empty for requests without one.
        rows: shape (n,), int: scores of each request that are compared; 0 unless both sides gave a good answer.
        champion: the champion's answers.
        candidate: the candidate's answers, as many scores of each request as the champion's.
        label: shape (n,), float32: what happened, 0 to 1; NaN where it is not known, or belongs to several rows.
        delay_s: shape (n,), float32: from the request to its label; NaN where there is none.
        request: shape (n,), uint64: key of the request's id, never 0.
    """

    arrived_us: NDArray[np.int64]
    entity: NDArray[np.uint64]
    segment: NDArray[np.int64]
    segments: tuple[str, ...]
    rows: NDArray[np.int64]
    champion: Side
    candidate: Side
    label: NDArray[np.float32]
    delay_s: NDArray[np.float32]
    request: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.arrived_us)

    def choose(self, chosen: NDArray[np.bool_]) -> Pairs:
        """Some of the pairs.

        Args:
            chosen: shape (n,).
        """
        scores = np.repeat(chosen, self.rows)
        champion, candidate = (
            Side(side.answered[chosen], side.scores[scores], side.stages_us[chosen]) for side in (self.champion, self.candidate)
        )
        columns = ("arrived_us", "entity", "segment", "rows", "label", "delay_s", "request")
        return replace(self, **{name: getattr(self, name)[chosen] for name in columns}, champion=champion, candidate=candidate)

    def first_of_requests(self, counted: NDArray[np.uint64]) -> Pairs:
        """The first pair of each request id, unless the id is among those that are counted already.

        Args:
            counted: keys of request ids.
        """
        new = first_of_each(self.request) & ~np.isin(self.request, counted)
        return self if new.all() else self.choose(new)

    def per_request(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Mean over the scores of each request; NaN for those that have none.

        Args:
            values: shape (m,), one for each score.
        """
        return mean_of_each(values, self.rows)


def mean_of_each(values: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean over the values of each request; NaN for those that have none.

    Args:
        values: shape (m,), request after request.
        rows: shape (n,): how many of them belong to each request; they sum to m.
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) == len(rows) and bool((rows == 1).all()):
        return values
    means = np.full(len(rows), np.nan)
    scored = rows > 0
    if scored.any():
        begins = np.cumsum(rows) - rows
        means[scored] = np.add.reduceat(values, begins[scored]) / rows[scored]
    return means


@dataclass
class SeenEntities:
    """Which entities have been counted. Each of them counts once, with its first pair.

    Keys are kept in sorted arrays, each at least twice as long as the next: adding n keys one batch after the other costs
    n log n in all, and eight bytes for each.
    """

    _runs: list[NDArray[np.uint64]] = field(default_factory=list)

    def take_new(self, entity: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Mark entities as seen.

        Args:
            entity: shape (n,), keys in the order in which they are to be counted.

        Returns:
            Shape (n,): the first of each key that was not seen before; always for NO_ENTITY.
        """
        new = first_of_each(entity) & ~self.known(entity)
        nobody = entity == NO_ENTITY
        self._add(np.sort(entity[new & ~nobody]))
        chosen: NDArray[np.bool_] = new | nobody
        return chosen

    def known(self, keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which keys were seen before; this marks none. Shape (n,) to shape (n,)."""
        known = np.zeros(len(keys), dtype=np.bool_)
        for run in self._runs:
            known |= run[np.minimum(np.searchsorted(run, keys), len(run) - 1)] == keys
        return known

    def _add(self, keys: NDArray[np.uint64]) -> None:
        if not len(keys):
            return
        while self._runs and len(self._runs[-1]) < 2 * len(keys):
            keys = np.sort(np.concatenate([self._runs.pop(), keys]), kind="stable")
        self._runs.append(keys)

    def __len__(self) -> int:
        return sum(map(len, self._runs))


def first_of_each(keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Where each key occurs for the first time; everywhere for NO_ENTITY. Shape (n,) to shape (n,)."""
    first = np.zeros(len(keys), dtype=np.bool_)
    first[np.unique(keys, return_index=True)[1]] = True
    first |= keys == NO_ENTITY
    return first
