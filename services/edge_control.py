"""Keeps Envoy at what the agent wants, and knows what Envoy confirmed. Set, then verify."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from hotcold.adapters.envoy import EdgeFiles, EdgeView, EnvoyAdmin
from hotcold.domain.edge import EdgeModel, Endpoint, cluster_name, route_document, shadow_name
from hotcold.domain.errors import EdgeError
from hotcold.domain.serving import Slot

_LOG = logging.getLogger("hotcold.agent")
_CONFIRM_TRIES = 20
_CONFIRM_PAUSE_S = 0.005
_REWRITE_AFTER_S = 1.0
# A new cluster is in force when its replicas were checked once, which takes a second where one of them hangs.
_MISSING_AFTER_S = 3.0


class EdgeControl:
    """Writes endpoints and clusters first, routes when the clusters are in force, and reads back what Envoy took.

    Args:
        files: the watched files.
        admin: Envoy's admin page.
        monotonic: seconds on a clock that does not jump.
    """

    def __init__(self, files: EdgeFiles, admin: EnvoyAdmin, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._files = files
        self._admin = admin
        self._monotonic = monotonic
        self._routed: dict[str, int | None] = {}
        self._mirrored: dict[tuple[str, Slot], float] = {}
        self._version = ""
        self._pending_since_s: float | None = None
        self._missing_since_s: float | None = None
        self._trouble = ""
        self._earlier: EdgeView | None = None
        self.view: EdgeView | None = None

    def look(self) -> None:
        """Read what Envoy says of itself."""
        self._earlier, self.view = self.view, self._admin.read_view()

    def routed(self, model: str) -> int | None:
        """Share of green in the routes that were written last, in percent; None if the model is not routed."""
        if model not in self._routed:
            self._routed[model] = self._files.read_green_pct(model)
        return self._routed[model]

    def mirrored(self, model: str, slot: Slot) -> float:
        """Share of requests that the routes that were written last copy to a slot, in percent."""
        key = (model, slot)
        if key not in self._mirrored:
            self._mirrored[key] = self._files.read_mirror_pct(model, slot)
        return self._mirrored[key]

    @property
    def confirmed(self) -> bool:
        """Envoy answers and has the routes that were written last in force."""
        return self.view is not None and bool(self._version) and self.view.route_version == self._version

    def healthy(self, model: str, slot: Slot) -> frozenset[Endpoint]:
        """Replicas of a slot that Envoy sends requests to.

        A replica has to be healthy in two looks: Envoy's worker threads hear of it a moment after the thread that answers here.
        """
        views = (self.view, self._earlier)
        first, second = (view.healthy.get(cluster_name(model, slot), frozenset()) if view else frozenset() for view in views)
        return first & second

    def hosts(self, model: str, slot: Slot) -> frozenset[Endpoint]:
        """Replicas of a slot that Envoy knows, for answers or for copies; while it does not answer, those in its file."""
        if self.view is None:
            return self._files.read_endpoints(model, slot)
        names = (cluster_name(model, slot), shadow_name(model, slot))
        return frozenset().union(*(self.view.hosts.get(name, frozenset()) for name in names))

    def apply(self, models: Sequence[EdgeModel]) -> None:
        """Bring the files to this state, as far as Envoy can take it now. Trouble is logged once and tried again."""
        try:
            for model in models:
                for slot in Slot:
                    self._files.write_endpoints(model.model, slot, model.endpoints(slot))
            self._files.write_clusters(models)
            if self._has_clusters(models):
                self._apply_routes(models)
            if self._pending_since_s is None and self._missing_since_s is None:
                self._trouble = ""
        except EdgeError as error:
            self._report(str(error))

    def _has_clusters(self, models: Sequence[EdgeModel]) -> bool:
        """Routes to a cluster that is not in force yet would be refused, so they wait for it."""
        needed = {name(model.model, slot) for model in models for slot in Slot for name in (cluster_name, shadow_name)}
        missing = sorted(needed - self.view.clusters) if self.view is not None else []
        if not missing:
            self._missing_since_s = None
            return True
        now_s = self._monotonic()
        self._missing_since_s = self._missing_since_s or now_s
        if now_s - self._missing_since_s >= _MISSING_AFTER_S:
            self._missing_since_s = now_s
            self._report(f"Envoy does not take the clusters {', '.join(missing)}; envoy.log says why; written again")
            self._files.write_clusters(models, again=True)
        return False

    def _apply_routes(self, models: Sequence[EdgeModel]) -> None:
        document = route_document(models)
        version = str(document["version_info"])
        now_s = self._monotonic()
        again = False
        if version == self._version:
            if self.view is None:
                # Envoy reads the file when it starts, so it has to be there and whole.
                self._files.write("rds.json", document)
                return
            again = self._is_overdue(now_s)
            if not again:
                return
            self._report(f"Envoy has not taken routes {version}; envoy.log says why; written again")
        self._files.write("rds.json", document, again=again)
        self._version, self._pending_since_s = version, now_s
        self._routed = {model.model: model.green_pct for model in models}
        self._mirrored = {
            (model.model, slot): model.mirror_pct if slot is model.mirror else 0.0 for model in models for slot in Slot
        }
        mirrors = {model.model: model.mirror_pct for model in models if model.mirror}
        _LOG.info("routes written", extra={"version": version, "green_pct": self._routed, "mirror_pct": mirrors})
        self._confirm()

    def _is_overdue(self, now_s: float) -> bool:
        """The routes that were written last are not in force, and have not been for longer than Envoy needs to take them."""
        if self.confirmed:
            self._pending_since_s = None
            return False
        self._pending_since_s = self._pending_since_s or now_s
        return now_s - self._pending_since_s >= _REWRITE_AFTER_S

    def _confirm(self) -> None:
        """Envoy takes a file within milliseconds; wait for it here, so that nobody waits for the next look."""
        if self.view is None:
            return
        for _ in range(_CONFIRM_TRIES):
            version = self._admin.read_route_version()
            if version == self._version:
                self.view = self._admin.read_view()
            if version in ("", self._version):
                # Confirmed, or Envoy hangs; then waiting for it would keep the agent from everything else.
                return
            time.sleep(_CONFIRM_PAUSE_S)

    def _report(self, trouble: str) -> None:
        if trouble != self._trouble:
            _LOG.error("edge", extra={"reason": trouble})
        self._trouble = trouble
