"""A run's summary says what it says in JSON as well, and its progress counts only what this run did."""

from __future__ import annotations

import json

import pytest

from hotcold.domain.errors import BatchError
from hotcold.domain.gate import Verdict
from hotcold.domain.receipt import Totals
from hotcold.domain.score_quality import Published
from hotcold.domain.scoring_progress import Progress, describe_rate, describe_seconds
from hotcold.domain.scoring_summary import ScoringSummary
from tests.fixtures.summaries import TABLE, make_published, make_summary


def test_the_lineage_names_all_that_made_the_table() -> None:
    lineage = make_summary(published=make_published()).to_lineage()
    wanted = {
        "table": TABLE,
        "model": "flights",
        "version": "1.2.0",
        "registry_version": 7,
        "digest": "d" * 64,
        "engine": "onedal",
        "device": "cpu",
        "mlflow_run": "9" * 32,
        "flow_run": "0f0f",
        "input": "file:///in",
        "input_fingerprint": "f" * 64,
        "files": 3,
        "rows_in": 1500,
        "rows": 1000,
        "rows_quarantined": 500,
        "uncounted_files": 1,
        "seconds": 4.0,
        "rows_per_s": 200.0,
        "scored_at": "2026-01-02T03:04:05.250+00:00",
        "content_sha256": "e" * 64,
        "duplicates": {"rows": 2, "examples": ["a-1 in parts 0 and 3"]},
        "compared_with": "cccccccccccc-fedcba9876543210",
        "parameters": {"on_bad_part": "quarantine", "rows_per_part": 100},
    }
    assert wanted == {name: lineage[name] for name in wanted}
    assert ["SAFE", "HARM"] == [gate["verdict"] for gate in lineage["quality"][:2]]
    assert {"file": "file:///in/b.parquet", "rows": None} == {key: lineage["problems"][0][key] for key in ("file", "rows")}


@pytest.mark.parametrize("scores", [(0.25, 0.5), ()])
def test_the_lineage_is_strict_json_and_is_read_back_whole(scores: tuple[float, ...]) -> None:
    published = make_published()
    summary = make_summary(scores, published)
    lineage = json.loads(json.dumps(summary.to_lineage(), allow_nan=False))
    assert summary == ScoringSummary.from_lineage(lineage, published, summary.outcome)


def test_the_gate_of_the_next_table_can_read_the_lineage() -> None:
    summary = make_summary()
    assert Published(TABLE, 1000, summary.histogram) == Published.from_lineage(summary.to_lineage())


@pytest.mark.parametrize("change", [{"scored_at": "yesterday"}, {"quality": [{"verdict": "GOOD"}]}, {"problems": None}])
def test_what_is_no_lineage_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(BatchError, match="not the lineage"):
        ScoringSummary.from_lineage(make_summary().to_lineage() | change)


def test_an_empty_document_is_no_lineage() -> None:
    with pytest.raises(BatchError, match="not the lineage"):
        ScoringSummary.from_lineage({})


def test_a_table_is_compared_only_with_one_that_readers_see() -> None:
    published = make_published()
    assert make_summary().psi is None
    assert make_summary((), published, totals=Totals()).psi is None
    assert (
        0.0
        == make_summary(
            published=make_published(tuple(score / 10 for score in range(10))), scores=[score / 10 for score in range(10)]
        ).psi
    )
    assert Verdict.UNKNOWN is make_summary().gates[-1].verdict


def test_a_run_that_found_all_parts_done_has_no_speed() -> None:
    assert 0.0 == make_summary(parts_now=0, rows_now=0).rows_per_s == make_summary(elapsed_s=0.0).rows_per_s


@pytest.mark.parametrize(
    ("progress", "sentence"),
    [
        (Progress(12_400_000, 50_000_000, 124, 500, 26.84), "12.4 of 50.0 M rows, 462,000 rows/s, 81 s left"),
        (Progress(0, 50_000_000, 0, 500, 3.0), "0.0 of 50.0 M rows"),
        (Progress(500, 2_000, 1, 4, 0.5), "500 of 2,000 rows, 1,000 rows/s, 1.5 s left"),
        (Progress(2_000, 2_000, 4, 4, 2.0), "2,000 of 2,000 rows, 1,000 rows/s"),
        (Progress(2_500_000, None, 25, 100, 10.0), "2.5 M rows, 25 of 100 parts, 250,000 rows/s, 30 s left"),
        (Progress(900, None, 1, 2, 0.0), "900 rows, 1 of 2 parts"),
        (Progress(0, 0, 0, 0, 1.0), "0 of 0 rows"),
    ],
)
def test_progress_in_a_sentence(progress: Progress, sentence: str) -> None:
    assert sentence == progress.sentence


def test_progress_goes_by_rows_or_by_parts_where_nobody_knows_the_rows() -> None:
    assert 25.0 == Progress(500, 2_000, 3, 4, 1.0).percent
    assert 75.0 == Progress(500, None, 3, 4, 1.0).percent
    assert 100.0 == Progress(0, None, 0, 0, 1.0).percent == Progress(0, 0, 0, 0, 1.0).percent


def test_what_an_earlier_run_did_counts_as_done_but_not_for_the_speed() -> None:
    resumed = Progress(800, 1_000, 8, 10, 2.0, rows_before=600, parts_before=6)
    assert (80.0, 100.0, 2.0) == (resumed.percent, resumed.rows_per_s, pytest.approx(resumed.seconds_left))
    assert Progress(600, 1_000, 6, 10, 2.0, rows_before=600, parts_before=6).seconds_left is None


def test_no_progress_exceeds_the_whole() -> None:
    assert (100.0, 0.0) == ((over := Progress(1_100, 1_000, 1, 1, 1.0)).percent, over.seconds_left)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0 s"), (0.4231, "0.42 s"), (81.4, "81 s"), (150.0, "2 min"), (12_240.0, "3.4 h")]
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert text == describe_seconds(seconds)


@pytest.mark.parametrize(
    ("rate", "text"), [(0.0, "0 rows/s"), (3.21, "3.2 rows/s"), (12_345.6, "12,300 rows/s"), (462_312.0, "462,000 rows/s")]
)
def test_speeds_for_people(rate: float, text: str) -> None:
    assert text == describe_rate(rate)
