"""The replicas of one node: started, probed, drained, ended, and found again by the next agent."""

from __future__ import annotations

import http.client
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hotcold.adapters.package_files import package_dir, verify_package_ref
from hotcold.adapters.processes import ProcessId, free_port, identify, is_alive, signal_group, start_process, yield_processor
from hotcold.adapters.survivors import REPLICA_NAME, find_survivors, instance_of
from hotcold.domain.edge import Endpoint
from hotcold.domain.errors import PackageError, StackError
from hotcold.domain.package import PackageRef
from hotcold.domain.placement import Replica, ReplicaState, backoff_s
from hotcold.domain.serving import Slot
from hotcold.settings import Settings
from services.answer_log import LOG_VARIABLE

_LOG = logging.getLogger("hotcold.agent")
_REFUSED_EXIT_CODE = 78
_PROBE_TIMEOUT_S = 2.0
_PROBE_INTERVAL_S = {ReplicaState.STARTING: 0.1, ReplicaState.READY: 1.0, ReplicaState.DRAINING: 1.0}
_PATIENCE = 3
_PROBE_THREADS = 8
# A package is verified anew before each start; an answer older than this is asked for again.
_FRESH_S = 1.0

SlotKey = tuple[str, Slot]


@dataclass
class _Managed:
    """A replica with its process."""

    replica: Replica
    key: SlotKey
    package: PackageRef
    name: str
    process: ProcessId
    child: subprocess.Popen[bytes] | None = None
    probe: Future[bool] | None = None
    probe_after_s: float = 0.0
    silent: int = 0
    ended_at_s: float = 0.0
    yields: bool | None = None

    def move(self, state: ReplicaState, now_s: float) -> None:
        self.replica = Replica(self.replica.id, self.replica.digest, self.replica.endpoint, state, now_s)


@dataclass
class SlotHistory:
    """What happened to a slot's package since it came.

    Args:
        digest: the package.
        failure: why it can never be served here; empty while it may.
        restarts: replicas that died.
        crashes: replicas that died one after the other before they were ready.
        start_after_s: no start before this time, monotonic.
        died_at_s: when the last one died, monotonic; None if none did.
    """

    digest: str
    failure: str = ""
    restarts: int = 0
    crashes: int = 0
    start_after_s: float = 0.0
    died_at_s: float | None = None


