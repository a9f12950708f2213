import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotcold.domain.batch_plan import BatchPlan, Columns, InputFile
from hotcold.domain.errors import BatchError
from hotcold.domain.receipt import Problem, Receipt, Timings, content_digest, ids_are_unique, missing_parts, summarise
from hotcold.domain.score_histogram import count_scores


def make_plan(*rows: int, rows_per_part: int = 10) -> BatchPlan:
    files = (InputFile("file:///in/a.parquet", 1, "1", rows),)
    return BatchPlan("flights", "d" * 64, "onedal", "parquet", files, Columns("id"), "quarantine", rows_per_part)


def make_receipt(part: int, rows: int, quarantined: int = 0) -> Receipt:
    scores = np.linspace(0.1, 0.9, rows - quarantined, dtype=np.float32)
    problems = (Problem("file:///in/a.parquet", quarantined, "bad"),) if quarantined else ()
    return Receipt(
        part, rows, rows - quarantined, quarantined, f"{part:064d}", 100, count_scores(scores), problems, Timings(1, 2, 3, 4)
    )


def receipts_of(plan: BatchPlan) -> list[Receipt]:
    return [make_receipt(part.index, part.rows or 0) for part in plan.parts()]


@pytest.mark.parametrize("rows", [(10, 9, 0), (10, 8, 3), (10, 11, -1)])
def test_a_receipt_that_does_not_add_up_cannot_be_made(rows: tuple[int, int, int]) -> None:
    with pytest.raises(BatchError, match="does not add up"):
        Receipt(0, *rows, "", 0, count_scores(np.zeros(rows[1], dtype=np.float32)))


def test_a_receipt_survives_json() -> None:
    receipt = make_receipt(3, 10, 2)
    assert receipt == Receipt.from_json(json.loads(json.dumps(receipt.to_json())))


def test_a_receipt_from_before_transfers_were_timed_is_read() -> None:
    document = json.loads(json.dumps(make_receipt(3, 10).to_json()))
    del document["timings"]["transfer_s"]
    assert Timings(1, 2, 3, 4) == Receipt.from_json(document).timings


def test_a_transfer_is_a_stage_where_there_was_one() -> None:
    spent = Timings(1, 2, 3, 4) + Timings(transfer_s=0.5)
    assert 10.5 == spent.total_s
    assert {"read": 1, "encode": 2, "score": 3, "write": 4, "transfer": 0.5} == spent.stages
    assert ["read", "encode", "score", "write"] == list(Timings(1, 2, 3, 4).stages)


def test_what_is_no_receipt_is_refused() -> None:
    with pytest.raises(BatchError, match="not a receipt"):
        Receipt.from_json({"part": 1})


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.data())
def test_done_and_missing_parts_are_all_parts_whatever_order_the_receipts_come_in(rows: list[int], data: st.DataObject) -> None:
    plan = make_plan(*rows)
    receipts = receipts_of(plan)
    done = data.draw(st.lists(st.sampled_from(receipts), unique_by=lambda receipt: receipt.part))
    missing = missing_parts(plan.parts(), done)
    assert {part.index for part in plan.parts()} == {part.index for part in missing} | {receipt.part for receipt in done}
    assert not {part.index for part in missing} & {receipt.part for receipt in done}


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.randoms())
def test_totals_do_not_depend_on_the_order_of_the_receipts(rows: list[int], random: object) -> None:
    plan = make_plan(*rows)
    receipts = receipts_of(plan)
    shuffled = list(receipts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    totals = summarise(plan, plan.parts(), shuffled)
    assert summarise(plan, plan.parts(), receipts) == totals
    assert sum(rows) == totals.rows_in == totals.rows_out == totals.histogram.total
    assert content_digest(receipts) == content_digest(shuffled)


def test_quarantined_rows_are_counted_and_named() -> None:
    plan = make_plan(10, 10)
    totals = summarise(plan, plan.parts(), [make_receipt(0, 10, 4), make_receipt(1, 10)])
    assert (20, 16, 4, 1) == (totals.rows_in, totals.rows_out, totals.rows_quarantined, totals.problem_count)
    assert "bad" == totals.problems[0].what


def test_a_file_that_nobody_can_count_is_named() -> None:
    plan = make_plan(10)
    torn = InputFile("file:///in/torn.parquet", 5, "1", problem="no footer")
    plan = replace(plan, files=(*plan.files, torn))
    totals = summarise(plan, plan.parts(), [make_receipt(0, 10)])
    assert (1, "no footer", None) == (totals.uncounted_files, totals.problems[0].what, totals.problems[0].rows)


@pytest.mark.parametrize("parts", [[0], [0, 0], [0, 1, 1], [0, 1, 2]])
def test_a_lost_or_doubled_part_is_found(parts: list[int]) -> None:
    plan = make_plan(10, 10)
    with pytest.raises(BatchError, match="receipts for 2 parts"):
        summarise(plan, plan.parts(), [make_receipt(part, 10) for part in parts])


def test_a_part_with_fewer_rows_than_planned_is_found() -> None:
    plan = make_plan(10, 10)
    with pytest.raises(BatchError, match="20 rows planned, 19 read"):
        summarise(plan, plan.parts(), [make_receipt(0, 10), make_receipt(1, 9)])


@pytest.mark.parametrize("receipt", [make_receipt(7, 10), make_receipt(1, 9)])
def test_a_receipt_of_another_plan_is_refused(receipt: Receipt) -> None:
    with pytest.raises(BatchError, match="delete the table's folder"):
        missing_parts(make_plan(10, 10).parts(), [receipt])


@pytest.mark.parametrize(
    ("ranges", "proven"),
    [
        ([(1, 5), (6, 9)], True),
        ([(6, 9), (1, 5)], True),
        ([("a", "c"), ("d", "e")], True),
        ([(1, 5), (5, 9)], False),
        ([(1, 9), (2, 3)], False),
        ([(1, 5), None], False),
    ],
)
def test_ids_are_proven_unique_only_by_ranges_that_do_not_overlap(ranges: list[tuple[int, int] | None], proven: bool) -> None:
    receipts = [replace(make_receipt(part, 10), ids=ids) for part, ids in enumerate(ranges)]
    assert proven is ids_are_unique(receipts)
    assert receipts == [Receipt.from_json(json.loads(json.dumps(receipt.to_json()))) for receipt in receipts]


def test_other_bytes_give_another_content_digest() -> None:
    receipts = [make_receipt(0, 10), make_receipt(1, 10)]
    assert content_digest(receipts) != content_digest([receipts[0], replace(receipts[1], sha256="f" * 64)])
