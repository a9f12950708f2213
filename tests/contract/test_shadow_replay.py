"""A candidate scores logged requests anew: real packages, a real log, and the comparison that copies would have given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hotcold.adapters.package_files import open_package
from hotcold.adapters.packages import build_package, package_dir
from hotcold.adapters.shadow_comparison import ComparisonJob, add_window, plan_spans
from hotcold.adapters.shadow_pairs import PairSource
from hotcold.adapters.shadow_replay import ReplayJob, check_replay, replay_span
from hotcold.domain.errors import EvidenceError
from hotcold.domain.gate import Verdict
from hotcold.domain.package import Manifest
from hotcold.domain.prediction import MAX_FEATURE_ROWS, Prediction
from hotcold.domain.schema import Matrix, Schema
from hotcold.domain.shadow.comparison import Comparison
from hotcold.domain.shadow.counting import Accumulation
from hotcold.domain.shadow.judgement import FAILED, MISSING, NO_FEATURES, REPEATED, judge
from hotcold.domain.shadow.limits import Limits
from tests.fixtures.packages import SCHEMA, SourceFactory, make_rows
from tests.fixtures.prediction_logs import START_S
from tests.fixtures.shadow_logs import CHAMPION, write_champion

_COUNT = 3000


def job(root: Path, candidate: Manifest, bento_home: Path) -> ReplayJob:
    champion = replace(CHAMPION, model=candidate.ref.model)
    source = PairSource(root, champion, candidate.ref)
    return ReplayJob(ComparisonJob(source, Limits(), float("inf")), package_dir(candidate.ref, bento_home))


def answers(matrix: Matrix, scores: np.ndarray, **changes: Any) -> list[Prediction]:
    """The champion's answers to requests with one row each."""
    return [
        Prediction(
            request_id=f"r{i}",
            arrived_us=round((START_S + i / 20) * 1e6),
            status=200,
            shadow=False,
            tester=False,
            entity=b"e%d" % (i // 2),
            segment=None,
            matrix=matrix[i : i + 1],
            scores=scores[i : i + 1].astype(np.float32),
            started_s=1.0,
            decoded_s=1.1,
            scored_s=1.2,
            answered_s=1.3,
        )._replace(**changes)
        for i in range(len(matrix))
    ]


def reference_scores(package: Manifest, bento_home: Path, matrix: Matrix) -> np.ndarray:
    engine = open_package(package_dir(package.ref, bento_home), "cold").engine
    return np.asarray(engine.score(np.require(matrix, requirements=engine.order)))


def replayed(work: ReplayJob) -> Comparison:
    counted, again = Accumulation(work.comparison.limits), partial(replay_span, work)
    for span in plan_spans(work.comparison.source, START_S, START_S + 1000):
        add_window(counted, again(span), span, again)
    return counted.comparison


def write(root: Path, model: str, logged: Sequence[Prediction], features: int) -> None:
    write_champion(root, logged, model=model, features=features)


@pytest.fixture
def rows() -> Matrix:
    return make_rows(_COUNT, seed=4)[0]


def test_the_same_model_gives_the_same_scores_and_is_safe(
    tmp_path: Path, rows: Matrix, small_package: Manifest, bento_home: Path
) -> None:
    scores = reference_scores(small_package, bento_home, rows)
    write(tmp_path, small_package.ref.model, answers(rows, scores), rows.shape[1])
    counts = replayed(job(tmp_path, small_package, bento_home))
    gates = {gate.name: gate.verdict for gate in judge(counts, Limits()).gates}
    assert (_COUNT, _COUNT, {}) == (counts.pairs, counts.agreed, dict(counts.left_out))
    assert abs(counts.change.mean) < 1e-5
    assert (Verdict.SAFE, Verdict.SAFE) == (gates["score_change"], gates["decision_flips"])


def test_scores_that_are_further_off_than_tolerated_are_harm(
    tmp_path: Path, rows: Matrix, small_package: Manifest, bento_home: Path
) -> None:
    scores = reference_scores(small_package, bento_home, rows)
    write(tmp_path, small_package.ref.model, answers(rows, np.clip(scores - 0.2, 0, 1)), rows.shape[1])
    gates = {g.name: g.verdict for g in judge(replayed(job(tmp_path, small_package, bento_home)), Limits()).gates}
    assert Verdict.HARM is gates["score_change"]


def test_failed_answers_and_requests_without_features_are_named(
    tmp_path: Path, rows: Matrix, small_package: Manifest, bento_home: Path
) -> None:
    scores = reference_scores(small_package, bento_home, rows)
    logged = answers(rows, scores)
    logged[3] = logged[3]._replace(status=500, scores=None)
    logged[4] = logged[4]._replace(matrix=None)
    many = np.repeat(rows[:1], MAX_FEATURE_ROWS + 1, axis=0)
    logged[5] = logged[5]._replace(matrix=many, scores=np.repeat(scores[:1], len(many)).astype(np.float32))
    write(tmp_path, small_package.ref.model, logged, rows.shape[1])
    counts = replayed(job(tmp_path, small_package, bento_home))
    assert ({FAILED: 1, NO_FEATURES: 2}, _COUNT - 3) == (dict(counts.left_out), counts.pairs)


def test_requests_of_several_rows_are_scored_row_by_row(
    tmp_path: Path, rows: Matrix, small_package: Manifest, bento_home: Path
) -> None:
    scores = reference_scores(small_package, bento_home, rows)
    logged = [
        answer._replace(matrix=rows[i * 3 : i * 3 + 3], scores=scores[i * 3 : i * 3 + 3].astype(np.float32))
        for i, answer in enumerate(answers(rows[:1000], scores[:1000]))
    ]
    write(tmp_path, small_package.ref.model, logged, rows.shape[1])
    counts = replayed(job(tmp_path, small_package, bento_home))
    assert (1000, 3000, 1000) == (counts.pairs, counts.candidate.scores.total, counts.agreed)


def test_a_candidate_with_another_schema_is_refused(
    small_package: Manifest, small_source: SourceFactory, bento_home: Path, tmp_path: Path
) -> None:
    carriers = replace(SCHEMA.fields[2], categories=(*SCHEMA.fields[2].categories, "ZZ"))
    schema = Schema((*SCHEMA.fields[:2], carriers, *SCHEMA.fields[3:]))
    other = build_package(small_source(version=7, schema=schema), bento_home)
    work = job(tmp_path, other, bento_home)
    with pytest.raises(EvidenceError, match=r"another feature schema .*evaluate-shadow"):
        check_replay(work, package_dir(small_package.ref, bento_home))
    check_replay(work, package_dir(other.ref, bento_home))


def test_an_id_that_comes_back_in_a_later_window_counts_once(
    tmp_path: Path, rows: Matrix, small_package: Manifest, bento_home: Path
) -> None:
    logged = answers(rows, reference_scores(small_package, bento_home, rows))
    logged[2990] = logged[2990]._replace(request_id="r3")
    write(tmp_path, small_package.ref.model, logged, rows.shape[1])
    counts = replayed(job(tmp_path, small_package, bento_home))
    assert ({REPEATED: 1}, _COUNT - 1) == (dict(counts.left_out), counts.pairs)


def test_repeated_ids_and_a_segment_that_is_missing_are_never_safe(
    tmp_path: Path, rows: Matrix, small_package: Manifest, bento_home: Path
) -> None:
    logged = answers(rows, reference_scores(small_package, bento_home, rows))
    twice = [*logged[:1000], logged[5]]
    for number, part in enumerate((twice, logged[1000:1500], logged[1500:])):
        path = write_champion(
            tmp_path, part, model=small_package.ref.model, features=rows.shape[1], number=number, started_s=START_S + number
        )
        if number == 1:
            path.unlink()
    counts = replayed(job(tmp_path, small_package, bento_home))
    assert {REPEATED: 2, MISSING: 1} == dict(counts.left_out)
    assert Verdict.UNKNOWN is judge(counts, Limits()).gates[0].verdict
