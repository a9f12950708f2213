import numpy as np
import pytest

from hotcold.domain.gate import Verdict
from hotcold.domain.package import PackageRef
from hotcold.domain.parity import LiveScores, judge_parity

PACKAGE = PackageRef("flights", 1, "1.0.0", "a" * 64)
BATCH = np.array([0.1, 0.2, 0.3, 0.4])


def answer(first: int, *scores: float, status: int = 200, digest: str = "a" * 12, asked: int | None = None) -> LiveScores:
    return LiveScores(
        first,
        len(scores) if asked is None else asked,
        status,
        digest,
        np.array(scores),
        "" if status == 200 else "out of order",
    )


def test_equal_scores_are_safe() -> None:
    gate = judge_parity(PACKAGE, BATCH, [answer(0, 0.1, 0.2), answer(2, 0.3, 0.400004)], "in.parquet")
    assert Verdict.SAFE is gate.verdict
    assert "4 rows of in.parquet, largest difference 4.0e-06" == gate.observed


@pytest.mark.parametrize("score", [0.30002, float("nan")])
def test_a_score_that_differs_is_harm_and_named(score: float) -> None:
    gate = judge_parity(PACKAGE, BATCH, [answer(0, 0.1, 0.2), answer(2, score, 0.4)], "in.parquet")
    assert Verdict.HARM is gate.verdict
    assert "row 2 of in.parquet" in gate.observed
    assert "0.3 in the batch" in gate.observed


def test_every_edge_counts() -> None:
    gate = judge_parity(PACKAGE, BATCH, [answer(0, *BATCH), answer(0, 0.1, 0.2, 0.3, 0.5)], "rows")
    assert Verdict.HARM is gate.verdict


def test_another_package_is_harm() -> None:
    gate = judge_parity(PACKAGE, BATCH, [answer(0, *BATCH, digest="b" * 12)], "rows")
    assert (Verdict.HARM, True) == (gate.verdict, "package bbbbbbbbbbbb answered" in gate.observed)


def test_rows_that_only_the_batch_takes_are_harm() -> None:
    assert Verdict.HARM is judge_parity(PACKAGE, BATCH, [answer(0, status=422)], "rows").verdict


@pytest.mark.parametrize("scores", [(), (0.1, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5)])
def test_fewer_or_more_scores_than_rows_are_harm(scores: tuple[float, ...]) -> None:
    gate = judge_parity(PACKAGE, BATCH, [answer(0, *scores, asked=4)], "rows")
    assert Verdict.HARM is gate.verdict
    assert f"{len(scores)} scores came back for 4 rows" in gate.observed


@pytest.mark.parametrize("status", [0, 502, 503, 504])
def test_no_answer_is_no_evidence(status: int) -> None:
    assert Verdict.UNKNOWN is judge_parity(PACKAGE, BATCH, [answer(0, *BATCH), answer(0, status=status)], "rows").verdict


def test_nothing_compared_is_no_evidence() -> None:
    assert Verdict.UNKNOWN is judge_parity(PACKAGE, BATCH, [], "rows").verdict
    assert Verdict.UNKNOWN is judge_parity(PACKAGE, np.empty(0), [], "rows").verdict
