"""`make bench-log`: what the prediction log costs a replica; some that log and some that do not, asked in turn."""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import psutil

from benchmarks.report import Figure, at_least, observed, publish
from benchmarks.stack import bench_root, say, wait_for
from hotcold.adapters.flights import read_flights
from hotcold.adapters.packages import PackageSource, build_package, package_dir
from hotcold.adapters.prediction_reader import PredictionReader
from hotcold.adapters.processes import free_port
from hotcold.adapters.replay import FlightReplay
from hotcold.adapters.training import make_trainer
from hotcold.domain.flights import FLIGHTS_SCHEMA, labelled

MODEL = "flights"
# Each process has a speed of its own, a percent more or less than its twin; so there are several of each.
PAIRS, ROUNDS, ROUND_S = 4, 20, 1.0
# As many as keep one replica busy all the time.
_CONNECTIONS = 4
_REQUESTS = 2000
_MIB = 2**20


@dataclass(frozen=True)
class Replica:
    """A replica of the benchmark's own.

    Args:
        port: on loopback.
        process: of the replica.
        ready_s: from its start until it was ready.
    """

    port: int
    process: psutil.Process
    ready_s: float


@dataclass(frozen=True)
class Round:
    """What one replica did in one round.

    Args:
        per_s: answers a second.
        cpu_us: processor time of the replica per answer.
    """

    per_s: float
    cpu_us: float


def _build(folder: Path) -> Path:
    """A package of real size: 300 trees of depth 8 on 20 features."""
    data = labelled(read_flights().between(date(2013, 1, 1), date(2013, 8, 31)).arrived())
    trainer = make_trainer("xgboost", {})
    trainer.save(trainer.train(data.matrix, data.labels), folder / "mlflow")
    source = PackageSource(
        model=MODEL,
        version=1,
        semver="1.0.0",
        run_id="bench",
        flavor="xgboost",
        model_dir=folder / "mlflow",
        schema=FLIGHTS_SCHEMA,
        sample=data.matrix[:64],
        training_window=("2013-01-01", "2013-08-31"),
        dataset_fingerprint="bench",
        git_commit="",
        hyperparameters={},
        metrics={},
    )
    manifest = build_package(source, folder / "bentoml")
    say(f"the package is scored by {manifest.measured.hot_engine}")
    return package_dir(manifest.ref, folder / "bentoml")


