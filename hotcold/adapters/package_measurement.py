"""Measures the engines of a new package and chooses one for each path."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hotcold.adapters.engines import ALL_THREADS, ENGINE_NAMES, Engine, model_file, open_engine
from hotcold.domain.errors import PackageError
from hotcold.domain.package import PARITY_LIMIT, EngineReport, Measured
from hotcold.domain.schema import Matrix

_ONE_ROW_CALLS, _WARM_UP_CALLS = 200, 20
_BULK_ROWS, _BULK_CALLS = 8192, 3


def measure_engines(
    model_dir: Path, sample: Matrix, expected: NDArray[np.float32], reference: str, notes: Mapping[str, str], built_at: str
) -> Measured:
    """Try each engine on the reference sample and choose the fastest of those that agree with the reference.

    Args:
        model_dir: folder with the model files.
        sample: reference rows, shape (n, features), missing values included.
        expected: their scores by the reference engine, shape (n,).
        reference: name of the reference engine, which serves where no other one may.
        notes: engine to the reason why it is out of the question from the start.
        built_at: when, ISO 8601.

    Returns:
        What was seen, and the choice: hot by the time for one row, cold by rows per second.
    """
    reports = {name: EngineReport(note=note) for name, note in notes.items()}
    for name in ENGINE_NAMES:
        if name not in reports and model_file(name, model_dir).is_file():
            reports[name] = _measure(name, model_dir, sample, expected, reference)
    fit = {name: report for name, report in reports.items() if report.eligible}
    hot = min(fit, key=lambda name: fit[name].one_row_us or np.inf, default=reference)
    cold = max(fit, key=lambda name: fit[name].rows_per_s or 0.0, default=reference)
    return Measured(hot, cold, reports, built_at)


def _measure(name: str, model_dir: Path, sample: Matrix, expected: NDArray[np.float32], reference: str) -> EngineReport:
    try:
        one, bulk = open_engine(name, model_dir), open_engine(name, model_dir, ALL_THREADS)
        parity = _parity([one, bulk], sample, expected)
        if not parity <= PARITY_LIMIT:
            note = f"differs from {reference} by {parity:.1e} on the reference sample; allowed is {PARITY_LIMIT:g}"
            return EngineReport(parity if np.isfinite(parity) else None, note=note)
        return EngineReport(parity, _one_row_us(one.score, sample), _rows_per_s(bulk.score, sample))
    except PackageError as error:
        return EngineReport(note=str(error))
    except Exception as error:  # noqa: BLE001 - libraries raise their own errors; the package goes without this engine
        return EngineReport(note=f"fails on the reference sample: {type(error).__name__}: {str(error)[:200]}")


def _parity(engines: list[Engine], sample: Matrix, expected: NDArray[np.float32]) -> float:
    """Largest difference, over all rows at once and over single rows, which take another way through some engines."""
    wanted = expected.astype(np.float64)
    singles = np.concatenate([engines[0].score(sample[row : row + 1]) for row in range(min(len(sample), 64))])
    differences = [np.abs(engine.score(sample) - wanted).max() for engine in engines]
    return float(max(*differences, np.abs(singles - wanted[: len(singles)]).max(), key=lambda d: np.inf if np.isnan(d) else d))


def _one_row_us(score: Callable[[Matrix], object], sample: Matrix) -> float:
    times = []
    for call in range(_WARM_UP_CALLS + _ONE_ROW_CALLS):
        row = call % len(sample)
        matrix = sample[row : row + 1]
        started = time.perf_counter_ns()
        score(matrix)
        times.append(time.perf_counter_ns() - started)
    return round(statistics.median(times[_WARM_UP_CALLS:]) / 1e3, 1)


def _rows_per_s(score: Callable[[Matrix], object], sample: Matrix) -> float:
    matrix = np.ascontiguousarray(np.resize(sample, (_BULK_ROWS, sample.shape[1])))
    best_s = min(_elapsed_s(score, matrix) for _ in range(_BULK_CALLS))
    return round(_BULK_ROWS / best_s)


def _elapsed_s(score: Callable[[Matrix], object], matrix: Matrix) -> float:
    started = time.perf_counter()
    score(matrix)
    return time.perf_counter() - started
