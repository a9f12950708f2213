"""Reads what champion and candidate have answered to consumers in a canary: closed whole seconds, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hotcold.adapters.answer_columns import (
    GOOD,
    arrived_us,
    entity_keys,
    labels_of,
    score_counts,
    segment_codes,
    stages_us,
    within,
)
from hotcold.adapters.label_store import LabelStore
from hotcold.adapters.prediction_reader import PredictionReader, Window
from hotcold.adapters.shadow_comparison import SETTLED_S, ComparisonJob, all_damage, plan_spans, read_labels
from hotcold.adapters.shadow_comparison import Span as LogWindow
from hotcold.adapters.shadow_pairs import SLACK_S, read_answers, together
from hotcold.domain.canary.counting import Answers, Tally
from hotcold.domain.canary.counts import CanaryCounts
from hotcold.domain.canary.limits import CanaryLimits
from hotcold.domain.canary.spans import Span
from hotcold.domain.shadow.judgement import NOT_LOGGED, REPEATED
from hotcold.domain.shadow.pairs import mean_of_each

_COLUMNS = (
    *("request_id", "at", "status", "shadow", "tester", "entity", "segment", "scores"),
    *("pre_us", "infer_us", "post_us", "dropped"),
)
# How far back it is known how much the candidate answered in each second.
_RECENT_S = 600


@dataclass(frozen=True, eq=False)
class AnswersOfWindow:
    """Answers of a window, and what is wrong with it; see `Tally.add`."""

    answers: Answers
    left_out: Mapping[str, int]
    damage: Mapping[str, Mapping[str, int]]


def read_window(job: ComparisonJob, window: LogWindow, share_pct: int) -> AnswersOfWindow:
    """Served answers to requests that arrived within a window.

    A request that the edge has sent again, because the first replica hung, may be there twice. An entity counts once whatever
    happens. Of requests without one, those with the same id within SLACK_S of each other are one; so it does not matter where
    windows begin.

    Args:
        job: whose answers.
        window: whole seconds, with the places where its rows may be.
        share_pct: the candidate's share in all of it.
    """
    source = job.source
    digests = (source.champion.digest, source.candidate.digest)
    wanted = Window(window.since_s - SLACK_S, window.until_s, _COLUMNS)
    reader = PredictionReader(source.root, job.model)
    found = read_answers(reader, window.places, wanted, digests, window.since_s, window.until_s)
    tables = [together([_served(table) for table in found.tables.get(digest, ())], _COLUMNS) for digest in digests]
    both, is_candidate = pa.concat_tables(tables).combine_chunks(), np.repeat((False, True), [len(table) for table in tables])
    order = np.argsort(arrived_us(both), kind="stable")
    both, is_candidate = both.take(order), is_candidate[order]
    inside = within(both, window.since_s, window.until_s).combine_chunks().to_numpy(zero_copy_only=False)
    repeated = inside & _repeated(both)
    kept = inside & ~repeated
    labels = read_labels(job, window)
    left_out = {NOT_LOGGED: found.not_logged, REPEATED: int(np.count_nonzero(repeated))}
    return AnswersOfWindow(
        _answers(both.filter(pa.array(kept)), is_candidate[kept], share_pct, labels.table),
        {reason: count for reason, count in left_out.items() if count},
        all_damage(found.damage, labels, window),
    )


def _served(table: pa.Table) -> pa.Table:
    """Neither copies nor tests: consumers' requests, whose side the split has drawn."""
    return table.filter(pc.invert(pc.or_(table["shadow"], table["tester"])))


