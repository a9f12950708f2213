"""What a stream of live requests shows of a switch: counts, latency, and which side answered when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Exchange:
    """One request and its answer.

    Args:
        sent_at: seconds since the epoch.
        done_at: seconds since the epoch.
        status: HTTP status; 0 if no answer came.
        version: semantic version that answered, empty if unknown.
        slot: slot that answered, empty if unknown.
        error: what went wrong on the way, empty if nothing did.
        score: the first score of the answer; None if there is none.
        index: number of the request in its stream, from 0.
    """

    sent_at: float
    done_at: float
    status: int
    version: str = ""
    slot: str = ""
    error: str = ""
    score: float | None = None
    index: int = 0

    @property
    def failed(self) -> bool:
        """Anything but a 200."""
        return self.status != 200


@dataclass(frozen=True)
class TrafficSummary:
    """A stream in numbers.

    Args:
        requests: all of them.
        failed: those without a 200.
        versions: answers by semantic version.
        p50_ms: median milliseconds from sending to the whole answer.
        p95_ms: 95th percentile.
        p99_ms: 99th percentile.
    """

    requests: int
    failed: int
    versions: dict[str, int]
    p50_ms: float
    p95_ms: float
    p99_ms: float


def summarise(exchanges: Sequence[Exchange]) -> TrafficSummary:
    """Counts and latency of a stream; latencies are of the answers with a 200, NaN where there are none."""
    good = [exchange for exchange in exchanges if not exchange.failed]
    latencies_ms = [(exchange.done_at - exchange.sent_at) * 1e3 for exchange in good] or [float("nan")]
    p50, p95, p99 = (float(value) for value in np.percentile(latencies_ms, [50, 95, 99]))
    versions = Counter(exchange.version for exchange in good)
    return TrafficSummary(len(exchanges), len(exchanges) - len(good), dict(sorted(versions.items())), p50, p95, p99)


def last_answer_after(exchanges: Sequence[Exchange], version: str, decided_at: float) -> float:
    """Seconds from a decision until the last answer of a version arrived; 0 if none came after it.

    Args:
        exchanges: the stream up to the next switch.
        version: semantic version that was switched away from.
        decided_at: seconds since the epoch, on the same clock.
    """
    answers = (exchange.done_at - decided_at for exchange in exchanges if exchange.version == version and not exchange.failed)
    return max(max(answers, default=0.0), 0.0)
