"""What the edge counted: integers per cluster that go on through restarts of Envoy, and are read as increments since a mark.

Envoy's own counters start anew with it. The agent beside it adds up what came since its last look (`go_on`), so that whoever
reads the sums needs to know nothing of Envoy. Where it is not certain what was counted, less is counted, never more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hotcold.domain.errors import EvidenceError
from hotcold.domain.latency import LATENCY_BUCKETS, NO_LATENCY, count_over

# Envoy tells how long it has been up in whole seconds, up to a second late.
_START_TOLERANCE_S = 3.0
_OF_COPIES = ("copied", "timed_out", "dropped", "broken")


@dataclass(frozen=True)
class ClusterCounters:
    """Answers to consumers' scoring requests, or to copies of them, by one cluster.

    Args:
        codes: answers by HTTP status, sorted; 0 where whoever asked went away before there was one. The edge's own answers,
            such as a 503 because no replica was healthy, count for the cluster that was meant.
        latency_us: good answers per bucket of the latency grid; none where they are copies.
        copied: copies that were made, also those that are still under way and those that could not be sent.
        timed_out: copies that took too long and were given up; they have no status, or the rest did not follow it.
        dropped: copies that were never sent, because too many were under way or no replica was there; each is a 503, too.
        broken: copies whose connection was refused, or closed before the answer was complete; each without a status is a 503,
            too.
    """

    codes: tuple[tuple[int, int], ...] = ()
    latency_us: tuple[int, ...] = NO_LATENCY
    copied: int = 0
    timed_out: int = 0
    dropped: int = 0
    broken: int = 0

    def __post_init__(self) -> None:
        if min(*(count for _, count in self.codes), *self.latency_us, *self._of_copies) < 0:
            raise EvidenceError(f"a counter of the edge is negative: {self}; read it again")
        if len(self.latency_us) != LATENCY_BUCKETS:
            raise EvidenceError(
                f"the edge counts latency in {len(self.latency_us)} buckets; the grid has {LATENCY_BUCKETS}: start Envoy anew"
            )

    @property
    def _of_copies(self) -> tuple[int, int, int, int]:
        return self.copied, self.timed_out, self.dropped, self.broken

    @property
    def asked(self) -> int:
        """Consumers' requests that got an answer; of copies, `copied` says how many there were."""
        return sum(count for code, count in self.codes if code)

    @property
    def answers(self) -> tuple[tuple[int, int], ...]:
        """Answers by HTTP status without the 503 that the edge itself counts for copies which were dropped or broken.

        Envoy does not tell before or after which status a connection broke, so a replica whose answers break off halfway may
        have given a few more 503 than are said here.
        """
        counts = dict(self.codes)
        counts[503] = max(counts.get(503, 0) - self.dropped - self.broken, 0)
        return tuple(sorted((code, count) for code, count in counts.items() if code and count))

    @property
    def lost(self) -> int:
        """Copies without a complete answer, whoever is to blame; those that are still under way are not lost."""
        return self.timed_out + self.dropped + self.broken

    @property
    def failed(self) -> int:
        """Answers of 500 and above, and copies that timed out or broke; that one was dropped is no replica's failure."""
        return sum(count for code, count in self.answers if code >= 500) + self.timed_out + self.broken

    @property
    def measured(self) -> int:
        """Good answers whose latency is known; trails the other counts by up to a second."""
        return sum(self.latency_us)

    def over(self, budget_ms: float) -> int:
        """Measured answers that took a budget or longer.

        Raises:
            EvidenceError: the budget is no edge of the latency grid.
        """
        return count_over(self.latency_us, budget_ms)

    def __add__(self, other: ClusterCounters) -> ClusterCounters:
        codes = {code: self._code(code) + other._code(code) for code, _ in (*self.codes, *other.codes)}
        return ClusterCounters(
            tuple(sorted(codes.items())),
            tuple(one + more for one, more in zip(self.latency_us, other.latency_us, strict=True)),
            *(one + more for one, more in zip(self._of_copies, other._of_copies, strict=True)),
        )

    def since(self, before: ClusterCounters) -> ClusterCounters | None:
        """What was counted since an earlier look; None if a counter fell, so that the two are not of one count."""
        codes = {code: self._code(code) - before._code(code) for code, _ in (*self.codes, *before.codes)}
        latency_us = tuple(late - early for late, early in zip(self.latency_us, before.latency_us, strict=True))
        of_copies = [late - early for late, early in zip(self._of_copies, before._of_copies, strict=True)]
        if min(*codes.values(), *latency_us, *of_copies) < 0:
            return None
        return ClusterCounters(tuple(sorted((code, n) for code, n in codes.items() if n)), latency_us, *of_copies)

    def _code(self, code: int) -> int:
        return dict(self.codes).get(code, 0)

    def to_json(self) -> dict[str, Any]:
        """The counters as plain JSON values."""
        return {
            "codes": {str(code): count for code, count in self.codes},
            "latency_us": list(self.latency_us),
            **dict(zip(_OF_COPIES, self._of_copies, strict=True)),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ClusterCounters:
        """Inverse of `to_json`.

        Raises:
            EvidenceError: something is missing or not a count.
        """
        try:
            codes = tuple(sorted((int(code), _count(count)) for code, count in document["codes"].items()))
            latency_us = tuple(_count(count) for count in document["latency_us"])
            return cls(codes, latency_us, *(_count(document[name]) for name in _OF_COPIES))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise EvidenceError(f"counters of the edge are damaged ({error}); begin a new count") from error


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no count")
    return value


@dataclass(frozen=True)
class Reading:
    """One look at an Envoy.

    Args:
        started_at: when it started, seconds since the epoch, to a few seconds.
        clusters: its counters by cluster; a cluster that never got a request is left out.
    """

    started_at: float
    clusters: Mapping[str, ClusterCounters]


@dataclass(frozen=True)
class Running:
    """The sum of one cluster on one node, and what is needed to go on with it.

    Args:
        series: name of the count; sums of different ones have nothing to do with each other.
        started_at: start of the Envoy that was looked at when the sum last changed, seconds since the epoch.
        last: what that one had counted.
        total: the sum.
    """

    series: str
    started_at: float
    last: ClusterCounters = ClusterCounters()
    total: ClusterCounters = ClusterCounters()


def begin(series: str, reading: Reading) -> dict[str, Running]:
    """A new count from here on: what Envoy counted before is not part of it."""
    return {name: Running(series, reading.started_at, last) for name, last in reading.clusters.items()}


def go_on(running: Mapping[str, Running], reading: Reading, series: str) -> dict[str, Running]:
    """Add what came since the last look.

    Args:
        running: sums so far, by cluster.
        reading: what Envoy says now.
        series: name of the count, for clusters that have no sum yet.
    """
    fresh = {name: Running(series, reading.started_at) for name in reading.clusters}
    return {name: _add(known, name, reading) for name, known in {**fresh, **running}.items()}


def _add(known: Running, name: str, reading: Reading) -> Running:
    now = reading.clusters.get(name, ClusterCounters())
    if now == known.last:
        return known
    came = now.since(known.last)
    if came is not None:
        return replace(known, started_at=reading.started_at, last=now, total=known.total + came)
    # A counter fell. Where Envoy has started since, all that it has is new; else somebody lied, and nothing of it is believed.
    is_new = reading.started_at > known.started_at + _START_TOLERANCE_S
    total = known.total + now if is_new else known.total
    return replace(known, started_at=reading.started_at, last=now, total=total)


@dataclass(frozen=True)
class NodeSum:
    """The sum of one cluster on one node, for readers."""

    node: str
    cluster: str
    series: str
    total: ClusterCounters


@dataclass(frozen=True)
class Mark:
    """What all nodes had counted at one moment. Kept as JSON, it is where later increments begin."""

    sums: tuple[NodeSum, ...] = ()

    def to_json(self) -> list[dict[str, Any]]:
        """The mark as plain JSON values."""
        return [
            {"node": one.node, "cluster": one.cluster, "series": one.series, "total": one.total.to_json()} for one in self.sums
        ]

    @classmethod
    def from_json(cls, document: Iterable[Mapping[str, Any]]) -> Mark:
        """Inverse of `to_json`.

        Raises:
            EvidenceError: something is missing or not a count.
        """
        try:
            return cls(
                tuple(
                    NodeSum(one["node"], one["cluster"], one["series"], ClusterCounters.from_json(one["total"]))
                    for one in document
                )
            )
        except (KeyError, TypeError) as error:
            raise EvidenceError(f"a mark of the edge's counters is damaged ({error}); set a new one") from error


def increments(mark: Mark, now: Mark) -> dict[str, ClusterCounters]:
    """What was counted since a mark, over all nodes.

    Args:
        mark: where to begin. A node that it does not know, or that has begun a new count since, is counted whole.
        now: a later look.

    Returns:
        Counters by cluster; clusters of which nothing is known are left out.

    Raises:
        EvidenceError: a sum fell, or is gone, although the count is the same.
    """
    before = {(one.node, one.cluster, one.series): one.total for one in mark.sums}
    seen = {(one.node, one.cluster) for one in now.sums}
    for node, cluster, _ in before:
        if (node, cluster) not in seen:
            raise EvidenceError(f"node {node} no longer knows what it counted of {cluster}; set a new mark")
    came: dict[str, ClusterCounters] = {}
    for one in now.sums:
        part = one.total.since(before.get((one.node, one.cluster, one.series), ClusterCounters()))
        if part is None:
            raise EvidenceError(f"what node {one.node} counted of {one.cluster} fell since the mark; set a new mark")
        came[one.cluster] = came.get(one.cluster, ClusterCounters()) + part
    return came
