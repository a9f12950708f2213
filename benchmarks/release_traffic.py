"""Simulated consumers of a canary: who asks, which side answers, and how well each side does.

Clients differ: a few send most of the requests, a few fail often, whichever side answers them. Some seconds are bad for both
sides. Some requests name no client. None of that says anything of the candidate, and no gate may take it for harm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from hotcold.domain.canary.counting import Answers

# Clients, of which the first ones ask most; some in a hundred fail this often.
_CLIENTS, _HEAVY = 40_000, 2.5
_BAD_CLIENTS, _BAD_CLIENT_RATE = 0.01, 0.2
# Of the requests, and of the seconds.
_NOBODY, _BAD_SECONDS, _BAD_SECOND_TIMES = 0.05, 0.01, 5.0
_SEGMENTS = ("", "new", "old")
_MEDIAN_US, _SPREAD = 3000.0, 0.5
_MOST_RATE = 0.9


@dataclass(frozen=True)
class Candidate:
    """How a version differs from the champion.

    Args:
        kind: for people.
        errors: its error rate, as a multiple of the champion's.
        slower: its latencies, as a multiple of the champion's.
        shift: of its scores, by a feature in the wrong unit.
    """

    kind: str
    errors: float = 1.0
    slower: float = 1.0
    shift: float = 0.0

    @property
    def is_identical(self) -> bool:
        """There is nothing to be found."""
        return (self.errors, self.slower, self.shift) == (1.0, 1.0, 0.0)


IDENTICAL = Candidate("identical")
BROKEN = (
    Candidate("errors 10x", errors=10.0),
    Candidate("errors 3x", errors=3.0),
    Candidate("slow", slower=20.0),
    Candidate("wrong units", shift=0.25),
)


class Consumers:
    """All requests of one simulated model.

    Args:
        random: source of everything.
        candidate: how the candidate differs.
        requests_per_s: mean rate.
        error_rate: share of the champion's answers that fail, in (0, 0.1].
        budget_us: latency budget, µs.
    """

    def __init__(
        self, random: Generator, candidate: Candidate, requests_per_s: float, error_rate: float, budget_us: float
    ) -> None:
        self._random, self._candidate, self._per_s, self._budget_us = random, candidate, requests_per_s, budget_us
        self._side = random.random(_CLIENTS)
        self._mean = random.beta(2.0, 5.0, _CLIENTS).clip(0.02, 0.6)
        rest = max((error_rate - _BAD_CLIENTS * _BAD_CLIENT_RATE) / (1 - _BAD_CLIENTS), error_rate / 2)
        self._rate = np.where(random.random(_CLIENTS) < _BAD_CLIENTS, _BAD_CLIENT_RATE, rest)
        self.requests = 0
        self.wrong = 0

    def pass_by(self, seconds: float) -> None:
        """Requests of a time in which the champion answers all of them."""
        self.requests += int(self._random.poisson(self._per_s * seconds))

    def ask(self, since_s: float, until_s: float, share_pct: int) -> Answers:
        """Requests between two moments, and their answers.

        Args:
            since_s: seconds since the epoch.
            until_s: the same.
            share_pct: candidate's share that the edge really has, percent.
        """
        random, n = self._random, int(self._random.poisson(self._per_s * (until_s - since_s)))
        at = np.sort(random.uniform(since_s * 1e6, until_s * 1e6, n)).astype(np.int64)
        client = (_CLIENTS * random.random(n) ** _HEAVY).astype(np.int64)
        nobody = random.random(n) < _NOBODY
        mine = np.where(nobody, random.random(n), self._side[client]) < share_pct / 100
        bad = random.random(int(until_s) - int(since_s) + 2)[at // 1_000_000 - int(since_s)] < _BAD_SECONDS
        rate = self._rate[client] * np.where(bad, _BAD_SECOND_TIMES, 1.0) * np.where(mine, self._candidate.errors, 1.0)
        good = random.random(n) >= rate.clip(max=_MOST_RATE)
        score = (self._mean[client] + random.normal(0, 0.05, n) + self._candidate.shift * mine).clip(0, 1)
        slow = np.where(bad, _BAD_SECOND_TIMES, 1.0) * np.where(mine, self._candidate.slower, 1.0)
        took_us = (_MEDIAN_US * random.lognormal(0, _SPREAD, n) * slow).astype(np.int64)
        self.requests += n
        self.wrong += int(np.count_nonzero(mine & self._is_wrong(good, took_us)))
        return Answers(
            share_pct=share_pct,
            arrived_us=at,
            entity=np.where(nobody, 0, client + 1).astype(np.uint64),
            segment=client % len(_SEGMENTS),
            segments=_SEGMENTS,
            is_candidate=mine,
            good=good,
            score=np.where(good, score, np.nan),
            total_us=took_us,
            label=np.full(n, np.nan),
        )

    def _is_wrong(self, good: NDArray[np.bool_], took_us: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Answers that a consumer has to complain of, shape (n,): failed, too late, or by a model in wrong units."""
        return np.full(len(good), True) if self._candidate.shift else ~good | (took_us >= self._budget_us)
