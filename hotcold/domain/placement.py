"""Which replicas to start, drain and stop, and which split the edge may be given. Pure: the agent does what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from hotcold.domain.edge import Endpoint, refuse_mirror
from hotcold.domain.serving import ModelPlan, Slot, SlotPlan

_FIRST_BACKOFF_S = 0.5
_MAX_BACKOFF_S = 15.0


class ReplicaState(StrEnum):
    """Where a replica stands."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


@dataclass(frozen=True)
class Replica:
    """One process that serves a package.

    Args:
        id: unique name on this node.
        digest: package that it serves.
        endpoint: its address.
        state: where it stands.
        since_s: when it came to this state, on the agent's monotonic clock.
    """

    id: str
    digest: str
    endpoint: Endpoint
    state: ReplicaState
    since_s: float


@dataclass(frozen=True)
class Start:
    """Start replicas of the slot's desired package."""

    count: int


@dataclass(frozen=True)
class Drain:
    """Take a replica's address from the edge; it goes on answering what it has."""

    id: str


@dataclass(frozen=True)
class Stop:
    """End a replica: nothing can reach it any more."""

    id: str


Action = Start | Drain | Stop


@dataclass(frozen=True)
class SlotView:
    """What the agent knows of a slot besides its replicas.

    Args:
        share_pct: share that the edge confirmed; None if it is not known, which counts as traffic.
        failure: why the desired package can never be served here, empty if it may.
        start_after_s: no replica is started before this time, on the agent's monotonic clock.
        known_to_edge: addresses that the edge still has.
        drain_s: longest wait for a draining replica's requests, seconds.
        is_copied_to: requests are copied to the slot by the routes that the edge was given last.
    """

    share_pct: int | None
    failure: str
    start_after_s: float
    known_to_edge: frozenset[Endpoint]
    drain_s: float
    is_copied_to: bool = False

    @property
    def is_idle(self) -> bool:
        """The edge confirmed that the slot gets no request, neither to answer nor as a copy."""
        return self.share_pct == 0 and not self.is_copied_to


def reconcile(plan: SlotPlan, replicas: Sequence[Replica], view: SlotView, now_s: float) -> tuple[Action, ...]:
    """Bring a slot's replicas closer to what is desired.

    A slot that gets requests keeps its package, whatever is desired: its replicas are only replaced when the edge has confirmed
    that its share is 0 and that nothing is copied to it. A replica is stopped only after the edge has let go of its address.

    Args:
        plan: desired content of the slot.
        replicas: all its living replicas.
        view: what else is known.
        now_s: the agent's monotonic clock.
    """
    digest = plan.package.digest if plan.package else ""
    current = [replica for replica in replicas if replica.digest == digest and replica.state is not ReplicaState.DRAINING]
    stale = [replica for replica in replicas if replica.digest != digest and replica.state is not ReplicaState.DRAINING]
    actions: list[Action] = _finish_draining(replicas, view, now_s)
    if stale and not view.is_idle:
        return tuple(actions)
    actions += [Drain(replica.id) for replica in stale]
    wanted = 0 if view.failure or not plan.package else plan.replicas
    if len(current) < wanted and now_s >= view.start_after_s:
        actions.append(Start(wanted - len(current)))
    if view.is_idle or wanted:
        actions += [Drain(replica.id) for replica in _youngest_first(current)[: max(len(current) - wanted, 0)]]
    return tuple(actions)


def _finish_draining(replicas: Sequence[Replica], view: SlotView, now_s: float) -> list[Action]:
    draining = [replica for replica in replicas if replica.state is ReplicaState.DRAINING]
    return [
        Stop(replica.id)
        for replica in draining
        if replica.endpoint not in view.known_to_edge or now_s - replica.since_s >= view.drain_s
    ]


def _youngest_first(replicas: Sequence[Replica]) -> list[Replica]:
    return sorted(replicas, key=lambda replica: (replica.state is ReplicaState.READY, -replica.since_s))


def allowed_split(plan: ModelPlan, confirmed_green_pct: int | None, healthy: dict[Slot, bool]) -> int | None:
    """The split that the edge may be given now: the desired one, if each slot whose share rises can take it.

    Args:
        plan: desired state of the model.
        confirmed_green_pct: share of green in force, in percent; None: nothing is routed.
        healthy: whether a slot has a replica of its desired package that the edge takes for healthy.

    Returns:
        Share of green, in percent; None: nothing is to be routed.
    """
    wanted = plan.route.green_pct
    if wanted is None:
        return None
    for slot in Slot:
        share = plan.route.share(slot)
        before = 0 if confirmed_green_pct is None else _share(slot, confirmed_green_pct)
        if share > before and not healthy[slot]:
            return confirmed_green_pct
    return wanted


def allowed_mirror(plan: ModelPlan, green_pct: int | None, healthy: dict[Slot, bool]) -> float:
    """The share of requests that the edge may be told to copy now: the desired one, while somebody is there to take the copies.

    Args:
        plan: desired state of the model.
        green_pct: share of green that the edge is given with it, in percent; None: nothing is routed.
        healthy: whether a slot has a replica of its desired package that the edge takes for healthy.

    Returns:
        Share of the scoring requests, in percent; 0 where there is no champion, or the slot beside it answers requests.
    """
    champion = plan.route.champion
    if champion is None or green_pct is None:
        return 0.0
    idle, wanted = champion.other, plan.route.mirror_pct
    is_possible = healthy[idle] and _share(idle, green_pct) == 0 and not refuse_mirror(wanted)
    return wanted if is_possible else 0.0


def _share(slot: Slot, green_pct: int) -> int:
    return green_pct if slot is Slot.GREEN else 100 - green_pct


def backoff_s(crashes: int) -> float:
    """Pause before the next start after so many replicas in a row died before they were ready, seconds."""
    # Bounded before the power, which overflows after four hours of crashes.
    return 0.0 if crashes == 0 else min(_FIRST_BACKOFF_S * 2.0 ** min(crashes - 1, 16), _MAX_BACKOFF_S)
