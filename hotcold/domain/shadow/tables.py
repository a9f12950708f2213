"""The numbers of a shadow report as tables, which a page of any kind can show."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hotcold.domain.evidence.finding import number
from hotcold.domain.gate import Gate
from hotcold.domain.scoring_progress import describe_seconds
from hotcold.domain.shadow.calibration import INEXACT
from hotcold.domain.shadow.report import SegmentRow, ShadowReport, SideQuality, StageTimes
from hotcold.domain.shadow.wording import check_name, described_window, duration, order_gates, segment_name

_STABLE, _SHIFTED = 0.1, 0.25
_DIGEST = 12
# Of an e-value; more than this nobody needs to know.
_MOST_EVIDENCE = 1e6


@dataclass(frozen=True)
class Table:
    """Rows under headings. A cell that is a Verdict may be coloured; all others are words, which may come from outside.

    Args:
        caption: what the table shows.
        columns: headings.
        rows: cells by column.
        numeric: index of the first column from which on cells are numbers; as many as columns if none are.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: int


def gates_table(report: ShadowReport) -> Table:
    """Every check, harm first; whether the verdict SAFE needs it is said if it is known."""
    needs = ("required",) if report.required else ()
    rows = tuple(_gate_row(gate, report.required) for gate in order_gates(report))
    columns = ("check", "verdict", *needs, "observed", "allowed")
    return Table("Checks; those that show harm come first", columns, rows, len(columns))


def _gate_row(gate: Gate, required: tuple[str, ...]) -> tuple[str, ...]:
    needed = ("yes" if gate.name in required else "no",) if required else ()
    return (check_name(gate.name), gate.verdict, *needed, gate.observed or "nothing", gate.limit or "not stated")


def facts_table(report: ShadowReport) -> Table:
    """How much was compared, and how far the scores moved."""
    agreement = "not known" if report.agreement_pct is None else f"{report.agreement_pct:.4g} %"
    rows = [
        ("pairs", f"{report.pairs:,}", "requests with an answer by both"),
        ("observations", f"{report.entities:,}", "one for each entity, one for each request without"),
        ("same decision", agreement, f"share of the pairs; a score from {report.threshold:g} on is a yes"),
        ("mean score, champion", _mean(report.champion_scores.mean), f"of {report.champion_scores.total:,} scores"),
        ("mean score, candidate", _mean(report.candidate_scores.mean), f"of {report.candidate_scores.total:,} scores"),
        *_not_finite(report),
        ("PSI", _distance(report.drift.psi), _judge_psi(report.drift.psi)),
        ("KS", _distance(report.drift.ks), "0 to 1: largest gap of the two distributions"),
    ]
    return Table("What was compared, and how far the scores moved", ("number", "value", "what it is"), tuple(rows), 3)


def _not_finite(report: ShadowReport) -> list[tuple[str, str, str]]:
    sides = (("champion", report.champion_scores), ("candidate", report.candidate_scores))
    return [
        (f"no numbers, {name}", f"{scores.not_finite:,}", "scores that are NaN or infinite")
        for name, scores in sides
        if scores.not_finite
    ]


def times_table(report: ShadowReport) -> Table | None:
    """Latency by stage of both sides; None if there is none of either."""
    sides = (("champion", report.champion_times), ("candidate", report.candidate_times))
    stages = list(dict.fromkeys(one.stage for _, times in sides for one in times))
    rows = [_times_row(stage, side, times) for stage in stages for side, times in sides]
    if not rows:
        return None
    caption = "How long answers took, by stage: pre is decoding, infer is scoring, post is encoding"
    return Table(caption, ("stage", "side", "p50", "p95", "p99"), tuple(rows), 2)


def _times_row(stage: str, side: str, times: tuple[StageTimes, ...]) -> tuple[str, ...]:
    found = next((one for one in times if one.stage == stage), None)
    shown = (found.p50_us, found.p95_us, found.p99_us) if found else (math.nan,) * 3
    return (stage, side, *(duration(time) for time in shown))


def labels_table(report: ShadowReport) -> Table | None:
    """How well both predicted what happened; None without labels."""
    labels = report.labels
    if labels is None:
        return None
    sides = (labels.champion, labels.candidate)
    rows = (
        ("log-loss, less is better", *(number(side.log_loss) for side in sides)),
        ("AUC, more is better", *(number(side.auc) for side in sides)),
        ("expected calibration error, less is better", *(number(side.calibration_error) for side in sides)),
    )
    caption = (
        f"How well both predicted {labels.labelled:,} requests whose outcome is known: {number(labels.coverage_pct)} % of the "
        f"pairs. Outcomes came after {_delay(labels.delay_p50_s)} (half of them) to {_delay(labels.delay_p95_s)} (95 %)"
    )
    return Table(caption, ("number", "champion", "candidate"), rows, 1)