@contextmanager
def _running(src: Path, folder: Path, log: str) -> Iterator[Replica]:
    port, began = free_port(), time.monotonic()
    own = {"PYTHONPATH": str(src), "BENTOML_HOME": str(folder), "HOTCOLD_SLOT": "blue", "HOTCOLD_REPLICA_LOG": log}
    command = [sys.executable, "-m", "services.replica", "--port", str(port)]
    process = subprocess.Popen(command, cwd=src, env=os.environ | own, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_for(lambda: _is_ready(port), "the replica")
        yield Replica(port, psutil.Process(process.pid), time.monotonic() - began)
    finally:
        process.terminate()
        process.wait(20)


def _is_ready(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"GET /readyz HTTP/1.1\r\nhost: bench\r\n\r\n")
            return connection.recv(100).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def _requests() -> list[bytes]:
    """Requests with one row."""
    replay = FlightReplay(MODEL, date(2013, 9, 1), date(2013, 9, 30), _REQUESTS)
    made = []
    for number in range(_REQUESTS):
        path, headers, body = replay.request(number)
        own = {"host": "bench", "x-request-id": f"bench-{number:08d}", "content-length": str(len(body)), **headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in own.items())
        made.append(f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body)
    return made


def _ask(replica: Replica, requests: Sequence[bytes], duration_s: float) -> Round:
    """Ask over some connections, on each of them the next as soon as there is an answer."""
    selector, answered = selectors.DefaultSelector(), 0
    connections = [socket.create_connection(("127.0.0.1", replica.port)) for _ in range(_CONNECTIONS)]
    before_s, began = _cpu_s(replica), time.perf_counter()
    for connection in connections:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(connection, selectors.EVENT_READ, connection)
        connection.sendall(requests[0])
    while time.perf_counter() - began < duration_s:
        for key, _ in selector.select():
            received = key.data.recv(65536)
            if not received or (received.startswith(b"HTTP/") and received[9:12] != b"200"):
                raise RuntimeError(f"the replica answered {received[:300]!r}")
            # An answer ends with the brace of its body.
            if received.endswith(b"}"):
                answered += 1
                key.data.sendall(requests[answered % len(requests)])
    took_s, cpu_s = time.perf_counter() - began, _cpu_s(replica) - before_s
    for connection in connections:
        connection.close()
    return Round(answered / took_s, cpu_s / answered * 1e6)


def _cpu_s(replica: Replica) -> float:
    times = replica.process.cpu_times()
    return times.user + times.system


class LogBench:
    """Replicas of one package, some of which log.

    Args:
        src: of the package.
        folder: for what they write.
        running: ends them.
    """

    def __init__(self, src: Path, folder: Path, running: ExitStack) -> None:
        self._root = folder / "log"
        self._requests = _requests()
        self._plain, self._logging = [], []
        for number in range(PAIRS):
            options = json.dumps({"root": str(self._root), "writer": f"bench{number}"})
            self._plain.append(running.enter_context(_running(src, folder / f"plain-{number}", "")))
            self._logging.append(running.enter_context(_running(src, folder / f"logging-{number}", options)))

    def measure(self, rounds: int) -> list[Figure]:
        """Ask all of them in each round, in another order each time."""
        replicas = [replica for pair in zip(self._plain, self._logging, strict=True) for replica in pair]
        seen: dict[int, list[Round]] = {replica.port: [] for replica in replicas}
        for replica in replicas:
            _ask(replica, self._requests, ROUND_S)
        for number in range(rounds):
            first = number % len(replicas)
            for replica in replicas[first:] + replicas[:first]:
                seen[replica.port].append(_ask(replica, self._requests, ROUND_S))
            say(f"round {number + 1} of {rounds}")
        return self._figures(
            [_means(seen, self._plain, n) for n in range(rounds)], [_means(seen, self._logging, n) for n in range(rounds)]
        )

    def _figures(self, plain: Sequence[Round], logging: Sequence[Round]) -> list[Figure]:
        pairs = list(zip(plain, logging, strict=True))
        rows = [(len(piece.table), piece.dropped) for piece, _ in PredictionReader(self._root, MODEL).read()]
        return [
            observed("answers a second without the log", statistics.median(p.per_s for p in plain), "/s"),
            at_least(
                "throughput with the log over without", statistics.median(w.per_s / p.per_s for p, w in pairs), "ratio", 0.97
            ),
            observed("processor time per answer without the log", statistics.median(p.cpu_us for p in plain), "us"),
            observed(
                "processor time per answer, more with the log", statistics.median(w.cpu_us - p.cpu_us for p, w in pairs), "us"
            ),
            observed("answers logged", sum(count for count, _ in rows), "answers"),
            observed("answers dropped", sum(dropped for _, dropped in rows), "answers"),
            observed("memory, more with the log", self._more(lambda replica: replica.process.memory_info().rss / _MIB), "MiB"),
            observed("time to be ready, more with the log", self._more(lambda replica: replica.ready_s), "s"),
        ]

    def _more(self, value: Callable[[Replica], float]) -> float:
        with_log, without = (statistics.median(map(value, replicas)) for replicas in (self._logging, self._plain))
        return with_log - without


def _means(seen: dict[int, list[Round]], replicas: Sequence[Replica], number: int) -> Round:
    rounds = [seen[replica.port][number] for replica in replicas]
    return Round(statistics.mean(r.per_s for r in rounds), statistics.mean(r.cpu_us for r in rounds))


def main() -> None:
    """Measure, print, write; exit code 1 if the promise is not kept. A number as argument is another number of rounds."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    # Whoever ends the benchmark ends its replicas, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="hotcold-bench-log-") as name, ExitStack() as running:
        figures = LogBench(_build(Path(name)), Path(name), running).measure(rounds)
    sys.exit(0 if publish("Prediction log", figures, bench_root() / "log.json") else 1)


if __name__ == "__main__":
    main()
