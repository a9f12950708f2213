"""Numbers that the demo and the benchmarks report."""

from __future__ import annotations

import math

from hotcold.domain.traffic import Exchange, last_answer_after, summarise

STREAM = [
    Exchange(10.0, 10.002, 200, "1.0.0", "blue"),
    Exchange(10.1, 10.104, 200, "1.0.0", "blue"),
    Exchange(10.2, 10.203, 200, "1.1.0", "green"),
    Exchange(10.3, 10.301, 503, "1.0.0", "blue"),
    Exchange(10.4, 10.5, 0, error="ConnectionResetError"),
]


def test_a_request_without_a_200_has_failed_and_has_no_latency() -> None:
    summary = summarise(STREAM)
    assert (5, 2, {"1.0.0": 2, "1.1.0": 1}) == (summary.requests, summary.failed, summary.versions)
    assert math.isclose(3.0, summary.p50_ms, rel_tol=1e-6)


def test_an_empty_stream_has_no_latency() -> None:
    assert math.isnan(summarise([]).p50_ms)


def test_the_last_answer_is_counted_from_the_decision() -> None:
    assert math.isclose(0.054, last_answer_after(STREAM, "1.0.0", 10.05), abs_tol=1e-9)
    assert last_answer_after(STREAM, "1.0.0", 10.15) == 0.0
    assert last_answer_after(STREAM, "9.9.9", 10.0) == 0.0
