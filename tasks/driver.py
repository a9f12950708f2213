"""Drives a release: observe, advance, write, do. The state is in the database; a driver that dies leaves nothing behind."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from prefect import get_run_logger
from prefect.futures import PrefectFuture

from hotcold.adapters.release_database import Decision, ReleaseDatabase
from hotcold.domain.errors import DatabaseError, HotcoldError, StaleControllerError
from hotcold.domain.gate import Gate, Verdict
from hotcold.domain.instructions import Instruction, Package, PublishScores, RetractScores, SetStage, Smoke
from hotcold.domain.package import PackageRef
from hotcold.domain.plan import Plan
from hotcold.domain.release import FINAL, SMOKE_GATES, Observation, Phase, Release, advance
from hotcold.domain.release_state import is_for_people, is_news
from hotcold.domain.serving import Slot
from hotcold.rollback import confirmed_mirror, confirmed_share
from hotcold.settings import Settings
from tasks.approval import Question
from tasks.context import controller_name, open_database
from tasks.live_evidence import LiveEvidence
from tasks.notices import tell_people
from tasks.packaging import package_version
from tasks.parity import run_parity_check
from tasks.registry import project_to_registry
from tasks.score_requests import start_requested_scores
from tasks.smoke import run_smoke_tests

TICK_S = 0.2
# The story of a release tells of changed verdicts this often at most.
_STORY_S = 2.0
# After a question was answered or failed, the next one waits so long: Prefect may be away, and answers have to be obeyed first.
_ASK_AGAIN_S = 3.0
Verdicts = tuple[tuple[str, Verdict], ...]
_DATABASE_PATIENCE_S = 120.0
# How long somebody else who has taken a release over may need to bring it to its end.
_TAKEN_OVER_S = 15.0


@dataclass
class _Evidence:
    """What this driver has gathered; a new driver gathers it again."""

    package: Any = None
    package_failure: str = ""
    smoke: dict[str, Gate] = field(default_factory=dict)
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
        self._live = LiveEvidence(settings, self.database, clock)
        self._question: Question | None = None
        self._withdrawn: Question | None = None
        self._ask_after_s = 0.0
        self._teller = ThreadPoolExecutor(1, "tell people")
        self._told: Verdicts = ()
        self._tell_after_s = 0.0

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
        decision = self.database.read_decision(release.id) if release.waiting and release.settled else None
        seen = self._observe(release, decision)
        after, instructions = advance(release, seen, self._clock())
        if decision or is_news(release, after) or self._gates_tell_news():
            gates = self._live.last.gates
            after = self.database.commit(release, after, instructions, self._owner, self._clock(), decision, gates)
            self._told = _verdicts(gates)
            self._log(after)
            if is_for_people(release, after):
                self._teller.submit(tell_people, self._settings, get_run_logger())
        else:
            self.database.renew(after, self._clock(), self._settings.controller_timeout_s)
        self._ask(after)
        for instruction in instructions:
            self._perform(after, instruction)
        self._tell_registry(after.model)
        return after

    def _gates_tell_news(self) -> bool:
        """Verdicts that changed belong to the story too, but not at every tick."""
        if _verdicts(self._live.last.gates) == self._told or time.monotonic() < self._tell_after_s:
            return False
        self._tell_after_s = time.monotonic() + _STORY_S
        return True

    def _ask(self, release: Release) -> None:
        """Ask a person while the release waits for one. Tasks cannot run meanwhile, so a question that is void is withdrawn."""
        if self._question and not (release.waiting and self._question.is_open):
            self._question.withdraw()
            self._withdrawn, self._question = self._question, None
            self._ask_after_s = time.monotonic() + _ASK_AGAIN_S
        if not release.waiting or self._question or time.monotonic() < self._ask_after_s:
            return
        if self.database.read_decision(release.id) is None:
            self._question = Question(self.database, release, self.gates)

    def _tell_registry(self, model: str) -> None:
        """One projection at a time, so that an older view never overwrites a newer one."""
        if self._evidence.registry_is_behind and "registry" not in self._evidence.running:
            self._evidence.registry_is_behind = False
            self._evidence.running["registry"] = project_to_registry.submit(model)

    def _observe(self, release: Release, decision: Decision | None) -> Observation:
        status = self.database.read_status(release.model, self._clock())
        evidence, live = self._evidence, self._live.look(release, status)
        return Observation(
            package=evidence.package,
            package_failure=evidence.package_failure,
            candidate=status.slot(release.slot) if status else None,
            champion=status.slot(release.slot.other) if status else None,
            edge_share=confirmed_share(status, release.slot),
            edge_mirror=confirmed_mirror(status),
            smoke=tuple(evidence.smoke.values()),
            gates=live.gates,
            pairs=live.pairs,
            requests=live.requests,
            command=decision.command if decision else None,
            command_reason=f"{decision.reason} ({decision.actor})" if decision else "",
        )

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
        gates = "; ".join(gate.sentence for gate in self._live.last.gates)
        reason = f": {release.reason}" if release.reason else ""
        get_run_logger().info("%s, candidate's share %s %%%s %s", release.phase.value, release.split, reason, gates)

    @property
    def gates(self) -> tuple[Gate, ...]:
        """All verdicts so far, smoke tests included."""
        return (*self._evidence.smoke.values(), *self._live.last.gates)

    def close(self, model: str) -> None:
        """Wait for the last effects, the registry's last view among them, and close the connections."""
        try:
            for question in filter(None, (self._question, self._withdrawn)):
                question.withdraw()
                question.close()
            self._live.close()
            self._teller.shutdown()
            self._wait_for_effects()
            self._tell_registry(model)
            self._wait_for_effects()
        finally:
            self.database.close()

    def _wait_for_effects(self) -> None:
        for name, future in self._evidence.running.items():
            try:
                future.result(timeout=30)
            except (HotcoldError, TimeoutError) as error:
                get_run_logger().warning("%s: %s; it is repeated on schedule", name, error)
        self._evidence.running.clear()


def _verdicts(gates: Sequence[Gate]) -> Verdicts:
    return tuple((gate.name, gate.verdict) for gate in gates)
