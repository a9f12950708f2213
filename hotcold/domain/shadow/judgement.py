"""What the counts of a comparison say about the candidate: gates, each with what it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from hotcold.domain.evidence.discordant import DiscordantTest
from hotcold.domain.evidence.finding import Finding
from hotcold.domain.evidence.flips import FlipPrice, flip_test, price_flips
from hotcold.domain.evidence.multiplicity import rejected_segments
from hotcold.domain.evidence.odds_mixture import log_mean_exp
from hotcold.domain.evidence.paired_mean import MeanTest
from hotcold.domain.evidence.quantile_bounds import QuantileTest
from hotcold.domain.evidence.score_spread import judge_spread
from hotcold.domain.gate import Gate, Verdict
from hotcold.domain.shadow.comparison import Comparison, SegmentCounts
from hotcold.domain.shadow.counting import LOSS_SCALE
from hotcold.domain.shadow.limits import Limits
from hotcold.domain.shadow.report import SegmentRow

PAIRING, WORST_SEGMENT = "pairing", "worst_segment"
# Why a row is in no pair. What is never SAFE: nobody knows what it would have said.
ONLY_CHAMPION, ONLY_CANDIDATE = "only in the champion's log", "only in the candidate's log"
REPEATED = "the request id is there more than once"
OTHER_REQUEST = "the features of the two differ"
OTHER_SHAPE = "the numbers of scores differ"
APART = "the clocks of the two differ too much"
NOT_LOGGED = "dropped by the log"
FAILED, NO_FEATURES = "failed by the champion", "without features in the log"
TORN, MISSING, UNREADABLE = "log segments torn by a kill", "log segments missing", "log segments unreadable"
LABELS_CONTRADICT, LABELS_UNREADABLE = "labels that contradict each other", "label files unreadable"
_OF_LABELS = (LABELS_CONTRADICT, LABELS_UNREADABLE)
_TOLERATED = (ONLY_CHAMPION, ONLY_CANDIDATE, REPEATED, NOT_LOGGED)
_NEVER_SAFE = (OTHER_REQUEST, OTHER_SHAPE, APART, TORN, MISSING, UNREADABLE)


@dataclass(frozen=True)
class Judgement:
    """All gates of a comparison.

    Args:
        gates: in the order in which they are told.
        findings: of those that are statistical.
        price: of the flips, if a cost is known.
        segments: those with the most evidence of harm first.
    """

    gates: tuple[Gate, ...]
    findings: tuple[Finding, ...]
    price: FlipPrice | None
    segments: tuple[SegmentRow, ...]


def judge(counts: Comparison, limits: Limits, all_copied: bool = True) -> Judgement:
    """Judge a comparison; valid at whatever moment somebody looks.

    Args:
        counts: so far.
        limits: what is tolerated.
        all_copied: every request should be a pair; else those that only the champion has say nothing.
    """
    flips = flip_test(limits.flips_per_1000, limits.alpha).judge(counts.flips)
    findings = (
        _error_test(limits).judge(counts.errors),
        slow_test(limits).judge(counts.slow),
        p99_test(limits).judge(counts.candidate.first_of_second, counts.champion.first_of_second),
        _change_test(limits).judge(counts.change),
        flips,
        _loss_test(limits).judge(counts.loss),
        _accuracy_test(limits).judge(counts.accuracy),
    )
    segments = _judge_segments(counts.segments, limits)
    gates = (
        judge_pairing(counts, limits, all_copied),
        judge_spread(counts.champion.scores, counts.candidate.scores),
        *(_sound(finding.to_gate(), counts) for finding in findings),
        judge_worst({row.segment: row.harm for row in segments if row.stands_out}, len(segments)),
    )
    price = None if limits.cost_per_flip is None else price_flips(flips, limits.cost_per_flip)
    return Judgement(gates, findings, price, segments)


def _sound(gate: Gate, counts: Comparison) -> Gate:
    """What rests on labels is not SAFE as long as some of these are wrong."""
    wrong = [f"{counts.left_out[reason]:,} {reason}" for reason in _OF_LABELS if counts.left_out.get(reason)]
    if not wrong or gate.name not in ("log_loss", "accuracy") or gate.verdict is Verdict.HARM:
        return gate
    return replace(gate, verdict=Verdict.UNKNOWN, observed="; ".join((gate.observed, *wrong)))


def judge_pairing(counts: Comparison, limits: Limits, all_copied: bool) -> Gate:
    """Whether the pairs are what they should be, before anything is read from them; never HARM."""
    limit = f"at most {limits.unpaired_pct:g} % without a partner, none that contradict each other"
    counted = {reason: n for reason, n in counts.left_out.items() if n}
    if not all_copied:
        counted.pop(ONLY_CHAMPION, None)
    seen = "; ".join([f"{counts.pairs:,} pairs", *(f"{n:,} {reason}" for reason, n in sorted(counted.items()))])
    lost = sum(n for reason, n in counted.items() if reason in _TOLERATED)
    share_pct = 100 * lost / (counts.pairs + lost) if counts.pairs else 100.0
    contradicts = any(reason in _NEVER_SAFE for reason in counted)
    is_sound = counts.pairs > 0 and share_pct <= limits.unpaired_pct and not contradicts
    return Gate(PAIRING, Verdict.SAFE if is_sound else Verdict.UNKNOWN, seen, limit)


def copies_test(limits: Limits) -> MeanTest:
    """The test of copies that get no answer; its values are their share in each second."""
    return share_test(
        limits.lost_pct, limits, "copies", "of the copies in a second, the share that the candidate leaves unanswered"
    )


def _error_test(limits: Limits) -> MeanTest:
    return MeanTest(
        limit=limits.error_pct / 100,
        alpha=limits.alpha,
        signal="error_rate",
        subject="of the answers in a second, the share that only the candidate fails",
        unit="%",
        per=100,
        counted="seconds",
    )


def slow_test(limits: Limits) -> MeanTest:
    """The test of answers over the latency budget; its values are their share in each second."""
    subject = "of the candidate's answers in a second, the share over the latency budget"
    return share_test(limits.slow_pct, limits, "latency_budget", subject)


def share_test(limit_pct: float, limits: Limits, signal: str, subject: str) -> MeanTest:
    """A test of a share in each closed second.

    Args:
        limit_pct: most of it on average, percent.
        limits: with the level.
        signal: name of the gate.
        subject: of its sentence.
    """
    return MeanTest(
        limit=limit_pct / 100,
        alpha=limits.alpha,
        signed=False,
        signal=signal,
        subject=subject,
        unit="%",
        per=100,
        counted="seconds",
    )


def _change_test(limits: Limits) -> MeanTest:
    return MeanTest(limit=limits.score_change, alpha=limits.alpha, scale=limits.score_scale, two_sided=True)


def _loss_test(limits: Limits) -> MeanTest:
    return MeanTest(
        limit=limits.log_loss,
        alpha=limits.alpha,
        scale=LOSS_SCALE,
        signal="log_loss",
        subject="the candidate's log-loss minus the champion's",
        unit="nats",
        counted="labelled pairs",
    )


def p99_test(limits: Limits) -> QuantileTest:
    """The test of the 99th percentile against the champion's."""
    return QuantileTest(baseline=limits.p99_ratio, limit=limits.p99_ratio, alpha=limits.alpha, signal="latency_p99")


