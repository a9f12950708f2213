"""Which labels belong to which requests, and what holds where several are claimed of one: against a loop over all pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotcold.domain.errors import LabelError
from hotcold.domain.label_counts import DayCoverage, LabelCounts, total_coverage
from hotcold.domain.label_name import LabelName
from hotcold.domain.label_source import LabelSource, complete_source
from hotcold.domain.labels import Claims, TimedLabels, are_labels, settle
from hotcold.domain.score_histogram import count_scores

NAN = float("nan")
BY_ID = {"model": "flights", "labels_url": "truth", "label_column": "late", "request_id_column": "id"}


def claims(*pairs: tuple[float, float]) -> Claims:
    low, high = np.array(pairs, np.float32).reshape(-1, 2).T
    return Claims(low.copy(), high.copy())


def test_a_label_is_a_share() -> None:
    values = np.array([0, 1, 0.5, -0.001, 1.001, NAN, np.inf, -np.inf])
    assert [True, True, True, False, False, False, False, False] == are_labels(values).tolist()


class TestSettling:
    @pytest.mark.parametrize(
        "new, stored, is_own, kept, counts",
        [
            ((1, 1), (NAN, NAN), False, [1], LabelCounts(joined=1)),
            ((0, 1), (NAN, NAN), False, [0, 1], LabelCounts(contradicting=1)),
            ((1, 1), (1, 1), False, [], LabelCounts(known=1)),
            ((1, 1), (1, 1), True, [], LabelCounts(repeated=1)),
            ((0, 0), (1, 1), False, [0], LabelCounts(contradicting=1)),
            # It was counted as joined a moment ago.
            ((0, 0), (1, 1), True, [0], LabelCounts(contradicting=1, joined=-1)),
            ((0, 1), (0, 0), False, [1], LabelCounts(contradicting=1)),
            ((0, 1), (1, 1), False, [0], LabelCounts(contradicting=1)),
            ((0, 1), (0.5, 0.5), False, [0], LabelCounts(contradicting=1)),
            ((1, 1), (0, 1), False, [], LabelCounts(contradicting=1)),
            # Counted already, when this run found it.
            ((1, 1), (0, 1), True, [], LabelCounts()),
        ],
    )
    def test_what_is_kept_and_counted(
        self, new: tuple[float, float], stored: tuple[float, float], is_own: bool, kept: list[float], counts: LabelCounts
    ) -> None:
        done = settle(claims(new), claims(stored), np.array([is_own]))
        assert (kept, counts) == ([*done.first_labels.tolist(), *done.second_labels.tolist()], done.counts)
        assert (counts.joined == 1) == done.joined[0]

    @given(
        st.lists(st.tuples(st.integers(0, 4), st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=3)), max_size=20)
    )
    def test_in_whatever_order_they_come_the_same_requests_have_a_label(self, runs: list[tuple[int, list[float]]]) -> None:
        """Each run claims some labels of one request; of each request at most two different ones are kept."""
        stored, counts = {number: set[float]() for number in range(5)}, LabelCounts()
        claimed = {number: {label for run, labels in runs if run == number for label in labels} for number in range(5)}
        for number, labels in runs:
            before = (min(stored[number]), max(stored[number])) if stored[number] else (NAN, NAN)
            done = settle(claims((min(labels), max(labels))), claims(before), np.array([bool(stored[number])]))
            stored[number] |= {*done.first_labels.tolist(), *done.second_labels.tolist()}
            counts += done.counts
        for number in range(5):
            assert stored[number] == claimed[number] if len(claimed[number]) < 2 else 2 == len(stored[number])
            assert stored[number] <= claimed[number]
        sizes = [len(labels) for labels in claimed.values()]
        assert (sizes.count(1), sum(size > 1 for size in sizes)) == (counts.joined, counts.contradicting)


class TestTime:
    @given(
        st.lists(st.tuples(st.integers(0, 2), st.integers(-20, 20), st.sampled_from([0.0, 0.5, 1.0])), max_size=12),
        st.lists(st.tuples(st.integers(0, 2), st.integers(-25, 25)), max_size=8),
        st.integers(0, 12),
    )
    def test_it_finds_what_a_loop_over_all_pairs_finds(
        self, rows: list[tuple[int, int, float]], requests: list[tuple[int, int]], tolerance: int
    ) -> None:
        entities, times, labels = (np.array([row[index] for row in rows]) for index in range(3))
        index = TimedLabels(entities.astype(np.int64), times.astype(np.int64), labels.astype(np.float32))
        asked = [np.array([request[part] for request in requests], np.int64) for part in range(2)]
        has_label, found, first = index.match(asked[0], asked[1], tolerance)

        belong = [[row for row in rows if row[0] == entity and abs(row[1] - at) <= tolerance] for entity, at in requests]
        assert [bool(own) for own in belong] == has_label.tolist()
        for own, low, high, place in zip([own for own in belong if own], found.low, found.high, first, strict=True):
            values = {row[2] for row in own}
            assert ({low, high} <= values, low == high) == (True, len(values) == 1)
            assert min(row[1] for row in own) == rows[place][1]
        matched = {row for own in belong for row in own}
        assert {place for place, row in enumerate(rows) if row not in matched} == set(index.unmatched().tolist())


class TestSource:
    @pytest.mark.parametrize(
        "change",
        [
            {"request_id_column": ""},
            {"entity_column": "flight", "time_column": "sent"},
            {"time_column": "sent"},
            {"request_id_column": "", "entity_column": "flight"},
            {"request_id_column": "", "time_column": "sent"},
            {"known_at_column": "id"},
            {"label_column": ""},
            {"labels_url": ""},
            {"tolerance_s": -1.0},
            {"tolerance_s": NAN},
            {"max_wait_h": float("inf")},
        ],
    )
    def test_what_contradicts_itself_is_refused(self, change: dict[str, object]) -> None:
        with pytest.raises(LabelError):
            LabelSource(**{**BY_ID, **change})  # type: ignore[arg-type]

    def test_it_survives_json(self) -> None:
        source = LabelSource(**BY_ID, tolerance_s=3.0)  # type: ignore[arg-type]
        assert source == LabelSource.from_json(source.to_json())
        with pytest.raises(LabelError, match="name it again"):
            LabelSource.from_json({"colour": "red"})

    def test_what_is_left_empty_is_as_it_was(self) -> None:
        before = LabelSource(**BY_ID, known_at_column="known", tolerance_s=3.0)  # type: ignore[arg-type]
        empty = dict.fromkeys(before.to_json(), "") | {"model": "flights", "tolerance_s": None, "max_wait_h": None}
        assert before == complete_source(empty, before)
        assert "other" == getattr(complete_source({**empty, "labels_url": "other"}, before), "labels_url", None)
        assert complete_source(empty, None) is None

    def test_columns_are_taken_over_all_together_or_not(self) -> None:
        """Else an entity would be joined by the request id of the time before."""
        before = LabelSource(**BY_ID)  # type: ignore[arg-type]
        changed = complete_source({"model": "flights", "label_column": "y", "entity_column": "e", "time_column": "t"}, before)
        assert ("", "e", "truth") == (changed and (changed.request_id_column, changed.entity_column, changed.labels_url))


def test_names_of_files_say_when_their_requests_arrived() -> None:
    name = LabelName.of(1000.9, 2000.1, "0" * 12, 3)
    assert name == LabelName.parse(name.file) and LabelName.parse("x" + name.file) is None
    assert [True, True, False, False] == [
        name.overlaps(*times) for times in ((2000.1, 3000.0), (0.0, 1000.95), (2001.5, 3000.0), (0.0, 1000.0))
    ]


def test_counts_add_up() -> None:
    one, two = LabelCounts(rows=3, invalid={"a": 1, "b": 1}, joined=1), LabelCounts(rows=2, invalid={"b": 1}, early=1)
    assert LabelCounts(rows=5, invalid={"a": 1, "b": 2}, joined=1, early=1) == one + two
    assert 3 == (one + two).unusable


def test_coverage_of_several_days() -> None:
    days = tuple(DayCoverage(f"2026-11-2{day}", 10, day, 1, count_scores(np.array([day], np.float32))) for day in (4, 5))
    total = total_coverage(days)
    assert ("2026-11-24 to 2026-11-25", 20, 9, 2, 45.0) == (
        total.day,
        total.served,
        total.labelled,
        total.contradicting,
        total.pct,
    )
    assert 2 == total.delays.total
    assert (None, "") == (total_coverage(()).pct, total_coverage(()).day)
