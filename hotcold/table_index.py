"""Joins the parts' index fragments: finds ids that occur more than once, and builds the table's part of the score store."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pyarrow.parquet as pq
from pyarrow import BufferReader

from hotcold.adapters.part_files import INDEX, SCORE_COLUMN
from hotcold.adapters.score_index import (
    HEADER_BYTES,
    Duplicate,
    Merged,
    encode_fragment,
    fragment_bytes,
    merge_range,
    plan_ranges,
)
from hotcold.adapters.score_store import ScoreStore, StoreHeader
from hotcold.adapters.table_folder import DATA
from hotcold.domain.errors import BatchError
from hotcold.domain.score_quality import Duplicates
from hotcold.scoring import Run

# Ranges that are joined while another one is being written; each holds some tens of megabytes.
_AHEAD = 2
_SHOWN = 20


def index_table(run: Run, rows: int, scored_at: float, store: ScoreStore | None) -> Duplicates:
    """Join the fragments of all parts, one range of keys after the other, in bounded memory.

    Args:
        run: all its parts are done.
        rows: rows of the table.
        scored_at: when the table was complete, seconds since the epoch.
        store: where live lookups read; None only looks for repeated ids.

    Returns:
        Ids that occur more than once.

    Raises:
        BatchError: a fragment is missing.
        ScoreStoreError: a fragment is damaged, or the store cannot be written.
    """
    repeated = _Repeated()
    ranges = repeated.watch(_merged_ranges(run, rows))
    if store is None:
        deque(ranges, maxlen=0)
    else:
        store.write(_header(run, rows, scored_at), ranges)
    return Duplicates(repeated.rows, tuple(_describe(run, example) for example in repeated.examples))


def restore_fragments(run: Run) -> int:
    """Make fragments that are missing or torn again from the parts' files; how many there were."""
    sizes = run.table.folder.sizes(INDEX)
    lost = [part for part in run.parts if not _is_whole(run, part.name, sizes.get(f"{part.name}.idx", 0))]
    for part in lost:
        content = run.table.folder.read(f"{DATA}/{part.name}.parquet")
        if content is None:
            raise BatchError(f"{run.table.folder.url}/{DATA}/{part.name}.parquet is missing; run again")
        table = pq.read_table(BufferReader(content), columns=[run.table.plan.columns.entity, SCORE_COLUMN])
        fragment = encode_fragment(table.column(0), table.column(1).to_numpy())
        run.table.folder.write(f"{INDEX}/{part.name}.idx", fragment, durable=False)
    return len(lost)


def _is_whole(run: Run, name: str, size: int) -> bool:
    """A fragment says itself how long it is."""
    if size < HEADER_BYTES:
        return False
    return fragment_bytes(run.table.folder.read(f"{INDEX}/{name}.idx", 0, HEADER_BYTES) or b"") == size


def delete_fragments(run: Run) -> None:
    """Delete what only `index_table` needs."""
    run.table.folder.child(INDEX).delete()


@dataclass
class _Repeated:
    """Ids that occur more than once, gathered while the ranges pass by."""

    rows: int = 0
    examples: list[Duplicate] = field(default_factory=list)

    def watch(self, ranges: Iterator[Merged]) -> Iterator[Merged]:
        for merged in ranges:
            self.rows += merged.surplus_rows
            self.examples += merged.examples[: _SHOWN - len(self.examples)]
            yield merged


def _merged_ranges(run: Run, rows: int) -> Iterator[Merged]:
    """All ranges in order; the next ones are joined in threads meanwhile, which is NumPy's work and needs no lock."""
    fragments = _Fragments(run)
    parts = [part.index for part in run.parts]
    with ThreadPoolExecutor(_AHEAD, thread_name_prefix="merge") as threads:
        waiting: deque[Future[Merged]] = deque()
        for first, last in plan_ranges(rows):
            waiting.append(threads.submit(merge_range, parts, fragments.read, first, last))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class _Fragments:
    """The fragments of a run's parts; their headers are kept."""

    def __init__(self, run: Run) -> None:
        self._folder = run.table.folder
        self._names = [f"{INDEX}/{part.name}.idx" for part in run.parts]
        self._headers: dict[int, bytes] = {}

    def read(self, part: int, start: int, stop: int) -> bytes:
        """Bytes `start` to `stop` of a part's fragment."""
        if (start, stop) != (0, HEADER_BYTES):
            return self._read(part, start, stop)
        if part not in self._headers:
            self._headers[part] = self._read(part, start, stop)
        return self._headers[part]

    def _read(self, part: int, start: int, stop: int) -> bytes:
        content = self._folder.read(self._names[part], start, stop)
        if content is None:
            raise BatchError(f"{self._folder.url}/{self._names[part]} is missing; delete {self._folder.url} and run again")
        return content


def _header(run: Run, rows: int, scored_at: float) -> StoreHeader:
    return StoreHeader(
        table_id=run.table_id,
        model=run.manifest.model,
        model_version=run.manifest.semver,
        registry_version=run.manifest.version,
        digest=run.manifest.digest,
        scored_at=datetime.fromtimestamp(scored_at, UTC).isoformat(timespec="milliseconds"),
        entities=rows,
        key_kind="text" if str(run.table.written.field(0).type) == "string" else "int64",
    )


def _describe(run: Run, example: Duplicate) -> str:
    """The id, and where it stands; only a few are ever read back."""
    places = [(example.first_part, example.first_row), (example.part, example.row)]
    named = " and ".join(f"row {row} of {run.parts[part].name}" for part, row in places)
    return f"{_id_at(run, *places[0])} in {named}"


def _id_at(run: Run, part: int, row: int) -> object:
    content = run.table.folder.read(f"{DATA}/{run.parts[part].name}.parquet") or b""
    return pq.read_table(BufferReader(content), columns=[run.table.plan.columns.entity]).column(0)[row].as_py()
