"""From the counts of a comparison to its report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from hotcold.domain.evidence.drift import compare_scores
from hotcold.domain.evidence.latency_counts import LatencyCounts
from hotcold.domain.gate import Gate, Verdict, first_harm, missing_evidence
from hotcold.domain.package import PackageRef
from hotcold.domain.score_histogram import ScoreHistogram
from hotcold.domain.shadow.calibration import calibration, calibration_error
from hotcold.domain.shadow.comparison import TIMED, Comparison, SideCounts
from hotcold.domain.shadow.judgement import Judgement
from hotcold.domain.shadow.limits import Limits
from hotcold.domain.shadow.report import (
    LabelledPairs,
    ShadowReport,
    SideQuality,
    Source,
    StageTimes,
)

_MOST_SEGMENTS = 50


@dataclass(frozen=True)
class Occasion:
    """What was compared, when and why.

    Args:
        model: registered model name.
        release: id of the release, or of the run.
        source: where the candidate's answers come from.
        champion: package that answered.
        candidate: package that it is compared with.
        since_s: begin, seconds since the epoch.
        until_s: end.
        share_pct: share of the requests that were meant to be compared, in percent.
        required: gates that have to be SAFE for the verdict SAFE.
    """

    model: str
    release: str
    source: Source
    champion: PackageRef
    candidate: PackageRef
    since_s: float
    until_s: float
    share_pct: float
    required: tuple[str, ...] = ()


def decide_verdict(gates: Sequence[Gate], needed: Iterable[str]) -> tuple[Verdict, str]:
    """The verdict where no release has one: HARM by any gate, SAFE if all that are needed are, else UNKNOWN; and why.

    Args:
        gates: every check.
        needed: names of those that have to be SAFE.
    """
    if harm := first_harm(gates):
        return Verdict.HARM, harm.sentence
    if missing := missing_evidence(gates, needed):
        return Verdict.UNKNOWN, f"no evidence from {', '.join(missing)}"
    return Verdict.SAFE, f"every gate is SAFE: {', '.join(needed)}"


def summarise(
    occasion: Occasion,
    counts: Comparison,
    judged: Judgement,
    limits: Limits,
    verdict: tuple[Verdict, str],
    more_gates: tuple[Gate, ...] = (),
) -> ShadowReport:
    """All that a report shows.

    Args:
        occasion: what was compared.
        counts: of the whole time.
        judged: what they say.
        limits: what is tolerated.
        verdict: SAFE, HARM or UNKNOWN, and why.
        more_gates: checks that do not rest on pairs.
    """
    return ShadowReport(
        model=occasion.model,
        release=occasion.release,
        source=occasion.source,
        champion=occasion.champion,
        candidate=occasion.candidate,
        verdict=verdict[0],
        reason=verdict[1],
        since_s=occasion.since_s,
        until_s=occasion.until_s,
        share_pct=occasion.share_pct,
        threshold=limits.threshold,
        pairs=counts.pairs,
        entities=counts.entities,
        agreement_pct=100 * counts.agreed / counts.scored if counts.scored else None,
        gates=(*more_gates, *judged.gates),
        findings=judged.findings,
        price=judged.price,
        drift=compare_scores(counts.champion.scores, counts.candidate.scores),
        champion_scores=counts.champion.scores,
        candidate_scores=counts.candidate.scores,
        champion_times=_times(counts.champion, occasion.source),
        candidate_times=_times(counts.candidate, occasion.source),
        left_out={reason: count for reason, count in counts.left_out.items() if count},
        labels=_labels(counts),
        segments=judged.segments[:_MOST_SEGMENTS],
        required=occasion.required,
    )


def _times(side: SideCounts, source: Source) -> tuple[StageTimes, ...]:
    """Scored anew, nobody waits for an answer, so there are none."""
    if source is Source.REPLAY:
        return ()
    return tuple(
        StageTimes(stage, *(_quantile(times, q) for q in (0.5, 0.95, 0.99)))
        for stage, times in zip(TIMED, side.times, strict=True)
    )


def _quantile(counts: LatencyCounts, quantile: float) -> float:
    """Upper end of the bin that it lies in, in the unit of the edges."""
    if not counts.total:
        return math.nan
    index = counts.quantile_bin(quantile)
    return float(counts.edges_us[index]) if index < len(counts.edges_us) else math.inf


def _labels(counts: Comparison) -> LabelledPairs | None:
    if not counts.labelled:
        return None
    return LabelledPairs(
        labelled=counts.labelled,
        coverage_pct=100 * counts.labelled / counts.pairs,
        delay_p50_s=_quantile(counts.delays, 0.5),
        delay_p95_s=_quantile(counts.delays, 0.95),
        champion=_quality(counts.champion, counts.labelled),
        candidate=_quality(counts.candidate, counts.labelled),
    )


def _quality(side: SideCounts, labelled: int) -> SideQuality:
    bins = calibration(side)
    auc = area_under_curve(side.positives, side.negatives)
    return SideQuality(side.loss / labelled, auc, bins, calibration_error(bins))


def area_under_curve(positives: ScoreHistogram, negatives: ScoreHistogram) -> float:
    """Area under the ROC curve from histograms; scores that share a bin, which is 1.6 % wide, count as equal.

    Args:
        positives: scores whose label says yes.
        negatives: scores whose label says no.

    Returns:
        0 to 1; NaN where one of the two is empty.
    """
    if not positives.total or not negatives.total:
        return math.nan
    bins = sorted({*positives.counts, *negatives.counts})
    yes, no = (np.array([side.counts.get(index, 0) for index in bins], dtype=np.float64) for side in (positives, negatives))
    below = np.cumsum(no) - no
    return float(yes @ (below + no / 2) / (yes.sum() * no.sum()))
