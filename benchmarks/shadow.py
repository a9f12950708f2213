"""`make bench-shadow`: what copies of live requests to a candidate, well or broken, cost the champion's consumers.

Rounds without copies alternate with rounds with them, so that a machine that gets slower under way makes no difference.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import psutil

from benchmarks.faults import FindReplicas, dying, find_replicas, hanging, slowed
from benchmarks.report import Figure, at_most, observed, publish
from benchmarks.stack import CUT_OVER, MODEL, BenchStack, bench_root, bench_stack, flights_replay, say, wait_for
from hotcold.adapters.release_database import ReleaseDatabase
from hotcold.adapters.replay_client import LoadClient
from hotcold.domain.gate import Gate, Verdict
from hotcold.domain.instructions import Mirror
from hotcold.domain.package import PackageRef
from hotcold.domain.plan import Plan
from hotcold.domain.release import SMOKE_GATES, Observation, Phase, Release, advance
from hotcold.domain.traffic import Exchange, summarise

ROUNDS = 8
ROUND_S = 12.0
RATE_PER_S = 100.0
P99_RATIO = 1.10
_PLAN = Plan("shadow", replicas=2, mirror_pct=100.0, shadow_max_s=86_400.0)
_LEASE_S = 30.0


class ShadowBench:
    """A champion under load, and a candidate that gets copies.

    Args:
        stack: up, without a model.
    """

    def __init__(self, stack: BenchStack) -> None:
        self._stack = stack
        self._database = ReleaseDatabase(stack.settings.release_database_url)
        self._replay = flights_replay()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._keep_lease, daemon=True)
        self._release = self._prepare()
        self._keeper.start()

    def _prepare(self) -> Release:
        """Two versions, the first of them live, the second beside it."""
        self._stack.release_flights()
        return self._deploy(self._build())

    def _build(self) -> PackageRef:
        """Release the second version once, so that its package is there, and take it back."""
        self._stack.flow("cut-over/cut-over", model=MODEL, version=2, plan=CUT_OVER)
        built = self._database.read_releases(MODEL, 1)[0].candidate
        self._stack.flow("roll-back/roll-back", model=MODEL, reason="benchmark")
        if built is None:
            raise RuntimeError("the release has no package")
        return built

    def _deploy(self, package: PackageRef) -> Release:
        """Up to the copies. What is measured is how these behave, not how a candidate is judged, so tests count as passed."""
        release = self._database.start(MODEL, package.version, _PLAN, "benchmark", time.time(), _LEASE_S)
        smoke = tuple(Gate(name, Verdict.SAFE) for name in SMOKE_GATES)
        while release.phase is not Phase.SHADOW:
            status = self._database.read_status(MODEL, time.time())
            slot = status.slot(release.slot) if status else None
            seen = Observation(package=package, candidate=slot, smoke=smoke)
            after, instructions = advance(release, seen, time.time())
            release = self._database.commit(release, after, instructions, "benchmark", time.time())
            time.sleep(0.1)
        return release

    def _keep_lease(self) -> None:
        while not self._ended.wait(1.0):
            with self._lock:
                self._database.renew(self._release, time.time(), _LEASE_S)

    def mirror(self, share_pct: float) -> None:
        """Copy so many percent of the requests, and wait until the edge does."""
        with self._lock:
            order = (Mirror(self._release.slot, share_pct),)
            self._release = self._database.commit(self._release, self._release, order, "benchmark", time.time())
        wait_for(lambda: self._mirrored() == share_pct, f"the edge copies {share_pct:g} %")

    def _mirrored(self) -> float | None:
        status = self._database.read_status(MODEL, time.time())
        return status.route.mirror if status else None

    def candidate(self) -> list[psutil.Process]:
        """The candidate's replicas."""
        return find_replicas(self._stack.settings.root, MODEL, self._release.slot)

    def load(self, seconds: float) -> list[Exchange]:
        """Requests for so long."""
        with LoadClient(self._stack.edge_url, self._replay.request, RATE_PER_S, connections=4) as client:
            time.sleep(seconds)
        return client.results()

    def await_candidate(self) -> None:
        """Wait until the candidate is well again."""

        def is_well() -> bool:
            status = self._database.read_status(MODEL, time.time())
            return status is not None and status.slot(self._release.slot).ready == _PLAN.replicas

        wait_for(is_well, "the candidate's replicas")

    def close(self) -> None:
        """Stop the lease and close the connection."""
        self._ended.set()
        self._keeper.join()
        self._database.close()


@contextmanager
def _well(_: FindReplicas) -> Iterator[None]:
    yield


CONDITIONS: dict[str, Callable[[FindReplicas], AbstractContextManager[None]]] = {
    "well": _well,
    # The copies come back each time when it is well, and each time it hangs anew.
    "hung": partial(hanging, stopped_s=3.0),
    "dead": dying,
    "ten times slower": slowed,
}


def _measure(bench: ShadowBench, rounds: int) -> list[Figure]:
    say(f"load: {RATE_PER_S:g} requests a second, {rounds} rounds of {ROUND_S:g} s for each state of the candidate")
    bench.load(ROUND_S)
    pairs: dict[str, list[tuple[list[Exchange], list[Exchange]]]] = {name: [] for name in CONDITIONS}
    for number in range(rounds):
        for name, condition in CONDITIONS.items():
            bench.mirror(0.0)
            without = bench.load(ROUND_S)
            bench.mirror(_PLAN.mirror_pct)
            with condition(bench.candidate):
                copied = bench.load(ROUND_S)
            bench.await_candidate()
            pairs[name].append((without, copied))
            before, after = summarise(without), summarise(copied)
            p99 = f"p99 {before.p99_ms:.2f} ms without, {after.p99_ms:.2f} ms with copies"
            say(f"round {number + 1}, candidate {name}: {p99}, {after.failed} failed")
    return [figure for name, found in pairs.items() for figure in _figures(name, found)]


def _figures(name: str, pairs: Sequence[tuple[list[Exchange], list[Exchange]]]) -> list[Figure]:
    """All rounds together, since the slowest hundredth of one is a dozen requests; and each against the one right before it."""
    ratios = sorted(summarise(copied).p99_ms / summarise(without).p99_ms for without, copied in pairs)
    alone = summarise([exchange for without, _ in pairs for exchange in without])
    beside = summarise([exchange for _, copied in pairs for exchange in copied])
    return [
        observed(f"candidate {name}: requests", beside.requests, "requests"),
        at_most(f"candidate {name}: failed requests, share", beside.failed / beside.requests, "ratio", 0),
        observed(f"candidate {name}: p50 with over p50 without copies", beside.p50_ms / alone.p50_ms, "ratio"),
        observed(f"candidate {name}: p99 without copies", alone.p99_ms, "ms"),
        at_most(f"candidate {name}: p99 with over p99 without copies", beside.p99_ms / alone.p99_ms, "ratio", P99_RATIO),
        observed(f"candidate {name}: p99 with over p99 without, median of rounds", statistics.median(ratios), "ratio"),
        observed(f"candidate {name}: p99 with over p99 without, best round", ratios[0], "ratio"),
        observed(f"candidate {name}: p99 with over p99 without, worst round", ratios[-1], "ratio"),
    ]


def main() -> None:
    """Measure, print, write; exit code 1 if a promise is not kept. A number as argument is another number of rounds."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with bench_stack("shadow") as stack:
        bench = ShadowBench(stack)
        try:
            figures = _measure(bench, rounds)
        finally:
            bench.close()
    kept = publish("Copies to a candidate, and the champion's consumers", figures, bench_root() / "shadow.json")
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
