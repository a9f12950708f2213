"""How often something happened on each side, kept apart by the split at that time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hotcold.domain.evidence.arguments import as_count, require


@dataclass(frozen=True)
class SplitCounts:
    """Counts per side by the candidate's share; the split may change under way.

    What a count means depends on the share: of two failures, none is the candidate's more often at 5 % than at 50 %.

    Args:
        by_share: candidate's share in percent, 0 to 100, to (candidate's count, champion's count).

    Raises:
        EvidenceError: a share or a count that cannot be.
    """

    by_share: Mapping[int, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kept: dict[int, tuple[int, int]] = {}
        for share_pct, counts in self.by_share.items():
            require(as_count("share in percent", share_pct) <= 100, "share in percent", share_pct, "0 to 100")
            candidate, champion = (as_count("count", count) for count in counts)
            if candidate or champion:
                kept[share_pct] = (candidate, champion)
        # In one order, so that sums over the shares are the same to the last bit whatever was merged first.
        object.__setattr__(self, "by_share", dict(sorted(kept.items())))

    @property
    def candidate(self) -> int:
        """The candidate's, over all shares."""
        return sum(counts[0] for counts in self.by_share.values())

    @property
    def champion(self) -> int:
        """The champion's, over all shares."""
        return sum(counts[1] for counts in self.by_share.values())

    @property
    def total(self) -> int:
        """Of both sides."""
        return self.candidate + self.champion

    def merge(self, other: SplitCounts) -> SplitCounts:
        """The counts of both; the order does not matter."""
        merged = dict(self.by_share)
        for share_pct, (candidate, champion) in other.by_share.items():
            before = merged.get(share_pct, (0, 0))
            merged[share_pct] = (before[0] + candidate, before[1] + champion)
        return SplitCounts(merged)

    def to_json(self) -> dict[str, object]:
        """As plain JSON values: share to the two counts."""
        return {str(share_pct): list(counts) for share_pct, counts in self.by_share.items()}

    @classmethod
    def from_json(cls, document: Mapping[str, object]) -> SplitCounts:
        """Inverse of `to_json`.

        Raises:
            EvidenceError: it is not what `to_json` writes.
        """
        require(isinstance(document, Mapping), "counts by share", type(document).__name__, "an object")
        by_share: dict[int, tuple[int, int]] = {}
        for key, counts in document.items():
            require(key.isdecimal(), "share in percent", key, "0 to 100")
            pair = isinstance(counts, list) and len(counts) == 2
            require(pair, f"the counts at {key} %", counts, "two integers")
            assert isinstance(counts, list)  # noqa: S101 - for the type checker
            by_share[int(key)] = (as_count("count", counts[0]), as_count("count", counts[1]))
        return cls(by_share)
