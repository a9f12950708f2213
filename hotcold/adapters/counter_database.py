"""The edges' counters in the release database: agents add to them, flows read what came since a mark."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.engine import RowMapping

from hotcold.adapters import release_tables as t
from hotcold.adapters.database import DatabaseClient, upsert
from hotcold.adapters.release_reader import NODE_TIMEOUT_S
from hotcold.domain.edge import cluster_name, shadow_name
from hotcold.domain.edge_counters import ClusterCounters, Mark, NodeSum, Running
from hotcold.domain.errors import EvidenceError
from hotcold.domain.serving import Slot

# An agent counts each second; what is older than this is not evidence of a quiet edge but of none.
_STALE_S = 5.0


class CounterDatabase(DatabaseClient):
    """What each node's edge counted, by cluster.

    Args:
        url: SQLAlchemy URL; see `Database`.
    """

    def read_running(self, node: str) -> dict[str, Running]:
        """A node's sums and what is needed to go on with them, by cluster.

        Raises:
            DatabaseError: the database cannot be reached.
            EvidenceError: a row is damaged.
        """
        query = select(t.edge_counters).where(t.edge_counters.c.node == node)
        with self._database.read() as connection:
            return {row["cluster"]: _running(row) for row in connection.execute(query).mappings()}

    def write_running(self, node: str, changed: Mapping[str, Running]) -> None:
        """Write the sums that have changed.

        Raises:
            DatabaseError: the database cannot be reached or written.
        """
        with self._database.write() as connection:
            for cluster, running in changed.items():
                values = {
                    "series": running.series,
                    "started_at": running.started_at,
                    "last": running.last.to_json(),
                    "total": running.total.to_json(),
                }
                upsert(connection, t.edge_counters, {"node": node, "cluster": cluster}, values)

    def read_mark(self, model: str, now: float) -> Mark:
        """What all nodes have counted of a model up to now; `increments` compares two of these.

        Args:
            model: registered model name.
            now: seconds since the epoch.

        Raises:
            DatabaseError: the database cannot be reached.
            EvidenceError: no node is live, or one of them has not read its edge's counters for some seconds: what is not
                counted there is no evidence that nothing was.
        """
        clusters = [name(model, slot) for slot in Slot for name in (cluster_name, shadow_name)]
        live = select(t.nodes.c.node, t.nodes.c.counted_at).where(t.nodes.c.seen_at > now - NODE_TIMEOUT_S)
        sums = select(t.edge_counters).where(t.edge_counters.c.cluster.in_(clusters))
        with self._database.read() as connection:
            counted = {row["node"]: row["counted_at"] for row in connection.execute(live).mappings()}
            rows = connection.execute(sums).mappings().all()
        _require_fresh(counted, now)
        found = (NodeSum(row["node"], row["cluster"], row["series"], _counters(row["total"])) for row in rows)
        return Mark(tuple(sorted(found, key=lambda one: (one.node, one.cluster))))


def _require_fresh(counted: Mapping[str, float | None], now: float) -> None:
    if not counted:
        raise EvidenceError("no serving node is live, so nothing is counted; start its agent")
    for node, at in counted.items():
        if at is None or at <= now - _STALE_S:
            seen = "never been read" if at is None else f"not been read for {now - at:.0f} s"
            raise EvidenceError(
                f"the counters of the edge of node {node} have {seen}; allowed are {_STALE_S:g} s: see agent.log there"
            )


def _running(row: RowMapping) -> Running:
    return Running(row["series"], row["started_at"], _counters(row["last"]), _counters(row["total"]))


def _counters(document: dict[str, Any] | str) -> ClusterCounters:
    return ClusterCounters.from_json(json.loads(document) if isinstance(document, str) else document)
