"""`make bench-cold`: batch scoring from Parquet to a published table, against the bare engine and a plain script."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.report import Figure, at_least, at_most, observed, publish
from benchmarks.stack import BenchStack, bench_root, bench_stack, say
from hotcold.adapters.batch_table import table_folder
from hotcold.adapters.package_files import package_dir
from hotcold.adapters.prefect_api import FlowRun
from hotcold.adapters.release_database import ReleaseDatabase
from hotcold.adapters.schedule import ID_COLUMN, write_bootstrapped
from hotcold.adapters.score_pointer import POINTER_FILE
from hotcold.adapters.survivors import find_survivors, instance_of
from hotcold.domain.serving import Slot

MODEL = "flights"
SMALL_ROWS, LARGE_ROWS = 5_000_000, 50_000_000
ENGINE_ROWS = 1_000_000
_ROUNDS = 3
# 300 trees of depth 8, trained on eight months.
_RECIPE = {"trees": 300, "depth": 8}
# Looking takes time from what is looked at: some ms for the memory, 10 ms for the state of the run.
_SAMPLE_S, _POLL_S = 5.0, 5.0
_RUN_LIMIT_S = 900.0
_MIB = 2**20


@dataclass(frozen=True)
class Scored:
    """One batch run as it was seen from outside.

    Args:
        rows: rows of the published table.
        parts: its parts.
        total_s: from the start of the flow to the moment when readers see the table.
        steady_rows_per_s: rows per second from the first part's end to that moment.
        peak_mib: sum of the greatest resident sizes of the flow's process and of each of its children.
        run_s: the whole flow run as Prefect counts it, reports included.
        stage_s: seconds by stage, summed over threads.
    """

    rows: int
    parts: int
    total_s: float
    steady_rows_per_s: float
    peak_mib: float
    run_s: float
    stage_s: dict[str, float]

    @property
    def rows_per_s(self) -> float:
        """From the start of the flow to the published table."""
        return self.rows / self.total_s


class _Memory:
    """Looks at the processes of the flow run that is under way, and keeps each one's own peak as the kernel counted it."""

    def __init__(self, home: Path) -> None:
        self._instance = instance_of(home)
        self._stopped = threading.Event()
        self._flow: psutil.Process | None = None
        self._peaks: dict[int, int] = {}

    @property
    def peak_bytes(self) -> int:
        """Sum of the peaks: more than all took at any one moment, since what they share counts for each of them."""
        return sum(self._peaks.values())

    def _watch(self) -> None:
        while not self._stopped.wait(_SAMPLE_S):
            if self._flow is None:
                # Looks into every process of the machine, so it is done once.
                flows = (s.process for s in find_survivors(self._instance) if s.name.startswith("flow run"))
                self._flow = next(flows, None)
            for process in _with_children(self._flow) if self._flow else []:
                self._peaks[process.pid] = max(self._peaks.get(process.pid, 0), _peak_rss(process))

    @contextmanager
    def watching(self) -> Iterator[None]:
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            thread.join()


def _peak_rss(process: psutil.Process) -> int:
    """Greatest resident size of a process so far, bytes; 0 once it is gone."""
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def _with_children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


class ColdBench:
    """Scores with the champion of a stack of its own.

    Args:
        stack: up, with a champion.
        data: folder for inputs and outputs.
    """

    def __init__(self, stack: BenchStack, data: Path) -> None:
        self._stack = stack
        self._data = data
        database = ReleaseDatabase(stack.settings.release_database_url)
        plan = database.read_plan(MODEL)
        database.close()
        ref = plan.slot(plan.route.champion or Slot.BLUE).package
        assert ref is not None
        self.package = package_dir(ref, stack.settings.bento_home)

    def input_of(self, rows: int) -> Path:
        """Bootstrapped rows, written once."""
        path = self._data / f"in-{rows}.parquet"
        if not path.exists():
            say(f"writing {rows:,} rows")
            write_bootstrapped(path, rows)
        return path

    def engine(self) -> float:
        """Rows per second of the engine alone."""
        return _peer("engine", self.package, self._any_input(), str(ENGINE_ROWS))

    def script(self) -> float:
        """Rows per second of the script that people write."""
        return _peer("script", self.package, self._any_input(), str(self._data / "script.parquet"))

    def _any_input(self) -> Path:
        """The smallest of the inputs."""
        return min(self._data.glob("in-*.parquet"), key=lambda path: path.stat().st_size)

    def score(self, rows: int, output: str, score_store: bool = True) -> Scored:
        """One run of `score-batch`, started as a person would."""
        source, target = self.input_of(rows), self._data / output
        memory = _Memory(self._stack.settings.root)
        with memory.watching():
            run = self._stack.flow(
                "score-batch/score-batch",
                _RUN_LIMIT_S,
                model=MODEL,
                input_url=str(source),
                output_url=str(target),
                id_column=ID_COLUMN,
                score_store=score_store,
                poll_s=_POLL_S,
            )
        return _seen(run, target, memory.peak_bytes / _MIB)


def _seen(run: FlowRun, target: Path, peak_mib: float) -> Scored:
    """What the files tell: each part's receipt and the pointer carry the moment when they were written."""
    lineage = json.loads((target / POINTER_FILE).read_text())
    receipts = Path(table_folder(str(target), lineage["table"]).path("receipts"))
    moments = sorted(path.stat().st_mtime for path in receipts.iterdir())
    published_at = (target / POINTER_FILE).stat().st_mtime
    after_first = lineage["rows"] * (len(moments) - 1) / len(moments)
    return Scored(
        rows=lineage["rows"],
        parts=len(moments),
        total_s=published_at - (run.started_at or published_at),
        steady_rows_per_s=after_first / max(published_at - moments[0], 1e-9),
        peak_mib=peak_mib,
        run_s=run.run_s,
        stage_s=lineage["stage_seconds"],
    )


