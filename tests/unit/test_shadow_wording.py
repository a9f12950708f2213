"""The sentences and tables of a report, and its twin for programs, say what the findings say."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hotcold.domain.evidence.drift import Drift
from hotcold.domain.gate import Verdict
from hotcold.domain.package import PackageRef
from hotcold.domain.score_histogram import count_scores
from hotcold.domain.shadow.report import SegmentRow, ShadowReport, StageTimes
from hotcold.domain.shadow.report_json import report_document
from hotcold.domain.shadow.tables import (
    facts_table,
    gates_table,
    left_out_table,
    provenance_table,
    segments_table,
    times_table,
)
from hotcold.domain.shadow.wording import headline, moment, reading_guide, tell_consequences, tell_why
from tests.fixtures.shadow_reports import (
    HOSTILE,
    REPORTS,
    early_report,
    harm_report,
    labelled_report,
    replay_report,
    safe_report,
    unknown_report,
)


@pytest.mark.parametrize(
    ("name", "verdict", "follows"),
    [
        ("safe", "SAFE", "1.3.0 may replace 1.2.0"),
        ("harm", "HARM", "1.3.0 must not replace 1.2.0"),
        ("unknown", "UNKNOWN", "nobody can say yet whether 1.3.0 may replace 1.2.0"),
        ("early", "UNKNOWN", "nobody can say yet whether 1.3.0 may replace 1.2.0"),
    ],
)
def test_the_headline_says_what_follows(name: str, verdict: str, follows: str) -> None:
    assert f"{verdict}: {follows}" == headline(REPORTS[name]())


def test_two_packages_of_one_version_are_told_apart() -> None:
    report = safe_report(candidate=PackageRef("flights", 9, "1.2.0", "d" * 64))
    assert "SAFE: 1.2.0 (version 9) may replace 1.2.0 (version 6)" == headline(report)


def test_why_names_the_reason_and_all_checks() -> None:
    why = tell_why(harm_report())
    assert why.startswith("Error rate is HARM: of the answers in a second, the share that only the candidate fails is ")
    assert "This rests on 3,000 requests with an answer by both" in why
    assert "4 HARM (error rate, latency p99, score change, decision flips)" in why


def test_a_safe_verdict_says_that_what_is_unknown_claims_nothing() -> None:
    assert "Those that are UNKNOWN claim nothing, and were not required." in tell_why(safe_report())


def test_without_pairs_why_says_so_and_where_the_rows_went() -> None:
    why = tell_why(unknown_report())
    assert "There is no request with an answer by both, so nothing is known of the candidate." in why
    assert "Rows that could not be compared: 1,203, most of them because of “only in the champion's log”." in why


def test_an_early_look_says_how_much_more_it_takes_for_what_is_required() -> None:
    why = tell_why(early_report())
    assert "If things go on as now, it takes about " in why
    assert " for latency budget" in why
    assert "for accuracy" not in why


def test_a_long_reason_leaves_room_for_the_rest() -> None:
    why = tell_why(safe_report(reason="x" * 10_000))
    assert "x…." in why
    assert "This rests on" in why


def test_flips_are_priced_if_there_is_a_price() -> None:
    report = harm_report()
    assert report.price is not None
    assert any(report.price.sentence in part for part in tell_consequences(report))
    assert any("no cost per flip was given" in part for part in tell_consequences(safe_report()))
    assert "How many decisions would change is not known." in tell_consequences(unknown_report())


def by_request(report: ShadowReport) -> list[str]:
    return [part for part in tell_consequences(report) if part.startswith("Counted by request")]


def test_figures_by_request_are_explained_where_they_are_outside_of_the_bounds_by_entity() -> None:
    report = safe_report(entities=4000)
    flips = next(finding for finding in report.findings if finding.signal == "decision_flips")
    inside, outside = ((flips.lower + flips.upper) / 2, flips.upper + 1)
    assert [] == by_request(replace(report, agreement_pct=100 - inside / 10))
    (told,) = by_request(replace(report, agreement_pct=100 - outside / 10))
    assert f"{outside:.3g} of 1,000 requests are decided otherwise (by entity {flips.effect:.3g})." in told
    assert "each entity once, by its first request" in told
    assert 2 == told.count(". ") + 1
    # Each request is an observation of its own.
    assert [] == by_request(safe_report(agreement_pct=100 - outside / 10))
    assert [] == by_request(unknown_report(pairs=5))


def test_mean_scores_by_request_are_explained_likewise_and_rows_are_no_requests() -> None:
    report = safe_report(entities=4000)
    moved = count_scores(np.full(8000, 0.9, dtype=np.float32))
    (told,) = by_request(replace(report, candidate_scores=moved))
    assert "the mean score changes by 0.6" in told and "decided otherwise" not in told
    # With scores that are no numbers, the difference of the means says nothing.
    assert [] == by_request(replace(report, candidate_scores=replace(moved, not_finite=1)))
    (told,) = by_request(replace(report, agreement_pct=50.0, pairs=6000))
    assert "; one with several rows differs as soon as one of its rows does. Both are right" in told


def test_a_replay_does_not_claim_to_know_the_load() -> None:
    assert "nothing is said about how it behaves under load" in tell_consequences(replay_report())[-1]
    assert "were recorded and thrown away" in tell_consequences(safe_report())[-1]


def test_segments_that_stand_out_are_named() -> None:
    told = [part for part in tell_consequences(labelled_report()) if "segments" in part]
    assert ["1 of 28 segments stands out as harmed: “<script>alert('segment')</script>”."] == told
    rows = tuple(SegmentRow(f"s{n}", 9, 0.1, 5.0, 9.0, True) for n in range(8))
    (many,) = [part for part in tell_consequences(safe_report(segments=rows)) if "segments" in part]
    assert "8 of 8 segments stand out as harmed: “s0”, “s1”, “s2”, “s3”, “s4” and 3 more." == many


def test_the_guide_has_five_sentences_and_names_the_level() -> None:
    guide = reading_guide(safe_report())
    assert 5 == len(guide)
    assert "at most 5 % of releases" in guide[1]
    assert "alpha" in reading_guide(safe_report(findings=()))[1]


def test_gates_come_with_harm_first_then_what_is_required() -> None:
    rows = gates_table(harm_report()).rows
    assert ["HARM"] * 4 + ["UNKNOWN"] * 4 + ["SAFE"] * 2 == [row[1] for row in rows]
    assert ["yes", "yes", "yes", "no", "yes", "no", "no", "no", "yes", "no"] == [row[2] for row in rows]
    assert ("check", "verdict", "observed", "allowed") == gates_table(harm_report(required=())).columns


@pytest.mark.parametrize("name", REPORTS)
def test_every_row_of_a_table_has_all_its_columns(name: str) -> None:
    report = REPORTS[name]()
    tables = (gates_table(report), facts_table(report), times_table(report), segments_table(report, 5), left_out_table(report))
    for table in (*(table for table in tables if table), provenance_table(report)):
        assert {len(table.columns)} == {len(row) for row in table.rows}


def test_times_say_where_there_was_none_and_where_the_scale_ends() -> None:
    times = (StageTimes("total", 820.0, 4210.0, math.inf),)
    table = times_table(safe_report(champion_times=times, candidate_times=()))
    assert table is not None
    assert (("total", "champion", "820 µs", "4.21 ms", "off the scale"), ("total", "candidate", *["none"] * 3)) == table.rows
    assert times_table(safe_report(champion_times=(), candidate_times=())) is None


def test_segments_that_are_not_shown_are_counted() -> None:
    table = segments_table(labelled_report(), 20)
    assert table is not None
    assert (20, True) == (len(table.rows), "8 more with less evidence are not shown" in table.caption)
    assert ("“<script>alert('segment')</script>”", "yes: decision flips", "above 1,000,000") == (
        *table.rows[0][:2],
        table.rows[0][5],
    )


def test_a_drift_that_is_unknown_is_called_so() -> None:
    rows = {row[0]: row[1:] for row in facts_table(safe_report(drift=Drift(None, math.nan))).rows}
    assert (("not known", "one side has no scores"), "not known") == (rows["PSI"], rows["KS"][0])


def test_a_moment_is_utc_and_may_be_unknown() -> None:
    assert "2026-01-02 03:04:05 UTC" == moment(1_767_323_045.0)
    assert "unknown" == moment(math.nan)


def refuse(constant: str) -> Any:
    raise AssertionError(f"{constant} is no JSON")


@pytest.mark.parametrize("name", REPORTS)
def test_the_twin_for_programs_is_json_of_everything(name: str) -> None:
    report = REPORTS[name]()
    document = json.loads(json.dumps(report_document(report), allow_nan=False), parse_constant=refuse)
    assert report.verdict == document["verdict"]
    assert set(vars(report)) | {"format"} == document.keys()
    assert [finding.sentence for finding in report.findings] == [finding["sentence"] for finding in document["findings"]]
    assert report.champion.digest == document["champion"]["digest"]


def test_the_twin_keeps_foreign_words_and_has_null_where_nothing_is_known() -> None:
    document = report_document(labelled_report())
    assert isinstance(document["segments"], list)
    assert {*HOSTILE} <= {row["segment"] for row in document["segments"]}
    times = (StageTimes("total", math.nan, math.inf, 3.0),)
    found: Any = report_document(safe_report(champion_times=times, agreement_pct=math.nan))
    assert [{"stage": "total", "p50_us": None, "p95_us": None, "p99_us": 3.0}] == found["champion_times"]
    assert found["agreement_pct"] is None


def test_the_twin_refuses_what_it_does_not_know() -> None:
    with pytest.raises(TypeError, match="holds object"):
        report_document(safe_report(release=object()))


def test_the_fixtures_have_the_verdicts_that_they_say() -> None:
    verdicts = {name: report().verdict for name, report in REPORTS.items()}
    assert {
        "safe": Verdict.SAFE,
        "harm": Verdict.HARM,
        "unknown": Verdict.UNKNOWN,
        "early": Verdict.UNKNOWN,
        "labelled": Verdict.HARM,
        "replay": Verdict.UNKNOWN,
    } == verdicts
    assert 0 == replace(unknown_report()).pairs
