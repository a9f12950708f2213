"""What it costs to fold ten observations into a gate's counts and to have its verdict."""

from __future__ import annotations

import timeit
from collections.abc import Callable

import numpy as np

from benchmarks.evidence_calibration import ACCURACY, CHANGE, ERRORS, FLIPS, LATENCY, LOSS, RATIO, SLOW
from hotcold.domain.evidence.discordant import DiscordantCounts
from hotcold.domain.evidence.error_ratio import ErrorCounts
from hotcold.domain.evidence.exceedance import ShareCounts
from hotcold.domain.evidence.latency_counts import count_latencies
from hotcold.domain.evidence.paired_mean import MeanTest
from hotcold.domain.evidence.split_counts import SplitCounts
from hotcold.domain.gate import Verdict

_EDGES = tuple(int(edge) for edge in np.geomspace(500, 100_000, 40))
_REPEATS, _NUMBER = 20, 500


def update_times() -> dict[str, float]:
    """Microseconds by gate: the fastest of twenty rounds, since others use the machine too."""
    return {
        gate: min(timeit.repeat(update, number=_NUMBER, repeat=_REPEATS)) / _NUMBER * 1e6 for gate, update in _updates().items()
    }


def judge_times() -> dict[str, float]:
    """Microseconds of a whole finding with bounds, forecast and sentence, for two gates."""
    random = np.random.default_rng(0)
    changes = CHANGE.count(random.normal(0, 0.05, 5000))
    judges: dict[str, Callable[[], object]] = {
        "error_ratio": lambda: ERRORS.judge(_errors()).sentence,
        "score_change": lambda: CHANGE.judge(changes).sentence,
    }
    return {gate: min(timeit.repeat(judge, number=10, repeat=10)) / 10 * 1e6 for gate, judge in judges.items()}


def _errors() -> ErrorCounts:
    """A canary at its last step, undecided."""
    failures = SplitCounts({5: (3, 45), 10: (4, 46), 25: (10, 38), 50: (3, 4)})
    return ErrorCounts(failures, SplitCounts({5: (250, 4750), 10: (500, 4500), 25: (1250, 3750), 50: (300, 290)}))


def _updates() -> dict[str, Callable[[], Verdict]]:
    random = np.random.default_rng(0)
    errors, shares, pairs = _errors(), ShareCounts(15, 1500), DiscordantCounts(60, 62, 900)
    champion = count_latencies(2000 * np.exp(0.4 * random.normal(size=2000)), _EDGES)
    candidate = count_latencies(2000 * np.exp(0.4 * random.normal(size=500)), _EDGES)
    latencies = 2000 * np.exp(0.4 * random.normal(size=10))
    return {
        "error_ratio": lambda: ERRORS.verdict(errors.merge(ErrorCounts(SplitCounts({50: (1, 0)}), SplitCounts({50: (4, 6)})))),
        "over_budget": lambda: SLOW.verdict(shares.merge(ShareCounts(1, 10))),
        "latency_quantile": lambda: LATENCY.verdict(candidate.merge(count_latencies(latencies, _EDGES)), champion),
        "score_change": _mean_update(CHANGE, random.normal(0.005, 0.05, 1000), random.normal(0, 0.05, 10)),
        "decision_flips": _mean_update(FLIPS, np.repeat([1.0, 0.0], [10, 990]), np.zeros(10)),
        "log_loss": _mean_update(LOSS, random.normal(0.01, 0.15, 1000), random.normal(0, 0.15, 10)),
        "accuracy": lambda: ACCURACY.verdict(pairs.merge(DiscordantCounts(1, 0, 9))),
        "sample_ratio": lambda: RATIO.verdict(errors.answers.merge(SplitCounts({50: (4, 6)}))),
    }


def _mean_update(test: MeanTest, before: np.ndarray, batch: np.ndarray) -> Callable[[], Verdict]:
    counts = test.count(before)
    return lambda: test.verdict(counts.merge(test.count(batch)))
