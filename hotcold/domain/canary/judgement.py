"""What the counts of a canary say about the candidate: gates, each with what it rests on.

For identical versions, two gates stand at the very edge of their hypothesis, since they look for any rise of errors: the error
ratio, and the same in segments. Each takes half of alpha, so that together they take back at most alpha of the releases without
harm. All others tolerate something that identical versions are far from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hotcold.domain.canary.counts import CanaryCounts, ScoreRange, SegmentCounts
from hotcold.domain.canary.limits import CanaryLimits
from hotcold.domain.evidence.error_ratio import ErrorRatioTest
from hotcold.domain.evidence.finding import Finding
from hotcold.domain.evidence.multiplicity import rejected_segments
from hotcold.domain.evidence.odds_mixture import log_mean_exp
from hotcold.domain.evidence.paired_mean import MeanTest
from hotcold.domain.evidence.randomised_mean import RandomisedMeanTest
from hotcold.domain.evidence.sample_ratio import SampleRatioTest
from hotcold.domain.gate import Gate, Verdict
from hotcold.domain.shadow.judgement import (
    LABELS_CONTRADICT,
    LABELS_UNREADABLE,
    MISSING,
    NOT_LOGGED,
    TORN,
    UNREADABLE,
    WORST_SEGMENT,
    judge_worst,
    p99_test,
    share_test,
    slow_test,
)
from hotcold.domain.shadow.limits import Limits

# What is in such a file, nobody knows.
_DAMAGE = (TORN, MISSING, UNREADABLE)
# What compares the sides by the draw: if that is not what it should be, HARM means as little as SAFE.
_DRAWN = ("error_ratio", "score_shift", "log_loss", "accuracy", WORST_SEGMENT)
_OF_LABELS = {"log_loss": (LABELS_CONTRADICT, LABELS_UNREADABLE), "accuracy": (LABELS_CONTRADICT, LABELS_UNREADABLE)}


@dataclass(frozen=True)
class Judgement:
    """All gates that rest on the prediction log.

    Args:
        gates: in the order in which they are told.
        findings: of those that are statistical.
        segments: log of the evidence of harm in each, nats, strongest first.
    """

    gates: tuple[Gate, ...]
    findings: tuple[Finding, ...]
    segments: tuple[tuple[str, float], ...]


def judge(counts: CanaryCounts, limits: Limits, more: CanaryLimits | None = None) -> Judgement:
    """Judge a canary; valid at whatever moment somebody looks.

    Args:
        counts: so far.
        limits: what is tolerated.
        more: the rest of it; None for the defaults.
    """
    more = more or CanaryLimits()
    findings = (
        error_ratio_test(limits, more).judge(counts.errors),
        slow_test(limits).judge(counts.slow),
        p99_test(limits).judge(counts.candidate_us, counts.champion_us),
        score_test(limits, more).judge(counts.scores),
        _loss_test(limits, more).judge(counts.loss),
        _accuracy_test(limits, more).judge(counts.wrong),
        SampleRatioTest().judge(counts.entities),
    )
    segments = _segment_evidence(counts, limits, more)
    logs, stand_out = _stand_out(segments, limits)
    worst = judge_worst({name: _strongest(segments[name]) for name in stand_out}, len(segments))
    return Judgement(
        _weigh((*(finding.to_gate() for finding in findings), worst), counts, more),
        findings,
        tuple(sorted(logs.items(), key=lambda one: (-one[1], one[0]))),
    )


def decide(counts: CanaryCounts, limits: Limits, more: CanaryLimits | None = None) -> tuple[Gate, ...]:
    """The verdicts of `judge` without bounds, forecasts and wording, in a tenth of the time: for simulations.

    Args:
        counts: so far.
        limits: what is tolerated.
        more: the rest of it; None for the defaults.
    """
    more = more or CanaryLimits()
    ratio, slow, p99, shift = error_ratio_test(limits, more), slow_test(limits), p99_test(limits), score_test(limits, more)
    loss, accuracy, draw = _loss_test(limits, more), _accuracy_test(limits, more), SampleRatioTest()
    segments = _segment_evidence(counts, limits, more)
    worst = judge_worst({name: _strongest(segments[name]) for name in _stand_out(segments, limits)[1]}, len(segments))
    gates = (
        Gate(ratio.signal, ratio.verdict(counts.errors)),
        Gate(slow.signal, slow.verdict(counts.slow)),
        Gate(p99.signal, p99.verdict(counts.candidate_us, counts.champion_us)),
        Gate(shift.signal, shift.verdict(counts.scores)),
        Gate(loss.signal, loss.verdict(counts.loss)),
        Gate(accuracy.signal, accuracy.verdict(counts.wrong)),
        Gate(draw.signal, draw.verdict(counts.entities)),
        worst,
    )
    return _weigh(gates, counts, more)


def _stand_out(segments: Mapping[str, Mapping[str, float]], limits: Limits) -> tuple[dict[str, float], tuple[str, ...]]:
    """Log of the evidence of harm in each segment, nats, and the segments in which it suffices, strongest first."""
    logs = {name: log_mean_exp(np.array(tuple(by_signal.values()))) for name, by_signal in segments.items()}
    return logs, rejected_segments(logs, limits.alpha / 2)


def _weigh(gates: Sequence[Gate], counts: CanaryCounts, more: CanaryLimits) -> tuple[Gate, ...]:
    """What the gates are worth, with all that speaks against the log and the draw."""
    doubts = _doubts(counts, more)
    if any(gate.name == SampleRatioTest.signal and gate.verdict is Verdict.HARM for gate in gates):
        doubts = (*doubts, "sample_ratio is an alarm, so the sides were not drawn as the split says")
        gates = [_void(gate) if gate.name in _DRAWN else gate for gate in gates]
    return tuple(_sound(gate, counts, doubts) for gate in gates)


def edge_errors_test(limits: Limits) -> MeanTest:
    """The test of answers that failed at the edge; its values are their share in each second."""
    subject = "of the candidate's answers in a second, the share that failed at the edge"
    return share_test(limits.error_pct, limits, "error_rate", subject)


def error_ratio_test(limits: Limits, more: CanaryLimits) -> ErrorRatioTest:
    """The test of failing entities against the champion's."""
    return ErrorRatioTest(limit=more.error_ratio, alpha=limits.alpha / 2)


