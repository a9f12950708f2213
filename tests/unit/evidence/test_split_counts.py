import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotcold.domain.errors import EvidenceError
from hotcold.domain.evidence.split_counts import SplitCounts

split_counts = st.builds(
    SplitCounts, st.dictionaries(st.integers(0, 100), st.tuples(st.integers(0, 10**12), st.integers(0, 10**12)), max_size=5)
)


@given(split_counts, split_counts, split_counts)
def test_merging_adds_up_in_any_order(one: SplitCounts, two: SplitCounts, three: SplitCounts) -> None:
    assert one.merge(two).merge(three) == three.merge(one.merge(two)) == two.merge(three).merge(one)
    assert one.candidate + two.candidate == one.merge(two).candidate
    assert one.champion + two.champion == one.merge(two).champion
    assert one == one.merge(SplitCounts())


@given(split_counts)
def test_they_survive_json(counts: SplitCounts) -> None:
    assert counts == SplitCounts.from_json(json.loads(json.dumps(counts.to_json())))


def test_the_shares_are_kept_apart() -> None:
    merged = SplitCounts({5: (1, 20)}).merge(SplitCounts({5: (2, 10), 50: (7, 8)}))
    assert {5: (3, 30), 50: (7, 8)} == merged.by_share
    assert (10, 38, 48) == (merged.candidate, merged.champion, merged.total)


def test_where_nothing_was_counted_there_is_no_entry() -> None:
    assert SplitCounts() == SplitCounts({5: (0, 0)})


@pytest.mark.parametrize("by_share", [{-1: (1, 1)}, {101: (1, 1)}, {5: (-1, 0)}, {5: (1.5, 0)}, {5: (True, 0)}, {5.0: (1, 1)}])
def test_counts_that_cannot_be_are_refused(by_share: dict[int, tuple[int, int]]) -> None:
    with pytest.raises(EvidenceError, match="allowed is"):
        SplitCounts(by_share)


@pytest.mark.parametrize("document", [{"five": [1, 2]}, {"5": [1]}, {"5": 3}, {"5": [1, "2"]}, {"-5": [1, 2]}, [5]])
def test_a_document_that_cannot_be_is_refused(document: dict[str, object]) -> None:
    with pytest.raises(EvidenceError):
        SplitCounts.from_json(document)
