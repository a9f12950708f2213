"""A mean is compared across a drawn split: against the definition, whatever the traffic does, and with few false alarms."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotcold.domain.errors import EvidenceError
from hotcold.domain.evidence.randomised_mean import _CENTRES, _SIZES, RandomisedMeanTest
from hotcold.domain.evidence.split_values import SplitValues, count_split
from hotcold.domain.evidence.value_counts import NODES, ROUNDING
from hotcold.domain.gate import Verdict

SHIFT = RandomisedMeanTest(0.05, two_sided=True)
LOSS = RandomisedMeanTest(0.1, highest=4.0, signal="log_loss", unit="nats")
_GRID = st.sampled_from([float(node) for node in NODES])
_SPLITS = st.lists(st.tuples(_GRID, st.booleans(), st.sampled_from([5, 10, 50])), max_size=30)


def counted(rows: list[tuple[float, bool, int]]) -> SplitValues:
    total = SplitValues()
    for value, is_candidate, share_pct in rows:
        total = total.merge(count_split(np.array([value]), np.array([is_candidate]), share_pct))
    return total


def product_of_bets(rows: list[tuple[float, bool, int]], limit: float) -> float:
    """The definition, bet by bet and entity by entity."""
    products = []
    for size in _SIZES:
        for centre in _CENTRES:
            product = 1.0
            for value, is_candidate, share_pct in rows:
                share = share_pct / 100
                weighted = (value - centre) / share if is_candidate else -(value - centre) / (1 - share)
                least = -max((1 + centre) / share, (1 - centre) / (1 - share))
                product *= 1 + size * (weighted - limit) / (limit - least)
            products.append(product)
    return float(np.mean(products))


def traffic(n: int, change: float, seed: int = 0, drift: float = 0.0) -> SplitValues:
    """Steps of 5, 10, 25 and 50 %, n entities each; from the first to the last the scores of both sides drift."""
    random, total = np.random.default_rng(seed), SplitValues()
    for place, share_pct in enumerate((5, 10, 25, 50)):
        is_candidate = random.random(n) < share_pct / 100
        scores = np.clip(0.4 + drift * place / 3 + 0.2 * random.standard_normal(n) + change * is_candidate, 0, 1)
        total = total.merge(count_split(scores, is_candidate, share_pct, 0.0, 1.0))
    return total


@given(_SPLITS)
@settings(deadline=None)
def test_evidence_is_that_of_the_definition(rows: list[tuple[float, bool, int]]) -> None:
    test = RandomisedMeanTest(0.1, -1.0, 1.0)
    expected = math.log(product_of_bets(rows, 0.1 + 2 * ROUNDING))
    assert pytest.approx(expected, abs=1e-6) == test.log_harm(counted(rows))


@given(_SPLITS, _SPLITS)
@settings(deadline=None)
def test_merged_counts_are_those_of_all_in_any_order(
    rows: list[tuple[float, bool, int]], more: list[tuple[float, bool, int]]
) -> None:
    assert counted(rows + more) == counted(more).merge(counted(rows))
    assert counted(rows) == SplitValues.from_json(counted(rows).to_json())


@given(_SPLITS, st.sampled_from([5, 10, 50]))
@settings(deadline=None)
def test_the_highest_value_at_the_candidate_is_never_evidence_against_a_rise(
    rows: list[tuple[float, bool, int]], share_pct: int
) -> None:
    test = RandomisedMeanTest(0.1, -1.0, 1.0)
    assert test.log_harm(counted([*rows, (1.0, True, share_pct)])) >= test.log_harm(counted(rows)) - 1e-9


@pytest.mark.parametrize("change,expected", [(0.12, Verdict.HARM), (-0.12, Verdict.HARM), (0.0, Verdict.SAFE)])
def test_a_shift_in_either_direction_is_harm_and_none_is_safe(change: float, expected: Verdict) -> None:
    finding = SHIFT.judge(traffic(4000, change))
    assert expected is finding.verdict
    assert finding.lower < change < finding.upper
    assert pytest.approx(change, abs=0.02) == finding.effect


def test_scores_that_drift_while_the_share_grows_are_no_shift() -> None:
    """Two means over all steps differ by 0.1 here, although the versions are the same."""
    values = traffic(4000, 0.0, drift=0.3)
    sides = zip(*values.by_share.values(), strict=True)
    means = [sum(side.mean * side.total for side in sides_) / sum(side.total for side in sides_) / 2 for sides_ in sides]
    assert means[0] - means[1] > 0.05
    assert Verdict.HARM is not SHIFT.verdict(values)
    assert -0.05 < (SHIFT.judge(values).effect or 1.0) < 0.05


def test_little_evidence_and_values_that_are_no_numbers_are_never_safe() -> None:
    assert Verdict.UNKNOWN is SHIFT.verdict(SplitValues())
    assert Verdict.UNKNOWN is SHIFT.verdict(traffic(30, 0.0))
    nothing = SHIFT.judge(SplitValues())
    assert (None, -2, 2) == (nothing.effect, round(nothing.lower * 2), round(nothing.upper * 2))
    odd = count_split(np.array([math.nan]), np.array([True]), 5, 0.0, 1.0)
    finding = SHIFT.judge(traffic(4000, 0.0).merge(odd))
    assert (Verdict.UNKNOWN, True) == (finding.verdict, "no numbers" in finding.caveat)


def test_shares_without_a_draw_say_nothing() -> None:
    for share_pct in (0, 100):
        values = count_split(np.ones(5000), np.full(5000, share_pct == 100), share_pct, 0.0, 1.0)
        assert Verdict.UNKNOWN is SHIFT.verdict(values)


def test_verdict_and_bounds_say_the_same() -> None:
    for change in np.linspace(-0.12, 0.12, 9):
        finding = SHIFT.judge(traffic(1500, float(change), seed=7))
        is_harm = finding.lower > 0.05 or finding.upper < -0.05
        is_safe = -0.05 < finding.lower and finding.upper < 0.05
        assert (finding.verdict is Verdict.HARM, finding.verdict is Verdict.SAFE) == (is_harm, is_safe)


@pytest.mark.parametrize("drift", [0.0, 0.4])
def test_at_the_limit_false_alarms_are_as_rare_as_promised_at_every_peek(drift: float) -> None:
    """300 releases whose mean is up by exactly the limit, peeked at after every entity; evidence of harm grows by each bet."""
    random, n, limit = np.random.default_rng(3), 400, 0.1
    crossed = 0
    for _ in range(300):
        log = np.zeros(len(_SIZES) * len(_CENTRES))[:, None]
        for place, share in enumerate((0.05, 0.1, 0.25, 0.5)):
            is_candidate = random.random(n) < share
            values = np.clip(random.normal(drift * (place / 3 - 0.5), 0.4, n), -0.85, 0.85) + limit * is_candidate
            centre = np.tile(_CENTRES, len(_SIZES))[:, None]
            size = np.repeat(_SIZES, len(_CENTRES))[:, None]
            weighted = (values - centre) * np.where(is_candidate, 1 / share, -1 / (1 - share))
            least = -np.maximum((1 + centre) / share, (1 - centre) / (1 - share))
            path = log + np.cumsum(np.log1p(size * (weighted - limit) / (limit - least)), axis=1)
            over = bool((np.logaddexp.reduce(path, axis=0) - math.log(len(path)) >= math.log(20)).any())
            crossed += over
            if over:
                break
            log = path[:, -1:]
    assert crossed <= 0.05 * 300


@pytest.mark.parametrize("limit", [0.0, 1.0, math.nan])
def test_limits_that_cannot_be_are_refused(limit: float) -> None:
    with pytest.raises(EvidenceError, match="limit is"):
        RandomisedMeanTest(limit)
