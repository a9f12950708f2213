import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotcold.domain.errors import EvidenceError
from hotcold.domain.evidence.latency_counts import LatencyCounts, count_latencies, no_latencies
from hotcold.domain.evidence.odds_mixture import log_evidence_above, log_mean_exp
from hotcold.domain.evidence.quantile_bounds import QuantileTest, quantile_bounds
from hotcold.domain.evidence.quantile_evidence import is_slower, log_slower
from hotcold.domain.gate import Verdict

EDGES = tuple(int(edge) for edge in np.geomspace(500, 50_000, 60))
FEW = (100, 200, 400, 800)
TEST = QuantileTest()
MEDIAN = QuantileTest(quantile=0.5)
few_counts = st.lists(st.integers(0, 40), min_size=5, max_size=5).map(lambda counts: LatencyCounts(FEW, np.array(counts)))


def latencies(n: int, factor: float = 1.0, seed: int = 0) -> LatencyCounts:
    """Log-normal around 2 ms, p99 at about 5 ms."""
    random = np.random.default_rng(seed)
    return count_latencies(factor * 2000 * np.exp(0.4 * random.normal(size=n)), EDGES)


def least_product(first: LatencyCounts, second: LatencyCounts, quantile: float, factor: float) -> float:
    """The definition, threshold by threshold: over all bins that the first side's quantile may lie in."""
    edges, least = [-math.inf, *first.edges_us, math.inf], math.inf
    for lower, upper in pairwise(edges):
        log = _half(first, upper, 1 - quantile, above=True) if upper < math.inf else 0.0
        reachable = [edge for edge in first.edges_us if edge <= lower / factor]
        if reachable:
            log += _half(second, max(reachable), quantile, above=False)
        least = min(least, log)
    return least


def _half(side: LatencyCounts, edge: float, share: float, *, above: bool) -> float:
    below = int(side.counts[: side.edges_us.index(int(edge)) + 1].sum())
    pair = (side.total - below, below) if above else (below, side.total - below)
    # The share in percent of the process: 1 - 0.9 is not 0.1.
    bet = log_evidence_above({round(100 * share): pair}, 1.0)
    return log_mean_exp(np.array([0.0, bet]))


def test_twice_as_slow_is_harm_and_as_fast_is_safe() -> None:
    assert Verdict.HARM is TEST.verdict(latencies(1000, 2.0), latencies(5000, seed=1))
    assert Verdict.SAFE is TEST.verdict(latencies(20_000), latencies(20_000, seed=1))
    assert Verdict.UNKNOWN is TEST.verdict(latencies(200), latencies(200, seed=1))


def test_the_finding_says_by_how_much() -> None:
    finding = MEDIAN.judge(latencies(3000, 2.0), latencies(3000, seed=1))
    assert Verdict.HARM is finding.verdict
    assert finding.effect == pytest.approx(2.0, rel=0.1)
    assert 1.5 < finding.lower < 2.0 < finding.upper < 2.5
    assert "50th latency percentile" in finding.sentence


@pytest.mark.parametrize("empty", ["candidate", "champion", "both"])
def test_without_one_side_it_is_unknown(empty: str) -> None:
    nothing, some = no_latencies(EDGES), latencies(5000)
    finding = TEST.judge(nothing if empty != "champion" else some, nothing if empty != "candidate" else some)
    assert (Verdict.UNKNOWN, None, 0.0, math.inf) == (finding.verdict, finding.effect, finding.lower, finding.upper)
    assert "no evidence" in finding.sentence


def test_what_is_no_latency_keeps_it_from_being_safe() -> None:
    broken = LatencyCounts(EDGES, latencies(20_000).counts, invalid=1)
    finding = TEST.judge(broken, latencies(20_000, seed=1))
    assert (Verdict.UNKNOWN, None) == (finding.verdict, finding.needed)
    assert "1 latencies were not numbers, so it cannot be SAFE" in finding.sentence
    slow = LatencyCounts(EDGES, latencies(1000, 2.0).counts, invalid=1)
    assert Verdict.HARM is TEST.verdict(slow, latencies(5000))


def test_answers_that_never_came_are_above_all_edges() -> None:
    hung = count_latencies(np.full(200, math.inf), EDGES)
    finding = TEST.judge(hung, latencies(5000))
    assert (Verdict.HARM, None) == (finding.verdict, finding.effect)


def test_bins_too_coarse_to_tell_are_unknown() -> None:
    coarse = LatencyCounts((1000, 100_000), np.array([0, 50_000, 0]))
    assert Verdict.UNKNOWN is TEST.verdict(coarse, coarse)


def test_other_bins_cannot_be_compared() -> None:
    with pytest.raises(EvidenceError, match="edges"):
        TEST.verdict(no_latencies(EDGES), no_latencies(FEW))