def _repeated(table: pa.Table) -> NDArray[np.bool_]:
    """Requests without an entity whose id was there shortly before, shape (n,); the rows are by time."""
    at = arrived_us(table)
    codes = table["request_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    nobody = table["entity"].combine_chunks().is_null().to_numpy(zero_copy_only=False)
    order = np.flatnonzero(nobody)
    order = order[np.argsort(codes[order], kind="stable")]
    again = (np.diff(codes[order]) == 0) & (np.diff(at[order]) <= SLACK_S * 1e6)
    found = np.zeros(len(table), dtype=np.bool_)
    found[order[1:][again]] = True
    return found


def _answers(table: pa.Table, is_candidate: NDArray[np.bool_], share_pct: int, labels: pa.Table | None) -> Answers:
    rows = score_counts(table)
    good = table["status"].to_numpy() == GOOD
    scores = pc.list_flatten(table["scores"].combine_chunks()).to_numpy(zero_copy_only=False)
    segment, names = segment_codes(table["segment"])
    label = labels_of(table["request_id"], labels)[0].astype(np.float64)
    return Answers(
        share_pct=share_pct,
        arrived_us=arrived_us(table),
        entity=entity_keys(table["entity"]),
        segment=segment,
        segments=names,
        is_candidate=is_candidate,
        good=good,
        score=np.where(good, mean_of_each(scores, rows), np.nan),
        total_us=stages_us(table).astype(np.int64).sum(axis=1),
        # Which row of several a label belongs to, nobody says.
        label=np.where(rows == 1, label, np.nan),
    )


@dataclass
class LiveCanary:
    """Follows a log that is being written, over spans, and starts again where labels have come.

    Args:
        job: whose answers.
        limits: what is tolerated beyond those of the job.
        is_stopped: nobody waits for a look any more.
    """

    job: ComparisonJob
    limits: CanaryLimits = field(default_factory=CanaryLimits)
    is_stopped: Callable[[], bool] = lambda: False
    _tally: Tally = field(init=False)
    _until_s: int = field(init=False)
    _labels: str = field(init=False, default="")
    _asked: dict[float, int] = field(init=False)
    _recent: dict[int, int] = field(init=False)

    def __post_init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._tally, self._until_s = Tally(self.job.limits, self.limits, self.job.budget_us), 0
        self._asked, self._recent = {}, {}

    def look(self, spans: Sequence[Span], now_s: float) -> CanaryCounts:
        """Count what has settled since the last look.

        Args:
            spans: all of the release, by time; the last one may be open.
            now_s: seconds since the epoch.
        """
        version = LabelStore(self.job.labels, self.job.model).version() if self.job.labels else ""
        if version != self._labels:
            # A label belongs to an answer that is counted already: count again, now with it.
            self._labels = version
            self._begin()
        for span in spans:
            seconds = span.seconds(now_s - SETTLED_S)
            if span.share_pct:
                self._count(span, max(seconds.start, self._until_s), seconds.stop)
        return self._tally.counts

    def _count(self, span: Span, since_s: int, until_s: int) -> None:
        if since_s >= until_s:
            return
        for window in plan_spans(self.job.source, since_s, until_s):
            if self.is_stopped():
                return
            read = read_window(self.job, window, span.share_pct)
            self._tally.add(read.answers, read.left_out, read.damage)
            self._note(span, read.answers)
            self._until_s = window.until_s

    def _note(self, span: Span, answers: Answers) -> None:
        seconds, counts = np.unique(answers.second[answers.is_candidate], return_counts=True)
        self._asked[span.since_s] = self._asked.get(span.since_s, 0) + int(counts.sum())
        self._recent |= dict(zip(seconds.tolist(), counts.tolist(), strict=True))
        oldest = max(self._recent, default=0) - _RECENT_S
        self._recent = {second: count for second, count in self._recent.items() if second >= oldest}

    def asked_in(self, span: Span) -> int:
        """Answers of the candidate in a span so far."""
        return self._asked.get(span.since_s, 0)

    def asked_between(self, since_s: float, until_s: float) -> int:
        """Answers of the candidate between two moments of the last ten minutes, seconds since the epoch."""
        return sum(count for second, count in self._recent.items() if since_s <= second < until_s)

    @property
    def last_answer_s(self) -> int:
        """The last second in which the candidate answered, since the epoch; 0 if it did not in the last ten minutes."""
        return max(self._recent, default=0)
