"""Figures that count every request, beside those of the checks, in which each entity counts once; told where they differ."""

from __future__ import annotations

import math

from hotcold.domain.evidence.finding import Finding, number
from hotcold.domain.shadow.report import ShadowReport

FLIPS, CHANGE = "decision_flips", "score_change"


def tell_by_request(report: ShadowReport) -> str:
    """Why a figure by request is not that of its check, in two sentences; empty unless one is outside of the check's bounds.

    Within the bounds nobody can tell the two apart; where every request is an observation of its own, they are the same.

    Args:
        report: of a comparison.
    """
    if report.entities >= report.pairs:
        return ""
    parts = [part for part in (_flips(report), _change(report)) if part]
    if not parts:
        return ""
    several = "; one with several rows differs as soon as one of its rows does" if _has_rows(report) and _flips(report) else ""
    return (
        f"Counted by request and not by entity, {' and '.join(parts)}{several}. Both are right: the checks and their bounds "
        "count each entity once, by its first request, so that a busy client cannot decide the outcome, while by request every "
        "request counts, and those who ask often weigh more."
    )


def _flips(report: ShadowReport) -> str:
    """Per pair, only whether all rows are decided the same is known."""
    found = _finding(report, FLIPS)
    if found is None or report.agreement_pct is None or math.isnan(report.agreement_pct):
        return ""
    by_request = 10 * (100 - report.agreement_pct)
    if found.lower <= by_request <= found.upper:
        return ""
    return f"{number(by_request)} of 1,000 requests are decided otherwise (by entity {number(found.effect or 0.0)})"


def _change(report: ShadowReport) -> str:
    """Scores that are no numbers are in one of the means at most, so these cannot be subtracted then."""
    found, scores = _finding(report, CHANGE), (report.champion_scores, report.candidate_scores)
    if found is None or not all(side.total for side in scores) or any(side.not_finite for side in scores):
        return ""
    by_request = scores[1].mean - scores[0].mean
    if found.lower <= by_request <= found.upper:
        return ""
    return f"the mean score changes by {number(by_request)} (by entity {number(found.effect or 0.0)})"


def _finding(report: ShadowReport, signal: str) -> Finding | None:
    return next((one for one in report.findings if one.signal == signal and one.effect is not None), None)


def _has_rows(report: ShadowReport) -> bool:
    return report.champion_scores.total + report.champion_scores.not_finite > report.pairs
