import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotcold.domain.errors import EvidenceError
from hotcold.domain.evidence.beta_mixture import log_evidence_above
from hotcold.domain.evidence.discordant import DiscordantCounts, DiscordantTest
from hotcold.domain.gate import Verdict

TEST = DiscordantTest()
numbers = st.integers(0, 300)
counts = st.builds(DiscordantCounts, numbers, numbers, numbers)


def test_a_candidate_that_loses_three_of_four_is_harm() -> None:
    finding = TEST.judge(DiscordantCounts(lost=30, won=10, agreed=1000))
    assert (Verdict.HARM, 75.0, 1040) == (finding.verdict, finding.effect, finding.observations)
    assert 50 < finding.lower < 75 < finding.upper


def test_a_candidate_that_wins_is_safe_and_one_that_draws_becomes_so() -> None:
    assert Verdict.SAFE is TEST.verdict(DiscordantCounts(lost=20, won=60))
    assert Verdict.UNKNOWN is TEST.verdict(DiscordantCounts(lost=20, won=20))
    assert Verdict.SAFE is TEST.verdict(DiscordantCounts(lost=200, won=200))


def test_versions_that_never_disagree_are_unknown_however_many_labels_there_are() -> None:
    finding = TEST.judge(DiscordantCounts(agreed=1_000_000))
    assert (Verdict.UNKNOWN, None, None, 0.0, 100.0) == (
        finding.verdict,
        finding.effect,
        finding.needed,
        finding.lower,
        finding.upper,
    )


def test_with_nothing_it_is_unknown() -> None:
    assert Verdict.UNKNOWN is TEST.judge(DiscordantCounts()).verdict


def test_the_evidence_is_the_one_sided_beta_binomial_on_discordant_pairs_alone() -> None:
    assert log_evidence_above(30, 10, 0.5, 20.0) == TEST.log_harm(30, 10)
    assert TEST.judge(DiscordantCounts(30, 10, 0)).log_evidence == TEST.judge(DiscordantCounts(30, 10, 5000)).log_evidence


@given(counts, counts, counts)
def test_merging_adds_up_in_any_order(one: DiscordantCounts, two: DiscordantCounts, three: DiscordantCounts) -> None:
    assert one.merge(two).merge(three) == three.merge(two.merge(one))
    assert one == DiscordantCounts.from_json(json.loads(json.dumps(one.to_json())))


@given(counts)
def test_one_more_lost_pair_never_lowers_the_evidence_of_harm(found: DiscordantCounts) -> None:
    assert TEST.log_harm(found.lost, found.won) <= TEST.log_harm(found.lost + 1, found.won) + 1e-9
    assert TEST.log_harm(found.lost, found.won) >= TEST.log_harm(found.lost, found.won + 1) - 1e-9


@given(counts)
def test_the_verdict_is_what_the_bounds_say(found: DiscordantCounts) -> None:
    finding = TEST.judge(found)
    assert (finding.verdict is Verdict.HARM) == (finding.lower >= 50 - 1e-6)
    if finding.verdict is not Verdict.HARM:
        assert (finding.verdict is Verdict.SAFE) == (finding.upper <= 60 + 1e-6)


def test_so_many_more_labels_tell() -> None:
    counts = DiscordantCounts(lost=8, won=4, agreed=88)
    needed = TEST.judge(counts).needed
    assert needed is not None
    times = 1 + needed / 100
    assert Verdict.HARM is TEST.verdict(DiscordantCounts(math.ceil(8 * times), math.floor(4 * times)))


@pytest.mark.parametrize("arguments", [{"limit": 0.4}, {"limit": 1.0}, {"alpha": 0.0}, {"mass": 0.0}, {"baseline": 0.0}])
def test_limits_that_make_no_sense_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(EvidenceError, match="allowed is"):
        DiscordantTest(**arguments)  # type: ignore[arg-type]


def test_counts_that_cannot_be_are_refused() -> None:
    with pytest.raises(EvidenceError, match="lost"):
        DiscordantCounts(lost=-1)
