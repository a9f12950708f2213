"""Latencies of one side as integer counts by bin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotcold.domain.evidence.arguments import as_count, read_keys, require


@dataclass(frozen=True, eq=False)
class LatencyCounts:
    """A histogram whose bins are given.

    Args:
        edges_us: upper ends of the bins, ascending, µs; a latency that equals an edge lies below it.
        counts: shape (bins + 1,), int64; the last bin is what is above all edges. Read-only.
        invalid: latencies that are NaN or negative; they are in no bin, but as long as there are any, nothing is SAFE.

    Raises:
        EvidenceError: edges that do not ascend, or counts that do not fit them.
    """

    edges_us: tuple[int, ...]
    counts: NDArray[np.int64]
    invalid: int = 0

    def __post_init__(self) -> None:
        counts = self.counts
        require(counts.shape == (len(self.edges_us) + 1,), "shape of the counts", counts.shape, "one more than edges")
        require(counts.dtype == np.int64, "type of the counts", counts.dtype, "int64")
        least = np.minimum.reduce(counts)
        require(least >= 0, "least count", least, "0 or more")
        counts.flags.writeable = False

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LatencyCounts):
            return NotImplemented
        same = (self.edges_us, self.invalid) == (other.edges_us, other.invalid)
        return same and bool(np.array_equal(self.counts, other.counts))

    def __hash__(self) -> int:
        return hash((self.edges_us, self.counts.tobytes(), self.invalid))

    @cached_property
    def sums(self) -> NDArray[np.float64]:
        """How many lie at or below each edge, in all bins at the end, and how many lie above; shape (2, bins + 1)."""
        below = np.cumsum(self.counts)
        return np.array((below, below[-1] - below), dtype=np.float64)

    @property
    def below(self) -> NDArray[np.float64]:
        """How many lie at or below each edge, and in all bins, shape (bins + 1,)."""
        return np.asarray(self.sums[0])

    @property
    def above(self) -> NDArray[np.float64]:
        """How many lie above each edge, shape (bins + 1,)."""
        return np.asarray(self.sums[1])

    @cached_property
    def total(self) -> int:
        """Latencies in all bins."""
        return int(self.below[-1])

    def quantile_bin(self, quantile: float) -> int:
        """The bin that the quantile lies in; the last is the one above all edges. Without latencies, the first."""
        if quantile not in self._quantile_bins:
            self._quantile_bins[quantile] = int(np.searchsorted(self.below, quantile * self.total, side="left"))
        return self._quantile_bins[quantile]

    @cached_property
    def _quantile_bins(self) -> dict[float, int]:
        """What was asked before: each verdict asks twice, and one side stays the same from one update to the next."""
        return {}

    def merge(self, other: LatencyCounts) -> LatencyCounts:
        """The counts of both; the order does not matter.

        Raises:
            EvidenceError: their bins differ.
        """
        same = self.edges_us is other.edges_us or self.edges_us == other.edges_us
        require(same, "edges of the bins", f"{len(other.edges_us)} others", f"the same {len(self.edges_us)} on both sides")
        return LatencyCounts(self.edges_us, self.counts + other.counts, self.invalid + other.invalid)

    def to_json(self) -> dict[str, object]:
        """As plain JSON values; empty bins are left out."""
        counts = {str(index): int(self.counts[index]) for index in np.flatnonzero(self.counts)}
        return {"edges_us": list(self.edges_us), "counts": counts, "invalid": self.invalid}

    @classmethod
    def from_json(cls, document: Mapping[str, object]) -> LatencyCounts:
        """Inverse of `to_json`.

        Raises:
            EvidenceError: it is not what `to_json` writes.
        """
        edges, written, invalid = read_keys(document, ("edges_us", "counts", "invalid"), "latency counts")
        require(isinstance(edges, list) and isinstance(written, Mapping), "latency counts", written, "edges and counts by bin")
        assert isinstance(edges, list)  # noqa: S101 - for the type checker
        assert isinstance(written, Mapping)  # noqa: S101 - for the type checker
        empty = no_latencies(edges)
        counts = empty.counts.copy()
        for index, count in written.items():
            require(index.isdecimal() and int(index) < len(counts), "bin", index, f"0 to {len(counts) - 1}")
            counts[int(index)] = as_count("count", count)
        return cls(empty.edges_us, counts, as_count("invalid", invalid))


def no_latencies(edges_us: list[int] | tuple[int, ...]) -> LatencyCounts:
    """The empty histogram.

    Args:
        edges_us: upper ends of the bins, µs. Put one at the latency budget.

    Raises:
        EvidenceError: no edge, one that is no integer from 0, or edges that do not ascend.
    """
    edges = _checked_edges(tuple(edges_us))
    return LatencyCounts(edges, np.zeros(len(edges) + 1, dtype=np.int64))


def count_latencies(latencies_us: NDArray[Any], edges_us: tuple[int, ...]) -> LatencyCounts:
    """Count n latencies.

    Args:
        latencies_us: shape (n,), µs. They have to be independent: of each entity, and of each second and side, one answer.
        edges_us: upper ends of the bins, µs.

    Raises:
        EvidenceError: the bins cannot be used.
    """
    edges = _checked_edges(edges_us)
    latencies = np.asarray(latencies_us, dtype=np.float64)
    # An infinite latency is an answer that never came: it is above all edges.
    usable = latencies[latencies >= 0]
    bins = np.searchsorted(_edge_array(edges), usable, side="left")
    return LatencyCounts(edges, np.bincount(bins, minlength=len(edges) + 1), len(latencies) - len(usable))


@lru_cache(maxsize=64)
def _checked_edges(edges_us: tuple[int, ...]) -> tuple[int, ...]:
    edges = tuple(as_count("edge of a bin", edge) for edge in edges_us)
    require(bool(edges), "edges of the bins", "missing", "at least one")
    ascending = all(before < after for before, after in pairwise(edges))
    require(ascending, "edges of the bins", edges, "ascending")
    return edges


@lru_cache(maxsize=64)
def _edge_array(edges_us: tuple[int, ...]) -> NDArray[np.float64]:
    return np.asarray(edges_us, dtype=np.float64)
