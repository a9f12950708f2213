import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotcold.domain.errors import EvidenceError
from hotcold.domain.evidence.bets import bet_sizes
from hotcold.domain.evidence.paired_mean import MeanTest
from hotcold.domain.evidence.value_counts import NODES, ROUNDING, ValueCounts, count_values
from hotcold.domain.gate import Verdict

CHANGE = MeanTest(0.01, two_sided=True)
LOSS = MeanTest(0.01, signal="log_loss", unit="nats", subject="the mean excess of the log-loss")
SLOW = MeanTest(0.01, signed=False, signal="over_budget", unit="%", per=100, counted="seconds")
signed = st.lists(st.floats(-1, 1) | st.floats(-0.01, 0.01), max_size=40)


def normal(mean: float, spread: float, n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, spread, n)


def product_of_bets(values: list[float], limit: float) -> float:
    """The definition for signed values: bets on v = (d + 1) / 2 against m = (limit + 1) / 2, size by size, value by value."""
    mean = (limit + 1) / 2
    sizes = bet_sizes((0.01 + 1) / 2)
    return float(np.mean([math.prod(1 + size / mean * ((value + 1) / 2 - mean) for value in values) for size in sizes]))


class TestVerdicts:
    @pytest.mark.parametrize("mean,expected", [(0.04, Verdict.HARM), (-0.04, Verdict.HARM), (0.0, Verdict.SAFE)])
    def test_a_change_in_either_direction_counts(self, mean: float, expected: Verdict) -> None:
        assert expected is CHANGE.verdict(CHANGE.count(normal(mean, 0.05, 3000)))

    def test_a_lower_loss_is_safe_and_a_higher_one_harm(self) -> None:
        assert Verdict.SAFE is LOSS.verdict(LOSS.count(normal(-0.05, 0.15, 2000)))
        assert Verdict.HARM is LOSS.verdict(LOSS.count(normal(0.05, 0.15, 2000)))

    def test_the_share_of_slow_answers_by_second(self) -> None:
        slow = np.random.default_rng(0).binomial(100, 0.03, 60) / 100
        assert Verdict.HARM is SLOW.verdict(SLOW.count(slow))
        assert Verdict.SAFE is SLOW.verdict(SLOW.count(np.zeros(600)))
        assert Verdict.UNKNOWN is SLOW.verdict(SLOW.count(np.zeros(300)))

    def test_identical_versions_become_safe(self) -> None:
        """All differences are zero, which is what one hopes for."""
        assert Verdict.UNKNOWN is CHANGE.verdict(CHANGE.count(np.zeros(300)))
        assert Verdict.SAFE is CHANGE.verdict(CHANGE.count(np.zeros(700)))

    def test_a_change_at_the_limit_stays_unknown(self) -> None:
        assert Verdict.UNKNOWN is CHANGE.verdict(CHANGE.count(np.full(100_000, 0.01)))

    def test_with_nothing_it_is_unknown(self) -> None:
        finding = CHANGE.judge(ValueCounts())
        assert (Verdict.UNKNOWN, None, -1.0, 1.0, None) == (
            finding.verdict,
            finding.effect,
            finding.lower,
            finding.upper,
            finding.needed,
        )
        assert (0.0, 100.0) == (SLOW.judge(ValueCounts()).lower, SLOW.judge(ValueCounts()).upper)

    @pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
    def test_what_is_no_number_keeps_it_from_being_safe(self, broken: float) -> None:
        finding = CHANGE.judge(CHANGE.count(np.append(np.zeros(3000), broken)))
        assert (Verdict.UNKNOWN, None) == (finding.verdict, finding.needed)
        assert "1 values were no numbers that can be, so it cannot be SAFE" in finding.sentence
        assert Verdict.HARM is CHANGE.verdict(CHANGE.count(np.append(np.full(3000, 0.1), broken)))

    def test_a_negative_share_is_none(self) -> None:
        assert 1 == SLOW.count(np.array([-0.1, 0.1])).invalid
        with pytest.raises(EvidenceError, match="least value"):
            SLOW.verdict(count_values(np.array([-0.1])))


