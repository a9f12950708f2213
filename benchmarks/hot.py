"""`make bench-hot`: switches, undo and the loss of a replica, under load on a stack of its own."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from benchmarks.faults import find_replicas
from benchmarks.report import Figure, at_most, observed, publish
from benchmarks.stack import CUT_OVER, MODEL, BenchStack, bench_root, bench_stack, flights_replay, say, wait_for
from hotcold.adapters.release_database import ReleaseDatabase
from hotcold.adapters.replay_client import LoadClient
from hotcold.domain.release import Phase
from hotcold.domain.serving import Slot
from hotcold.domain.traffic import Exchange, last_answer_after, summarise
from hotcold.rollback import roll_back

CYCLES = 10
RATE_PER_S = 100.0


class HotBench:
    """The stack under load, and what is done to it.

    Args:
        stack: up, with two versions of the model, the first of them live.
    """

    def __init__(self, stack: BenchStack) -> None:
        self._stack = stack
        self._database = ReleaseDatabase(stack.settings.release_database_url)
        self.load = LoadClient(stack.edge_url, flights_replay().request, RATE_PER_S, connections=4)

    def switch_there_and_back(self, undo_from_prefect: bool) -> tuple[float, float, float]:
        """Release the second version and take it back.

        Returns:
            Seconds from the decision until the last answer by the side before, for the release and for the undo; and seconds
            from the click to the end of the undo.
        """
        self._stack.flow("cut-over/cut-over", model=MODEL, version=2, plan=CUT_OVER)
        release = self._database.read_releases(MODEL, 1)[0]
        clicked = time.time()
        if undo_from_prefect:
            self._stack.flow("roll-back/roll-back", model=MODEL, reason="benchmark")
        else:
            roll_back(self._database, MODEL, "benchmark", "benchmark")
        done_s = time.time() - clicked
        moments = {event.phase: event.at for event in self._database.read_events(release.id)}
        time.sleep(1.0)
        exchanges = self.load.results()
        there = [exchange for exchange in exchanges if exchange.sent_at < moments[Phase.ROLLING_BACK]]
        return (
            last_answer_after(there, "1.0.0", moments[Phase.CUTOVER]),
            last_answer_after(exchanges, "1.1.0", moments[Phase.ROLLING_BACK]),
            done_s,
        )

    def kill_a_replica(self) -> float:
        """kill -9 of one of the champion's two replicas; seconds until two are ready again."""
        champion = self._database.read_plan(MODEL).route.champion or Slot.BLUE
        victim = find_replicas(self._stack.settings.root, MODEL, champion)[0]
        restarts = self._restarts(champion)
        killed = time.monotonic()
        victim.kill()
        wait_for(lambda: self._restarts(champion) > restarts, "the death is seen")
        wait_for(lambda: self._ready(champion) == 2, "the replica is replaced")
        return time.monotonic() - killed

    def _restarts(self, slot: Slot) -> int:
        status = self._database.read_status(MODEL, time.time())
        return status.slot(slot).restarts if status else -1

    def _ready(self, slot: Slot) -> int:
        status = self._database.read_status(MODEL, time.time())
        return status.slot(slot).ready if status else 0

    def close(self) -> None:
        """Close the connection."""
        self._database.close()


def _measure(bench: HotBench) -> list[Figure]:
    say(f"load: {RATE_PER_S:g} requests a second")
    switches: list[float] = []
    undo_done: list[float] = []
    with bench.load:
        for cycle in range(CYCLES):
            # Every other undo is a click in Prefect, the others the command line's.
            from_prefect = cycle % 2 == 0
            there, back, done_s = bench.switch_there_and_back(from_prefect)
            switches += [there, back]
            undo_done += [done_s] if from_prefect else []
            took = f"switch {there * 1e3:.0f} ms, undo {back * 1e3:.0f} ms, done after {done_s:.1f} s"
            say(f"cycle {cycle + 1} of {CYCLES}: {took}")
        before_kill = len(bench.load.results())
        replaced_s = [bench.kill_a_replica() for _ in range(3)]
        say(f"killed replicas were replaced after {', '.join(f'{value:.1f} s' for value in replaced_s)}")
    exchanges = bench.load.results()
    return _figures(exchanges[:before_kill], exchanges[before_kill:], switches, undo_done, replaced_s)


def _figures(
    switching: Sequence[Exchange],
    killing: Sequence[Exchange],
    switches: Sequence[float],
    undo_done: Sequence[float],
    replaced_s: Sequence[float],
) -> list[Figure]:
    during, after = summarise(switching), summarise(killing)
    return [
        observed("switches under load", len(switches), "switches"),
        observed("requests while switching", during.requests, "requests"),
        at_most("failed requests while switching, share", during.failed / during.requests, "ratio", 0),
        at_most("decision to last answer by the old side, worst", max(switches), "s", 1.0),
        observed("decision to last answer by the old side, median", sorted(switches)[len(switches) // 2], "s"),
        at_most("undo from the Prefect API, click to done, worst", max(undo_done), "s", 15.0),
        observed("requests while replicas are killed", after.requests, "requests"),
        at_most("failed requests while replicas are killed, share", after.failed / after.requests, "ratio", 0),
        at_most("killed replica of two replaced, worst", max(replaced_s), "s", 5.0),
        observed("p50 while switching", during.p50_ms, "ms"),
        observed("p99 while switching", during.p99_ms, "ms"),
        observed("p99 while switching over p50", during.p99_ms / during.p50_ms, "ratio"),
    ]


def main() -> None:
    """Measure, print, write; exit code 1 if a promise is not kept."""
    with bench_stack("hot") as stack:
        stack.release_flights()
        bench = HotBench(stack)
        try:
            figures = _measure(bench)
        finally:
            bench.close()
    kept = publish("Hot path under load", figures, bench_root() / "hot.json")
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