def score_test(limits: Limits, more: CanaryLimits) -> RandomisedMeanTest:
    """The test of the mean score."""
    return RandomisedMeanTest(limits.score_change, *more.scores, alpha=limits.alpha, two_sided=True)


def _loss_test(limits: Limits, more: CanaryLimits) -> RandomisedMeanTest:
    return RandomisedMeanTest(
        limit=limits.log_loss,
        highest=more.greatest_loss,
        alpha=limits.alpha,
        signal="log_loss",
        subject="the candidate's mean log-loss minus the champion's",
        unit="nats",
        counted="labelled entities",
    )


def _accuracy_test(limits: Limits, more: CanaryLimits) -> RandomisedMeanTest:
    return RandomisedMeanTest(
        limit=more.lost_accuracy_pct / 100,
        alpha=limits.alpha,
        signal="accuracy",
        subject="the candidate's share of wrong decisions minus the champion's",
        unit="%",
        per=100,
        counted="labelled entities",
    )


def _segment_evidence(counts: CanaryCounts, limits: Limits, more: CanaryLimits) -> dict[str, dict[str, float]]:
    errors, scores = error_ratio_test(limits, more), score_test(limits, more)

    def evidence(own: SegmentCounts) -> dict[str, float]:
        return {errors.signal: errors.log_harm(own.errors.failures.by_share), scores.signal: scores.log_harm(own.scores)}

    return {name: evidence(own) for name, own in counts.segments.items()}


def _strongest(by_signal: dict[str, float]) -> str:
    return max(by_signal, key=lambda signal: by_signal[signal])


def _doubts(counts: CanaryCounts, more: CanaryLimits) -> tuple[str, ...]:
    """Why nothing that rests on the log is SAFE."""
    dropped, answers = counts.left_out.get(NOT_LOGGED, 0), counts.answers.total
    too_many = dropped > (answers + dropped) * more.not_logged_pct / 100
    return (*_named(counts, _DAMAGE), *_named(counts, (NOT_LOGGED,) if too_many else ()))


def _named(counts: CanaryCounts, reasons: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{counts.left_out[reason]:,} {reason}" for reason in reasons if counts.left_out.get(reason))


def _void(gate: Gate) -> Gate:
    return replace(gate, verdict=Verdict.UNKNOWN)


def _sound(gate: Gate, counts: CanaryCounts, doubts: tuple[str, ...]) -> Gate:
    """Harm stays harm; SAFE it is only if nothing speaks against it."""
    own = (*doubts, *_named(counts, _OF_LABELS.get(gate.name, ())))
    if gate.name == "score_shift":
        own = (*own, *_constant(counts.candidate_range, "candidate"), *_constant(counts.champion_range, "champion"))
    if not own or gate.verdict is Verdict.HARM:
        return gate
    return replace(gate, verdict=Verdict.UNKNOWN, observed="; ".join(part for part in (gate.observed, *own) if part))


def _constant(scores: ScoreRange, side: str) -> tuple[str, ...]:
    """A model that answers the same whatever it is asked may have the right mean, and is broken."""
    return (f"all scores of the {side} are {scores.least:g}",) if scores.least == scores.greatest else ()
