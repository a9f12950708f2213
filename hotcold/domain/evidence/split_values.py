"""Values in [-1, 1] of entities that are on one side each, kept apart by side and by the split at that time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotcold.domain.evidence.arguments import as_count, read_keys, require
from hotcold.domain.evidence.value_counts import ValueCounts, count_values

# Values of the candidate's and of the champion's entities.
Sides = tuple[ValueCounts, ValueCounts]


@dataclass(frozen=True)
class SplitValues:
    """Counted values per side by the candidate's share; see SplitCounts for why.

    Args:
        by_share: candidate's share in percent, 0 to 100, to (candidate's values, champion's values).

    Raises:
        EvidenceError: a share that cannot be.
    """

    by_share: Mapping[int, Sides] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for share_pct in self.by_share:
            require(as_count("share in percent", share_pct) <= 100, "share in percent", share_pct, "0 to 100")
        object.__setattr__(self, "by_share", dict(sorted(self.by_share.items())))

    @property
    def totals(self) -> tuple[int, int]:
        """Values of the candidate's side, and of the champion's."""
        sides = tuple(sum(sides[side].total for sides in self.by_share.values()) for side in (0, 1))
        return sides[0], sides[1]

    @property
    def clipped(self) -> int:
        """Values beyond the range, which count as its ends."""
        return sum(side.clipped for sides in self.by_share.values() for side in sides)

    @property
    def invalid(self) -> int:
        """Values that are NaN or infinite; as long as there are any, nothing is SAFE."""
        return sum(side.invalid for sides in self.by_share.values() for side in sides)

    def merge(self, other: SplitValues) -> SplitValues:
        """The counts of both; the order does not matter."""
        merged = dict(self.by_share)
        for share_pct, more in other.by_share.items():
            own = merged.get(share_pct)
            merged[share_pct] = (own[0].merge(more[0]), own[1].merge(more[1])) if own else more
        return SplitValues(merged)

    def to_json(self) -> dict[str, object]:
        """As plain JSON values: share to the values of the two sides."""
        return {str(share_pct): [side.to_json() for side in sides] for share_pct, sides in self.by_share.items()}

    @classmethod
    def from_json(cls, document: Mapping[str, object]) -> SplitValues:
        """Inverse of `to_json`.

        Raises:
            EvidenceError: it is not what `to_json` writes.
        """
        require(isinstance(document, Mapping), "values by share", type(document).__name__, "an object")
        shares = tuple(document)
        by_share: dict[int, Sides] = {}
        for key, sides in zip(shares, read_keys(document, shares, "values by share"), strict=True):
            require(key.isdecimal(), "share in percent", key, "0 to 100")
            require(isinstance(sides, list) and len(sides) == 2, f"the values at {key} %", sides, "those of two sides")
            assert isinstance(sides, list)  # noqa: S101 - for the type checker
            by_share[int(key)] = (ValueCounts.from_json(sides[0]), ValueCounts.from_json(sides[1]))
        return cls(by_share)


def count_split(
    values: NDArray[Any], is_candidate: NDArray[np.bool_], share_pct: int, lowest: float = -1.0, highest: float = 1.0
) -> SplitValues:
    """Count n values at one share.

    Args:
        values: shape (n,), one for each entity.
        is_candidate: shape (n,): the entity is on the candidate's side.
        share_pct: of the candidate at that time.
        lowest: what counts as -1; a value below is cut off there.
        highest: what counts as 1, likewise.

    Raises:
        EvidenceError: a share or a range that cannot be.
    """
    require(-np.inf < lowest < highest < np.inf, "range of the values", (lowest, highest), "lowest < highest, finite")
    scaled = (np.asarray(values, dtype=np.float64) - (lowest + highest) / 2) / ((highest - lowest) / 2)
    if not len(scaled):
        return SplitValues()
    return SplitValues({share_pct: (count_values(scaled[is_candidate]), count_values(scaled[~is_candidate]))})