def _peer(peer: str, package: Path, parquet: Path, last: str) -> float:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.cold_peers", peer, str(package), str(parquet), last]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@dataclass(frozen=True)
class Round:
    """Both runs, and what was measured just before and just after them, since the machine is not equally fast all the time.

    Args:
        engine: rows per second of the engine alone, mean of before and after.
        script: the same of the script.
        small: run of few rows.
        large: run of many rows.
    """

    engine: float
    script: float
    small: Scored
    large: Scored


def _measure(bench: ColdBench, small_rows: int, large_rows: int) -> list[Figure]:
    for rows in (small_rows, large_rows):
        bench.input_of(rows)
    rounds = list(_rounds(bench, small_rows, large_rows))
    again = [
        bench.score(rows, output, score_store=False) for rows, output in ((small_rows, "small-1"), (large_rows, "large-1"))
    ]
    for run in again:
        say(f"{run.rows:,} rows that are scored already: {run.run_s:.1f} s")
    stored = bench.score(large_rows, "stored", score_store=True)
    say(f"with the score store: {stored.rows_per_s:,.0f} rows/s, {stored.peak_mib:,.0f} MiB")
    return _figures(rounds, again, stored)


def _rounds(bench: ColdBench, small_rows: int, large_rows: int) -> Iterator[Round]:
    before = _peers(bench)
    for number in range(1, _ROUNDS + 1):
        small = bench.score(small_rows, f"small-{number}", score_store=False)
        large = bench.score(large_rows, f"large-{number}", score_store=False)
        for run in (small, large):
            say(f"round {number}, {run.rows:,} rows: {run.rows_per_s:,.0f} rows/s, {run.peak_mib:,.0f} MiB")
        after = _peers(bench)
        engine, script = (statistics.mean(pair) for pair in zip(before, after, strict=True))
        yield Round(engine, script, small, large)
        before = after


def _peers(bench: ColdBench) -> tuple[float, float]:
    engine, script = bench.engine(), bench.script()
    say(f"engine alone {engine:,.0f} rows/s, script {script:,.0f} rows/s")
    return engine, script


def _figures(rounds: list[Round], again: list[Scored], stored: Scored) -> list[Figure]:
    def median(value: Callable[[Round], float]) -> float:
        return statistics.median(value(one) for one in rounds)

    runs = [run for one in rounds for run in (one.small, one.large)]
    memory_gb = max(run.peak_mib for run in (*runs, stored)) * _MIB / 1e9
    large = rounds[0].large
    return [
        observed(
            f"engine alone, matrix in memory; medians of {len(rounds)} rounds", median(lambda r: r.engine) / 1e6, "M rows/s"
        ),
        observed("script: read_parquet, inplace_predict, to_parquet", median(lambda r: r.script) / 1e6, "M rows/s"),
        observed(_whole(large), median(lambda r: r.large.rows_per_s) / 1e6, "M rows/s"),
        at_least("  over the engine alone", median(lambda r: r.large.rows_per_s / r.engine), "ratio", 0.9),
        at_least("  over the script", median(lambda r: r.large.rows_per_s / r.script), "ratio", 1.8),
        observed(_whole(rounds[0].small), median(lambda r: r.small.rows_per_s) / 1e6, "M rows/s"),
        observed("  over the engine alone", median(lambda r: r.small.rows_per_s / r.engine), "ratio"),
        observed("  over the script", median(lambda r: r.small.rows_per_s / r.script), "ratio"),
        observed("one large run with the score store for live lookups", stored.rows_per_s / 1e6, "M rows/s"),
        observed("large run, first part to published table", median(lambda r: r.large.steady_rows_per_s) / 1e6, "M rows/s"),
        at_most(
            "  distance from the small run",
            abs(median(lambda r: r.large.steady_rows_per_s / r.small.steady_rows_per_s) - 1),
            "ratio",
            0.1,
        ),
        observed("sum of the peaks of all processes, large run", median(lambda r: r.large.peak_mib), "MiB"),
        at_most("  over the small run", median(lambda r: r.large.peak_mib / r.small.peak_mib), "ratio", 1.1),
        at_most("  the greatest of all runs", memory_gb, "GB", 2.0),
        *(
            at_most(f"run of a finished table of {run.parts} parts, the whole flow", run.run_s, "s", 2.0 + 0.001 * run.parts)
            for run in again
        ),
        *(
            observed(f"{name.removesuffix('_s')}, time of one thread", seconds / large.rows * 1e6, "µs/row")
            for name, seconds in large.stage_s.items()
            if seconds
        ),
    ]


def _whole(run: Scored) -> str:
    return f"{run.rows / 1e6:g} M rows, from the flow's start to the published table"


def main() -> None:
    """Measure, print, write; exit code 1 if a promise is not kept. Two numbers as arguments are other sizes, for a try."""
    small_rows, large_rows = map(int, sys.argv[1:3]) if len(sys.argv) > 2 else (SMALL_ROWS, LARGE_ROWS)
    with bench_stack("cold") as stack:
        say(f"training {_RECIPE['trees']} trees of depth {_RECIPE['depth']}, and releasing them")
        stack.flow("train-model/train-model", 300.0, model=MODEL, recipe=_RECIPE)
        stack.flow("cut-over/cut-over", 300.0, model=MODEL, plan={"replicas": 1, "bake_s": 1.0})
        figures = _measure(ColdBench(stack, stack.settings.root / "data"), small_rows, large_rows)
    kept = publish("Batch scoring on this machine", figures, bench_root() / "cold.json")
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
