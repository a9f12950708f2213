from dataclasses import replace

import numpy as np
import pytest

from hotcold.domain.errors import BatchError
from hotcold.domain.gate import Gate, Verdict
from hotcold.domain.receipt import Problem, Totals
from hotcold.domain.score_histogram import count_scores
from hotcold.domain.score_quality import Duplicates, Published, QualityLimits, judge_table

SCORES = np.random.default_rng(0).beta(2, 5, 1000).astype(np.float32)
TOTALS = Totals(parts=1, rows_in=1000, rows_out=1000, histogram=count_scores(SCORES))
PUBLISHED = Published("before", 1000, count_scores(np.random.default_rng(1).beta(2, 5, 1000).astype(np.float32)))
LIMITS = QualityLimits(lowest=0.0, highest=1.0)


def judge(totals: Totals = TOTALS, limits: QualityLimits = LIMITS, **changes: object) -> dict[str, Gate]:
    values: dict[str, object] = {"duplicates": Duplicates(), "published": PUBLISHED} | changes
    return {gate.name: gate for gate in judge_table(totals, limits=limits, **values)}  # type: ignore[arg-type]


def harmed(gates: dict[str, Gate]) -> set[str]:
    return {name for name, gate in gates.items() if gate.verdict is Verdict.HARM}


def test_a_good_table_passes_every_check() -> None:
    assert {Verdict.SAFE} == {gate.verdict for gate in judge().values()}


def test_the_first_table_has_nothing_to_be_compared_with_and_passes() -> None:
    gates = judge(published=None)
    assert Verdict.UNKNOWN is gates["stability"].verdict
    assert not harmed(gates)


def test_a_table_without_rows_is_refused() -> None:
    assert {"row_count", "range"} <= harmed(judge(Totals(), published=None))


def test_far_fewer_rows_than_readers_have_now_are_refused() -> None:
    assert {"row_count"} == harmed(judge(published=replace(PUBLISHED, rows=2001)))


def test_too_many_quarantined_rows_are_refused_and_the_first_is_named() -> None:
    totals = replace(TOTALS, rows_in=1011, rows_quarantined=11, problems=(Problem("file:///a", 11, "no carrier ZZ"),))
    gates = judge(totals)
    assert {"quarantined"} == harmed(gates)
    assert "no carrier ZZ" in gates["quarantined"].observed
    assert not harmed(judge(totals, replace(LIMITS, max_quarantined_pct=2.0)))


def test_files_that_nobody_can_count_are_refused_by_their_share_of_the_files() -> None:
    totals = replace(TOTALS, files=50, uncounted_files=1, problems=(Problem("file:///torn", None, "no footer"),))
    gates = judge(totals)
    assert {"quarantined"} == harmed(gates)
    assert "1 of 50 files, whose rows nobody can count" in gates["quarantined"].observed
    assert not harmed(judge(totals, replace(LIMITS, max_quarantined_pct=2.0)))


def test_scores_that_are_not_finite_are_refused() -> None:
    histogram = count_scores(np.append(SCORES, np.float32("nan")))
    assert {"finite"} == harmed(judge(replace(TOTALS, histogram=histogram)))


def test_scores_out_of_range_are_refused() -> None:
    histogram = count_scores(np.append(SCORES, np.float32(1.01)))
    assert {"range"} == harmed(judge(replace(TOTALS, histogram=histogram)))


def test_repeated_ids_are_refused_and_named_unless_they_are_allowed() -> None:
    repeated = Duplicates(2, ("UA1 in part 0, row 3 and part 1, row 4",))
    gates = judge(duplicates=repeated)
    assert {"unique_ids"} == harmed(gates)
    assert "UA1" in gates["unique_ids"].observed
    assert not harmed(judge(limits=replace(LIMITS, unique_ids=False), duplicates=repeated))


def test_a_distribution_that_moved_is_refused() -> None:
    moved = Published("before", 1000, count_scores(np.random.default_rng(1).beta(5, 2, 1000).astype(np.float32)))
    gates = judge(published=moved)
    assert {"stability"} == harmed(gates)
    assert "against table before" in gates["stability"].observed


@pytest.mark.parametrize("limits", [{"max_quarantined_pct": 101}, {"min_rows_pct": -1}, {"max_psi": -0.1}])
def test_impossible_limits_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(BatchError, match="allowed is"):
        QualityLimits(**limits)
