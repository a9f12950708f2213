"""Which replicas are started, drained and stopped, and which split the edge may be given."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotcold.domain.edge import Endpoint
from hotcold.domain.package import PackageRef
from hotcold.domain.placement import (
    Action,
    Drain,
    Replica,
    ReplicaState,
    SlotView,
    Start,
    Stop,
    allowed_mirror,
    allowed_split,
    backoff_s,
    reconcile,
)
from hotcold.domain.serving import ModelPlan, Route, Slot, SlotPlan

STARTING, READY, DRAINING = ReplicaState
OLD, NEW = "a" * 64, "b" * 64
NOW_S, DRAIN_S = 100.0, 5.0
IDLE = SlotView(share_pct=0, failure="", start_after_s=0.0, known_to_edge=frozenset(), drain_s=DRAIN_S)
BUSY = replace(IDLE, share_pct=100)
UNKNOWN = replace(IDLE, share_pct=None)
COPIED = replace(IDLE, is_copied_to=True)


def wanting(replicas: int, digest: str = NEW) -> SlotPlan:
    return SlotPlan(PackageRef("m", 2, "1.0.1", digest), replicas)


def address(number: int) -> Endpoint:
    return Endpoint("127.0.0.1", 4000 + number)


def replica(number: int, digest: str = NEW, state: ReplicaState = READY, since_s: float = 0.0) -> Replica:
    return Replica(f"r{number}", digest, address(number), state, since_s)


CASES: dict[str, tuple[SlotPlan, list[Replica], SlotView, tuple[Action, ...]]] = {
    "an empty slot gets what is wanted": (wanting(2), [], IDLE, (Start(2),)),
    "a slot that lacks one gets one": (wanting(2), [replica(1)], IDLE, (Start(1),)),
    "one that is starting counts": (wanting(2), [replica(1), replica(2, state=STARTING)], IDLE, ()),
    "one that drains does not count": (wanting(1), [replica(1, state=DRAINING, since_s=NOW_S)], IDLE, (Stop("r1"), Start(1))),
    "a slot with traffic gets back what it lost": (wanting(2), [replica(1)], BUSY, (Start(1),)),
    "an empty plan and an empty slot": (SlotPlan(), [], IDLE, ()),
    "a package without traffic is replaced": (wanting(1), [replica(1, OLD)], IDLE, (Drain("r1"), Start(1))),
    "a package with traffic stays": (wanting(1), [replica(1, OLD)], BUSY, ()),
    "a package that gets copies stays": (wanting(1), [replica(1, OLD)], COPIED, ()),
    "a slot that is retired with copies stays": (wanting(0), [replica(1)], COPIED, ()),
    "a package whose traffic is not known stays": (wanting(1), [replica(1, OLD)], UNKNOWN, ()),
    "a slot that is retired without traffic is emptied": (wanting(0), [replica(1)], IDLE, (Drain("r1"),)),
    "a slot without a package and without traffic is emptied": (SlotPlan(), [replica(1, OLD)], IDLE, (Drain("r1"),)),
    "a slot that is retired with traffic stays": (wanting(0), [replica(1)], BUSY, ()),
    "a slot that is retired and whose traffic is not known stays": (wanting(0), [replica(1)], UNKNOWN, ()),
    "a package that failed is drained": (wanting(1), [replica(1)], replace(IDLE, failure="damaged"), (Drain("r1"),)),
    "a package that failed under traffic stays": (wanting(1), [replica(1)], replace(BUSY, failure="damaged"), ()),
    "a package that failed is not started": (wanting(1), [], replace(IDLE, failure="damaged"), ()),
    "nothing starts before its time": (wanting(1), [], replace(IDLE, start_after_s=NOW_S + 0.1), ()),
    "it starts at its time": (wanting(1), [], replace(IDLE, start_after_s=NOW_S), (Start(1),)),
    "of too many the youngest goes, under traffic too": (
        wanting(1),
        [replica(1, since_s=1.0), replica(2, since_s=2.0)],
        BUSY,
        (Drain("r2"),),
    ),
    "of too many one that is not ready goes first": (
        wanting(1),
        [replica(1, state=STARTING, since_s=1.0), replica(2, since_s=2.0)],
        BUSY,
        (Drain("r1"),),
    ),
    "one that the edge still has is not stopped": (
        wanting(0),
        [replica(1, state=DRAINING, since_s=NOW_S - DRAIN_S + 0.1)],
        replace(IDLE, known_to_edge=frozenset({address(1)})),
        (),
    ),
    "one that the edge has for too long is stopped": (
        wanting(0),
        [replica(1, state=DRAINING, since_s=NOW_S - DRAIN_S)],
        replace(IDLE, known_to_edge=frozenset({address(1)})),
        (Stop("r1"),),
    ),
    "one that the edge let go of is stopped, under traffic and beside another package too": (
        wanting(1),
        [replica(1, OLD, DRAINING, NOW_S), replica(2, OLD)],
        BUSY,
        (Stop("r1"),),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_slot_is_brought_closer_to_what_is_desired(case: str) -> None:
    plan, replicas, view, expected = CASES[case]
    assert expected == reconcile(plan, replicas, view, NOW_S)


times = st.floats(0.0, NOW_S)
plans = st.one_of(st.just(SlotPlan()), st.builds(wanting, st.integers(0, 4), st.sampled_from([OLD, NEW])))


@st.composite
def slots(draw: st.DrawFn) -> list[Replica]:
    digests, states = st.sampled_from([OLD, NEW]), st.sampled_from(ReplicaState)
    return [replica(number, draw(digests), draw(states), draw(times)) for number in range(draw(st.integers(0, 6)))]


views = st.builds(
    SlotView,
    share_pct=st.one_of(st.none(), st.sampled_from([0, 1, 50, 100])),
    failure=st.sampled_from(["", "", "damaged"]),
    start_after_s=st.floats(0.0, 2 * NOW_S),
    known_to_edge=st.frozensets(st.integers(0, 6).map(address)),
    drain_s=st.floats(0.0, NOW_S),
)


def digest_of(plan: SlotPlan) -> str:
    return plan.package.digest if plan.package else ""


@given(plans, slots(), views)
def test_a_slot_with_traffic_or_an_unknown_share_keeps_its_package(
    plan: SlotPlan, replicas: list[Replica], view: SlotView
) -> None:
    drained = {action.id for action in reconcile(plan, replicas, view, NOW_S) if isinstance(action, Drain)}
    others = {found.id for found in replicas if found.digest != digest_of(plan) and found.state is not DRAINING}
    if view.share_pct == 0:
        assert others <= drained
    else:
        assert not drained & others
        # And nothing is taken from it for the sake of a package that it does not want, or cannot have.
        if not plan.package or not plan.replicas or view.failure:
            assert not drained


@given(plans, slots(), views)
def test_a_start_is_never_of_a_package_that_failed_nor_before_its_time(
    plan: SlotPlan, replicas: list[Replica], view: SlotView
) -> None:
    started = [action for action in reconcile(plan, replicas, view, NOW_S) if isinstance(action, Start)]
    if not plan.package or view.failure or view.start_after_s > NOW_S:
        assert [] == started
    for start in started:
        living = [found for found in replicas if found.digest == digest_of(plan) and found.state is not DRAINING]
        assert start.count == plan.replicas - len(living) > 0


@given(plans, slots(), views)
def test_exactly_the_draining_replicas_that_the_edge_let_go_of_or_that_took_too_long_are_stopped(
    plan: SlotPlan, replicas: list[Replica], view: SlotView
) -> None:
    stopped = [action.id for action in reconcile(plan, replicas, view, NOW_S) if isinstance(action, Stop)]
    draining = [found for found in replicas if found.state is DRAINING]
    let_go = {found.id for found in draining if found.endpoint not in view.known_to_edge}
    late = {found.id for found in draining if NOW_S - found.since_s >= view.drain_s}
    assert Counter(let_go | late) == Counter(stopped)


@given(plans, slots(), views)
def test_no_replica_is_told_two_things_and_never_fewer_than_wanted_remain(
    plan: SlotPlan, replicas: list[Replica], view: SlotView
) -> None:
    actions = reconcile(plan, replicas, view, NOW_S)
    named = [action.id for action in actions if not isinstance(action, Start)]
    assert len(named) == len(set(named))
    assert set(named) <= {found.id for found in replicas}
    living = [found for found in replicas if found.digest == digest_of(plan) and found.state is not DRAINING]
    kept = [found for found in living if found.id not in named]
    wanted = 0 if view.failure or not plan.package else plan.replicas
    assert len(kept) >= min(len(living), wanted)
    assert not (any(isinstance(action, Start) for action in actions) and len(kept) < len(living))


@dataclass
class World:
    """One slot: replicas that need ticks to be ready, and an edge that needs ticks to let go."""

    replicas: list[Replica]
    share_pct: int | None
    lag: int
    now_s: float = NOW_S
    began: int = 100
    edge: set[Endpoint] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.edge |= {found.endpoint for found in self.replicas if found.state is not STARTING}

    def tick(self, plan: SlotPlan) -> tuple[Action, ...]:
        view = SlotView(self.share_pct, "", 0.0, frozenset(self.edge), DRAIN_S)
        actions = reconcile(plan, self.replicas, view, self.now_s)
        for action in actions:
            self._perform(action, digest_of(plan))
        self.now_s += 1.0
        self.replicas = [self._age(found) for found in self.replicas]
        serving = {found.endpoint for found in self.replicas if found.state is READY}
        draining = {
            found.endpoint for found in self.replicas if found.state is DRAINING and self.now_s - found.since_s <= self.lag
        }
        self.edge = serving | (self.edge & draining)
        return actions

    def _perform(self, action: Action, digest: str) -> None:
        match action:
            case Start(count):
                self.replicas += [replica(self.began + number, digest, STARTING, self.now_s) for number in range(count)]
                self.began += count
            case Drain(name):
                self.replicas = [
                    replace(found, state=DRAINING, since_s=self.now_s) if found.id == name else found for found in self.replicas
                ]
            case Stop(name):
                gone = next(found for found in self.replicas if found.id == name)
                assert gone.endpoint not in self.edge or self.now_s - gone.since_s >= DRAIN_S, "stopped under the edge"
                self.replicas.remove(gone)

    def _age(self, found: Replica) -> Replica:
        is_up = found.state is STARTING and self.now_s - found.since_s >= self.lag
        return replace(found, state=READY, since_s=self.now_s) if is_up else found

    def settle(self, plan: SlotPlan) -> None:
        """Tick for longer than anything takes; then nothing may move any more."""
        for _ in range(30):
            self.tick(plan)
        for _ in range(10):
            assert () == self.tick(plan), "the slot does not come to rest"


@given(plans, slots(), st.integers(0, 8))
def test_a_slot_without_traffic_comes_to_rest_with_exactly_what_is_wanted(
    plan: SlotPlan, replicas: list[Replica], lag: int
) -> None:
    world = World(replicas, 0, lag)
    world.settle(plan)
    assert [(digest_of(plan), READY)] * plan.replicas == [(found.digest, found.state) for found in world.replicas]


@given(slots(), st.sampled_from([None, 1, 100]), st.integers(0, 8), st.integers(1, 4))
def test_a_slot_with_traffic_is_filled_first_when_the_traffic_is_gone(
    replicas: list[Replica], share_pct: int | None, lag: int, count: int
) -> None:
    old = [found for found in replicas if found.digest == OLD and found.state is not DRAINING]
    world = World(replicas, share_pct, lag)
    world.settle(wanting(count))
    assert {found.id for found in old} <= {found.id for found in world.replicas}
    world.share_pct = 0
    world.settle(wanting(count))
    assert [(NEW, READY)] * count == [(found.digest, found.state) for found in world.replicas]


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 8))
def test_scaling_under_traffic_never_leaves_fewer_ready_than_before_and_after(before: int, after: int, lag: int) -> None:
    world = World([replica(number) for number in range(before)], 100, lag)
    for _ in range(30):
        world.tick(wanting(after))
        assert sum(found.state is READY for found in world.replicas) >= min(before, after)
    assert after == len(world.replicas)


def desired(green_pct: int | None) -> ModelPlan:
    return ModelPlan("m", Route(green_pct))


@pytest.mark.parametrize(
    ("wanted", "confirmed", "healthy", "expected"),
    [
        (0, None, "blue", 0),
        (0, None, "green", None),
        (0, None, "", None),
        (10, 0, "blue green", 10),
        (10, 0, "green", 10),
        (10, 0, "blue", 0),
        (100, 0, "green", 100),
        (100, 0, "blue", 0),
        # Taking traffic away from a dead candidate asks for the champion's health only.
        (0, 100, "blue", 0),
        (0, 100, "green", 100),
        (0, 100, "", 100),
        (50, 50, "", 50),
        (None, 50, "blue green", None),
        (None, None, "", None),
        (30, None, "blue", None),
        (30, None, "blue green", 30),
    ],
)
def test_the_edge_gets_the_desired_split_once_the_slots_that_gain_can_take_it(
    wanted: int | None, confirmed: int | None, healthy: str, expected: int | None
) -> None:
    assert expected == allowed_split(desired(wanted), confirmed, {slot: slot.value in healthy.split() for slot in Slot})


shares = st.one_of(st.none(), st.integers(0, 100))


@given(shares, shares, st.booleans(), st.booleans())
def test_a_slot_that_is_not_healthy_never_gains_and_the_split_is_the_desired_or_the_old_one(
    wanted: int | None, confirmed: int | None, blue: bool, green: bool
) -> None:
    healthy = {Slot.BLUE: blue, Slot.GREEN: green}
    allowed = allowed_split(desired(wanted), confirmed, healthy)
    assert allowed in (wanted, confirmed)
    for slot in Slot:
        if not healthy[slot]:
            assert Route(allowed).share(slot) <= Route(confirmed).share(slot)
    if blue and green:
        assert wanted == allowed


def mirroring(mirror_pct: float, champion: Slot | None = Slot.BLUE, green_pct: int | None = 0) -> ModelPlan:
    return ModelPlan("m", Route(green_pct, champion, mirror_pct=mirror_pct))


@pytest.mark.parametrize(
    ("plan", "green_pct", "healthy", "expected"),
    [
        (mirroring(10.0), 0, "blue green", 10.0),
        (mirroring(10.0), 0, "green", 10.0),
        (mirroring(10.0), 0, "blue", 0.0),
        (mirroring(10.0, Slot.GREEN, 100), 100, "blue", 10.0),
        (mirroring(10.0, Slot.GREEN, 100), 100, "green", 0.0),
        (mirroring(0.0), 0, "blue green", 0.0),
        # What is in force counts: while the slot still answers requests, it gets no copies.
        (mirroring(10.0), 5, "blue green", 0.0),
        (mirroring(10.0), None, "blue green", 0.0),
        (mirroring(10.0, None), 0, "blue green", 0.0),
        # A row that no plan of ours has written must not stop the node.
        (mirroring(0.00001), 0, "blue green", 0.0),
        (mirroring(101.0), 0, "blue green", 0.0),
    ],
)
def test_requests_are_copied_only_where_somebody_is_there_to_take_the_copies(
    plan: ModelPlan, green_pct: int | None, healthy: str, expected: float
) -> None:
    assert expected == allowed_mirror(plan, green_pct, {slot: slot.value in healthy.split() for slot in Slot})


@given(slots(), plans)
def test_a_slot_that_gets_copies_keeps_its_replicas_whatever_is_desired(replicas: list[Replica], plan: SlotPlan) -> None:
    view = SlotView(0, "", 0.0, frozenset(found.endpoint for found in replicas), DRAIN_S, is_copied_to=True)
    actions = reconcile(plan, replicas, view, NOW_S)
    drained = {action.id for action in actions if isinstance(action, Drain)}
    stale = {found.id for found in replicas if found.digest != digest_of(plan)}
    assert not drained & stale
    assert not drained or plan.replicas, "nor is it emptied"


@pytest.mark.parametrize(
    ("crashes", "expected"), [(0, 0.0), (1, 0.5), (2, 1.0), (3, 2.0), (5, 8.0), (6, 15.0), (7, 15.0), (1000, 15.0)]
)
def test_the_pause_doubles_with_each_crash_up_to_15_seconds(crashes: int, expected: float) -> None:
    assert expected == backoff_s(crashes)


@pytest.mark.parametrize("crashes", [1_025, 1_026, 1_000_000])
def test_the_pause_stays_at_15_seconds_however_often_a_replica_dies(crashes: int) -> None:
    assert 15.0 == backoff_s(crashes)
