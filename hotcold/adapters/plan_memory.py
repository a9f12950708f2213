"""The last plan an agent had, in a file: a node goes on with it while the release database is away or has lost it."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hotcold.domain.package import PackageRef
from hotcold.domain.serving import ModelPlan, Route, Slot, SlotPlan

_LOG = logging.getLogger("hotcold.agent")


class PlanMemory:
    """Remembers plans. It is a help, not the truth: what cannot be read is forgotten, what cannot be written is logged.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: tuple[ModelPlan, ...] | None = None
        self._is_mute = False

    def read(self) -> tuple[ModelPlan, ...]:
        """The plans that were written last; none if there is no file or it cannot be used."""
        try:
            return tuple(_plan(document) for document in json.loads(self.path.read_bytes()))
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, KeyError, TypeError) as error:
            _LOG.error("the remembered plan cannot be used", extra={"file": str(self.path), "reason": str(error)})
            return ()

    def write(self, plans: tuple[ModelPlan, ...]) -> None:
        """Remember plans, if they are others than before."""
        if plans == self._known:
            return
        fresh = self.path.with_suffix(".new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(json.dumps([asdict(plan) for plan in plans], indent=1))
            fresh.replace(self.path)
        except OSError as error:
            if not self._is_mute:
                _LOG.error("the plan cannot be remembered", extra={"file": str(self.path), "reason": error.strerror})
            self._is_mute = True
            return
        self._known, self._is_mute = plans, False


def _plan(document: dict[str, Any]) -> ModelPlan:
    route = document["route"]
    slots = {name: Slot(route[name]) if route[name] else None for name in ("champion", "previous")}
    return ModelPlan(
        model=document["model"],
        route=Route(**{**route, **slots}),
        blue=_slot_plan(document["blue"]),
        green=_slot_plan(document["green"]),
    )


def _slot_plan(document: dict[str, Any]) -> SlotPlan:
    package = document["package"]
    return SlotPlan(PackageRef(**package) if package else None, document["replicas"])
