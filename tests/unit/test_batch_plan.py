import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotcold.domain.batch_plan import MAX_PIECES_PER_PART, MAX_SLICES, BatchPlan, Columns, InputFile, Piece
from hotcold.domain.errors import BatchError


def make_plan(*units: tuple[int, ...], rows_per_part: int = 100, **changes: object) -> BatchPlan:
    files = tuple(InputFile(f"file:///in/{index}.parquet", 1000 + index, "mtime 1", unit) for index, unit in enumerate(units))
    plan = BatchPlan("flights", "d" * 64, "onedal", "parquet", files, Columns("id"), "fail", rows_per_part, "writer 1")
    return replace(plan, **changes)  # type: ignore[arg-type]


def rows_covered(plan: BatchPlan) -> list[tuple[int, int, int]]:
    """Every (file, row group, row) that the parts take, in their order."""
    covered = []
    for part in plan.parts():
        for piece in part.pieces:
            if piece.count == 1:
                assert piece.rows is not None
                covered += [(piece.file, piece.first, piece.skip_rows + row) for row in range(piece.rows)]
            else:
                for group in range(piece.first, piece.first + piece.count):
                    covered += [(piece.file, group, row) for row in range(plan.files[piece.file].units[group])]
    return covered


@given(st.lists(st.lists(st.integers(0, 700), max_size=6).map(tuple), max_size=8), st.integers(1, 300))
def test_every_row_is_in_exactly_one_part(units: list[tuple[int, ...]], rows_per_part: int) -> None:
    plan = make_plan(*units, rows_per_part=rows_per_part)
    expected = [
        (file, group, row) for file, groups in enumerate(units) for group, rows in enumerate(groups) for row in range(rows)
    ]
    assert expected == rows_covered(plan)


@given(st.lists(st.lists(st.integers(1, 700), max_size=6).map(tuple), max_size=8), st.integers(1, 300))
def test_parts_are_numbered_and_no_larger_than_wanted_unless_one_piece_is(
    units: list[tuple[int, ...]], rows_per_part: int
) -> None:
    parts = make_plan(*units, rows_per_part=rows_per_part).parts()
    assert list(range(len(parts))) == [part.index for part in parts]
    for part in parts:
        assert part.rows is not None
        assert part.rows <= rows_per_part or len(part.pieces) == 1


def test_small_files_share_a_part() -> None:
    plan = make_plan(*[(10,)] * 25)
    assert [100, 100, 50] == [part.rows for part in plan.parts()]


def test_row_groups_side_by_side_become_one_piece() -> None:
    plan = make_plan((30, 30, 30, 30))
    assert (Piece(0, 0, 3, 0, 90),) == plan.parts()[0].pieces


def test_a_row_group_that_is_too_large_is_sliced() -> None:
    plan = make_plan((1000,))
    assert [100] * 10 == [part.rows for part in plan.parts()]


def test_a_giant_row_group_is_sliced_a_bounded_number_of_times() -> None:
    assert MAX_SLICES == len(make_plan((1_000_000,)).parts())


def test_files_without_rows_make_no_part_of_their_own() -> None:
    assert [7] == [part.rows for part in make_plan((), (0,), (7,), (0, 0)).parts()]


def test_a_part_holds_a_bounded_number_of_pieces() -> None:
    parts = make_plan(*[(1,)] * 2000, rows_per_part=10_000).parts()
    assert MAX_PIECES_PER_PART == max(len(part.pieces) for part in parts)


def test_ranges_of_csv_files_follow_the_header_and_fill_parts_by_bytes() -> None:
    file = InputFile("file:///in/a.csv", 20_030, "mtime 1", (10_000, 10_000), 30)
    plan = make_plan(rows_per_part=100, format="csv", files=(file,))
    assert [(Piece(0, 30, 10_000),), (Piece(0, 10_030, 10_000),)] == [part.pieces for part in plan.parts()]
    assert [None, None] == [part.rows for part in plan.parts()]


class TestTableId:
    def test_the_same_plan_has_the_same_id(self) -> None:
        assert make_plan((10,)).table_id == make_plan((10,)).table_id

    def test_it_does_not_need_the_files_to_be_opened(self) -> None:
        assert make_plan((10,)).table_id == make_plan(()).table_id

    @pytest.mark.parametrize(
        "change",
        [
            {"package_digest": "e" * 64},
            {"engine": "cuda"},
            {"columns": Columns("id", ("carrier",))},
            {"on_bad_part": "quarantine"},
            {"rows_per_part": 99},
            {"writer": "writer 2"},
        ],
    )
    def test_whatever_decides_about_the_bytes_is_part_of_it(self, change: dict[str, object]) -> None:
        assert make_plan((10,)).table_id != make_plan((10,), **change).table_id

    def test_a_file_that_was_written_again_makes_another_table(self) -> None:
        plan = make_plan((10,))
        touched = replace(plan.files[0], version="mtime 2")
        assert plan.table_id != replace(plan, files=(touched,)).table_id


def test_a_plan_survives_json() -> None:
    plan = make_plan((10, 20), (), columns=Columns("id", ("carrier", "day")))
    assert plan == BatchPlan.from_json(json.loads(json.dumps(plan.to_json())))


def test_what_is_no_plan_is_refused() -> None:
    with pytest.raises(BatchError, match="not a batch plan"):
        BatchPlan.from_json({"model": "flights"})


@pytest.mark.parametrize("columns", [("id", ("id",)), ("id", ("a", "a")), ("", ()), ("id", ("",))])
def test_columns_have_distinct_names(columns: tuple[str, tuple[str, ...]]) -> None:
    with pytest.raises(BatchError, match="column"):
        Columns(*columns)
