import json
import math
from dataclasses import replace

import pytest

from hotcold.domain.evidence.finding import Finding, decide, explain, number, quantity
from hotcold.domain.gate import Gate, Verdict

HARM = Finding(
    signal="error_ratio",
    verdict=Verdict.HARM,
    subject="the ratio of the error rates",
    effect=3.4,
    lower=1.2,
    upper=9.81,
    limit=2.0,
    unit="ratio",
    log_evidence=3.2,
    observations=6000,
    counted="answers",
    needed=0,
    alpha=0.05,
    why="Even the lower bound is above 1",
    seen="failed: 14 of 300 at the candidate, 40 of 5,700 at the champion",
)


def test_the_sentence_says_what_was_seen_the_bounds_the_limit_the_verdict_and_why() -> None:
    expected = (
        "error_ratio is HARM: the ratio of the error rates is 3.4, between 1.2 and 9.81, limit 2"
        " (failed: 14 of 300 at the candidate, 40 of 5,700 at the champion). Even the lower bound is above 1."
        " With no harm, at most 5 % of releases would come to this, however often one looks."
    )
    assert expected == HARM.sentence
    assert "With harm beyond the limit, at most 5 % of releases" in replace(HARM, verdict=Verdict.SAFE).sentence


def test_what_is_unknown_says_how_much_more_it_takes() -> None:
    unknown = replace(HARM, verdict=Verdict.UNKNOWN, needed=12_345, unit="%", why="Nothing is sure")
    expected = (
        "error_ratio is UNKNOWN: the ratio of the error rates is 3.4 %, between 1.2 and 9.81 %, limit 2 %"
        " (failed: 14 of 300 at the candidate, 40 of 5,700 at the champion). Nothing is sure."
        " If things go on as now, about 12,345 more answers will tell."
    )
    assert expected == unknown.sentence
    assert "How much more is needed cannot be said yet." in replace(unknown, needed=None).sentence


def test_without_evidence_it_says_so() -> None:
    nothing = replace(HARM, verdict=Verdict.UNKNOWN, effect=None, needed=None, seen="failed: 0 of 0")
    assert nothing.sentence.startswith("error_ratio is UNKNOWN: there is no evidence, limit 2 (failed: 0 of 0).")
    assert "no evidence; failed: 0 of 0" in nothing.to_gate().observed


def test_a_caveat_is_in_the_sentence_and_in_the_gate() -> None:
    doubtful = replace(HARM, caveat="3 values were not numbers")
    assert "above 1. 3 values were not numbers. With no harm" in doubtful.sentence
    assert doubtful.to_gate().observed.endswith("; 3 values were not numbers")


def test_the_gate_is_what_the_release_takes() -> None:
    gate = replace(HARM, seen="failed: 14 of 300").to_gate()
    observed = "the ratio of the error rates is 3.4, between 1.2 and 9.81; failed: 14 of 300"
    assert Gate("error_ratio", Verdict.HARM, observed, "2") == gate


def test_it_is_plain_json_and_what_is_endless_is_null() -> None:
    document = json.loads(json.dumps(replace(HARM, upper=math.inf, log_evidence=-math.inf).to_json(), allow_nan=False))
    assert (None, None, "HARM", 3.4) == (document["upper"], document["log_evidence"], document["verdict"], document["effect"])
    assert HARM.sentence == HARM.to_json()["sentence"]


class TestDecide:
    def test_harm_comes_first_and_safe_needs_sound_evidence(self) -> None:
        assert Verdict.HARM is decide(harm=True, safe=True)
        assert Verdict.HARM is decide(harm=True, safe=False, sound=False)
        assert Verdict.SAFE is decide(harm=False, safe=True)
        assert Verdict.UNKNOWN is decide(harm=False, safe=True, sound=False)
        assert Verdict.UNKNOWN is decide(harm=False, safe=False)


def test_each_verdict_has_its_reason() -> None:
    assert "Even the lower bound is above 1 %" == explain(Verdict.HARM, 1.0, 2.0, "%")
    assert "Even the upper bound is below 2 %" == explain(Verdict.SAFE, 1.0, 2.0, "%")
    expected = "It is HARM once the lower bound is above 1 %, SAFE once the upper bound is below 2 %"
    assert expected == explain(Verdict.UNKNOWN, 1.0, 2.0, "%")


@pytest.mark.parametrize(
    "value,expected",
    [
        (0.0, "0"),
        (1.2345, "1.23"),
        (999.9, "1,000"),
        (12345.6, "12,346"),
        (math.inf, "infinity"),
        (-math.inf, "minus infinity"),
    ],
)
def test_numbers_are_short(value: float, expected: str) -> None:
    assert expected == number(value)


def test_a_ratio_has_no_unit() -> None:
    assert ("2", "2 ms", "unknown") == (quantity(2.0, "ratio"), quantity(2.0, "ms"), number(math.nan))
