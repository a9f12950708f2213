"""Compares candidate and champion over a span of the prediction log: window by window, here or on Dask, in bounded memory."""

from __future__ import annotations

import math
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from hotcold.adapters.cluster import Cluster
from hotcold.adapters.label_store import LabelStore
from hotcold.adapters.prediction_reader import Place, PredictionReader, Window
from hotcold.adapters.shadow_pairs import SLACK_S, JoinedWindow, PairSource, join_window
from hotcold.domain.errors import ClusterError
from hotcold.domain.log_position import Cursor
from hotcold.domain.shadow.comparison import Comparison
from hotcold.domain.shadow.counting import Accumulation, WindowCounts, count_window
from hotcold.domain.shadow.judgement import LABELS_CONTRADICT, LABELS_UNREADABLE, REPEATED, UNREADABLE
from hotcold.domain.shadow.limits import Limits

if TYPE_CHECKING:
    from distributed import Future

# A log segment lasts a minute, and is read by each window that it lies in.
_WINDOW_S = 120
_WINDOWS_PER_THREAD = 3
# More than a place may reach beyond what its name says.
_AHEAD_S = 120.0
# A request's answers are in the log this long after it arrived: the longest that a consumer waits, what a writer waits before
# it writes, and something for a disk that is busy.
SETTLED_S = 8.0


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
        unreadable: archives whose contents nobody knows.
        counted: keys of request ids that are in this window and were counted in one before.
    """

    since_s: int
    until_s: int
    places: tuple[Place, ...]
    unreadable: tuple[str, ...] = ()
    counted: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class WindowLabels:
    """Labels of the requests in a window.

    Args:
        table: see `join_window`; None: nobody asks for labels.
        trouble: labels that cannot be used, by reason and by the file or window that tells.
    """

    table: pa.Table | None = None
    trouble: dict[str, dict[str, int]] = field(default_factory=dict)


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
    coming = deque(sorted(places, key=lambda place: place.first_s))
    there: list[Place] = []
    for begin in range(first, last, window_s):
        end = min(begin + window_s, last)
        while coming and coming[0].first_s < end + _AHEAD_S:
            there.append(coming.popleft())
        there = [place for place in there if place.last_s > begin - _AHEAD_S]
        wanted = Window(begin - SLACK_S, end + SLACK_S)
        yield Span(begin, end, tuple(place for place in there if place.overlaps(wanted)), tuple(reader.unreadable))


def count_span(job: ComparisonJob, span: Span) -> WindowCounts:
    """Read, join and count one window.

    Args:
        job: what is compared.
        span: the window.
    """
    labels = read_labels(job, span)
    joined = each_once(join_window(job.source, span.places, span.since_s, span.until_s, labels.table), span)
    return complete_window(count_window(joined.pairs, job.limits, job.budget_us), joined, labels, span)


def each_once(joined: JoinedWindow, span: Span) -> JoinedWindow:
    """A request id that repeats counts once, with its first pair, in however many windows it is.

    Args:
        joined: pairs of a window.
        span: the window, with the ids that count in another.
    """
    pairs = joined.pairs.first_of_requests(np.array(span.counted, dtype=np.uint64))
    repeated = len(joined.pairs) - len(pairs)
    if not repeated:
        return joined
    return replace(joined, pairs=pairs, left_out={**joined.left_out, REPEATED: joined.left_out.get(REPEATED, 0) + repeated})


def add_window(counted: Accumulation, window: WindowCounts, span: Span, count: Callable[[Span], WindowCounts]) -> None:
    """Add the next window; where a request id of it was counted before, it is counted a second time without that.

    Args:
        counted: all windows before.
        window: the counts.
        span: what was counted.
        count: counts it again.
    """
    repeated = counted.repeated(window)
    counted.add(count(replace(span, counted=tuple(repeated.tolist()))) if len(repeated) else window)


def read_labels(job: ComparisonJob, span: Span) -> WindowLabels:
    """Labels of the requests in a window, by the clock of whichever side was first.

    Args:
        job: says where they are.
        span: the window.
    """
    if job.labels is None:
        return WindowLabels()
    store = LabelStore(job.labels, job.model)
    table = store.read(span.since_s - SLACK_S, span.until_s + SLACK_S)
    trouble = {
        LABELS_CONTRADICT: {f"{span.since_s}": store.contradicting} if store.contradicting else {},
        LABELS_UNREADABLE: dict.fromkeys(store.unreadable, 1),
    }
    return WindowLabels(table, {reason: files for reason, files in trouble.items() if files})


def complete_window(counted: WindowCounts, joined: JoinedWindow, labels: WindowLabels, span: Span) -> WindowCounts:
    """A window with all that is wrong with it.

    Args:
        counted: its pairs.
        joined: why other rows are in none.
        labels: those that cannot be used.
        span: archives that nobody could read.
    """
    counts = replace(counted.counts, left_out=joined.left_out)
    return replace(counted, counts=counts, damage=all_damage(joined.damage, labels, span))


def all_damage(of_log: Mapping[str, Mapping[str, int]], labels: WindowLabels, span: Span) -> dict[str, dict[str, int]]:
    """All that is wrong with the files of a window, by reason and by the file that tells.

    Args:
        of_log: what is wrong with log segments.
        labels: those that cannot be used.
        span: archives that nobody could read.
    """
    damage = {reason: dict(files) for reason, files in {**of_log, **labels.trouble}.items()}
    if span.unreadable:
        damage.setdefault(UNREADABLE, {}).update(dict.fromkeys(span.unreadable, 1))
    return damage


@dataclass
class LiveComparison:
    """Follows a log that is being written, and starts again where labels have come.

    Args:
        job: what is compared.
        since_s: requests count from here on, seconds since the epoch.
        is_stopped: nobody waits for a look any more.
    """

    job: ComparisonJob
    since_s: float
    _counted: Accumulation = field(init=False)
    _until_s: int = field(init=False)
    _labels: str = field(init=False, default="")
    is_stopped: Callable[[], bool] = lambda: False

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
            again = partial(count_span, self.job)
            add_window(self._counted, again(span), span, again)
            self._until_s = span.until_s
            if self.is_stopped():
                break
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
    for done, (span, window) in enumerate(zip(spans, _count_spans(count, spans, cluster), strict=True), 1):
        add_window(counted, window, span, lambda again: next(_count_spans(count, (again,), cluster)))
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
