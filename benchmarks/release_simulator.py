"""Whole canary releases in simulated time: the state machine, counts and gates are the real ones, all around them is drawn.

One seed is one release: its consumers, what goes wrong around it, and how long everything takes. Drivers are killed and taken
over, or are away for a while and come back with what they knew; the agent's watchdog holds what nobody drives. Time goes in
whole seconds: one at a time while something is under way, five where nothing but evidence is waited for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from benchmarks.release_evidence import Evidence
from benchmarks.release_faults import Edge, Faults, draw_faults
from benchmarks.release_history import TIMEOUT_S, Event, History, broken_history
from benchmarks.release_traffic import IDENTICAL, Candidate, Consumers
from hotcold.domain.canary.plan import CanaryPlan
from hotcold.domain.gate import Gate, Verdict
from hotcold.domain.instructions import Deploy, Instruction, SetSplit
from hotcold.domain.package import PackageRef
from hotcold.domain.plan import Plan
from hotcold.domain.release import EXPOSED, FINAL, SMOKE_GATES, Command, Observation, Phase, Release, advance, guard
from hotcold.domain.serving import Slot, SlotStatus
from hotcold.domain.smoke import judge_health

# The gates of the defaults need minutes at 5 % anyway; after that, a minute at each share has as much traffic as a release may
# be judged on, and a thousand releases take less than a minute to simulate.
PLAN = Plan("canary", bake_s=10.0, canary=CanaryPlan(step_min_s=60.0, step_max_s=1800.0, answer_s=120.0))
REQUESTS_PER_S, ERROR_RATE = 50.0, 0.005
_OLD, _NEW = PackageRef("m", 1, "1.0.0", "a" * 64), PackageRef("m", 2, "1.1.0", "b" * 64)
_SMOKE = tuple(Gate(name, Verdict.SAFE) for name in SMOKE_GATES)
_PROBE = Gate("edge_probe", Verdict.SAFE)
_LONG_TICK_S, _RESUMED_EACH_S, _ANSWERED_AFTER_S, _END_S = 5, 60, 20, 20_000
# What is broken for everybody shows in the first looks; after these, fewer are enough, and each costs milliseconds.
_FIRST_LOOKS, _LOOK_EACH_S, _LATER_EACH_S = 12, 5, 15


@dataclass(frozen=True)
class Story:
    """How one simulated release went.

    Args:
        kind: of the candidate.
        first_pct: its share in the first step.
        phase: in which it ended.
        reason: why.
        calm: nothing went wrong around it.
        requests: of all consumers, from the start of the release to its end.
        wrong: of these, answers of the candidate that failed, came too late, or were by a model in wrong units.
        lasted_s: simulated seconds.
        steps: advanced by drivers and by the watchdog.
        looks: at the evidence.
        refused: writes of stale controllers.
        taken_over: drivers after the first one.
        broken: rules that were broken, a sentence each.
    """

    kind: str
    first_pct: int
    phase: Phase
    reason: str
    calm: bool
    requests: int
    wrong: int
    lasted_s: float
    steps: int
    looks: int
    refused: int
    taken_over: int
    broken: tuple[str, ...]


@dataclass
class _Driver:
    """A controller, with what it believes the state is."""

    name: str
    release: Release
    command: Command | None = None
    restarts_before: int = 0


def simulate(seed: int, candidate: Candidate = IDENTICAL, plan: Plan = PLAN, fenced: bool = True) -> Story:
    """Simulate one release to its end.

    Args:
        seed: of everything that is drawn.
        candidate: how the version differs from the champion.
        plan: by which it is released; a canary that begins without copies.
        fenced: stale controllers are refused. False breaks the rules, to see whether that is found.
    """
    return _Simulation(np.random.default_rng(seed), candidate, plan, History(fenced)).run(candidate.kind)


class _Simulation:
    def __init__(self, random: Generator, candidate: Candidate, plan: Plan, history: History) -> None:
        self._random, self._history = random, history
        self._faults: Faults = draw_faults(random)
        self._edge = Edge(random, self._faults)
        self._consumers = Consumers(random, candidate, REQUESTS_PER_S, ERROR_RATE, plan.latency_budget_ms * 1000)
        self._evidence = Evidence(plan)
        self._row = Release("r", "m", _NEW.version, plan, Slot.GREEN, _OLD, epoch=1, ticked_at=self._faults.clock(0))
        self._drivers = [_Driver("driver 1", self._row)]
        self._now = self._asked_until = self._sign_s = 0
        self._ready_s = self._steps = self._taken_over = self._restarts = 0
        self._waiting_since: int | None = None
        # What nodes report is a tick old.
        self._shown_share = 0
        self._look_s = 0
        # There, and back again.
        history.jumps = 2 * ("clock jumps" in self._faults.times)

    def run(self, kind: str) -> Story:
        while self._row.phase not in FINAL and self._now < _END_S:
            self._tick()
        row = self._row
        self._pass_time()
        broken = list(broken_history(self._history, self._edge.share))
        broken += [] if row.phase in FINAL else [f"the release never ended: {row.phase}, {row.reason}"]
        return Story(
            kind=kind,
            first_pct=row.plan.canary.share(1),
            phase=row.phase,
            reason=row.reason,
            calm=not self._faults.times,
            requests=self._consumers.requests,
            wrong=self._consumers.wrong,
            lasted_s=self._now,
            steps=self._steps,
            looks=self._evidence.looks,
            refused=self._history.refused,
            taken_over=self._taken_over,
            broken=tuple(broken),
        )

    def _tick(self) -> None:
        """Nodes report what was so at the tick before; then the world goes on, and whoever drives takes a step."""
        self._shown_share, before_s = self._edge.share, self._now
        self._now += self._next_tick_s()
        if self._edge.is_due(self._now):
            self._pass_time()
            self._edge.share = self._edge.desired
        self._suffer()
        if self._row.settled and self._row.phase in EXPOSED and self._now >= self._look_s:
            self._look_s = self._next_look_s()
            self._pass_time()
            self._evidence.look(self._now, not self._faults.on("metrics empty", self._now))
        sign = self._sign()
        for driver in list(self._drivers):
            if not self._faults.on("driver paused", self._now):
                self._drive(driver)
        if self._sign() != sign:
            self._sign_s = self._now
        self._watch(self._now - before_s)
        if self._now % _RESUMED_EACH_S == 0 and self._row.phase not in FINAL:
            self._take_over()

    def _next_look_s(self) -> int:
        return self._now + (_LOOK_EACH_S if self._evidence.looks < _FIRST_LOOKS else _LATER_EACH_S)

    def _next_tick_s(self) -> int:
        waits = self._row.phase is Phase.CANARY and self._row.settled and not self._edge.is_behind and not self._row.waiting
        return _LONG_TICK_S - self._now % _LONG_TICK_S if waits and self._now - self._sign_s < _LONG_TICK_S else 1

    def _pass_time(self) -> None:
        """Consumers have asked until now, all of the time under the same share."""
        since, share_pct = self._asked_until, self._edge.share
        self._asked_until = self._now
        if since == self._now:
            return
        if not share_pct:
            self._consumers.pass_by(self._now - since)
            return
        answers = self._consumers.ask(since, self._now, share_pct)
        if self._row.settled and self._row.split == share_pct:
            self._evidence.add(answers, self._now, not self._faults.on("metrics empty", self._now))

    def _suffer(self) -> None:
        """Deaths of the driver, and what a person wants whatever happens."""
        if self._faults.on("driver killed", self._now) and self._drivers and self._drivers[0].name == "driver 1":
            del self._drivers[0]
        if self._faults.on("undo", self._now) and self._row.phase in EXPOSED and "undo" not in self._row.reason:
            self._pass_time()
            before = replace(self._row, epoch=self._row.epoch + 1)
            self._row = before
            seen = Observation(command=Command.ROLL_BACK, command_reason="undo (a person)")
            after, asked = advance(before, seen, self._faults.clock(self._now))
            self._write(before, after, asked, seen, "person")

    def _drive(self, driver: _Driver) -> None:
        seen = self._observe(driver)
        before = driver.release
        after, asked = advance(before, seen, self._faults.clock(self._now))
        self._steps += 1
        refused = self._history.refused
        driver.release = self._write(before, after, asked, seen, driver.name)
        driver.command = None
        # One that was refused, or has brought the release to where no driver is needed, ends.
        if self._history.refused > refused or driver.release.phase in FINAL | {Phase.HELD}:
            self._drivers.remove(driver)

    def _write(self, before: Release, after: Release, asked: tuple[Instruction, ...], seen: Observation, actor: str) -> Release:
        if (after.split, after.settled) != (before.split, before.settled):
            # What came until now belongs to what was settled until now.
            self._pass_time()
        refused = self._history.refused
        by_person = seen.command is Command.APPROVE
        event = Event(self._now, actor, before, after, asked, self._edge.share, by_person)
        self._row = self._history.write(self._row, event, seen)
        if self._history.refused == refused:
            self._perform(before, after, asked)
        return self._row

    def _perform(self, before: Release, after: Release, asked: tuple[Instruction, ...]) -> None:
        for one in asked:
            if isinstance(one, SetSplit):
                self._edge.desire(one.share_pct, self._now)
            elif isinstance(one, Deploy):
                self._ready_s = self._now + int(self._random.integers(3, 15))
        if after.settled and not before.settled:
            self._evidence.begin_span()
            self._look_s = self._next_look_s()
        if not after.waiting:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = self._now

    def _observe(self, driver: _Driver) -> Observation:
        release = driver.release
        known = not self._faults.on("status unknown", self._now)
        slot = self._slot() if known else None
        live = release.phase in EXPOSED
        health = judge_health(slot, release.plan.replicas, driver.restarts_before)
        probe = (_PROBE,) if release.phase is Phase.BAKING else ()
        return Observation(
            package=_NEW,
            candidate=slot,
            champion=self._champion() if known else None,
            edge_share=self._shown_share if known else None,
            edge_mirror=0.0,
            smoke=_SMOKE if release.phase is Phase.SMOKE else (),
            gates=(health, *probe, *self._evidence.gates) if live else (),
            requests=self._evidence.requests if live else None,
            command=driver.command or self._answer(release),
            command_reason="a person" if driver.command or release.waiting else "",
        )

    def _slot(self) -> SlotStatus:
        if self._now < self._ready_s or not self._row.candidate:
            return SlotStatus(_NEW.digest, 0, 2)
        dead = 2 * self._faults.on("candidate dies", self._now) or int(self._faults.on("replica dies", self._now))
        self._restarts = max(self._restarts, dead)
        return SlotStatus(_NEW.digest, 2 - dead, 2, restarts=self._restarts)

    def _champion(self) -> SlotStatus:
        return SlotStatus(_OLD.digest, 0 if self._faults.on("champion dies", self._now) else 2, 2)

    def _answer(self, release: Release) -> Command | None:
        """People approve what the plan lets them approve, and take back what has no evidence."""
        if not release.waiting or self._waiting_since is None or self._now < self._waiting_since + _ANSWERED_AFTER_S:
            return None
        return Command.APPROVE if "needs an approval" in release.waiting else Command.ROLL_BACK

    def _sign(self) -> tuple[int, int, float]:
        return self._row.epoch, self._row.row_version, self._row.ticked_at

    def _watch(self, seconds: int) -> None:
        """The agent's watchdog, which needs no driver."""
        known = not self._faults.on("status unknown", self._now)
        champion = self._champion() if known else None
        silent_s = self._now - self._sign_s
        well = champion is not None and champion.ready > 0
        self._history.note_alone(seconds if silent_s else 0, self._edge.share, self._row, well)
        if silent_s < TIMEOUT_S or self._row.phase in FINAL:
            return
        share = self._shown_share if known else None
        after, asked = guard(self._row, champion, share, 0.0)
        self._steps += 1
        if after.phase is not self._row.phase:
            seen = Observation(champion=champion, edge_share=share, edge_mirror=0.0)
            self._write(self._row, after, asked, seen, "agent")

    def _take_over(self) -> None:
        """Each minute, what has no driver gets one; what is held is resumed by it."""
        if self._now - self._sign_s < TIMEOUT_S and self._row.phase is not Phase.HELD:
            return
        self._row = replace(self._row, epoch=self._row.epoch + 1)
        self._taken_over += 1
        self._sign_s = self._now
        command = Command.RESUME if self._row.phase is Phase.HELD else None
        self._drivers.append(_Driver(f"driver {self._taken_over + 1}", self._row, command, self._restarts))
        self._evidence.restart()
