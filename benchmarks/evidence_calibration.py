"""How often identical versions are called different, with a peek at every observation.

Each gate runs at the edge of its null hypothesis, where false alarms are most frequent: equal error rates, a share or a mean of
exactly what is allowed. Where that edge is also the edge of SAFE, wrong SAFE verdicts are counted in the same runs.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from benchmarks.evidence_peeks import Floats, assert_same, first_counts, latency_paths, mean_path, off_table, ratio_path
from benchmarks.evidence_traffic import (
    STEPS_PCT,
    first_of,
    simulate_changes,
    simulate_losses,
    simulate_shares,
    simulate_traffic,
)
from hotcold.domain.evidence.discordant import DiscordantTest
from hotcold.domain.evidence.error_ratio import ErrorRatioTest
from hotcold.domain.evidence.exceedance import ExceedanceTest
from hotcold.domain.evidence.flips import flip_test
from hotcold.domain.evidence.paired_mean import MeanTest
from hotcold.domain.evidence.quantile_bounds import QuantileTest
from hotcold.domain.evidence.sample_ratio import SampleRatioTest

RUNS = 2000
_STEP_REQUESTS = 5000
_BASE_RATE = 0.01

ERRORS = ErrorRatioTest()
SLOW = ExceedanceTest(allowed=_BASE_RATE)
SLOW_SECONDS = MeanTest(_BASE_RATE, signed=False)
LATENCY = QuantileTest(quantile=0.9)
CHANGE = MeanTest(0.01, two_sided=True)
LOSS = MeanTest(0.01)
FLIPS = flip_test(allowed_per_1000=10)
ACCURACY = DiscordantTest()
RATIO = SampleRatioTest()
# So rare a false alarm takes more runs to be seen.
MORE_RUNS = {RATIO.signal: 50}


# Runs with a wrong HARM, and with a wrong SAFE; None where that was not simulated.
Fooled = tuple[int, int | None]


@dataclass(frozen=True)
class Calibration:
    """Wrong verdicts of one gate on one kind of traffic.

    Args:
        gate: its name.
        variant: of the traffic.
        runs: how many were simulated.
        harm: runs in which it ever said HARM.
        safe: runs in which it ever said SAFE at the limit; None where that was not simulated.
    """

    gate: str
    variant: str
    runs: int
    harm: int
    safe: int | None = None


def calibrate(gate: str, variant: str, runs: int) -> Calibration:
    """Simulate runs of one gate; the seed follows from the names, so that each figure can be had again."""
    random = np.random.default_rng(zlib.crc32(f"{gate}/{variant}".encode()))
    harm, safe = (GATES | COMPARISONS)[gate](variant, random, runs)
    return Calibration(gate, variant, runs * MORE_RUNS.get(gate, 1), harm, safe)


def level_of(gate: str) -> float:
    """The share of wrong verdicts that the gate promises not to exceed."""
    return RATIO.alpha if gate == RATIO.signal else ERRORS.alpha


def error_paths(variant: str, random: Generator, ratio: float, counting: str = "release") -> tuple[Floats, Floats]:
    """Evidence of harm and of safety after each failure of a canary in which `ratio` times as many entities fail.

    Args:
        variant: of the traffic.
        random: source of everything.
        ratio: candidate's failures over the champion's, for equal traffic.
        counting: an entity's failure counts once in the `release`, once in each `step`, or with each `request`.
    """
    n = _STEP_REQUESTS * len(STEPS_PCT)
    traffic = simulate_traffic(variant, random, n, per_second=20)
    shares = np.repeat(STEPS_PCT, _STEP_REQUESTS)
    failed = np.flatnonzero(random.random(n) < traffic.rates(_BASE_RATE, variant))
    if counting != "request":
        step = shares[failed] if counting == "step" else 0
        failed = failed[first_of(traffic.entity[failed] * 101 + step)]
    shares, is_candidate = shares[failed], (traffic.side < shares / 100)[failed]
    kept = is_candidate | (random.random(len(failed)) < 1 / ratio)
    shares, is_candidate = shares[kept], is_candidate[kept]
    if not len(shares):
        return np.zeros(0), np.zeros(0)
    harm, safe = ratio_path(shares, is_candidate, ERRORS.baseline), ratio_path(100 - shares, ~is_candidate, 1 / ERRORS.limit)
    sides = [{share: int((mine & (shares == share)).sum()) for share in STEPS_PCT} for mine in (is_candidate, ~is_candidate)]
    counts = {share: (sides[0][share], sides[1][share]) for share in STEPS_PCT}
    assert_same(ERRORS.log_harm(counts), harm[-1])
    assert_same(ERRORS.log_safe(counts), safe[-1])
    return harm, safe


def _error_ratio(variant: str, random: Generator, runs: int) -> Fooled:
    harm = sum(_reaches(error_paths(variant, random, 1.0)[0], ERRORS.alpha) for _ in range(runs))
    return harm, sum(_reaches(error_paths(variant, random, ERRORS.limit)[1], ERRORS.alpha) for _ in range(runs))


def _errors_otherwise(counting: str) -> Callable[[str, Generator, int], Fooled]:
    """What comes of counting more than the first failure of an entity."""

    def fooled(variant: str, random: Generator, runs: int) -> Fooled:
        return sum(_reaches(error_paths(variant, random, 1.0, counting)[0], ERRORS.alpha) for _ in range(runs)), None

    return fooled


def _z_test(variant: str, random: Generator, runs: int) -> Fooled:
    """Two proportions, pooled variance, 5 % two-sided: roll back as soon as a peek finds a significant difference."""
    n, harm = _STEP_REQUESTS * len(STEPS_PCT), 0
    shares, peeks = np.repeat(STEPS_PCT, _STEP_REQUESTS), np.arange(199, n, 200)
    for _ in range(runs):
        traffic = simulate_traffic(variant, random, n, per_second=20)
        is_candidate = traffic.side < shares / 100
        failed = random.random(n) < traffic.rates(_BASE_RATE, variant)
        answers = np.cumsum([is_candidate, ~is_candidate], axis=1)[:, peeks].clip(1)
        failures = np.cumsum([is_candidate & failed, ~is_candidate & failed], axis=1)[:, peeks]
        rates, pooled = failures / answers, failures.sum(axis=0) / answers.sum(axis=0)
        error = np.sqrt(pooled * (1 - pooled) * (1 / answers).sum(axis=0))
        harm += bool((np.abs(rates[0] - rates[1]) > 1.96 * error).any())
    return harm, None


def _over_budget(variant: str, random: Generator, runs: int) -> Fooled:
    requests, harm, safe = 4000, 0, 0
    harm_line = first_counts(SLOW.log_harm, requests, SLOW.alpha)
    safe_line = first_counts(lambda fast, total: SLOW.log_safe(total - fast, total), requests, SLOW.alpha)
    for _ in range(runs):
        traffic = simulate_traffic(variant, random, requests, per_second=1)
        slow = (random.random(requests) < traffic.rates(_BASE_RATE, variant))[traffic.counted()]
        total, hits = np.arange(1, len(slow) + 1), np.cumsum(slow)
        harm += bool((hits >= harm_line[total]).any())
        safe += bool((total - hits >= safe_line[total]).any())
    return harm, _unless_cycle(variant, safe)


def _over_budget_by_second(variant: str, random: Generator, runs: int) -> Fooled:
    harm = safe = 0
    for _ in range(runs):
        traffic = simulate_traffic(variant, random, 20_000, per_second=20)
        rates = traffic.rates(_BASE_RATE, variant)
        if variant == "heavy users":
            # All requests count here, so that the share of this very traffic has to be the allowed one.
            rates = rates * _BASE_RATE / rates.mean()
        slow, answers = random.random(len(rates)) < rates, np.bincount(traffic.second)
        seconds = (np.bincount(traffic.second, slow) / np.maximum(answers, 1))[answers > 0]
        harm += _reaches(_checked(SLOW_SECONDS, seconds), SLOW_SECONDS.alpha)
        safe += _reaches(mean_path(seconds, SLOW_SECONDS, SLOW_SECONDS.limit, above=False), SLOW_SECONDS.alpha)
    return harm, _unless_cycle(variant, safe)


def _latency(variant: str, random: Generator, runs: int) -> Fooled:
    harm = sum(_reaches(latency_paths(LATENCY, variant, random, LATENCY.baseline)[0], LATENCY.alpha) for _ in range(runs))
    safe = sum(_reaches(latency_paths(LATENCY, variant, random, LATENCY.limit)[1], LATENCY.alpha) for _ in range(runs))
    return harm, safe


def _every_latency(variant: str, random: Generator, runs: int) -> Fooled:
    """What one must not do: all answers count, those of the same client and of the same pause too."""
    paths = (latency_paths(LATENCY, variant, random, LATENCY.baseline, every=True)[0] for _ in range(runs))
    return sum(_reaches(path, LATENCY.alpha) for path in paths), None


def _score_change(variant: str, random: Generator, runs: int) -> Fooled:
    """The mean is at the upper limit; the direction in which it moved gets half of alpha."""
    changes = CHANGE.limit + simulate_changes(variant, random, (runs, 2000), spread=0.05)
    return _fooled(CHANGE, changes, CHANGE.alpha / 2)


def _flips(variant: str, random: Generator, runs: int) -> Fooled:
    shape = (runs, 3000)
    harm, safe = _fooled(FLIPS, simulate_shares(variant, random, shape, FLIPS.limit), FLIPS.alpha)
    return harm, _unless_cycle(variant, safe or 0)


def _log_loss(variant: str, random: Generator, runs: int) -> Fooled:
    return _fooled(LOSS, LOSS.limit + simulate_losses(variant, random, (runs, 2000)), LOSS.alpha)


def _fooled(test: MeanTest, values: Floats, alpha: float) -> Fooled:
    """Runs in which the test ever says HARM, and SAFE, where the mean is at the limit."""
    harm = safe = 0
    # Some runs at a time, since a path takes sixteen numbers for each value.
    for part in np.array_split(values, max(len(values) // 50, 1)):
        harm += int((_checked(test, part).max(axis=1) >= -math.log(alpha)).sum())
        safe += int((mean_path(part, test, test.limit, above=False).max(axis=1) >= -math.log(alpha)).sum())
    return harm, safe


def _accuracy(variant: str, random: Generator, runs: int) -> Fooled:
    """Each user, and each second, loses all pairs or wins all."""
    requests, harm, safe = 3000, 0, 0
    harm_line = first_counts(lambda lost, total: ACCURACY.log_harm(lost, total - lost), requests, ACCURACY.alpha)
    safe_line = first_counts(lambda won, total: ACCURACY.log_safe(total - won, won), requests, ACCURACY.alpha)
    for _ in range(runs):
        traffic = simulate_traffic(variant, random, requests, per_second=2)
        counted = traffic.counted()
        by_user, by_second = random.random(requests)[traffic.entity], random.random(requests)[traffic.second % requests]
        chance = (by_second if variant == "bursts" else by_user)[counted]
        total = np.arange(1, len(chance) + 1)
        harm += bool((np.cumsum(chance < ACCURACY.baseline) >= harm_line[total]).any())
        safe += bool((np.cumsum(chance >= ACCURACY.limit) >= safe_line[total]).any())
    return harm, safe


def _sample_ratio(variant: str, random: Generator, runs: int) -> Fooled:
    """Entities count when they come first. Each day of traffic is hashed with many salts: so rare an alarm takes many runs."""
    salts, entities, harm = MORE_RUNS[RATIO.signal], _STEP_REQUESTS // len(STEPS_PCT), 0
    tables = {share: off_table(entities, share / 100, RATIO.mass) for share in STEPS_PCT}
    for _ in range(runs):
        traffic = simulate_traffic(variant, random, entities * len(STEPS_PCT), per_second=20)
        shares = np.repeat(STEPS_PCT, entities)[first_of(traffic.entity)]
        is_candidate = random.random((salts, len(shares))) < shares / 100
        path = np.zeros(is_candidate.shape)
        for share, table in tables.items():
            here = shares == share
            path += table[np.cumsum(is_candidate & here, axis=1), np.cumsum(~is_candidate & here, axis=1)]
        harm += int((np.log(0.25 + 0.75 * np.exp(path)).max(axis=1) >= -math.log(RATIO.alpha)).sum())
    return harm, None


def _checked(test: MeanTest, values: Floats) -> Floats:
    """The path of harm, the end of which is what the test itself says."""
    path = mean_path(values, test, test.limit)
    last = np.atleast_2d(values)[-1]
    half = math.log(2) if test.two_sided else 0.0
    if path.ravel()[-1] > 1.0:
        assert_same(test.log_harm(test.count(last)) + half, path.ravel()[-1])
    return path


def _reaches(path: Floats, alpha: float) -> bool:
    return bool(len(path)) and float(path.max()) >= -math.log(alpha)


def _unless_cycle(variant: str, safe: int) -> int | None:
    """With a cycle the share is at the limit at noon only, and SAFE is right."""
    return None if variant == "daily cycle" else safe


GATES: dict[str, Callable[[str, Generator, int], Fooled]] = {
    "error_ratio": _error_ratio,
    "over_budget, one answer each": _over_budget,
    "over_budget, by second": _over_budget_by_second,
    "latency_quantile": _latency,
    "score_change": _score_change,
    "decision_flips": _flips,
    "log_loss": _log_loss,
    "accuracy": _accuracy,
    "sample_ratio": _sample_ratio,
}
# What the gates replace, and what one must not do.
COMPARISONS: dict[str, Callable[[str, Generator, int], Fooled]] = {
    "error_ratio, entities counted once in a step": _errors_otherwise("step"),
    "error_ratio, every request counted": _errors_otherwise("request"),
    "latency_quantile, every answer counted": _every_latency,
    "z-test, peeked at every 200 requests": _z_test,
}
