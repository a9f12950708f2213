"""Desired and observed state of the hot path, as values.

A model has two slots, blue and green. Each holds at most one package on a number of replicas. The route splits the model's
entities between the slots. Flows write the desired state; agents make it so and write what they observe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from hotcold.domain.package import PackageRef


class Slot(StrEnum):
    """One of a model's two independent sets of replicas."""

    BLUE = "blue"
    GREEN = "green"

    @property
    def other(self) -> Slot:
        """The opposite slot."""
        return Slot.GREEN if self is Slot.BLUE else Slot.BLUE


@dataclass(frozen=True)
class SlotPlan:
    """Desired content of one slot.

    Args:
        package: what its replicas serve; None leaves the slot empty.
        replicas: number of replicas, 0 where the slot is retired.
    """

    package: PackageRef | None = None
    replicas: int = 0


@dataclass(frozen=True)
class Route:
    """Desired split of one model's traffic.

    Args:
        green_pct: share of entities that green answers, 0 to 100; blue answers the rest. None: nothing is routed yet.
        champion: slot of the champion; None before the first promotion.
        previous: slot in which the champion before is kept warm.
        generation: grows with each change.
        epoch: fence; writes by a controller with a lower epoch are refused.
        mirror_pct: share of the scoring requests that are copied to the slot beside the champion's, in percent.
    """

    green_pct: int | None = None
    champion: Slot | None = None
    previous: Slot | None = None
    generation: int = 0
    epoch: int = 0
    mirror_pct: float = 0.0

    def share(self, slot: Slot) -> int:
        """Share of entities that a slot answers, in percent; 0 where nothing is routed."""
        if self.green_pct is None:
            return 0
        return self.green_pct if slot is Slot.GREEN else 100 - self.green_pct

    def copied(self, slot: Slot) -> float:
        """Share of the scoring requests that a slot gets a copy of, in percent."""
        return self.mirror_pct if self.champion and slot is self.champion.other else 0.0


@dataclass(frozen=True)
class ModelPlan:
    """Desired state of one model."""

    model: str
    route: Route = Route()
    blue: SlotPlan = SlotPlan()
    green: SlotPlan = SlotPlan()

    def slot(self, slot: Slot) -> SlotPlan:
        """Desired content of a slot."""
        return self.green if slot is Slot.GREEN else self.blue


@dataclass(frozen=True)
class SlotStatus:
    """What an agent observed of one slot.

    Args:
        digest: package that the replicas run, empty if none.
        ready: replicas that Envoy takes for healthy.
        wanted: replicas that the agent was told to run.
        failure: why the package can never become ready; empty while it may.
        restarts: replicas restarted since the package came to the slot.
    """

    digest: str = ""
    ready: int = 0
    wanted: int = 0
    failure: str = ""
    restarts: int = 0


@dataclass(frozen=True)
class RouteStatus:
    """What Envoy confirmed.

    Args:
        green_pct: share of green, in percent; None: nothing is routed.
        generation: generation of the desired route that this is.
        confirmed: False while Envoy does not answer; the rest is then not known.
        mirror_pct: share of the scoring requests that are copied, in percent; None: nodes differ.
    """

    green_pct: int | None = None
    generation: int = 0
    confirmed: bool = True
    mirror_pct: float | None = 0.0

    def share(self, slot: Slot) -> int | None:
        """Confirmed share of a slot, in percent; None if it is not known. Where nothing is routed, it is 0."""
        if not self.confirmed:
            return None
        if self.green_pct is None:
            return 0
        return self.green_pct if slot is Slot.GREEN else 100 - self.green_pct

    @property
    def mirror(self) -> float | None:
        """Confirmed share of the scoring requests that are copied, in percent; None if it is not known."""
        return self.mirror_pct if self.confirmed else None


@dataclass(frozen=True)
class ModelStatus:
    """What all live nodes observed of one model, the worst of them where they differ."""

    model: str
    route: RouteStatus = RouteStatus()
    blue: SlotStatus = SlotStatus()
    green: SlotStatus = SlotStatus()

    def slot(self, slot: Slot) -> SlotStatus:
        """What was observed of a slot."""
        return self.green if slot is Slot.GREEN else self.blue


def worst_of(statuses: Sequence[ModelStatus]) -> ModelStatus:
    """One status for several nodes: a thing holds only where it holds on every node.

    Args:
        statuses: at least one, all of the same model.
    """
    routes = [status.route for status in statuses]
    shares = {route.green_pct for route in routes}
    mirrors = {route.mirror_pct for route in routes}
    return ModelStatus(
        model=statuses[0].model,
        route=RouteStatus(
            green_pct=routes[0].green_pct,
            generation=min(route.generation for route in routes),
            confirmed=len(shares) == 1 and all(route.confirmed for route in routes),
            mirror_pct=mirrors.pop() if len(mirrors) == 1 else None,
        ),
        blue=_worst_slot([status.blue for status in statuses]),
        green=_worst_slot([status.green for status in statuses]),
    )


def _worst_slot(slots: Sequence[SlotStatus]) -> SlotStatus:
    digests = {slot.digest for slot in slots}
    same = len(digests) == 1
    return SlotStatus(
        digest=digests.pop() if same else "",
        ready=min(slot.ready for slot in slots) if same else 0,
        wanted=max(slot.wanted for slot in slots),
        failure=next((slot.failure for slot in slots if slot.failure), ""),
        restarts=sum(slot.restarts for slot in slots),
    )