def calibration_table(report: ShadowReport) -> Table | None:
    """How often what both predicted came true, by tenths of the score; None without labels of probabilities."""
    labels = report.labels
    if labels is None:
        return None
    sides = (("champion", labels.champion), ("candidate", labels.candidate))
    tenths = sorted({(one.lower, one.upper) for _, side in sides for one in side.calibration})
    rows = tuple(_calibration_row(tenth, name, side) for tenth in tenths for name, side in sides)
    caption = (
        "Calibration: of the requests that were scored within a tenth, the score that was predicted on average, and the share "
        f"that came true. Scores are counted in steps, so a predicted score is exact to {100 * INEXACT:.1g} % of itself, and "
        "one as close as that to the border of two tenths may be in either"
    )
    return Table(caption, ("score", "side", "labelled", "predicted", "came true"), rows, 2) if rows else None


def _calibration_row(tenth: tuple[float, float], name: str, side: SideQuality) -> tuple[str, ...]:
    found = next((one for one in side.calibration if (one.lower, one.upper) == tenth), None)
    shown = (f"{found.labelled:,}", number(found.mean_score), number(found.positive_share)) if found else ("0", "none", "none")
    return (f"{tenth[0]:.1f} to {tenth[1]:.1f}", name, *shown)


def segments_table(report: ShadowReport, most: int) -> Table | None:
    """The segments with the most evidence of harm; None if there are no segments.

    Args:
        report: of a comparison.
        most: rows; the caption says how many segments are not shown.
    """
    if not report.segments:
        return None
    hidden = len(report.segments) - most
    rest = f"; {hidden:,} more with less evidence are not shown" if hidden > 0 else ""
    return Table(
        f"Segments, those with the most evidence of harm first{rest}",
        ("segment", "stands out", "pairs", "score change", "flips per 1,000", "e-value of harm"),
        tuple(_segment_row(row) for row in report.segments[:most]),
        2,
    )


def _segment_row(row: SegmentRow) -> tuple[str, ...]:
    stands_out = f"yes: {check_name(row.harm)}" if row.harm else "yes"
    return (
        segment_name(row.segment),
        stands_out if row.stands_out else "no",
        f"{row.pairs:,}",
        _signed(row.score_change),
        number(row.flips_per_1000),
        _evidence(row.log_evidence),
    )


def left_out_table(report: ShadowReport) -> Table | None:
    """Rows that were no pairs, by reason, most frequent first; None if none was left out."""
    left_out = sorted(report.left_out.items(), key=lambda item: (-item[1], item[0]))
    rows = tuple((reason, f"{count:,}") for reason, count in left_out if count)
    return Table("Rows that were not compared", ("why", "rows"), rows, 1) if rows else None


def provenance_table(report: ShadowReport) -> Table:
    """Who was compared with whom, when, and on which requests."""
    sides = (("candidate", report.candidate), ("champion", report.champion))
    rows = (
        ("model", report.model),
        *(
            (name, f"{package.semver}, registry version {package.version}, digest {package.digest[:_DIGEST]}")
            for name, package in sides
        ),
        ("release", report.release),
        ("source", str(report.source.value)),
        ("window", described_window(report)),
        ("share", f"{number(report.share_pct)} % of the requests were meant to be compared"),
        ("threshold", f"{report.threshold:g}"),
    )
    return Table("What this report is about", ("", ""), rows, 2)


def _mean(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.4g}"


def _distance(value: float | None) -> str:
    return "not known" if value is None or not math.isfinite(value) else f"{value:.4f}"


def _judge_psi(psi: float | None) -> str:
    if psi is None:
        return "one side has no scores"
    word = "stable" if psi < _STABLE else "moved" if psi <= _SHIFTED else "shifted"
    return f"{word}: below {_STABLE:g} is called stable, above {_SHIFTED:g} a shift"


def _delay(seconds: float) -> str:
    return describe_seconds(seconds) if math.isfinite(seconds) else "an unknown time"


def _signed(value: float) -> str:
    return f"{'+' if value > 0 else ''}{number(value)}"


def _evidence(log: float) -> str:
    if math.isnan(log):
        return "unknown"
    return number(math.exp(log)) if log < math.log(_MOST_EVIDENCE) else f"above {_MOST_EVIDENCE:,.0f}"
