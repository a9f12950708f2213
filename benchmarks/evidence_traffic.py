"""Simulated traffic of identical versions: plain, with heavy users, in bursts, and with a daily cycle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

VARIANTS = ("plain", "heavy users", "bursts", "daily cycle")
# The canary of the design: 5,000 requests at each of these shares.
STEPS_PCT = (5, 10, 25, 50)
# Some users in a hundred fail often; seconds in a hundred are bad; the day swings by this much.
_BAD_USERS, _BAD_USER_RATE = 0.02, 0.3
_BAD_SECONDS, _BAD_SECOND_RATE = 0.01, 0.5
_SWING = 0.8

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Traffic:
    """Requests in the order of their arrival, shape (n,) each.

    Args:
        second: in which each arrived.
        entity: who sent it.
        side: hash of the entity in [0, 1); below the candidate's share it is the candidate's.
        level: how busy the day is, 1 on average; 1 all the time without a cycle.
        bad_user: the entity is one that fails often.
        bad_second: both sides are slow or fail in that second.
    """

    second: Ints
    entity: Ints
    side: Floats
    level: Floats
    bad_user: Bools
    bad_second: Bools

    def rates(self, mean: float, variant: str) -> Floats:
        """Chance of each request to fail or to be slow, whichever side answers: `mean` on average, or at most."""
        if variant == "heavy users":
            rest = (mean - _BAD_USERS * _BAD_USER_RATE) / (1 - _BAD_USERS)
            return np.where(self.bad_user, _BAD_USER_RATE, rest)
        if variant == "bursts":
            rest = (mean - _BAD_SECONDS * _BAD_SECOND_RATE) / (1 - _BAD_SECONDS)
            return np.where(self.bad_second, _BAD_SECOND_RATE, rest)
        return mean * self.level / (1 + _SWING) if variant == "daily cycle" else np.full(len(self.second), mean)

    def counted(self, candidate: Bools | None = None) -> Bools:
        """The first answer of each entity, if it is the first of its second and side as well: these are independent."""
        side = np.zeros(len(self.second), dtype=np.int64) if candidate is None else candidate.astype(np.int64)
        counted = first_of(self.entity)
        kept = np.flatnonzero(counted)
        counted[kept] = first_of(2 * self.second[kept] + side[kept])
        return counted


def simulate_traffic(variant: str, random: Generator, requests: int, per_second: float) -> Traffic:
    """One run.

    Args:
        variant: one of VARIANTS.
        random: source of everything.
        requests: n.
        per_second: mean rate.
    """
    day = 2 * np.pi * np.arange(requests) / requests
    level = 1 + _SWING * np.sin(day) if variant == "daily cycle" else np.ones(requests)
    second = np.cumsum(random.exponential(1 / per_second, requests) / level).astype(np.int64)
    users = max(requests // 8, 1)
    if variant == "heavy users":
        weights = np.arange(1, users + 1) ** -1.1
        entity = np.searchsorted(np.cumsum(weights / weights.sum()), random.random(requests)).clip(0, users - 1)
    else:
        entity = np.arange(requests)
    size = int(entity.max()) + 1
    bad_seconds = random.random(int(second[-1]) + 1) < _BAD_SECONDS
    bad_users = random.random(size) < _BAD_USERS
    return Traffic(second, entity, random.random(size)[entity], level, bad_users[entity], bad_seconds[second])


def first_of(keys: NDArray[Any]) -> Bools:
    """Where each key comes for the first time."""
    first = np.zeros(len(keys), dtype=bool)
    first[np.unique(keys, return_index=True)[1]] = True
    return first


def simulate_changes(variant: str, random: Generator, shape: tuple[int, int], spread: float) -> Floats:
    """Differences of mean zero, one for each entity or each closed second.

    Args:
        variant: one of VARIANTS.
        random: source of everything.
        shape: (runs, n).
        spread: standard deviation of one pair.

    Returns:
        Of that shape.
    """
    if variant == "heavy users":
        # An entity has a bias of its own, and the mean of its pairs is one observation.
        pairs = np.minimum(random.zipf(1.6, shape), 10_000)
        return random.normal(0, spread, shape) + random.normal(0, 2 * spread, shape) / np.sqrt(pairs)
    noise = random.normal(0, spread, shape)
    if variant == "bursts":
        hit = random.random(shape) < _BAD_SECONDS
        return noise + hit * random.choice([-0.5, 0.5], shape)
    if variant == "daily cycle":
        return noise * (1 + _SWING * np.sin(2 * np.pi * np.arange(shape[1]) / shape[1]))
    return noise


def simulate_shares(variant: str, random: Generator, shape: tuple[int, int], mean: float) -> Floats:
    """Shares of an entity's or a second's pairs that flipped; single pairs are 0 or 1. Their mean is at most `mean`.

    Args:
        variant: one of VARIANTS.
        random: source of everything.
        shape: (runs, n).
        mean: rate of flips.

    Returns:
        Of that shape, in [0, 1].
    """
    if variant == "heavy users":
        pairs = np.minimum(random.zipf(1.6, shape), 10_000)
        rest = (mean - _BAD_USERS * _BAD_USER_RATE) / (1 - _BAD_USERS)
        return random.binomial(pairs, np.where(random.random(shape) < _BAD_USERS, _BAD_USER_RATE, rest)) / pairs
    if variant == "bursts":
        rest = (mean - _BAD_SECONDS * _BAD_SECOND_RATE) / (1 - _BAD_SECONDS)
        return random.binomial(20, np.where(random.random(shape) < _BAD_SECONDS, _BAD_SECOND_RATE, rest)) / 20
    swing = 1 + _SWING * np.sin(2 * np.pi * np.arange(shape[1]) / shape[1])
    rate = mean * swing / (1 + _SWING) if variant == "daily cycle" else mean
    return (random.random(shape) < rate).astype(np.float64)


def simulate_losses(variant: str, random: Generator, shape: tuple[int, int]) -> Floats:
    """Excess log-loss of one of two models that are equally good; one value for each entity or each closed second.

    Both err on the logit by 0.3, independently, so that the difference has mean zero and the skewed spread of real losses.

    Args:
        variant: one of VARIANTS.
        random: source of everything.
        shape: (runs, n).

    Returns:
        Of that shape, nats.
    """
    if variant in ("heavy users", "bursts"):
        # The mean of four labels of one entity, or of one second, that are all the same.
        return np.mean([_excess_losses(random, shape, seed) for seed in (random.random(shape),) * 4], axis=0)
    losses = _excess_losses(random, shape, random.random(shape))
    return (
        losses * (1 + _SWING * np.sin(2 * np.pi * np.arange(shape[1]) / shape[1])) / 2 if variant == "daily cycle" else losses
    )


def _excess_losses(random: Generator, shape: tuple[int, int], chance: Floats) -> Floats:
    """The label is 1 where a uniform `chance` lies below the true probability, 0.2."""
    logit = np.log(0.2 / 0.8)
    sign = np.where(chance < 0.2, -1.0, 1.0)
    losses = [np.logaddexp(0.0, sign * (logit + random.normal(0, 0.3, shape))) for _ in range(2)]
    return np.clip(losses[0] - losses[1], -0.95, 0.95)
