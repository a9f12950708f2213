"""Verdicts on a slot's answers: no answer is UNKNOWN, a wrong one is HARM."""

from __future__ import annotations

import pytest

from hotcold.domain.gate import Verdict
from hotcold.domain.package import PackageRef
from hotcold.domain.serving import SlotStatus
from hotcold.domain.smoke import Answer, Refusal, judge_health, judge_probe, judge_smoke

PACKAGE = PackageRef("m", 2, "1.1.0", "b" * 64)
GOOD = Answer(200, "b" * 12, 1e-7, 2.0)
REFUSED = [Refusal("an empty body", 400)]


@pytest.mark.parametrize(
    ("answers", "refusals", "verdict"),
    [
        ([GOOD, GOOD], REFUSED, Verdict.SAFE),
        ([], REFUSED, Verdict.UNKNOWN),
        ([GOOD], [], Verdict.UNKNOWN),
        ([GOOD, Answer(0, detail="ConnectError")], REFUSED, Verdict.UNKNOWN),
        ([GOOD, Answer(200, "a" * 12, 1e-7)], REFUSED, Verdict.HARM),
        ([GOOD, Answer(200, "b" * 12, 2e-5)], REFUSED, Verdict.HARM),
        ([GOOD, Answer(200, "b" * 12, float("nan"))], REFUSED, Verdict.HARM),
        ([GOOD, Answer(200, "b" * 12, None)], REFUSED, Verdict.HARM),
        ([GOOD, Answer(500, "b" * 12)], REFUSED, Verdict.HARM),
        ([GOOD, Answer(503)], REFUSED, Verdict.UNKNOWN),
        ([GOOD, Answer(503, "b" * 12)], REFUSED, Verdict.HARM),
        ([GOOD], [Refusal("an empty body", 503)], Verdict.UNKNOWN),
        ([GOOD], [Refusal("an empty body", 200)], Verdict.HARM),
        ([GOOD], [Refusal("an empty body", 500)], Verdict.HARM),
        ([GOOD], [Refusal("an empty body", 0)], Verdict.UNKNOWN),
    ],
)
def test_smoke(answers: list[Answer], refusals: list[Refusal], verdict: Verdict) -> None:
    assert verdict is judge_smoke(PACKAGE, answers, refusals).verdict


@pytest.mark.parametrize(
    ("recent", "verdict"),
    [
        ([], Verdict.UNKNOWN),
        ([GOOD], Verdict.SAFE),
        ([Answer(503), GOOD], Verdict.SAFE),
        ([Answer(503), Answer(503)], Verdict.UNKNOWN),
        ([Answer(503), Answer(0), Answer(503)], Verdict.HARM),
        ([Answer(200, "a" * 12, 0.0)] * 3, Verdict.UNKNOWN),
        ([Answer(200, "b" * 12, 0.5)], Verdict.HARM),
    ],
)
def test_probe(recent: list[Answer], verdict: Verdict) -> None:
    assert verdict is judge_probe(PACKAGE, recent).verdict


@pytest.mark.parametrize(
    ("slot", "verdict"),
    [
        (None, Verdict.UNKNOWN),
        (SlotStatus(PACKAGE.digest, 2, 2, restarts=5), Verdict.SAFE),
        (SlotStatus(PACKAGE.digest, 1, 2, restarts=6), Verdict.UNKNOWN),
        (SlotStatus(PACKAGE.digest, 2, 2, restarts=8), Verdict.HARM),
    ],
)
def test_health(slot: SlotStatus | None, verdict: Verdict) -> None:
    assert verdict is judge_health(slot, wanted=2, restarts_before=5).verdict
