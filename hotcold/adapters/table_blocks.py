"""The blocks of one table on their way into a score store: checked for order and completeness, counted, in bounded batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hotcold.adapters.score_store import StoredTable, StoreHeader
from hotcold.domain.errors import ScoreStoreError
from hotcold.domain.score_blocks import RANGES, SCORE_BYTES, WORDS, bucket_bits, pack_blocks

if TYPE_CHECKING:
    # Needs PyArrow, which whoever only points and reads does without.
    from hotcold.adapters.score_index import Merged

Block = tuple[bytes, bytes]
# Records with their part of partly filled pages, as measured with LMDB.
_OVERHEAD = 1.35
_LEAST_BYTES = 1 << 20


@dataclass
class TableBlocks:
    """One table that is being written.

    Args:
        header: of the table; its number of entities is an estimate.
        entities: those that were packed so far.
    """

    header: StoreHeader
    entities: int = 0

    @property
    def bits(self) -> int:
        """Leading bits of a key that name its block."""
        return bucket_bits(self.header.entities, self.header.key_kind)

    @property
    def needed_bytes(self) -> int:
        """About how much room the table takes."""
        entity_bytes = 8 * WORDS[self.header.key_kind] + SCORE_BYTES
        return _LEAST_BYTES + int(self.header.entities * entity_bytes * _OVERHEAD)

    def stored(self) -> StoredTable:
        """What to write when all blocks are there."""
        return StoredTable(replace(self.header, entities=self.entities), self.bits)

    def batches(self, merged: Iterable[Merged], size_bytes: int) -> Iterator[list[Block]]:
        """All blocks, in order.

        Args:
            merged: all key ranges, in order.
            size_bytes: of a batch, about.

        Raises:
            ScoreStoreError: key ranges are missing or out of order, or keys are of another kind than the header says.
        """
        batch: list[Block] = []
        held_bytes = 0
        for block in self._blocks(merged):
            batch.append(block)
            held_bytes += len(block[1])
            if held_bytes >= size_bytes:
                yield batch
                batch, held_bytes = [], 0
        if batch:
            yield batch

    def _blocks(self, merged: Iterable[Merged]) -> Iterator[Block]:
        reached = 0
        for one in merged:
            self._check(one, reached)
            reached = one.last
            self.entities += len(one.keys)
            yield from pack_blocks(one.keys, one.scores, self.bits)
        if reached != RANGES:
            raise ScoreStoreError(
                f"table {self.header.table_id} ends with key range {reached} of {RANGES}; nothing was written"
            )

    def _check(self, one: Merged, reached: int) -> None:
        if one.first != reached:
            raise ScoreStoreError(f"key range {one.first} follows where {reached} is due; merge the ranges in order")
        if len(one.keys) and one.keys.shape[1] != WORDS[self.header.key_kind]:
            raise ScoreStoreError(f"the keys of table {self.header.table_id} are not those of {self.header.key_kind} ids")
