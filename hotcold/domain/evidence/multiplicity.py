"""Which of many segments stand out, when some would by chance."""

from __future__ import annotations

import math
from collections.abc import Mapping

from hotcold.domain.evidence.arguments import require, threshold


def rejected_segments(log_evidence: Mapping[str, float], alpha: float = 0.05) -> tuple[str, ...]:
    """The segments whose null hypothesis is rejected by the e-BH procedure.

    Of n segments, the k with the most evidence are rejected, for the largest k such that each of them has an e-value of n / (k
    alpha) at least. Among those rejected, at most alpha on average are false, whatever the segments have to do with each
    other, and at whichever moment one looks.

    Args:
        log_evidence: log of the e-value against "no harm", nats, by segment; also of segments about which nothing is known (0).
        alpha: tolerated share of false ones among those rejected.

    Returns:
        Their names, strongest evidence first; equal evidence by name.

    Raises:
        EvidenceError: alpha outside (0, 1), or evidence that is NaN.

    Source:
        Wang and Ramdas (2022), False discovery rate control with e-values, JRSS B 84.
    """
    for segment, log in log_evidence.items():
        require(not math.isnan(log), f"evidence of segment {segment!r}", log, "a number; 0 if nothing is known")
    ordered = sorted(log_evidence, key=lambda segment: (-log_evidence[segment], segment))
    needed = threshold(alpha) + math.log(len(ordered) or 1)
    rejected = [rank for rank, segment in enumerate(ordered, 1) if log_evidence[segment] >= needed - math.log(rank)]
    return tuple(ordered[: max(rejected, default=0)])