class TestEvidence:
    @given(st.lists(st.sampled_from(NODES.tolist()), max_size=30))
    def test_for_values_on_the_grid_it_is_the_mean_of_the_products(self, values: list[float]) -> None:
        expected = math.log(product_of_bets(values, 0.01 + ROUNDING))
        assert pytest.approx(expected, abs=1e-8) == LOSS.log_harm(LOSS.count(np.array(values)))

    @given(signed)
    def test_between_points_of_the_grid_it_is_never_more_and_little_less(self, values: list[float]) -> None:
        exact = math.log(product_of_bets(values, 0.01))
        found = LOSS.log_harm(LOSS.count(np.array(values)))
        assert found <= exact + 1e-9
        spread = sum(value**2 for value in values)
        assert found >= exact - 0.01 * spread - 1e-4 * len(values) - 1e-9

    @given(signed)
    def test_the_two_directions_mirror_each_other(self, values: list[float]) -> None:
        counts, mirrored = CHANGE.count(np.array(values)), CHANGE.count(-np.array(values))
        assert CHANGE.log_harm(counts) == pytest.approx(CHANGE.log_harm(mirrored), abs=1e-9)
        assert CHANGE.log_safe(counts) == pytest.approx(CHANGE.log_safe(mirrored), abs=1e-9)

    @given(signed)
    def test_each_direction_has_half_of_the_stake(self, values: list[float]) -> None:
        counts, mirrored = LOSS.count(np.array(values)), LOSS.count(-np.array(values))
        larger = max(LOSS.log_harm(counts), LOSS.log_harm(mirrored))
        assert larger - math.log(2) == pytest.approx(CHANGE.log_harm(counts), abs=1e-9)

    @given(signed, st.floats(0, 1))
    def test_a_larger_value_never_lowers_the_evidence_of_harm(self, values: list[float], more: float) -> None:
        if not values:
            return
        larger = [min(values[0] + more, 1.0), *values[1:]]
        assert LOSS.log_harm(LOSS.count(np.array(values))) <= LOSS.log_harm(LOSS.count(np.array(larger))) + 1e-6
        assert LOSS.log_safe(LOSS.count(np.array(values))) >= LOSS.log_safe(LOSS.count(np.array(larger))) - 1e-6

    @given(signed, signed)
    def test_merging_is_judging_everything_at_once(self, one: list[float], two: list[float]) -> None:
        merged = LOSS.count(np.array(one)).merge(LOSS.count(np.array(two)))
        assert LOSS.log_harm(LOSS.count(np.array(two + one))) == LOSS.log_harm(merged)

    def test_whoever_peeks_at_every_pair_is_hardly_ever_fooled(self) -> None:
        """300 runs of 1,000 pairs whose mean is just the limit; a peek at each twentieth."""
        random, harm, safe = np.random.default_rng(5), 0, 0
        for _ in range(300):
            values = 0.01 + random.choice([-0.2, 0.05], p=[0.2, 0.8], size=1000)
            peeks = [LOSS.verdict(LOSS.count(values[:n])) for n in range(20, 1001, 20)]
            harm += Verdict.HARM in peeks
            safe += Verdict.SAFE in peeks
        assert harm <= 15
        assert safe <= 15


class TestBounds:
    @settings(max_examples=40)
    @given(signed, st.sampled_from([1, 40]))
    def test_the_verdict_is_what_they_say(self, values: list[float], times: int) -> None:
        for test in (LOSS, CHANGE):
            finding = test.judge(test.count(np.array(values * times)))
            outside = finding.lower >= 0.01 - 1e-9 or (test.two_sided and finding.upper <= -0.01 + 1e-9)
            inside = finding.upper <= 0.01 + 1e-9 and (not test.two_sided or finding.lower >= -0.01 - 1e-9)
            assert (finding.verdict is Verdict.HARM) == outside
            if finding.verdict is not Verdict.HARM:
                assert (finding.verdict is Verdict.SAFE) == inside

    def test_the_scale_stretches_effect_and_bounds(self) -> None:
        values = normal(0.3, 1.0, 4000)
        test = MeanTest(0.1, scale=5.0)
        finding = test.judge(test.count(values))
        assert finding.effect == pytest.approx(values.mean(), abs=1e-5)
        assert 0.2 < finding.lower < finding.effect < finding.upper < 0.4

    def test_values_beyond_the_scale_are_named(self) -> None:
        test = MeanTest(0.1, scale=0.5)
        assert "2 of them beyond 0.5 points and cut off there" in test.judge(test.count(np.array([0.7, -3.0, 0.2]))).sentence


class TestForecast:
    def test_so_many_more_pairs_of_the_same_kind_tell(self) -> None:
        counts = CHANGE.count(np.zeros(100))
        needed = CHANGE.judge(counts).needed
        assert needed is not None
        assert Verdict.SAFE is CHANGE.verdict(CHANGE.count(np.zeros(100 + needed)))
        assert Verdict.UNKNOWN is CHANGE.verdict(CHANGE.count(np.zeros(90 + int(0.95 * needed))))


@pytest.mark.parametrize(
    "arguments",
    [
        {"limit": 1.0},
        {"limit": -1.0},
        {"limit": 0.0, "two_sided": True},
        {"limit": 0.0, "signed": False},
        {"limit": 0.1, "signed": False, "two_sided": True},
        {"limit": 0.1, "scale": 0.0},
        {"limit": 0.1, "scale": 0.1},
        {"limit": 0.1, "alpha": 1.0},
        {"limit": math.nan},
    ],
)
def test_limits_that_make_no_sense_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(EvidenceError, match="allowed is"):
        MeanTest(**arguments)  # type: ignore[arg-type]
