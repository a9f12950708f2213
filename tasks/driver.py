"""Drives a release: observe, advance, write, do. The state is in the database; a driver that dies leaves nothing behind."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from prefect import get_run_logger
from prefect.futures import PrefectFuture

from hotcold.adapters.release_database import ReleaseDatabase
from hotcold.domain.errors import DatabaseError, HotcoldError, StaleControllerError
from hotcold.domain.gate import Gate, Verdict
from hotcold.domain.instructions import Instruction, Package, PublishScores, RetractScores, SetStage, Smoke
from hotcold.domain.package import PackageRef
from hotcold.domain.plan import Plan
from hotcold.domain.release import EXPOSED, FINAL, SMOKE_GATES, Observation, Phase, Release, advance
from hotcold.domain.serving import ModelStatus, Slot
from hotcold.domain.smoke import judge_health, judge_probe
from hotcold.rollback import confirmed_mirror, confirmed_share
from hotcold.settings import Settings
from tasks.context import controller_name, open_database
from tasks.packaging import package_version
from tasks.parity import run_parity_check
from tasks.registry import project_to_registry
from tasks.score_requests import start_requested_scores
from tasks.shadow_watch import ShadowWatch, copies_began
from tasks.smoke import EdgeProbe, run_smoke_tests

TICK_S = 0.2
_DATABASE_PATIENCE_S = 120.0
# How long somebody else who has taken a release over may need to bring it to its end.
_TAKEN_OVER_S = 15.0


@dataclass
class _Evidence:
    """What this driver has gathered; a new driver gathers it again."""

    package: Any = None
    package_failure: str = ""
    smoke: dict[str, Gate] = field(default_factory=dict)
    gates: tuple[Gate, ...] = ()
    restarts_before: int | None = None
    registry_is_behind: bool = False
    running: dict[str, PrefectFuture[Any]] = field(default_factory=dict)


class ReleaseDriver:
    """The controller of one release, inside a flow run.

    Args:
        settings: where the database is, and how long a silent controller is believed.
        clock: seconds since the epoch.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self._owner = controller_name()
        self.database: ReleaseDatabase = open_database(settings)
        self._evidence = _Evidence()
        self._probe: EdgeProbe | None = None
        self._watch: ShadowWatch | None = None

    def open_release(self, model: str, version: int, plan: Plan, continues: str = "") -> Release:
        """Start the release, or take over one of the same version that lost its controller; with an id, that one only."""
        lease_s = self._settings.controller_timeout_s
        release = self.database.start(model, version, plan, self._owner, self._clock(), lease_s, continues)
        get_run_logger().info("release %s of %s version %s: %s", release.id[:8], model, version, release.phase.value)
        return release

    def drive(self, release: Release) -> Release:
        """Step until the release has ended or waits for a person.

        Raises:
            DatabaseError: the database was away for longer than two minutes.
        """
        try:
            while release.phase not in FINAL and release.phase is not Phase.HELD:
                release = self.step(release)
                time.sleep(TICK_S)
        except StaleControllerError:
            release = self._await_end(release)
        return release

    def _await_end(self, release: Release) -> Release:
        """Somebody else moved the release on, most likely to take it back: see how that ends before telling."""
        deadline = time.monotonic() + _TAKEN_OVER_S
        release = self.database.read_release(release.id)
        while release.phase in (Phase.ROLLING_BACK, Phase.CLOSING) and time.monotonic() < deadline:
            time.sleep(TICK_S)
            release = self.database.read_release(release.id)
        return release

    def step(self, release: Release) -> Release:
        """One tick: observe, advance, write, and start what has to be done outside.

        Raises:
            StaleControllerError: somebody else drives the release now.
            DatabaseError: the database was away for longer than two minutes.
        """
        deadline = time.monotonic() + _DATABASE_PATIENCE_S
        while True:
            try:
                return self._step(release)
            except DatabaseError as error:
                if time.monotonic() > deadline:
                    raise
                get_run_logger().warning("%s; trying again", error)
                time.sleep(1.0)

    def _step(self, release: Release) -> Release:
        self._collect()
        seen = self._observe(release)
        after, instructions = advance(release, seen, self._clock())
        if after.phase is release.phase and after.split == release.split:
            self.database.renew(after, self._clock(), self._settings.controller_timeout_s)
        else:
            after = self.database.commit(release, after, instructions, self._owner, self._clock())
            self._log(after)
        for instruction in instructions:
            self._perform(after, instruction)
        self._tell_registry(after.model)
        return after

    def _tell_registry(self, model: str) -> None:
        """One projection at a time, so that an older view never overwrites a newer one."""
        if self._evidence.registry_is_behind and "registry" not in self._evidence.running:
            self._evidence.registry_is_behind = False
            self._evidence.running["registry"] = project_to_registry.submit(model)

    def _observe(self, release: Release) -> Observation:
        status = self.database.read_status(release.model, self._clock())
        evidence = self._evidence
        if release.phase in EXPOSED and release.candidate:
            evidence.gates = self._judge(release, status)
        if release.phase is Phase.SHADOW:
            evidence.gates = self._judge_copies(release, status)
        return Observation(
            package=evidence.package,
            package_failure=evidence.package_failure,
            candidate=status.slot(release.slot) if status else None,
            champion=status.slot(release.slot.other) if status else None,
            edge_share=confirmed_share(status, release.slot),
            edge_mirror=confirmed_mirror(status),
            smoke=tuple(evidence.smoke.values()),
            gates=evidence.gates,
            pairs=self._watch.pairs if self._watch else None,
        )

    def _judge_health(self, release: Release, status: ModelStatus | None) -> Gate:
        slot = status.slot(release.slot) if status else None
        if self._evidence.restarts_before is None and slot:
            self._evidence.restarts_before = slot.restarts
        return judge_health(slot, release.plan.replicas, self._evidence.restarts_before or 0)

    def _judge_copies(self, release: Release, status: ModelStatus | None) -> tuple[Gate, ...]:
        """What the comparison says so far; it goes on in a thread of its own, so that the lease is renewed in time."""
        if self._watch is None:
            began = copies_began(self.database.read_events(release.id))
            self._watch = ShadowWatch(self._settings, release, began or self._clock())
            self._watch.start()
        return (self._judge_health(release, status), *self._watch.gates)

    def _judge(self, release: Release, status: ModelStatus | None) -> tuple[Gate, ...]:
        health = self._judge_health(release, status)
        if release.phase is not Phase.BAKING or not release.candidate:
            return (health,)
        self._probe = self._probe or EdgeProbe(release.candidate)
        answers = self._probe.ask(self.database.read_edges(self._clock()))
        return (health, judge_probe(release.candidate, answers))

    def _perform(self, release: Release, instruction: Instruction) -> None:
        """Start an effect, unless it is under way; each is safe to repeat."""
        running = self._evidence.running
        match instruction:
            case Package(model, version) if "package" not in running:
                running["package"] = package_version.submit(
                    model, version, release.champion, release.plan.allow_breaking_schema
                )
            case Smoke(slot, package):
                self._start_smoke_tests(slot, package)
            case PublishScores() | RetractScores() if "scores" not in running:
                running["scores"] = start_requested_scores.submit()
            case SetStage():
                self._evidence.registry_is_behind = True

    def _start_smoke_tests(self, slot: Slot, package: PackageRef) -> None:
        """Those that have no verdict and are not under way."""
        edges = self.database.read_edges(self._clock())
        for name, run in (("smoke", run_smoke_tests), ("batch_parity", run_parity_check)):
            verdict = self._evidence.smoke.get(name)
            if name not in self._evidence.running and (verdict is None or verdict.verdict is Verdict.UNKNOWN):
                self._evidence.running[name] = run.submit(package, slot, edges)

    def _collect(self) -> None:
        """Take the results of effects that have ended."""
        running = self._evidence.running
        for name, future in list(running.items()):
            if not future.state.is_final():
                continue
            del running[name]
            try:
                self._keep(name, future.result())
            except Exception as error:  # noqa: BLE001 - whatever an effect died of, the release has to come to an end
                self._keep_failure(name, error)

    def _keep(self, name: str, result: Any) -> None:
        if name == "package":
            self._evidence.package = result
        elif name in SMOKE_GATES:
            self._evidence.smoke[name] = result

    def _keep_failure(self, name: str, error: Exception) -> None:
        if name == "package":
            self._evidence.package_failure = str(error) or type(error).__name__
        else:
            get_run_logger().warning("%s: %s", name, error)

    def _log(self, release: Release) -> None:
        gates = "; ".join(gate.sentence for gate in self._evidence.gates)
        reason = f": {release.reason}" if release.reason else ""
        get_run_logger().info("%s, candidate's share %s %%%s %s", release.phase.value, release.split, reason, gates)

    @property
    def gates(self) -> tuple[Gate, ...]:
        """All verdicts so far, smoke tests included."""
        return (*self._evidence.smoke.values(), *self._evidence.gates)

    def close(self, model: str) -> None:
        """Wait for the last effects, the registry's last view among them, and close the connections."""
        try:
            if self._watch:
                self._watch.close()
            self._wait_for_effects()
            self._tell_registry(model)
            self._wait_for_effects()
        finally:
            if self._probe:
                self._probe.close()
            self.database.close()

    def _wait_for_effects(self) -> None:
        for name, future in self._evidence.running.items():
            try:
                future.result(timeout=30)
            except (HotcoldError, TimeoutError) as error:
                get_run_logger().warning("%s: %s; it is repeated on schedule", name, error)
        self._evidence.running.clear()
