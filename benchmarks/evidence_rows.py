"""How fast ten million logged rows are joined and judged by two workers on one machine, and what memory that takes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa

from benchmarks.report import Figure, at_least, at_most, observed
from hotcold.adapters.cluster import open_cluster
from hotcold.adapters.prediction_archive import day_folder, write_archive
from hotcold.adapters.prediction_columns import SCHEMA
from hotcold.adapters.prediction_segments import Segment
from hotcold.adapters.shadow_comparison import ComparisonJob, compare, count_span, plan_spans
from hotcold.adapters.shadow_pairs import PairSource
from hotcold.domain.package import PackageRef
from hotcold.domain.prediction import Origin, SegmentName
from hotcold.domain.shadow.judgement import judge
from hotcold.domain.shadow.limits import Limits

MODEL = "flights"
PAIRS = 5_000_000
_PER_S, _SEGMENT_S, _FEATURES = 2000, 60, 20
_ENTITIES = 200_000
_WORKERS = 2
# 25 November 2026, 10:00 UTC.
_START_S = 1_795_600_800
_CHAMPION = PackageRef(MODEL, 1, "1.0.0", "a" * 64)
_CANDIDATE = PackageRef(MODEL, 2, "1.1.0", "b" * 64)


def row_figures(folder: Path, pairs: int = PAIRS) -> list[Figure]:
    """Write a log of both sides, then join and judge it.

    Args:
        folder: for the log; emptied first, and deleted afterwards.
        pairs: requests with an answer by both, two rows each.
    """
    shutil.rmtree(folder, ignore_errors=True)
    try:
        _write(folder / "log", pairs)
        return _measure(folder, pairs)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _measure(folder: Path, pairs: int) -> list[Figure]:
    source = PairSource(folder / "log", _CHAMPION, _CANDIDATE)
    job = ComparisonJob(source, Limits(), 50_000.0)
    until_s = _START_S + pairs // _PER_S
    with open_cluster("local", folder / "dask", workers=_WORKERS) as cluster:
        # Workers import what they need with their first window; a run of an hour does not notice.
        cluster.client.run(_import)
        began = time.perf_counter()
        counts = compare(partial(count_span, job), tuple(plan_spans(source, _START_S, until_s)), job.limits, cluster)
        judged = judge(counts, job.limits)
        elapsed_s = time.perf_counter() - began
        own = psutil.Process()
        peak_mib = sum(_peak_mib(process) for process in (own, *own.children(recursive=True)))
    assert pairs == counts.pairs
    assert judged.gates
    return [
        at_least("log rows joined and judged by two workers", 2 * pairs / elapsed_s / 1e6, "M rows/s", 1.0),
        observed("  rows", 2 * pairs, "rows"),
        observed("  observations", counts.entities, "entities"),
        at_most("  sum of the peaks of all processes", peak_mib, "MiB", 2048.0),
    ]


def _import() -> None:
    import hotcold.adapters.shadow_comparison  # noqa: F401


def _peak_mib(process: psutil.Process) -> float:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)


def _write(root: Path, pairs: int) -> None:
    for digest, name in ((_CHAMPION, "champion"), (_CANDIDATE, "candidate")):
        folder = day_folder(root / MODEL, SegmentName.at(_START_S, name, 0).day)
        write_archive(folder, name, _segments(digest, name, pairs))


def _segments(package: PackageRef, writer: str, pairs: int) -> Iterator[Segment]:
    is_copy = package is _CANDIDATE
    origin = Origin(MODEL, package.semver, package.digest, "green" if is_copy else "blue", "f" * 64, _FEATURES, writer)
    rows = _PER_S * _SEGMENT_S
    for number, first in enumerate(range(0, pairs, rows)):
        count = min(rows, pairs - first)
        table = _table(first, count, is_copy)
        yield Segment(SegmentName.at(_START_S + number * _SEGMENT_S, writer, number), origin, table, True, False)


def _table(first: int, count: int, is_copy: bool) -> pa.Table:
    """The same requests for both sides; scores of the copies differ a little."""
    random = np.random.default_rng(first)
    numbers = np.arange(first, first + count)
    scores, noise = random.uniform(0.01, 0.99, count), random.normal(0, 0.01, count)
    entity = random.integers(0, _ENTITIES, count)
    stages = random.integers(50, 5000, (3, count)).astype(np.uint32)
    arrived_us = (_START_S * 1_000_000 + numbers * (1_000_000 // _PER_S) + (2000 if is_copy else 0)).astype(np.int64)
    each = pa.array(np.arange(count + 1, dtype=np.int32))
    columns = {
        "request_id": pa.array(np.char.add("request-", numbers.astype(str))),
        "at": pa.array(arrived_us).cast(pa.timestamp("us", "UTC")),
        "status": pa.array(np.full(count, 200, dtype=np.uint16)),
        "shadow": pa.array(np.full(count, is_copy)),
        "tester": pa.array(np.full(count, False)),
        "entity": pa.array(np.char.add("e", entity.astype(str))),
        "segment": pa.array(np.char.add("s", (entity % 20).astype(str))),
        "scores": pa.ListArray.from_arrays(each, pa.array((scores + noise * is_copy).astype(np.float32))),
        "features": pa.nulls(count, pa.list_(pa.float32())),
        "features_hash": pa.array(numbers.astype(np.uint64) * np.uint64(2_654_435_761)),
        "pre_us": pa.array(stages[0]),
        "infer_us": pa.array(stages[1]),
        "post_us": pa.array(stages[2]),
        "dropped": pa.array(np.zeros(count, dtype=np.uint32)),
    }
    return pa.table(columns).cast(SCHEMA)
