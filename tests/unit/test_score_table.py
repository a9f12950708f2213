"""Which score table readers see: with a promotion, after an undo, and when tables are deleted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotcold.domain.package import PackageRef
from hotcold.domain.score_table import (
    Pointer,
    ScoreTable,
    TableState,
    choose_example,
    choose_table,
    refuse_publication,
    store_pointer,
    tables_to_delete,
)

OLD = PackageRef("m", 1, "1.0.0", "a" * 64)
NEW = PackageRef("m", 2, "1.1.0", "b" * 64)
THIRD = PackageRef("m", 3, "1.2.0", "c" * 64)


def table(name: str, package: PackageRef = OLD, state: TableState = TableState.PUBLISHED, **changes: object) -> ScoreTable:
    made = ScoreTable(name, "m", "/out", package, "/in", "monday", 10, True, float(name[-1]), state=state)
    return replace(made, **changes)  # type: ignore[arg-type]


OLD_1, OLD_2 = table("old-1"), table("old-2", input_fingerprint="tuesday")
NEW_3 = table("new-3", NEW, TableState.STAGED, input_fingerprint="tuesday")


class TestChooseTable:
    def test_a_promotion_moves_readers_to_the_table_that_the_new_champion_made_of_the_same_input(self) -> None:
        assert "new-3" == choose_table([OLD_1, OLD_2, NEW_3], NEW, "old-2")

    def test_a_promotion_never_takes_readers_to_another_input(self) -> None:
        assert "old-1" == choose_table([OLD_1, NEW_3], NEW, "old-1")

    def test_readers_keep_what_they_see_if_it_is_the_champion_s(self) -> None:
        assert "old-1" == choose_table([OLD_1, OLD_2], OLD, "old-1")

    def test_an_undo_takes_readers_to_the_last_table_of_the_champion_before(self) -> None:
        retracted = replace(NEW_3, state=TableState.RETRACTED)
        assert "old-2" == choose_table([OLD_1, OLD_2, retracted], OLD, "new-3")

    def test_where_the_champion_has_no_table_an_undo_takes_readers_to_the_last_that_was_shown(self) -> None:
        third = table("third-9", THIRD, TableState.STAGED)
        retracted = replace(NEW_3, state=TableState.RETRACTED)
        assert "old-1" == choose_table([OLD_1, third, retracted], replace(OLD, digest="d" * 64), "new-3")

    def test_with_every_table_taken_back_there_is_none(self) -> None:
        assert "" == choose_table([replace(OLD_1, state=TableState.RETRACTED)], OLD, "old-1")

    def test_a_first_promotion_shows_what_was_scored_before_it(self) -> None:
        assert "new-3" == choose_table([NEW_3], NEW, "")
        assert "" == choose_table([NEW_3], None, ""), "without a champion nobody sees anything"


class TestRefusePublication:
    @pytest.mark.parametrize(
        ("made", "champion", "reason"),
        [
            (OLD_1, OLD, ""),
            (replace(OLD_1, state=TableState.STAGED), OLD, ""),
            (replace(OLD_1, state=TableState.REFUSED, reason="psi is HARM"), OLD, "did not pass the quality gate: psi is HARM"),
            (replace(OLD_1, state=TableState.RETRACTED, reason="wrong day"), OLD, "was taken back: wrong day"),
            (NEW_3, None, "m has no champion yet"),
            (NEW_3, OLD, f"{NEW.tag} is not the champion, {OLD.tag} is"),
        ],
    )
    def test_only_a_good_table_of_the_champion_is_shown(
        self, made: ScoreTable, champion: PackageRef | None, reason: str
    ) -> None:
        refused = refuse_publication(made, champion)
        assert bool(reason) == bool(refused)
        assert reason in refused


class TestChooseExample:
    @pytest.mark.parametrize(
        ("states", "expected"),
        [
            ([], None),
            ([TableState.PUBLISHED, TableState.STAGED], "table-0"),
            ([TableState.PUBLISHED, TableState.PUBLISHED, TableState.RETRACTED, TableState.REFUSED], "table-1"),
            ([TableState.STAGED, TableState.STAGED, TableState.REFUSED], "table-1"),
            ([TableState.REFUSED, TableState.RETRACTED], "table-1"),
        ],
    )
    def test_the_next_table_is_made_like_the_last_good_one(self, states: list[TableState], expected: str | None) -> None:
        made = choose_example(table(f"table-{number}", state=state) for number, state in enumerate(states))
        assert expected == (made.id if made else None)


class TestRetention:
    def test_what_readers_see_and_the_way_back_are_never_deleted(self) -> None:
        tables = [table(f"old-{number}") for number in range(3)] + [table(f"new-{number}", NEW) for number in range(3, 9)]
        gone = tables_to_delete(tables, "new-4", NEW, OLD, keep=2)
        assert ["old-0", "old-1", "new-3", "new-5", "new-6"] == [made.id for made in gone]


def test_the_store_shows_the_table_that_moved_last_of_all_outputs_that_feed_it() -> None:
    tables = {"a": table("1"), "b": table("2"), "c": table("3", in_store=False)}
    pointers = [Pointer("m", "/1", "a", 4), Pointer("m", "/2", "b", 3), Pointer("m", "/3", "c", 9), Pointer("m", "/4", "", 10)]
    assert "a" == store_pointer(pointers, tables)
    assert "" == store_pointer(pointers[2:], tables)


made_tables = st.lists(
    st.builds(
        table,
        name=st.integers(0, 9).map(lambda number: f"t-{number}"),
        package=st.sampled_from([OLD, NEW, THIRD]),
        state=st.sampled_from(TableState),
        input_fingerprint=st.sampled_from(["monday", "tuesday"]),
        scored_at=st.sampled_from([1.0, 2.0, 2.0, 3.0]),
    ),
    max_size=8,
    unique_by=lambda made: made.id,
)
champions = st.sampled_from([None, OLD, NEW])
currents = st.sampled_from(["", *(f"t-{number}" for number in range(10))])


@given(made_tables, champions, currents)
def test_a_choice_is_usable_stays_and_does_not_depend_on_the_order(
    tables: list[ScoreTable], champion: PackageRef | None, current: str
) -> None:
    chosen = choose_table(tables, champion, current)
    by_id = {made.id: made for made in tables}
    assert not chosen or by_id[chosen].usable, "a table that was refused or taken back is never shown"
    assert chosen == choose_table(tables, champion, chosen), "who follows once is where he should be"
    assert chosen == choose_table(tables[::-1], champion, current)
    ours = [made for made in tables if made.usable and champion and made.package.digest == champion.digest]
    if ours and not (current in by_id and by_id[current].usable):
        assert by_id[chosen] in ours
    if chosen and current in by_id and by_id[current].usable:
        assert by_id[chosen].input_fingerprint == by_id[current].input_fingerprint, "a promotion changes the scores only"


@given(made_tables, champions, champions, currents, st.integers(1, 4))
def test_after_deletion_readers_and_undo_find_what_they_would_have_found(
    tables: list[ScoreTable], champion: PackageRef | None, previous: PackageRef | None, current: str, keep: int
) -> None:
    gone = tables_to_delete(tables, current, champion, previous, keep)
    left = [made for made in tables if made not in gone]
    assert current not in {made.id for made in gone}
    assert len(left) >= min(keep, len(tables))
    for package in (champion, previous):
        if package:
            ours = [made for made in tables if made.usable and made.package == package]
            assert not ours or choose_table(ours, package, "") in {made.id for made in left}
