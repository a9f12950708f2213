"""What the comparison of a candidate with the champion found: all that a report shows, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from hotcold.domain.evidence.drift import Drift
from hotcold.domain.evidence.finding import Finding
from hotcold.domain.evidence.flips import FlipPrice
from hotcold.domain.gate import Gate, Verdict
from hotcold.domain.package import PackageRef
from hotcold.domain.score_histogram import ScoreHistogram


class Source(StrEnum):
    """Where the candidate's answers come from."""

    COPIES = "copies of live requests"
    REPLAY = "logged requests, scored anew"


@dataclass(frozen=True)
class StageTimes:
    """How long one stage of an answer took.

    Args:
        stage: `pre` (decoding), `infer` (scoring), `post` (encoding) or `total`.
        p50_us: median, µs; the upper end of its bin. Infinite beyond the last one, NaN without answers.
        p95_us: 95th percentile, likewise.
        p99_us: 99th percentile, likewise.
    """

    stage: str
    p50_us: float
    p95_us: float
    p99_us: float


@dataclass(frozen=True)
class CalibrationBin:
    """Scores of one tenth of their range, and what became of them.

    Args:
        lower: of the tenth; scores from here on are in it.
        upper: of the tenth; scores below are in it, and 1 in the last one.
        mean_score: of the scores in it.
        positive_share: share of their labels that are 1.
        labelled: how many.
    """

    lower: float
    upper: float
    mean_score: float
    positive_share: float
    labelled: int


@dataclass(frozen=True)
class SideQuality:
    """How well one side predicted what happened.

    Args:
        log_loss: mean, nats.
        auc: area under the ROC curve, dimensionless; NaN where all labels are equal.
        calibration: by score, ascending; empty bins are left out.
        calibration_error: expected calibration error of these bins, 0 to 1; NaN without bins.
    """

    log_loss: float
    auc: float
    calibration: tuple[CalibrationBin, ...]
    calibration_error: float


@dataclass(frozen=True)
class LabelledPairs:
    """What late labels say.

    Args:
        labelled: pairs with a label.
        coverage_pct: share of the pairs that have one, in percent.
        delay_p50_s: median time from the request to its label, seconds.
        delay_p95_s: 95th percentile of it.
        champion: how well it predicted.
        candidate: how well it predicted, on the same requests.
    """

    labelled: int
    coverage_pct: float
    delay_p50_s: float
    delay_p95_s: float
    champion: SideQuality
    candidate: SideQuality


@dataclass(frozen=True)
class SegmentRow:
    """One segment of the requests.

    Args:
        segment: as `x-hotcold-segment` had it; empty for requests without one.
        pairs: the first of each entity, failures included.
        score_change: mean change of the score, candidate's minus champion's.
        flips_per_1000: decisions that differ among 1,000 requests.
        log_evidence: log of the e-value against "no harm in this segment", nats.
        stands_out: it is harmed, with the number of segments taken into account.
        harm: what the evidence is about, for instance `decision_flips`; empty if there is none.
    """

    segment: str
    pairs: int
    score_change: float
    flips_per_1000: float
    log_evidence: float
    stands_out: bool
    harm: str = ""


@dataclass(frozen=True)
class ShadowReport:
    """The whole of one comparison.

    Args:
        model: registered model name.
        release: id of the release that it belongs to; for a replay, the id of the run.
        source: where the candidate's answers come from.
        champion: package that answered.
        candidate: package that it is compared with.
        verdict: SAFE, HARM or UNKNOWN.
        reason: why, one sentence.
        since_s: first moment whose requests count, seconds since the epoch.
        until_s: end of it.
        share_pct: share of the requests that were meant to be compared, in percent.
        threshold: score from which on the decision is yes.
        pairs: requests with an answer by both.
        entities: observations among these: one for each entity, and one for each request without one.
        agreement_pct: share of the pairs with the same decision, in percent; None without pairs.
        gates: every check, also those without statistics.
        findings: what the statistical ones among these rest on.
        price: what the flips cost; None if no cost was given.
        drift: how far the scores moved.
        champion_scores: their distribution.
        candidate_scores: their distribution.
        champion_times: by stage.
        candidate_times: by stage.
        left_out: why rows were no pairs, and how many; only what is not 0.
        labels: None if there are none.
        segments: those with the most evidence of harm first.
        required: names of the gates that have to be SAFE for the verdict SAFE; empty if nobody says.
    """

    model: str
    release: str
    source: Source
    champion: PackageRef
    candidate: PackageRef
    verdict: Verdict
    reason: str
    since_s: float
    until_s: float
    share_pct: float
    threshold: float
    pairs: int
    entities: int
    agreement_pct: float | None
    gates: tuple[Gate, ...]
    findings: tuple[Finding, ...]
    price: FlipPrice | None
    drift: Drift
    champion_scores: ScoreHistogram
    candidate_scores: ScoreHistogram
    champion_times: tuple[StageTimes, ...]
    candidate_times: tuple[StageTimes, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)
    labels: LabelledPairs | None = None
    segments: tuple[SegmentRow, ...] = ()
    required: tuple[str, ...] = ()