@dataclass
class ReplicaPool:
    """All replicas of this node.

    Args:
        settings: of this installation.
        monotonic: seconds on a clock that does not jump.
    """

    settings: Settings
    monotonic: Callable[[], float] = time.monotonic
    _managed: dict[str, _Managed] = field(default_factory=dict)
    _history: dict[SlotKey, SlotHistory] = field(default_factory=dict)
    _checks: dict[str, Future[tuple[Path, float]]] = field(default_factory=dict)
    _verifier: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "verify"))
    _probes: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(_PROBE_THREADS, "probe"))

    @property
    def _records(self) -> Path:
        return self.settings.run_dir / "replicas"

    def replicas(self, key: SlotKey) -> list[Replica]:
        """Living replicas of a slot."""
        return [managed.replica for managed in self._managed.values() if managed.key == key]

    def history(self, key: SlotKey, digest: str) -> SlotHistory:
        """What happened to the slot's package; another package starts a new one."""
        found = self._history.get(key)
        if found is None or found.digest != digest:
            found = self._history[key] = SlotHistory(digest)
        return found

    def adopt(self, known_to_edge: Callable[[str, Slot], Collection[Endpoint]]) -> None:
        """Take on what an earlier agent started, and end strays that nobody has a record of.

        Args:
            known_to_edge: addresses that the edge has for a slot; those replicas count as ready at once.
        """
        self._records.mkdir(parents=True, exist_ok=True)
        for path in sorted(self._records.glob("*.json")):
            managed = self._read_record(path)
            if managed is None or not is_alive(managed.process):
                path.unlink(missing_ok=True)
                continue
            if managed.replica.endpoint in known_to_edge(*managed.key):
                managed.move(ReplicaState.READY, self.monotonic())
            self._managed[managed.replica.id] = managed
            _LOG.info("replica adopted", extra={"replica": managed.name, "pid": managed.process.pid})
        self._end_strays()

    def _read_record(self, path: Path) -> _Managed | None:
        try:
            record = json.loads(path.read_bytes())
            package = PackageRef(**record["package"])
            endpoint = Endpoint(**record["endpoint"])
            key = (package.model, Slot(record["slot"]))
            replica = Replica(path.stem, package.digest, endpoint, ReplicaState.STARTING, self.monotonic())
            return _Managed(replica, key, package, record["name"], ProcessId(**record["process"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _end_strays(self) -> None:
        known = {managed.process.pid for managed in self._managed.values()}
        for survivor in find_survivors(instance_of(self.settings.root)):
            pid = survivor.process.pid
            # A replica is the first of its session; its children, if any, go with it.
            if survivor.is_replica and pid not in known and os.getsid(pid) == pid and (process := identify(pid)):
                _LOG.warning("stray replica ended", extra={"replica": survivor.name, "pid": pid})
                signal_group(process, signal.SIGKILL)

    def start(self, key: SlotKey, package: PackageRef, count: int) -> None:
        """Start replicas of a package once it is verified, so call again until they are there.

        A package that is not as it was built is refused for good.
        """
        history = self.history(key, package.digest)
        try:
            src = self._verified(package)
            for _ in range(count):
                if src is not None:
                    self._start_one(key, package, src)
        except PackageError as error:
            history.failure = str(error)
            _LOG.error("package refused", extra={"model": key[0], "slot": key[1].value, "reason": str(error)})
        except (StackError, OSError) as error:
            # A full disk or a folder that cannot be written passes: try again, later and later.
            history.crashes += 1
            history.start_after_s = self.monotonic() + backoff_s(history.crashes)
            _LOG.error("replica not started", extra={"model": key[0], "slot": key[1].value, "reason": str(error)})

    def _verified(self, package: PackageRef) -> Path | None:
        """Folder of a package that was found intact just now; None while that is being looked at."""
        check = self._checks.get(package.digest)
        if check is None:
            # Away from the agent's loop: a large package takes seconds.
            self._checks[package.digest] = self._verifier.submit(self._verify, package)
        elif check.done():
            del self._checks[package.digest]
            src, at_s = check.result()
            return src if self.monotonic() - at_s <= _FRESH_S else None
        return None

    def _verify(self, package: PackageRef) -> tuple[Path, float]:
        verify_package_ref(package, self.settings.bento_home)
        return package_dir(package, self.settings.bento_home), self.monotonic()

    def _start_one(self, key: SlotKey, package: PackageRef, src: Path) -> None:
        replica_id = uuid.uuid4().hex[:12]
        endpoint = Endpoint("127.0.0.1", free_port())
        name = f"{key[0]}/{key[1].value}/{replica_id}"
        log = self.settings.log_dir / f"replica-{key[0]}-{key[1].value}.log"
        argv = [sys.executable, "-m", "services.replica", "--port", str(endpoint.port)]
        child = start_process(argv, self._environment(key, replica_id, name, src), src, log)
        process = identify(child.pid) or ProcessId(child.pid, time.time())
        replica = Replica(replica_id, package.digest, endpoint, ReplicaState.STARTING, self.monotonic())
        managed = _Managed(replica, key, package, name, process, child)
        self._managed[replica_id] = managed
        self._write_record(managed)
        _LOG.info("replica started", extra={"replica": name, "pid": child.pid, "package": package.tag})

    def _environment(self, key: SlotKey, replica_id: str, name: str, src: Path) -> dict[str, str]:
        scratch = self._scratch(replica_id)
        scratch.mkdir(parents=True, exist_ok=True)
        return os.environ | {
            "PYTHONPATH": str(src),
            # Compiled files stay out of the package, which is immutable; those of the libraries are there already.
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOTCOLD_SLOT": key[1].value,
            "HOTCOLD_SCORE_STORE": self.settings.score_store,
            LOG_VARIABLE: self._log_options(replica_id),
            REPLICA_NAME: name,
            "HOTCOLD_REFUSAL_FILE": str(scratch / "refusal"),
            # BentoML wipes parts of its home at each start.
            "BENTOML_HOME": str(scratch),
            "BENTOML_DO_NOT_TRACK": "True",
        }

    def _log_options(self, replica_id: str) -> str:
        settings = self.settings
        if not settings.prediction_log:
            return ""
        return json.dumps(
            {
                "root": str(settings.prediction_dir),
                "writer": replica_id,
                "rotate_s": settings.prediction_rotate_s,
                "rotate_bytes": settings.prediction_rotate_bytes,
                "feature_rate": settings.prediction_feature_rate,
            }
        )

    def _scratch(self, replica_id: str) -> Path:
        return self.settings.run_dir / "bentohome" / replica_id

    def _write_record(self, managed: _Managed) -> None:
        record = {
            "package": asdict(managed.package),
            "slot": managed.key[1].value,
            "name": managed.name,
            "endpoint": asdict(managed.replica.endpoint),
            "process": asdict(managed.process),
        }
        path = self._records / f"{managed.replica.id}.json"
        try:
            path.with_suffix(".new").write_text(json.dumps(record))
            path.with_suffix(".new").replace(path)
        except OSError as error:
            _LOG.error("replica not recorded", extra={"replica": managed.name, "reason": error.strerror})

    def let_yield(self, key: SlotKey, to_others: bool) -> None:
        """Let replicas of a slot start with the processor time that others leave, or with as much as they need.

        Once they are ready they have what they need in any case: who gets copies is compared with who answers, and must not
        look slow on a busy machine for having waited for others.

        Args:
            key: the slot.
            to_others: it answers nobody yet, so that nobody waits for the start.
        """
        for managed in self._managed.values():
            yields = to_others and managed.replica.state is ReplicaState.STARTING
            if managed.key == key and managed.yields != yields and yield_processor(managed.process, yields):
                managed.yields = yields

    def drain(self, replica_id: str) -> None:
        """Let a replica get no new requests; the edge is told by the caller."""
        managed = self._managed[replica_id]
        managed.move(ReplicaState.DRAINING, self.monotonic())
        _LOG.info("replica draining", extra={"replica": managed.name})

    def stop(self, replica_id: str) -> None:
        """End a replica: it finishes what it has, and is killed if that takes too long. Called again until it has ended."""
        managed = self._managed[replica_id]
        now_s = self.monotonic()
        if not managed.ended_at_s:
            managed.ended_at_s = now_s
            _LOG.info("replica asked to end", extra={"replica": managed.name})
            signal_group(managed.process, signal.SIGTERM)
        elif now_s - managed.ended_at_s >= self.settings.drain_s:
            signal_group(managed.process, signal.SIGKILL)

    def poll(self) -> None:
        """Look at every replica: take note of those that died, became ready, or do not answer."""
        for managed in list(self._managed.values()):
            if self._has_ended(managed):
                self._bury(managed)
            else:
                self._probe(managed)

    def _has_ended(self, managed: _Managed) -> bool:
        if managed.child is not None:
            return managed.child.poll() is not None
        return not is_alive(managed.process)

    def _bury(self, managed: _Managed) -> None:
        del self._managed[managed.replica.id]
        with suppress(OSError):
            # What cannot be removed now is found to name a dead process later.
            (self._records / f"{managed.replica.id}.json").unlink(missing_ok=True)
        if managed.replica.state is not ReplicaState.DRAINING:
            self._note_death(managed)
        shutil.rmtree(self._scratch(managed.replica.id), ignore_errors=True)

    def _note_death(self, managed: _Managed) -> None:
        history = self.history(managed.key, managed.replica.digest)
        code = managed.child.returncode if managed.child else None
        if code == _REFUSED_EXIT_CODE:
            history.failure = self._refusal(managed) or "the package refused to be served; see its log"
        history.restarts += 1
        history.died_at_s = self.monotonic()
        was_ready = managed.replica.state is ReplicaState.READY
        history.crashes = 0 if was_ready else history.crashes + 1
        history.start_after_s = self.monotonic() + backoff_s(history.crashes)
        _LOG.warning("replica died", extra={"replica": managed.name, "exit_code": code, "was_ready": was_ready})

    def _refusal(self, managed: _Managed) -> str:
        try:
            return (self._scratch(managed.replica.id) / "refusal").read_text().strip()
        except OSError:
            return ""

    def _probe(self, managed: _Managed) -> None:
        now_s = self.monotonic()
        if managed.probe is not None and managed.probe.done():
            answered = managed.probe.result()
            managed.probe = None
            managed.probe_after_s = now_s + _PROBE_INTERVAL_S[managed.replica.state]
            self._note_probe(managed, answered, now_s)
        if managed.probe is None and now_s >= managed.probe_after_s and managed.replica.state is not ReplicaState.DRAINING:
            managed.probe = self._probes.submit(_is_ready, managed.replica.endpoint)

    def _note_probe(self, managed: _Managed, answered: bool, now_s: float) -> None:
        state = managed.replica.state
        managed.silent = 0 if answered else managed.silent + 1
        if answered and state is ReplicaState.STARTING:
            managed.move(ReplicaState.READY, now_s)
            self.history(managed.key, managed.replica.digest).crashes = 0
            _LOG.info("replica ready", extra={"replica": managed.name})
        late = state is ReplicaState.STARTING and now_s - managed.replica.since_s >= self.settings.replica_ready_timeout_s
        hung = state is ReplicaState.READY and managed.silent >= _PATIENCE and self._has_better(managed)
        if late or hung:
            _LOG.warning("replica does not answer", extra={"replica": managed.name, "state": state.value})
            signal_group(managed.process, signal.SIGKILL)

    def _has_better(self, managed: _Managed) -> bool:
        """Another replica of the slot answers. If none does, the machine is overloaded, and killing would make it worse."""
        others = [other for other in self._managed.values() if other.key == managed.key and other is not managed]
        answering = any(other.replica.state is ReplicaState.READY and not other.silent for other in others)
        return answering or managed.silent >= 10 * _PATIENCE


def _is_ready(endpoint: Endpoint) -> bool:
    connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=_PROBE_TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
