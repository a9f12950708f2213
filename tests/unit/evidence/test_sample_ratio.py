import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotcold.domain.errors import EvidenceError
from hotcold.domain.evidence.beta_mixture import log_evidence_off
from hotcold.domain.evidence.sample_ratio import SampleRatioTest
from hotcold.domain.evidence.split_counts import SplitCounts
from hotcold.domain.gate import Verdict

TEST = SampleRatioTest()
entities = st.builds(
    SplitCounts,
    st.dictionaries(st.sampled_from([5, 25, 50]), st.tuples(st.integers(0, 3000), st.integers(0, 3000)), max_size=3),
)
one_split = st.builds(lambda pair: SplitCounts({20: pair}), st.tuples(st.integers(0, 3000), st.integers(0, 3000)))


def test_traffic_as_configured_becomes_safe() -> None:
    assert Verdict.SAFE is TEST.verdict(SplitCounts({5: (250, 4750), 10: (500, 4500)}))
    assert Verdict.UNKNOWN is TEST.verdict(SplitCounts({5: (5, 95)}))


@pytest.mark.parametrize("candidate", [1800, 2200])
def test_too_few_and_too_many_are_an_alarm(candidate: int) -> None:
    finding = TEST.judge(SplitCounts({50: (candidate, 4000 - candidate)}))
    assert Verdict.HARM is finding.verdict
    assert not finding.lower <= 1 <= finding.upper
    assert "what was counted means nothing" in finding.sentence


def test_a_side_that_loses_everything_is_an_alarm_after_some_dozen_entities() -> None:
    assert Verdict.HARM is TEST.verdict(SplitCounts({50: (0, 30)}))
    assert Verdict.HARM is TEST.verdict(SplitCounts({5: (0, 400)}))
    assert Verdict.UNKNOWN is TEST.verdict(SplitCounts({50: (0, 8)}))


def test_splits_that_contradict_each_other_are_an_alarm_though_the_total_fits() -> None:
    """1,000 of 10,000 are expected in all and came; but twice as many at 5 %, and two thirds of those at 15 %."""
    finding = TEST.judge(SplitCounts({5: (500, 4500), 15: (500, 4500)}))
    assert Verdict.HARM is finding.verdict
    assert finding.upper - finding.lower < 0.01
    assert finding.lower == pytest.approx(finding.effect, rel=1e-3)


def test_odds_that_look_off_by_more_than_is_tolerated_are_no_evidence_of_safety() -> None:
    """Though both ends of what is tolerated are rejected, from the same side."""
    for candidate in (2600, 1400):
        counts = {50: (candidate, 4000 - candidate)}
        assert -math.inf == TEST.log_safe(counts)
    assert TEST.log_safe({50: (2000, 2000)}) > math.log(1000)


def test_with_nothing_it_is_unknown() -> None:
    for nothing in (SplitCounts(), SplitCounts({0: (0, 500), 100: (700, 0)})):
        finding = TEST.judge(nothing)
        assert (Verdict.UNKNOWN, None, 0.0, math.inf) == (finding.verdict, finding.effect, finding.lower, finding.upper)


def test_its_expectation_is_one_under_the_configured_splits() -> None:
    """All 1,024 outcomes of ten entities, while the share grows."""
    shares, expectation = [5] * 4 + [25] * 3 + [50] * 3, 0.0
    for outcome in itertools.product([0, 1], repeat=10):
        chance = math.prod(share / 100 if hit else 1 - share / 100 for share, hit in zip(shares, outcome, strict=True))
        counts = {
            share: tuple(
                np.bincount([1 - hit for s, hit in zip(shares, outcome, strict=True) if s == share], minlength=2).tolist()
            )
            for share in (5, 25, 50)
        }
        expectation += chance * math.exp(TEST.log_harm(counts))
    assert pytest.approx(1.0) == expectation


@given(entities)
def test_the_evidence_is_the_product_over_the_splits_but_for_the_quarter_that_is_not_bet(found: SplitCounts) -> None:
    won = sum(
        float(log_evidence_off(np.array([x]), np.array([y]), (share / 100,), 20.0)[0])
        for share, (x, y) in found.by_share.items()
    )
    assert pytest.approx(float(np.logaddexp(math.log(0.25), math.log(0.75) + won)), abs=1e-8) == TEST.log_harm(found.by_share)


@given(entities, entities)
def test_merging_is_judging_everything_at_once(one: SplitCounts, two: SplitCounts) -> None:
    assert TEST.log_harm(one.merge(two).by_share) == TEST.log_harm(two.merge(one).by_share)


@given(one_split)
def test_the_verdict_is_what_the_bounds_say(found: SplitCounts) -> None:
    finding = TEST.judge(found)
    assert (finding.verdict is Verdict.HARM) == (not finding.lower - 1e-9 <= 1 <= finding.upper + 1e-9)
    if finding.verdict is not Verdict.HARM:
        inside = finding.lower >= 0.8 - 1e-9 and finding.upper <= 1.25 + 1e-9
        assert (finding.verdict is Verdict.SAFE) == inside


@given(entities)
def test_swapping_the_sides_changes_nothing_but_the_direction(found: SplitCounts) -> None:
    swapped = {100 - share: (y, x) for share, (x, y) in found.by_share.items()}
    assert TEST.log_harm(found.by_share) == pytest.approx(TEST.log_harm(swapped), abs=1e-8)
    assert TEST.verdict(found) is TEST.verdict(SplitCounts(swapped))


def test_so_many_more_entities_tell() -> None:
    needed = TEST.judge(SplitCounts({50: (100, 100)})).needed
    assert needed is not None
    half = 100 + needed // 2 + 1
    assert Verdict.SAFE is TEST.verdict(SplitCounts({50: (half, half)}))


@pytest.mark.parametrize("arguments", [{"alpha": 0.0}, {"tolerance": 0.0}, {"mass": -1.0}, {"tolerance": math.inf}])
def test_limits_that_make_no_sense_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(EvidenceError, match="allowed is"):
        SampleRatioTest(**arguments)  # type: ignore[arg-type]
