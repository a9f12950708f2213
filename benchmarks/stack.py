"""A stack of a benchmark's own: fresh, on free ports, gone afterwards."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from hotcold.adapters.prefect_api import FlowRun, PrefectApi
from hotcold.adapters.replay import FlightReplay
from hotcold.adapters.stack import bring_up, take_down
from hotcold.domain.errors import StackError
from hotcold.settings import Settings

MODEL = "flights"
CUT_OVER = {"replicas": 2, "bake_s": 1.0}
_RECIPE = {"train_until": "2013-03-31", "evaluate_weeks": 2, "depth": 6}


class BenchStack:
    """A running stack, and flows started as a person would.

    Args:
        settings: of the benchmark's own installation.
        edge_url: where requests go.
        prefect: where flows are started.
    """

    def __init__(self, settings: Settings, edge_url: str, prefect: PrefectApi) -> None:
        self.settings = settings
        self.edge_url = edge_url
        self._prefect = prefect

    def flow(self, deployment: str, limit_s: float = 120.0, poll_s: float = 0.5, **parameters: object) -> FlowRun:
        """Start a run and wait for its end.

        Args:
            deployment: `flow/deployment`.
            limit_s: longest wait.
            poll_s: between two looks; each costs the server time that it takes from what is measured.
            parameters: of the flow.

        Raises:
            StackError: it did not complete, or not within the limit.
        """
        run = self._prefect.start(deployment, parameters)
        wait_for(lambda: self._prefect.read(run.id).ended, f"the end of {deployment}", limit_s, poll_s)
        run = self._prefect.read(run.id)
        if run.state != "COMPLETED":
            raise StackError(f"{deployment} ended {run.state.lower()}: {run.message}")
        return run

    def release_flights(self) -> None:
        """Train two versions of the flights model; the first is live, the second waits."""
        self.flow("train-model/train-model", model=MODEL, recipe={**_RECIPE, "trees": 60})
        self.flow("cut-over/cut-over", model=MODEL, plan=CUT_OVER)
        self.flow("train-model/train-model", model=MODEL, recipe={**_RECIPE, "trees": 120})


def flights_replay() -> FlightReplay:
    """Requests for the flights model: a month that it was not trained on."""
    return FlightReplay(MODEL, date(2013, 4, 15), date(2013, 5, 15))


@contextmanager
def bench_stack(name: str) -> Iterator[BenchStack]:
    """A stack below `var/bench/<name>`, without anything that an earlier run left."""
    home = bench_root() / name
    settings = Settings(home=home)
    take_down(settings, say)
    shutil.rmtree(home, ignore_errors=True)
    record = bring_up(settings, say)
    prefect = PrefectApi(record.prefect_api_url)
    try:
        yield BenchStack(settings, record.edge_url, prefect)
    finally:
        prefect.close()
        take_down(settings, say)


def bench_root() -> Path:
    """Folder of all benchmarks' results."""
    return Path(os.environ.get("HOTCOLD_HOME", "var")).resolve() / "bench"


def wait_for(holds: Callable[[], bool], what: str, limit_s: float = 120.0, poll_s: float = 0.05) -> None:
    """Wait for a condition.

    Raises:
        StackError: it did not come true in time.
    """
    deadline = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > deadline:
            raise StackError(f"waited {limit_s:g} s in vain for {what}")
        time.sleep(poll_s)


def say(line: str) -> None:
    """One line of progress."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')}  {line}\n")
    sys.stdout.flush()
