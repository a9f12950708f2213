import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special, stats

from hotcold.domain.evidence.beta_mixture import log_evidence_above, log_evidence_off

shares = st.floats(0.001, 0.999)
masses = st.sampled_from([2.0, 20.0, 50.0])


def mixed_by_integration(hits: int, misses: int, share: float, mass: float) -> float:
    """The definition: the likelihood ratio, averaged over the prior above the share."""
    prior = stats.beta(share * mass, (1 - share) * mass)

    def weighted(theta: float) -> float:
        log_ratio = hits * math.log(theta / share) + misses * math.log((1 - theta) / (1 - share))
        return math.exp(log_ratio) * float(prior.pdf(theta))

    peak = min(max((hits + 1) / (hits + misses + 2), share * 1.001), 0.999)
    total, _ = integrate.quad(weighted, share, 1.0, points=[peak], limit=500)
    return total / float(prior.sf(share))


@pytest.mark.parametrize("hits,misses,share,mass", [(3, 10, 0.1, 50), (0, 30, 0.05, 20), (40, 10, 0.5, 2), (12, 400, 0.01, 50)])
def test_it_is_the_likelihood_ratio_averaged_over_larger_shares(hits: int, misses: int, share: float, mass: float) -> None:
    expected = math.log(mixed_by_integration(hits, misses, share, mass))
    assert pytest.approx(expected, rel=1e-6) == log_evidence_above(hits, misses, share, mass)


def test_it_is_the_two_sided_formula_times_the_posteriors_mass_above_over_the_priors() -> None:
    s, t, p, m = 14, 300, 0.02, 50
    log_e = special.betaln(p * m + s, (1 - p) * m + t - s) - special.betaln(p * m, (1 - p) * m)
    log_e -= s * math.log(p) + (t - s) * math.log(1 - p)
    above = stats.beta(p * m + s, (1 - p) * m + t - s).sf(p) / stats.beta(p * m, (1 - p) * m).sf(p)
    assert pytest.approx(log_e) == float(log_evidence_off(np.array([14.0]), np.array([286.0]), (p,), m)[0])
    assert pytest.approx(log_e + math.log(above)) == log_evidence_above(s, t - s, p, m)


def test_with_a_uniform_prior_it_is_the_mixture_of_ville_and_robbins() -> None:
    """Ten heads in a row: the mean over theta of theta^10 against 2^-10, that is 2^10 / 11."""
    assert pytest.approx(2**10 / 11) == math.exp(float(log_evidence_off(np.array([10.0]), np.array([0.0]), (0.5,), 2.0)[0]))
    assert pytest.approx(2**10 / (11 * math.comb(10, 3))) == math.exp(
        float(log_evidence_off(np.array([3.0]), np.array([7.0]), (0.5,), 2.0)[0])
    )


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.97])
@pytest.mark.parametrize("observations", [1, 7, 60])
def test_its_expectation_is_one_at_the_tested_share_and_less_below(share: float, observations: int) -> None:
    hits = np.arange(observations + 1)
    evidence = np.exp([log_evidence_above(int(s), observations - int(s), share, 50.0) for s in hits])
    off = np.exp(log_evidence_off(hits.astype(float), (observations - hits).astype(float), (share,), 50.0))
    assert pytest.approx(1.0) == float(stats.binom(observations, share).pmf(hits) @ evidence)
    assert pytest.approx(1.0) == float(stats.binom(observations, share).pmf(hits) @ off)
    for below in (0.9 * share, 0.3 * share, 0.0):
        assert float(stats.binom(observations, below).pmf(hits) @ evidence) < 1.0


def test_whoever_peeks_at_every_answer_is_fooled_with_the_promised_chance_at_most() -> None:
    """The chance that the evidence ever reaches 20 within 3,000 answers, exactly, by following the distribution of the hits."""
    share, chance, fooled = 0.05, np.zeros(3001), 0.0
    chance[0] = 1.0
    for observations in range(1, 3001):
        chance[1:] = chance[1:] * (1 - share) + chance[:-1] * share
        chance[0] *= 1 - share
        hit = observations * share
        # The evidence grows with the hits, so the first count that reaches the line is enough.
        first = next(s for s in range(math.ceil(hit), observations + 2) if _reaches(s, observations, share))
        fooled += chance[first:].sum()
        chance[first:] = 0.0
    assert 0.02 < fooled <= 0.05


def _reaches(hits: int, observations: int, share: float) -> bool:
    return hits > observations or log_evidence_above(hits, observations - hits, share, 50.0) >= math.log(20)


@given(st.integers(0, 500), st.integers(0, 500), shares, masses)
def test_one_more_hit_never_lowers_it_and_one_more_miss_never_raises_it(
    hits: int, misses: int, share: float, mass: float
) -> None:
    here = log_evidence_above(hits, misses, share, mass)
    assert log_evidence_above(hits, misses + 1, share, mass) <= here + 1e-9
    assert here <= log_evidence_above(hits + 1, misses, share, mass) + 1e-9


@given(st.integers(0, 2000), st.integers(0, 2000), shares, shares, masses)
def test_it_falls_as_the_tested_share_grows_wherever_it_counts(
    hits: int, misses: int, one: float, other: float, mass: float
) -> None:
    low, high = sorted((one, other))
    at_high = log_evidence_above(hits, misses, high, mass)
    assert at_high <= max(log_evidence_above(hits, misses, low, mass), 0.7) + 1e-9


@given(st.integers(0, 10_000_000), st.integers(0, 10_000_000), shares, masses)
def test_on_the_other_side_there_is_no_evidence(hits: int, misses: int, share: float, mass: float) -> None:
    """Where the tail is too small for a float, too: the two-sided formula is huge there."""
    if hits <= share * (hits + misses):
        assert log_evidence_above(hits, misses, share, mass) <= 1e-6


def test_far_on_the_other_side_it_is_a_number_that_falls_slowly() -> None:
    found = [log_evidence_above(0, n, 0.01, 50.0) for n in (10**3, 10**5, 10**7, 10**9)]
    assert sorted(found, reverse=True) == found
    assert found[-1] > -25