@given(few_counts, few_counts, st.sampled_from([0.5, 0.9]), st.sampled_from([0.5, 0.8, 1.0, 1.3, 2.0, 4.0]))
def test_it_is_the_least_product_over_all_bins(one: LatencyCounts, two: LatencyCounts, quantile: float, factor: float) -> None:
    expected = least_product(one, two, quantile, factor)
    assert pytest.approx(expected, abs=1e-9) == log_slower(one, two, quantile, factor)


@given(few_counts, few_counts, st.sampled_from([0.5, 0.9]), st.sampled_from([0.5, 0.8, 1.0, 1.3]))
def test_the_short_cut_is_never_wrong(one: LatencyCounts, two: LatencyCounts, quantile: float, factor: float) -> None:
    for needed in (0.1, 3.0):
        assert (log_slower(one, two, quantile, factor) >= needed) == is_slower(one, two, quantile, factor, needed)


@given(few_counts, few_counts, st.integers(0, 3))
def test_one_answer_moved_to_a_slower_bin_never_lowers_the_evidence_of_harm(
    candidate: LatencyCounts, champion: LatencyCounts, index: int
) -> None:
    if not candidate.counts[index]:
        return
    moved = candidate.counts.copy()
    moved[index] -= 1
    moved[index + 1] += 1
    slower = LatencyCounts(FEW, moved)
    assert MEDIAN.log_harm(candidate, champion) <= MEDIAN.log_harm(slower, champion) + 1e-9
    assert MEDIAN.log_safe(candidate, champion) >= MEDIAN.log_safe(slower, champion) - 1e-9
    assert MEDIAN.log_harm(champion, slower) <= MEDIAN.log_harm(champion, candidate) + 1e-9


@settings(max_examples=30)
@given(few_counts, few_counts)
def test_the_verdict_is_what_the_bounds_say(candidate: LatencyCounts, champion: LatencyCounts) -> None:
    finding = MEDIAN.judge(candidate, champion)
    assert (finding.verdict is Verdict.HARM) == (finding.lower >= 1.0 - 1e-9)
    if finding.verdict is not Verdict.HARM:
        assert (finding.verdict is Verdict.SAFE) == (finding.upper <= 1.25 + 1e-9)


def test_equal_sides_are_hardly_ever_called_different_however_often_one_looks() -> None:
    """200 runs of 300 seconds with a peek at each tenth: fewer than 5 % ever see HARM, or SAFE for a candidate at the limit."""
    random, harm, safe = np.random.default_rng(2), 0, 0
    test = QuantileTest(quantile=0.5, limit=2.0)
    for _ in range(200):
        one, two = 2000 * np.exp(0.4 * random.normal(size=(2, 300)))
        peeks = range(10, 301, 10)
        harm += any(
            Verdict.HARM is test.verdict(count_latencies(one[:n], EDGES), count_latencies(two[:n], EDGES)) for n in peeks
        )
        twice = 2 * one
        safe += any(
            Verdict.SAFE is test.verdict(count_latencies(twice[:n], EDGES), count_latencies(two[:n], EDGES)) for n in peeks
        )
    assert harm <= 10
    assert safe <= 10


class TestBoundsOfOneSide:
    def test_they_are_edges_around_the_quantile(self) -> None:
        side = latencies(5000)
        lower, upper = quantile_bounds(side, 0.5, 0.05)
        assert lower in EDGES
        assert upper in EDGES
        assert 1700 < lower < 2000 < upper < 2300

    def test_they_are_all_edges_that_are_not_rejected(self) -> None:
        """Edge by edge: 60 of 100 at or below 400 and 5 at or below 200 leave the median between 200 and 800."""
        side = LatencyCounts(FEW, np.array([0, 5, 55, 30, 10]))
        assert (200.0, 800.0) == quantile_bounds(side, 0.5, 0.05)
        assert log_evidence_above({50: (95, 5)}, 1.0) >= math.log(20)
        assert log_evidence_above({50: (60, 40)}, 1.0) < math.log(20)

    def test_without_latencies_they_say_nothing(self) -> None:
        assert (0.0, math.inf) == quantile_bounds(no_latencies(EDGES), 0.99, 0.05)

    def test_a_quantile_that_is_none_is_refused(self) -> None:
        with pytest.raises(EvidenceError, match="quantile"):
            quantile_bounds(no_latencies(EDGES), 1.0, 0.05)


@pytest.mark.parametrize(
    "arguments", [{"quantile": 1.0}, {"alpha": 0.0}, {"limit": 0.9}, {"baseline": 0.0}, {"limit": math.nan}]
)
def test_limits_that_make_no_sense_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(EvidenceError, match="allowed is"):
        QuantileTest(**arguments)  # type: ignore[arg-type]
