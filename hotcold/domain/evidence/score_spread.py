"""Do scores vary at all? A model that answers the same whatever it is asked passes many comparisons, and is broken."""

from __future__ import annotations

from hotcold.domain.gate import Gate, Verdict
from hotcold.domain.score_histogram import ScoreHistogram

GATE = "score_spread"
_LIMIT = "numbers that vary, on both sides"


def judge_spread(champion: ScoreHistogram, candidate: ScoreHistogram) -> Gate:
    """Whether the scores of both sides can be compared.

    Args:
        champion: its scores.
        candidate: the candidate's.

    Returns:
        UNKNOWN if a side has no score, only equal ones, or any that is NaN or infinite; otherwise SAFE.
    """
    found = [_what_is_wrong(side, name) for side, name in ((candidate, "candidate"), (champion, "champion"))]
    if wrong := "; ".join(text for text in found if text):
        return Gate(GATE, Verdict.UNKNOWN, wrong, _LIMIT)
    return Gate(GATE, Verdict.SAFE, f"{candidate.total:,} scores of the candidate, {champion.total:,} of the champion", _LIMIT)


def _what_is_wrong(side: ScoreHistogram, name: str) -> str:
    if side.not_finite:
        return f"{side.not_finite:,} scores of the {name} are not numbers"
    if not side.total:
        return f"there are no scores of the {name}"
    return f"all {side.total:,} scores of the {name} are {side.least:g}" if side.least == side.greatest else ""
