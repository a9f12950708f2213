"""Compares candidate and champion over a span of the prediction log: window by window, here or on Dask, in bounded memory."""

from __future__ import annotations

import math
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from hotcold.adapters.cluster import Cluster
from hotcold.adapters.label_store import LabelStore
from hotcold.adapters.prediction_reader import Place, PredictionReader, Window
from hotcold.adapters.shadow_pairs import SLACK_S, PairSource, join_window
from hotcold.domain.errors import ClusterError
from hotcold.domain.log_position import Cursor
from hotcold.domain.shadow.comparison import Comparison
from hotcold.domain.shadow.counting import Accumulation, WindowCounts, count_window
from hotcold.domain.shadow.limits import Limits

if TYPE_CHECKING:
    from distributed import Future

# A log segment lasts a minute, and is read by each window that it lies in.
_WINDOW_S = 120
_WINDOWS_PER_THREAD = 3
# A request's answers are in the log this long after it arrived: the copy's deadline, and what a writer waits before it writes.
SETTLED_S = 3.0


@dataclass(frozen=True)
class ComparisonJob:
    """What all windows of a comparison have in common. It may be sent to other processes.

    Args:
        source: whose answers.
        limits: what is tolerated.
        budget_us: latency budget, µs.
        labels: folder of the labels; None: they are not asked.
    """

    source: PairSource
    limits: Limits
    budget_us: float
    labels: Path | None = None

    @property
    def model(self) -> str:
        """Registered model name."""
        return self.source.champion.model


@dataclass(frozen=True)
class Span:
    """One window with the places where its rows may be.

    Args:
        since_s: begin, whole seconds since the epoch.
        until_s: end, whole seconds.
        places: see `PredictionReader.places`.
    """

    since_s: int
    until_s: int
    places: tuple[Place, ...]


def plan_spans(source: PairSource, since_s: float, until_s: float, window_s: int = _WINDOW_S) -> Iterator[Span]:
    """Cut a time into windows, by time.

    Args:
        source: whose log.
        since_s: begin, seconds since the epoch; the second that it lies in does not count.
        until_s: end, likewise.
        window_s: longest window, whole seconds.
    """
    first, last = math.ceil(since_s), math.floor(until_s)
    reader = PredictionReader(source.root, source.champion.model)
    places = reader.places(Cursor(), Window(first - SLACK_S, last + SLACK_S))
    for begin in range(first, last, window_s):
        end = min(begin + window_s, last)
        wanted = Window(begin - SLACK_S, end + SLACK_S)
        yield Span(begin, end, tuple(place for place in places if place.overlaps(wanted)))


def count_span(job: ComparisonJob, span: Span) -> WindowCounts:
    """Read, join and count one window.

    Args:
        job: what is compared.
        span: the window.
    """
    labels = LabelStore(job.labels, job.model).read(span.since_s, span.until_s) if job.labels else None
    joined = join_window(job.source, span.places, span.since_s, span.until_s, labels)
    counted = count_window(joined.pairs, job.limits, job.budget_us)
    return replace(counted, counts=replace(counted.counts, left_out=joined.left_out))


@dataclass
class LiveComparison:
    """Follows a log that is being written, and starts again where labels have come.

    Args:
        job: what is compared.
        since_s: requests count from here on, seconds since the epoch.
    """

    job: ComparisonJob
    since_s: float
    _counted: Accumulation = field(init=False)
    _until_s: int = field(init=False)
    _labels: str = field(init=False, default="")

    def __post_init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._counted, self._until_s = Accumulation(self.job.limits), math.ceil(self.since_s)

    def look(self, now_s: float) -> Comparison:
        """Count what has settled since the last look.

        Args:
            now_s: seconds since the epoch.
        """
        version = LabelStore(self.job.labels, self.job.model).version() if self.job.labels else ""
        if version != self._labels:
            # A label belongs to a pair that is counted already: count again, now with it.
            self._labels = version
            self._begin()
        for span in plan_spans(self.job.source, self._until_s, now_s - SETTLED_S):
            self._counted.add(count_span(self.job, span))
            self._until_s = span.until_s
        return self._counted.comparison


def compare(
    count: Callable[[Span], WindowCounts],
    spans: Sequence[Span],
    limits: Limits,
    cluster: Cluster,
    on_window: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Compare over windows of the log on Dask. The same log gives the same counts.

    Args:
        count: reads and counts one window; it is sent to the workers, which find all folders that it names.
        spans: the windows, by time.
        limits: what is tolerated.
        cluster: where.
        on_window: called with the number of windows done and planned.

    Raises:
        ClusterError: the cluster was lost.
    """
    counted = Accumulation(limits)
    for done, window in enumerate(_count_spans(count, spans, cluster), 1):
        counted.add(window)
        if on_window:
            on_window(done, len(spans))
    return counted.comparison


def _count_spans(count: Callable[[Span], WindowCounts], spans: Sequence[Span], cluster: Cluster) -> Iterator[WindowCounts]:
    """In the order of time, a bounded number under way."""
    name, waiting = uuid.uuid4().hex[:8], iter(spans)

    def submit(span: Span) -> Future[WindowCounts]:
        return cluster.client.submit(count, span, key=f"window-{span.since_s}-{name}", pure=False)

    running = deque(submit(span) for span in islice(waiting, cluster.threads * _WINDOWS_PER_THREAD))
    try:
        while running:
            yield running.popleft().result()
            running.extend(submit(span) for span in islice(waiting, 1))
    except OSError as error:
        raise ClusterError(f"the Dask scheduler was lost ({error}); run again: nothing is lost but the time") from error
