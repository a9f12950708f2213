"""`make bench-evidence`: false alarms with a peek at every observation, how soon harm is found, and what an update costs."""

from __future__ import annotations

import multiprocessing
import sys

import numpy as np

from benchmarks.evidence_calibration import COMPARISONS, GATES, RUNS, Calibration, calibrate, level_of
from benchmarks.evidence_detection import Detection, detect_all
from benchmarks.evidence_rows import row_figures
from benchmarks.evidence_traffic import VARIANTS
from benchmarks.evidence_updates import judge_times, update_times
from benchmarks.report import Figure, at_most, observed, publish
from benchmarks.stack import bench_root, say

UPDATE_LIMIT_US = 50.0
_PROCESSES = 2


def _calibrations(runs: int) -> list[Calibration]:
    tasks = [(gate, variant, runs) for gate in (*GATES, *COMPARISONS) for variant in VARIANTS]
    found = []
    with multiprocessing.get_context("spawn").Pool(_PROCESSES) as pool:
        for one in pool.imap(_calibrate, tasks):
            say(f"{one.gate}, {one.variant}: {one.harm} of {one.runs:,} runs with a false alarm")
            found.append(one)
    return found


def _calibrate(task: tuple[str, str, int]) -> Calibration:
    return calibrate(*task)


def _false_alarms(found: list[Calibration]) -> list[Figure]:
    """The share of runs with a wrong verdict has to be within alpha itself; the noise of the runs is no excuse."""
    figures = []
    for one in found:
        name, harm = f"{one.gate}, {one.variant}", 100 * one.harm / one.runs
        if one.gate in COMPARISONS:
            figures.append(observed(f"for comparison: {name}", harm, "% of runs"))
            continue
        limit = 100 * level_of(one.gate)
        figures.append(at_most(f"false alarms: {name}", harm, "% of runs", limit))
        if one.safe is not None:
            figures.append(at_most("  wrong SAFE at the limit", 100 * one.safe / one.runs, "% of runs", limit))
    return figures


def _detections(found: list[Detection]) -> list[Figure]:
    figures = []
    for one in found:
        figures.append(observed(f"found, median: {one.harm}", one.median, one.counted))
        if one.fixed is not None:
            figures.append(observed("  fixed-sample test, 80 % power", round(one.fixed), one.counted))
    return figures


def _updates() -> list[Figure]:
    figures = [at_most(f"update of {gate}", time_us, "µs", UPDATE_LIMIT_US) for gate, time_us in update_times().items()]
    return [*figures, *(observed(f"whole finding of {gate}", time_us, "µs") for gate, time_us in judge_times().items())]


def main() -> None:
    """Measure, print, write; exit code 1 if a promise is not kept. A number as argument is another number of runs."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    updates = _updates()
    say("ten million rows of a prediction log")
    rows = row_figures(bench_root() / "evidence-log")
    say("harm of known size, until it is found")
    detections = _detections(detect_all(np.random.default_rng(0)))
    say(f"{runs:,} runs of each gate without harm")
    figures = [*_false_alarms(_calibrations(runs)), *detections, *updates, *rows]
    kept = publish("Evidence: right at every peek", figures, bench_root() / "evidence.json")
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
