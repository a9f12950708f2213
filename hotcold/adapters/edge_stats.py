"""What Envoy counted, read from its admin page. What is not understood is an error, never a zero."""

from __future__ import annotations

import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import httpx

from hotcold.domain.edge import SCORE_ROUTE
from hotcold.domain.edge_counters import ClusterCounters, Reading
from hotcold.domain.edge_listener import ANSWERS, LATENCY_BOUNDS_US, LATENCY_US, STATS_PREFIX
from hotcold.domain.errors import EvidenceError, first_line
from hotcold.domain.latency import LATENCY_BUCKETS, NO_LATENCY

_TIMEOUT_S = 1.0
# In the same answer as the counters, so that the two are of one process; /server_info would be another one, and 120 KB.
_UPTIME = "server.uptime"
# What became of copies, by what Envoy counts of it. One that meets a closed port is ejected; one whose replica dies takes its
# connection along. Each copy is in one of those that make up `copied`.
_COPIED = {
    "rq_total": ("copied",),
    "rq_pending_overflow": ("copied", "dropped"),
    "rq_active_overflow": ("copied", "dropped"),
    "cx_none_healthy": ("copied", "dropped"),
    "rq_pending_failure_eject": ("copied", "broken"),
    "cx_destroy_remote_with_active_rq": ("broken",),
    "rq_max_duration_reached": ("timed_out",),
}


def _scoring(stat: str) -> str:
    """Names of a statistic about consumers' scoring requests; the groups are cluster and status."""
    return rf"^{STATS_PREFIX}\.{stat}\.cluster\.([a-z0-9-]+)\.code\.(\d+)\.route\.{SCORE_ROUTE}$"


_ANSWERS, _LATENCY = re.compile(_scoring(ANSWERS)), re.compile(_scoring(LATENCY_US))
# The access log knows nothing of copies, but their clusters count for themselves.
_COPIES = re.compile(rf"^cluster\.([a-z0-9-]+-shadow)\.upstream_(rq_\d+|{'|'.join(_COPIED)})$")
# So did Envoys count that an older hotcold has started: without the route, so that consumers and tests are mixed.
_OLDER = re.compile(rf"^{STATS_PREFIX}\.{ANSWERS}\.cluster\.[a-z0-9-]+\.code\.\d+$")
# Envoy is asked for these names only. They are written so that they mean the same in RE2 and here.
_FILTER = "|".join((rf"^{re.escape(_UPTIME)}$", _ANSWERS.pattern, _LATENCY.pattern, _COPIES.pattern, _OLDER.pattern))


class EdgeStats:
    """Reads the counters of the Envoy on this host.

    Args:
        port: its admin page's port on loopback.
        clock: seconds since the epoch, the clock that Envoy has, too.
    """

    def __init__(self, port: int, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            timeout=_TIMEOUT_S,
            trust_env=False,
            verify=False,  # noqa: S501
        )

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def read(self) -> Reading | None:
        """What Envoy has counted since it started; None while it does not answer.

        Raises:
            EvidenceError: the answer cannot be understood, as of an Envoy that an older hotcold has started.
        """
        try:
            answer = self._client.get("/stats", params={"filter": _FILTER, "format": "json", "histogram_buckets": "disjoint"})
            answer.raise_for_status()
            document = answer.json()
        except (httpx.HTTPError, ValueError):
            return None
        try:
            return read_stats(document, self._clock())
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise EvidenceError(f"Envoy's statistics are not as expected ({first_line(error)}); start it anew") from error


def read_stats(document: dict[str, Any], now: float) -> Reading:
    """Understand the answer of `/stats`.

    Args:
        document: its JSON, with disjoint histogram buckets.
        now: seconds since the epoch.

    Raises:
        EvidenceError: a counter is negative, or latency is counted in other buckets than those of the grid.
        KeyError, TypeError, ValueError: it is another document.
    """
    counters = {one["name"]: _whole(one["value"]) for one in document["stats"] if "name" in one}
    histograms = [one for group in document["stats"] for one in group.get("histograms", ())]
    codes, latency_us, copies = _read_codes(counters), _read_latency(histograms), _read_copies(counters)
    clusters = {
        name: ClusterCounters(tuple(sorted(codes[name].items())), latency_us.get(name, NO_LATENCY), **copies[name])
        for name in codes.keys() | latency_us.keys() | copies.keys()
    }
    return Reading(now - counters[_UPTIME], {name: one for name, one in clusters.items() if one != ClusterCounters()})


def _whole(value: object) -> int:
    """A count, which Envoy may write as 3e+05."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise TypeError(f"{value!r} is no count")
    return int(value)


def _read_codes(counters: dict[str, int]) -> defaultdict[str, dict[int, int]]:
    """Answers by cluster and status."""
    codes: defaultdict[str, dict[int, int]] = defaultdict(dict)
    for name, value in counters.items():
        if _OLDER.fullmatch(name):
            raise EvidenceError("Envoy counts consumers and tests together, as an older hotcold wanted; start it anew")
        if found := _ANSWERS.fullmatch(name):
            codes[found[1]][int(found[2])] = value
        elif (found := _COPIES.fullmatch(name)) and found[2] not in _COPIED:
            codes[found[1]][int(found[2].removeprefix("rq_"))] = value
    return codes


def _read_copies(counters: dict[str, int]) -> defaultdict[str, Counter[str]]:
    """What became of copies, by cluster."""
    copies: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for name, value in counters.items():
        if found := _COPIES.fullmatch(name):
            copies[found[1]].update(dict.fromkeys(_COPIED.get(found[2], ()), value))
    return copies


def _read_latency(histograms: Iterable[dict[str, Any]]) -> dict[str, tuple[int, ...]]:
    """Good answers per bucket, by cluster."""
    found: dict[str, list[int]] = {}
    for histogram in histograms:
        name = _LATENCY.fullmatch(histogram["name"])
        if not name or not 200 <= int(name[2]) < 300:
            continue
        bounds = tuple(bucket["upper_bound"] for bucket in histogram["buckets"])
        if bounds != LATENCY_BOUNDS_US:
            raise EvidenceError(f"Envoy counts latency in {len(bounds)} other buckets than expected; start it anew")
        sums = found.setdefault(name[1], [0] * LATENCY_BUCKETS)
        for bucket, entry in enumerate(histogram["buckets"]):
            sums[bucket] += _whole(entry["cumulative"])
    return {name: tuple(sums) for name, sums in found.items()}
