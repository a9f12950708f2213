"""The agent's watch over releases: a candidate whose controller is dead loses its traffic. Needs neither Prefect nor MLflow."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hotcold.adapters.release_database import Lease, ReleaseDatabase
from hotcold.domain.errors import StaleControllerError
from hotcold.domain.release import Release, guard
from hotcold.domain.serving import ModelStatus
from hotcold.rollback import confirmed_mirror, confirmed_share

_LOG = logging.getLogger("hotcold.watchdog")
_INTERVAL_S = 0.5


@dataclass(frozen=True)
class _LastSign:
    """The last renewal that was seen of a release's lease, and when, on the agent's own monotonic clock."""

    sign: tuple[int, int, int]
    at_s: float


class Watchdog:
    """Guards the releases under way.

    A lease is judged by whether it keeps being renewed, on the agent's monotonic clock: no clock is compared with another's.

    Args:
        database: the release database.
        node: who acts, for the audit.
        timeout_s: a controller is taken for dead when its lease was not renewed for this long.
        monotonic: seconds on a clock that does not jump.
        clock: seconds since the epoch, for the audit.
    """

    def __init__(
        self,
        database: ReleaseDatabase,
        node: str,
        timeout_s: float,
        monotonic: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._actor = f"agent {node}"
        self._timeout_s = timeout_s
        self._monotonic = monotonic
        self._clock = clock
        self._signs: dict[str, _LastSign] = {}
        self._next_s = 0.0

    def tick(self, statuses: Sequence[ModelStatus]) -> None:
        """Look at the releases under way, at most twice a second.

        Args:
            statuses: what this node observes.

        Raises:
            DatabaseError: the database cannot be reached; nothing was changed.
        """
        now_s = self._monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + _INTERVAL_S
        active = self._database.read_active()
        observed = {status.model: status for status in statuses}
        for release, lease in active:
            if self._is_dead(release, lease, now_s):
                self._guard(release, observed.get(release.model))
        ids = {release.id for release, _ in active}
        self._signs = {release_id: sign for release_id, sign in self._signs.items() if release_id in ids}

    def _is_dead(self, release: Release, lease: Lease, now_s: float) -> bool:
        sign = (release.epoch, lease.renewals, release.row_version)
        last = self._signs.get(release.id)
        if last is None or last.sign != sign:
            self._signs[release.id] = _LastSign(sign, now_s)
            return False
        return now_s - last.at_s >= self._timeout_s

    def _guard(self, release: Release, status: ModelStatus | None) -> None:
        champion = status.slot(release.slot.other) if status else None
        share, mirror = confirmed_share(status, release.slot), confirmed_mirror(status)
        after, instructions = guard(release, champion, share, mirror)
        if after.phase is release.phase:
            return
        try:
            self._database.commit(release, after, instructions, self._actor, self._clock())
        except StaleControllerError:
            return
        _LOG.warning(
            "release guarded",
            extra={"release": release.id, "model": release.model, "phase": after.phase.value, "reason": after.reason},
        )
