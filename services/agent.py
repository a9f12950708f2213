"""The node agent: `python -m services.agent`. Makes the desired state so on this node, and writes what it observes."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from hotcold.adapters.plan_memory import PlanMemory
from hotcold.domain.edge import EdgeModel, Endpoint, refuse_name
from hotcold.domain.errors import DatabaseError
from hotcold.domain.placement import (
    Drain,
    Replica,
    ReplicaState,
    SlotView,
    Start,
    Stop,
    allowed_mirror,
    allowed_split,
    reconcile,
)
from hotcold.domain.serving import ModelPlan, ModelStatus, RouteStatus, Slot, SlotStatus
from hotcold.settings import Settings
from services.edge_control import EdgeControl
from services.replicas import ReplicaPool, SlotHistory, SlotKey

_LOG = logging.getLogger("hotcold.agent")
_HEARTBEAT_S = 1.0
_JUDGE_FIRST_S = 15.0


class PlanSource(Protocol):
    """The part of the release database that an agent needs."""

    def prepare(self) -> None:
        """Create what is missing."""
        ...

    def read_plans(self) -> tuple[ModelPlan, ...]:
        """Desired state of every model."""
        ...

    def write_status(
        self,
        node: str,
        statuses: Sequence[ModelStatus],
        now: float,
        edge_url: str = "",
        counted_at: float | None = None,
    ) -> None:
        """Say what this node observed."""
        ...


class Counting(Protocol):
    """Adds up what the edge counts, beside this loop."""

    @property
    def counted_at(self) -> float | None:
        """When it last did, seconds since the epoch; None: never."""
        ...


class Guard(Protocol):
    """Looks after releases whose controller is gone."""

    def tick(self, statuses: Sequence[ModelStatus]) -> None:
        """Look at the releases under way."""
        ...


class Agent:
    """One node's loop. Nothing here decides about releases: that is in the plans and, for emergencies, in the guard.

    Args:
        settings: of this installation.
        edge_url: where this node's edge takes requests.
        source: desired state in, observed state out.
        pool: the node's replicas.
        edge: the node's Envoy.
        guard: looks after releases without a controller.
        counting: tells how fresh the counts of requests at the edge are.
        memory: the last plan, for the time in which the release database is away or has lost it.
        clock: seconds since the epoch.
        monotonic: seconds on a clock that does not jump.
    """

    def __init__(
        self,
        settings: Settings,
        edge_url: str,
        source: PlanSource,
        pool: ReplicaPool,
        edge: EdgeControl,
        guard: Guard,
        counting: Counting,
        memory: PlanMemory,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._edge_url = edge_url
        self._source = source
        self._pool = pool
        self._edge = edge
        self._guard = guard
        self._counting = counting
        self._memory = memory
        self._clock = clock
        self._monotonic = monotonic
        # What the database says wins over what is remembered, also where it was restored from a backup with lower epochs.
        self._plans = {plan.model: replace(plan, route=replace(plan.route, epoch=0)) for plan in memory.read()}
        self._has_plans = bool(self._plans)
        self._is_prepared = False
        self._generations: dict[str, int] = {}
        self._written: tuple[ModelStatus, ...] | None = None
        self._write_after_s = 0.0
        self._said: set[str] = set()

    def run(self, stopped: threading.Event) -> None:
        """Tick until told to stop. Replicas and Envoy go on without an agent."""
        while not stopped.is_set():
            began_s = self._monotonic()
            self.tick()
            stopped.wait(max(self._settings.agent_interval_s - (self._monotonic() - began_s), 0.0))

    def tick(self) -> None:
        """Look, compare, act, report; each part goes on with what it knows where another cannot be reached."""
        self._read_plans()
        self._edge.look()
        self._pool.poll()
        if not self._has_plans:
            # Without a plan ever read nothing is torn down: what runs, runs on.
            return
        for plan in self._served():
            for slot in Slot:
                self._reconcile(plan, slot)
        self._route()
        statuses = tuple(self._observe(plan) for plan in self._plans.values())
        self._report(statuses)
        self._watch(statuses)

    def _read_plans(self) -> None:
        try:
            if not self._is_prepared:
                self._source.prepare()
                self._is_prepared = True
            plans = self._source.read_plans()
        except DatabaseError as error:
            self._say("the release database is away; going on with the last plan", reason=str(error))
            return
        self._unsay("the release database is away; going on with the last plan", "the release database is back")
        self._has_plans = True
        for plan in plans:
            self._take(plan)
        for model in self._plans.keys() - {plan.model for plan in plans}:
            self._say(f"the release database does not know {model}; it is kept as it was", file=str(self._memory.path))
        self._memory.write(tuple(self._plans.values()))

    def _take(self, plan: ModelPlan) -> None:
        known = self._plans.get(plan.model)
        if known and plan.route.epoch < known.route.epoch:
            self._say(f"plan of a replaced controller of {plan.model} ignored", epoch=plan.route.epoch)
            return
        self._plans[plan.model] = plan
        if reason := refuse_name(plan.model):
            self._say(f"{plan.model} cannot be served", reason=reason)

    def _served(self) -> tuple[ModelPlan, ...]:
        """Plans of the models that the edge can take; a name that it cannot take must not stop the others."""
        return tuple(plan for plan in self._plans.values() if not refuse_name(plan.model))

    def _say(self, trouble: str, **more: object) -> None:
        """Log a trouble once, not at each tick."""
        if trouble not in self._said:
            self._said.add(trouble)
            _LOG.error(trouble, extra=more)

    def _unsay(self, trouble: str, relief: str) -> None:
        if trouble in self._said:
            self._said.remove(trouble)
            _LOG.info(relief)

    def _reconcile(self, plan: ModelPlan, slot: Slot) -> None:
        key: SlotKey = (plan.model, slot)
        desired = plan.slot(slot)
        history = self._pool.history(key, desired.package.digest if desired.package else "")
        routed = self._edge.routed(plan.model)
        view = SlotView(
            share_pct=RouteStatus(routed, confirmed=self._edge.confirmed).share(slot),
            failure=history.failure,
            start_after_s=_start_after_s(plan, slot, history),
            known_to_edge=self._edge.hosts(plan.model, slot),
            drain_s=self._settings.drain_s,
            is_copied_to=self._edge.mirrored(plan.model, slot) > 0,
        )
        for action in reconcile(desired, self._pool.replicas(key), view, self._monotonic()):
            match action:
                case Start(count) if desired.package:
                    self._pool.start(key, desired.package, count)
                case Drain(replica_id):
                    self._pool.drain(replica_id)
                case Stop(replica_id):
                    self._pool.stop(replica_id)
        # After the starts, since that is what takes most; and before the route, so that nobody is answered by one that yields.
        self._pool.let_yield(key, plan.route.share(slot) == 0 and view.share_pct == 0)

    def _route(self) -> None:
        self._edge.apply(tuple(self._edge_model(plan) for plan in sorted(self._served(), key=lambda plan: plan.model)))

    def _edge_model(self, plan: ModelPlan) -> EdgeModel:
        """What the edge may be given of a plan now."""
        healthy = {slot: bool(self._serving(plan, slot)) for slot in Slot}
        green_pct = allowed_split(plan, self._edge.routed(plan.model), healthy)
        return EdgeModel(
            model=plan.model,
            green_pct=green_pct,
            blue=self._ready(plan.model, Slot.BLUE),
            green=self._ready(plan.model, Slot.GREEN),
            champion=plan.route.champion,
            mirror_pct=allowed_mirror(plan, green_pct, healthy),
        )

    def _ready(self, model: str, slot: Slot) -> tuple[Endpoint, ...]:
        replicas = self._pool.replicas((model, slot))
        return tuple(sorted(replica.endpoint for replica in replicas if replica.state is ReplicaState.READY))

    def _serving(self, plan: ModelPlan, slot: Slot) -> tuple[Replica, ...]:
        """Replicas of the slot's desired package that are ready and, where Envoy answers, healthy in its eyes."""
        package = plan.slot(slot).package
        ready = [
            replica
            for replica in self._pool.replicas((plan.model, slot))
            if package and replica.digest == package.digest and replica.state is ReplicaState.READY
        ]
        if self._edge.view is None:
            return tuple(ready)
        healthy = self._edge.healthy(plan.model, slot)
        return tuple(replica for replica in ready if replica.endpoint in healthy)

    def _observe(self, plan: ModelPlan) -> ModelStatus:
        routed = self._edge.routed(plan.model)
        mirrored = max(self._edge.mirrored(plan.model, slot) for slot in Slot)
        if self._edge.confirmed and (routed, mirrored) == (plan.route.green_pct, plan.route.mirror_pct):
            self._generations[plan.model] = plan.route.generation
        route = RouteStatus(routed, self._generations.get(plan.model, 0), self._edge.confirmed, mirrored)
        return ModelStatus(plan.model, route, self._slot_status(plan, Slot.BLUE), self._slot_status(plan, Slot.GREEN))

    def _slot_status(self, plan: ModelPlan, slot: Slot) -> SlotStatus:
        desired = plan.slot(slot)
        if desired.package is None:
            return SlotStatus()
        history = self._pool.history((plan.model, slot), desired.package.digest)
        return SlotStatus(
            digest=desired.package.digest,
            ready=len(self._serving(plan, slot)),
            wanted=desired.replicas,
            failure=history.failure or refuse_name(plan.model),
            restarts=history.restarts,
        )

    def _report(self, statuses: tuple[ModelStatus, ...]) -> None:
        now_s = self._monotonic()
        mute = "the release database takes no status; trying each second"
        # While it takes none, each try may wait for a lock: not at every tick.
        if now_s < self._write_after_s and (statuses == self._written or mute in self._said):
            return
        self._write_after_s = now_s + _HEARTBEAT_S
        try:
            self._source.write_status(self._settings.node, statuses, self._clock(), self._edge_url, self._counting.counted_at)
        except DatabaseError as error:
            self._say(mute, reason=str(error))
            return
        self._written = statuses
        self._unsay(mute, "the release database takes the status again")

    def _watch(self, statuses: tuple[ModelStatus, ...]) -> None:
        trouble = "releases without a controller cannot be looked after while the release database is away"
        try:
            self._guard.tick(statuses)
        except DatabaseError as error:
            self._say(trouble, reason=str(error))
            return
        self._unsay(trouble, "releases are looked after again")


