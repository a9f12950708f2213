"""Starts a promotion for a version that was given the alias `candidate`, once for each time that it was set.

MLflow's webhook and the scheduled look at the registry both come here. What they saw is written first, then the run is
started with a key that names this setting of the alias, then it is written down that it was. So whoever dies in between, and
however many come at once, Prefect gets one run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from hotcold.adapters.alias_database import AliasDatabase
from hotcold.adapters.prefect_api import FlowRun
from hotcold.domain.alias_watch import AliasWatch, Ask, ReleaseHistory, asks_for
from hotcold.domain.edge import refuse_name

# The flow takes `model` and `version`; all else is as its form proposes it.
DEPLOYMENT = "promote-model/promote-model"


class RunStarter(Protocol):
    """The part of Prefect's API that is needed here."""

    def start(self, deployment: str, parameters: Mapping[str, Any], key: str = "") -> FlowRun:
        """Start a run, or find the one that was started with the key."""
        ...


class PromotionStart:
    """Turns what is seen of the alias into runs.

    Args:
        database: what was seen before, and the releases.
        prefect: takes the runs.
        deployment: whose runs promote.
    """

    def __init__(self, database: AliasDatabase, prefect: RunStarter, deployment: str = DEPLOYMENT) -> None:
        self._database = database
        self._prefect = prefect
        self._deployment = deployment

    def take(self, model: str, version: int | None, at: float) -> tuple[Ask, str]:
        """Take note of which version of a model carries the alias, and start its promotion if that is asked for.

        Args:
            model: registered model name.
            version: version that carries the alias; None if none does.
            at: when that was so, seconds since the epoch; if in doubt, earlier.

        Returns:
            What was asked for, and done if it is PROMOTE; and why, for people.

        Raises:
            StackError: Prefect does not take the run; the next look starts it.
            DatabaseError: the release database cannot be reached; nothing was started.
        """
        if reason := refuse_name(model):
            return Ask.NOTHING, reason
        watch = self._database.add_sight(model, version, at)
        if watch.version is None or watch.answer:
            return asks_for(watch, ReleaseHistory())
        ask, why = asks_for(watch, self._database.read_history(model, watch.version))
        if ask is Ask.PROMOTE:
            why = self._start(watch)
        if ask is not Ask.WAIT:
            self._database.write_answer(watch, why)
        return ask, why

    def _start(self, watch: AliasWatch) -> str:
        run = self._prefect.start(self._deployment, {"model": watch.model, "version": watch.version}, watch.key)
        return f"run {run.name} ({run.id}) promotes version {watch.version}"
