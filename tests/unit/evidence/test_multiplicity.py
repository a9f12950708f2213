import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotcold.domain.errors import EvidenceError
from hotcold.domain.evidence.multiplicity import rejected_segments

evidence = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.floats(-5, 12), max_size=12)


def e_bh_by_its_definition(e_values: dict[str, float], alpha: float) -> set[str]:
    """k is the largest rank with k e_(k) / n >= 1 / alpha; the k largest are rejected."""
    n, ordered = len(e_values), sorted(e_values.values(), reverse=True)
    ranks = [k for k in range(1, n + 1) if k * ordered[k - 1] / n >= 1 / alpha]
    if not ranks:
        return set()
    return {name for name, value in e_values.items() if value >= ordered[max(ranks) - 1]}


def test_the_worst_come_first() -> None:
    found = rejected_segments({"small": math.log(45), "large": math.log(1000), "middle": math.log(50), "none": 0.0}, alpha=0.05)
    assert ("large", "middle", "small") == found


def test_what_is_enough_for_one_is_not_enough_among_many() -> None:
    assert ("a",) == rejected_segments({"a": math.log(25)}, alpha=0.05)
    assert () == rejected_segments({"a": math.log(25), "b": 0.0}, alpha=0.05)


def test_without_segments_none_is_rejected() -> None:
    assert () == rejected_segments({})


@given(evidence)
def test_it_is_the_procedure_of_the_paper(logs: dict[str, float]) -> None:
    expected = e_bh_by_its_definition({name: math.exp(log) for name, log in logs.items()}, 0.05)
    found = rejected_segments(logs, 0.05)
    # Equal evidence at the edge of rounding may fall on either side.
    if all(abs(k * math.exp(log) / len(logs) * 0.05 - 1) > 1e-9 for k in range(1, len(logs) + 1) for log in logs.values()):
        assert expected == set(found)
    assert sorted(found, key=lambda name: (-logs[name], name)) == list(found)


@given(evidence, st.floats(0, 3))
def test_more_evidence_never_rejects_fewer(logs: dict[str, float], more: float) -> None:
    stronger = {name: log + more for name, log in logs.items()}
    assert set(rejected_segments(logs)) <= set(rejected_segments(stronger))


def test_of_those_rejected_few_are_false_even_if_all_hang_together() -> None:
    """1,000 times ten segments, eight without harm whose e-values are one and the same variable."""
    random, shares = np.random.default_rng(0), []
    for _ in range(1000):
        null = math.log(random.choice([100.0, 0.0001], p=[0.01, 0.99]))
        logs = {f"null {i}": null for i in range(8)} | {f"harm {i}": math.log(1000) for i in range(2)}
        found = rejected_segments(logs, 0.1)
        shares.append(sum(name.startswith("null") for name in found) / max(len(found), 1))
        assert {"harm 0", "harm 1"} <= set(found)
    assert np.mean(shares) <= 0.1


def test_evidence_that_is_no_number_is_refused() -> None:
    with pytest.raises(EvidenceError, match="evidence of segment 'a'"):
        rejected_segments({"a": math.nan})
    with pytest.raises(EvidenceError, match="alpha"):
        rejected_segments({"a": 1.0}, alpha=0.0)
