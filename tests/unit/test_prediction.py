"""The prediction log as values: names, sampling, and how far a reader has come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotcold.domain.errors import PredictionLogError
from hotcold.domain.log_position import Cursor, Position, count_missing, reading_order
from hotcold.domain.prediction import Origin, SegmentName, hash_features, is_shadow, keeps_features

ORIGIN = Origin("m", "1.0.0", "d" * 64, "blue", "f" * 64, 20, "1a2b3c4d5e6f")
FILE = "20261125T100000Z-1a2b3c4d5e6f-000003.arrow"


def name(number: int, writer: str = "a", started: str = "20261125T100000Z") -> SegmentName:
    return SegmentName(started, writer, number)


class TestNames:
    def test_a_name_is_the_name_of_its_file(self) -> None:
        parsed = SegmentName.parse(FILE)
        assert SegmentName.at(1_795_600_800.7, "1a2b3c4d5e6f", 3) == parsed
        assert parsed is not None
        assert (FILE, 1_795_600_800.0, "2026-11-25") == (parsed.file, parsed.started_s, parsed.day)

    @pytest.mark.parametrize("file", ["", ".new-" + FILE, FILE + ".1", FILE.replace("-000003", ""), "x.arrow", "../" + FILE])
    def test_other_files_have_none(self, file: str) -> None:
        assert SegmentName.parse(file) is None

    def test_an_origin_survives_its_json(self) -> None:
        assert ORIGIN == Origin.from_json(ORIGIN.to_json())

    @pytest.mark.parametrize("document", [None, [], {}, {"layout": 2}, {"layout": 1}, {**ORIGIN.to_json(), "more": 1}])
    def test_another_layout_is_refused(self, document: object) -> None:
        with pytest.raises(PredictionLogError):
            Origin.from_json(document)


class TestSampling:
    @given(st.text(), st.floats(0, 1), st.floats(0, 1))
    def test_a_higher_rate_keeps_what_a_lower_one_keeps(self, request_id: str, one: float, other: float) -> None:
        low, high = sorted((one, other))
        assert keeps_features(request_id, low) <= keeps_features(request_id, high)
        assert (False, True) == (keeps_features(request_id, 0.0), keeps_features(request_id, 1.0))

    def test_it_keeps_the_share_that_was_asked_for(self) -> None:
        kept = sum(keeps_features(f"request-{number}", 0.1) for number in range(20_000))
        assert 1800 < kept < 2200

    def test_it_is_the_same_in_every_process_and_release(self) -> None:
        """A champion and a shadow of different versions have to keep the same ones."""
        assert [7, 8, 11, 13, 22] == [number for number in range(25) if keeps_features(f"request-{number}", 0.1)]

    def test_other_rows_have_another_hash(self) -> None:
        assert hash_features(b"\x00" * 8) == hash_features(b"\x00" * 8) != hash_features(b"\x00" * 12)

    @pytest.mark.parametrize(
        ("value", "expected"), [(b"1", True), (None, False), (b"0", False), (b"", False), (b"true", False)]
    )
    def test_only_the_edges_value_marks_a_shadow(self, value: bytes | None, expected: bool) -> None:
        assert expected is is_shadow(value)


class TestCursor:
    def test_a_new_one_has_read_nothing(self) -> None:
        assert 0 == Cursor().first_unread(name(5))

    @pytest.mark.parametrize(
        ("position", "expected"),
        [
            (Position(3, 10), [None, None, None, 10, 0]),
            (Position(3, 10, is_done=True), [None, None, None, None, 0]),
        ],
    )
    def test_what_is_unread(self, position: Position, expected: list[int | None]) -> None:
        cursor = Cursor({"a": position})
        assert expected == [cursor.first_unread(name(number)) for number in range(5)]
        assert 0 == cursor.first_unread(name(0, writer="b"))

    def test_it_moves_for_one_writer_only(self) -> None:
        cursor = Cursor().moved_to(name(1), 5, is_done=True).moved_to(name(0, "b"), 7, is_done=False)
        assert Cursor({"a": Position(1, 5, is_done=True), "b": Position(0, 7)}) == cursor

    def test_it_survives_its_json(self) -> None:
        cursor = Cursor({"a": Position(1, 5, is_done=True), "b": Position(0, 7)})
        assert cursor == Cursor.from_json(cursor.to_json())

    @pytest.mark.parametrize("document", [None, [1], {"a": 1}, {"a": [1, 2]}, {"a": ["x", 1, True]}])
    def test_anything_else_is_refused(self, document: object) -> None:
        with pytest.raises(PredictionLogError, match="not a cursor"):
            Cursor.from_json(document)


class TestOrder:
    def test_segments_come_by_time(self) -> None:
        early, late = name(1, "b", "20261125T100000Z"), name(0, "a", "20261125T100100Z")
        assert [early, late] == reading_order([late, early])

    def test_a_writer_whose_clock_was_set_back_is_read_by_number(self) -> None:
        first, second = name(0, "a", "20261125T100500Z"), name(1, "a", "20261125T100000Z")
        other = name(0, "b", "20261125T100200Z")
        assert [other, first, second] == reading_order([second, first, other])


class TestMissing:
    def test_a_hole_is_counted_before_the_segment_behind_it(self) -> None:
        assert {name(4): 2} == count_missing([name(0), name(1), name(4)], Cursor())

    def test_what_was_deleted_before_the_first_look_is_no_hole(self) -> None:
        assert {} == count_missing([name(7), name(8)], Cursor())

    def test_what_was_deleted_since_the_last_look_is_one(self) -> None:
        cursor = Cursor({"a": Position(3, 10)})
        assert {name(7): 3} == count_missing([name(7), name(8), name(0, "b")], cursor)

    def test_a_segment_that_was_read_may_be_gone(self) -> None:
        assert {} == count_missing([name(4)], Cursor({"a": Position(3, 10)}))

    def test_an_older_segment_that_is_still_there_is_none(self) -> None:
        assert {} == count_missing([name(1), name(2), name(3)], Cursor({"a": Position(3, 10)}))

    @given(st.sets(st.integers(0, 30), min_size=1), st.integers(-1, 30))
    def test_missing_and_present_are_all(self, numbers: set[int], read: int) -> None:
        cursor = Cursor({"a": Position(read, 1)} if read >= 0 else {})
        missing = count_missing([name(number) for number in numbers], cursor)
        begin = read + 1 if read >= 0 else min(numbers)
        unread = {number for number in numbers if number >= begin}
        expected = (max(numbers) - begin + 1 - len(unread)) if unread else 0
        assert expected == sum(count for segment, count in missing.items() if segment.number >= begin)