def _start_after_s(plan: ModelPlan, slot: Slot, history: SlotHistory) -> float:
    """When the next replica of a slot may be started, monotonic.

    Of a candidate under copies, nobody waits for one, a death is a finding, and a start takes a core from the champion for
    seconds: whoever judges it comes first.
    """
    if history.died_at_s is None or not plan.route.copied(slot):
        return history.start_after_s
    return max(history.start_after_s, history.died_at_s + _JUDGE_FIRST_S)


def main() -> None:
    """Run the agent of this node until SIGTERM."""
    from hotcold.adapters.envoy import EdgeFiles, EnvoyAdmin
    from hotcold.adapters.locks import hold_node
    from hotcold.adapters.release_database import ReleaseDatabase
    from hotcold.adapters.stack_record import read_stack
    from hotcold.adapters.structured_log import log_as_json
    from services.counting import start_edge_counting
    from services.score_control import start_score_control
    from services.watchdog import Watchdog

    log_as_json()
    settings = Settings()
    record = read_stack(settings)
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    signal.signal(signal.SIGINT, lambda *_: stopped.set())
    with hold_node(settings):
        database = ReleaseDatabase(settings.release_database_url)
        files = EdgeFiles(settings.edge_dir)
        pool = ReplicaPool(settings)
        pool.adopt(files.read_endpoints)
        edge = EdgeControl(files, EnvoyAdmin(record.admin_port))
        guard = Watchdog(database, settings.node, settings.controller_timeout_s)
        memory = PlanMemory(settings.run_dir / "plans.json")
        start_score_control(settings, stopped)
        counting = start_edge_counting(settings, record.admin_port, stopped)
        Agent(settings, record.edge_url, database, pool, edge, guard, counting, memory).run(stopped)


if __name__ == "__main__":
    main()