def _accuracy_test(limits: Limits) -> DiscordantTest:
    share = limits.lost_labels_pct / 100
    return DiscordantTest(baseline=share, limit=share, alpha=limits.alpha)


def _judge_segments(segments: Mapping[str, SegmentCounts], limits: Limits) -> tuple[SegmentRow, ...]:
    change, flips, errors = _change_test(limits), flip_test(limits.flips_per_1000, limits.alpha), _error_test(limits)
    evidence = {
        name: {
            change.signal: change.log_harm(own.change),
            flips.signal: flips.log_harm(own.flips),
            errors.signal: errors.log_harm(own.errors),
        }
        for name, own in segments.items()
    }
    logs = {name: log_mean_exp(np.array(tuple(by_signal.values()))) for name, by_signal in evidence.items()}
    stand_out = set(rejected_segments(logs, limits.alpha))
    rows = (_row(name, own, limits, logs[name], name in stand_out, evidence[name]) for name, own in segments.items())
    return tuple(sorted(rows, key=lambda row: (-row.log_evidence, row.segment)))


def _row(
    name: str, own: SegmentCounts, limits: Limits, log: float, stands_out: bool, by_signal: Mapping[str, float]
) -> SegmentRow:
    strongest = max(by_signal, key=lambda signal: by_signal[signal])
    return SegmentRow(
        segment=name,
        pairs=own.errors.total,
        score_change=own.change.mean * limits.score_scale,
        flips_per_1000=own.flips.mean * 1000,
        log_evidence=log,
        stands_out=stands_out,
        harm=strongest if stands_out else "",
    )


def judge_worst(harmed: Mapping[str, str], segments: int) -> Gate:
    """A veto: segments that stand out are HARM; that none does is no evidence that all are well.

    Args:
        harmed: those that stand out, and by which signal, strongest evidence first.
        segments: how many there are in all.
    """
    limit = "no segment stands out, with their number taken into account"
    if harmed:
        named = [f"{name or 'no segment'} by {signal}" for name, signal in list(harmed.items())[:5]]
        return Gate(WORST_SEGMENT, Verdict.HARM, f"{', '.join(named)} of {segments} segments", limit)
    return Gate(WORST_SEGMENT, Verdict.UNKNOWN, f"none of {segments} segments stands out", limit)
