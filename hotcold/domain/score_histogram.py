"""A histogram of scores that adds up exactly over parts and that any two tables can be compared by.

The bins are the floating-point grid itself: 64 steps per power of two, so that they are the same for every model and need no
range known beforehand. Counts are integers; the histogram of a table is the sum over its parts, whatever their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

# Sign, exponent and the six leading bits of the fraction of a float32.
_SHIFT = 17
_BINS = 1 << (32 - _SHIFT)
_SIGN = 1 << 31
PSI_GROUPS = 10
# Keeps a group that is empty on one side from making the index infinite; half a row in a table of some hundred.
_LEAST_SHARE = 1e-4


@dataclass(frozen=True)
class ScoreHistogram:
    """Counts of scores by bin; only bins that are not empty are kept.

    Args:
        counts: bin to number of scores; bins are ordered as the scores are.
        total: finite scores.
        sum: of the finite scores.
        least: smallest finite score, infinity if there is none.
        greatest: largest finite score, minus infinity if there is none.
        not_finite: scores that are NaN or infinite; they are in no bin.
    """

    counts: Mapping[int, int] = field(default_factory=dict)
    total: int = 0
    sum: float = 0.0
    least: float = float("inf")
    greatest: float = float("-inf")
    not_finite: int = 0

    @property
    def mean(self) -> float:
        """Mean of the finite scores; NaN if there is none."""
        return self.sum / self.total if self.total else float("nan")

    def quantile(self, share: float) -> float:
        """Lower edge of the bin that the quantile lies in; NaN if there is no score. `share` is in [0, 1]."""
        reached = 0
        for index, count in sorted(self.counts.items()):
            reached += count
            if reached >= share * self.total:
                return bin_edge(index)
        return float("nan")

    def to_json(self) -> dict[str, object]:
        """As plain JSON values."""
        bounds = [self.least, self.greatest] if self.total else None
        counts = {str(index): count for index, count in sorted(self.counts.items())}
        return {"counts": counts, "total": self.total, "sum": self.sum, "bounds": bounds, "not_finite": self.not_finite}

    @classmethod
    def from_json(cls, document: Mapping[str, object]) -> ScoreHistogram:
        """Inverse of `to_json`."""
        counts, bounds = document["counts"], document["bounds"]
        assert isinstance(counts, Mapping)  # noqa: S101 - for the type checker
        least, greatest = bounds if isinstance(bounds, list) else (float("inf"), float("-inf"))
        return cls(
            {int(index): int(count) for index, count in counts.items()},
            int(str(document["total"])),
            float(str(document["sum"])),
            least,
            greatest,
            int(str(document["not_finite"])),
        )


def count_scores(scores: NDArray[np.float32]) -> ScoreHistogram:
    """The histogram of n scores.

    Args:
        scores: shape (n,), float32.
    """
    scores = np.ascontiguousarray(scores, dtype=np.float32)
    finite = np.isfinite(scores)
    if not finite.all():
        found = count_scores(scores[finite])
        return ScoreHistogram(found.counts, found.total, found.sum, found.least, found.greatest, len(scores) - found.total)
    if not len(scores):
        return ScoreHistogram()
    counts = np.bincount(_bins(scores), minlength=_BINS)
    used = np.flatnonzero(counts)
    return ScoreHistogram(
        dict(zip(used.tolist(), counts[used].tolist(), strict=True)),
        len(scores),
        float(scores.sum(dtype=np.float64)),
        float(scores.min()),
        float(scores.max()),
    )


def _bins(scores: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Bins in the order of the scores: negative numbers count downwards in their bits, so they are turned around."""
    # Adding zero makes -0.0 a 0.0.
    bits = (scores + np.float32(0.0)).view(np.uint32)
    ordered = np.where(bits & _SIGN, ~bits, bits | np.uint32(_SIGN))
    return ordered >> np.uint32(_SHIFT)


def bin_edge(index: int) -> float:
    """Smallest score of a bin."""
    ordered = np.uint32(index << _SHIFT)
    bits = ordered & np.uint32(_SIGN - 1) if ordered & np.uint32(_SIGN) else ~ordered
    return float(np.array([bits], dtype=np.uint32).view(np.float32)[0])


def merge_histograms(histograms: Iterable[ScoreHistogram]) -> ScoreHistogram:
    """The histogram over all rows of several; counts do not depend on the order."""
    counts: dict[int, int] = {}
    total, added, not_finite = 0, [], 0
    least, greatest = float("inf"), float("-inf")
    for one in histograms:
        for index, count in one.counts.items():
            counts[index] = counts.get(index, 0) + count
        total += one.total
        added.append(one.sum)
        not_finite += one.not_finite
        least, greatest = min(least, one.least), max(greatest, one.greatest)
    return ScoreHistogram(counts, total, float(np.sum(added)) if added else 0.0, least, greatest, not_finite)


def population_stability_index(before: ScoreHistogram, after: ScoreHistogram, groups: int = PSI_GROUPS) -> float | None:
    """How far a distribution of scores has moved: the sum over groups of (q - p) ln(q / p).

    The groups are cut at the quantiles of the scores before, so that each holds about the same share of them.

    Args:
        before: scores of the table that readers see.
        after: scores of the new one.
        groups: number of groups.

    Returns:
        Dimensionless, >= 0; below 0.1 is called stable, above 0.25 a shift. None if one side has no scores.

    Source:
        Yurdakul and Naranjo (2020), Statistical properties of the population stability index.
    """
    if not before.total or not after.total:
        return None
    edges = sorted({_reached(before, share / groups) for share in range(1, groups)})
    p, q = _shares(before, edges), _shares(after, edges)
    return float(np.sum((q - p) * np.log(q / p)))


def _reached(histogram: ScoreHistogram, share: float) -> int:
    """The bin in which the share is reached."""
    reached = 0
    for index, count in sorted(histogram.counts.items()):
        reached += count
        if reached >= share * histogram.total:
            return index
    return max(histogram.counts)


def _shares(histogram: ScoreHistogram, edges: list[int]) -> NDArray[np.float64]:
    """Share of the scores in each of the groups that end with a bin of `edges`; the last group has no end."""
    bins = np.array(sorted(histogram.counts), dtype=np.int64)
    counts = np.array([histogram.counts[int(index)] for index in bins], dtype=np.float64)
    group = np.searchsorted(np.array(edges, dtype=np.int64), bins, side="left")
    sums = np.bincount(group, weights=counts, minlength=len(edges) + 1)
    return np.maximum(sums / histogram.total, _LEAST_SHARE)
