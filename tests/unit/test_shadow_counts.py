"""Counts of a comparison: an entity counts once in whatever pieces it comes, merges add up, and limits refuse nonsense."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotcold.domain.errors import EvidenceError, PlanError
from hotcold.domain.gate import Gate, Verdict
from hotcold.domain.plan import SHADOW_NEEDED, Plan
from hotcold.domain.score_histogram import count_scores
from hotcold.domain.shadow.comparison import MAX_SEGMENTS, OTHER_SEGMENTS, Comparison, SegmentCounts
from hotcold.domain.shadow.counting import Accumulation, count_window
from hotcold.domain.shadow.judgement import judge, judge_pairing
from hotcold.domain.shadow.limits import Limits
from hotcold.domain.shadow.pairs import NO_ENTITY, Pairs, SeenEntities, Side
from hotcold.domain.shadow.repeats import Rows, join_near
from hotcold.domain.shadow.summary import area_under_curve, decide_verdict

_KEYS = st.lists(st.integers(0, 12), max_size=40)


@given(_KEYS, st.lists(st.integers(0, 40), max_size=6))
def test_an_entity_is_new_once_whatever_the_pieces(keys: list[int], cuts: list[int]) -> None:
    seen, found = SeenEntities(), []
    edges = sorted({0, len(keys), *(cut for cut in cuts if cut <= len(keys))})
    for begin, end in pairwise(edges):
        found += seen.take_new(np.array(keys[begin:end], dtype=np.uint64)).tolist()
    assert [key == NO_ENTITY or key not in keys[:i] for i, key in enumerate(keys)] == found
    assert len({key for key in keys if key != NO_ENTITY}) == len(seen)


def pairs(changes: list[float], first_second: int = 0, entity: int = 1) -> Pairs:
    """One pair a second, each of another entity; the champion's score is 0.4."""
    n = len(changes)
    stages = np.full((n, 3), 100, dtype=np.uint32)
    champion = np.full(n, 0.4, dtype=np.float32)
    sides = (Side(np.full(n, True), scores.astype(np.float32), stages) for scores in (champion, champion + np.array(changes)))
    return Pairs(
        (np.arange(n, dtype=np.int64) + first_second) * 1_000_000,
        np.arange(entity, entity + n, dtype=np.uint64),
        np.zeros(n, dtype=np.int64),
        ("",),
        np.ones(n, dtype=np.int64),
        *sides,
        np.full(n, np.nan, dtype=np.float32),
        np.full(n, np.nan, dtype=np.float32),
        np.arange(entity, entity + n, dtype=np.uint64),
    )


@given(st.lists(st.floats(-0.3, 0.3), min_size=1, max_size=30), st.integers(0, 30))
def test_windows_add_up_to_the_whole(changes: list[float], cut: int) -> None:
    cut = min(cut, len(changes))
    whole, parts = Accumulation(Limits()), Accumulation(Limits())
    whole.add(count_window(pairs(changes), Limits(), 1e6))
    for begin, end in ((0, cut), (cut, len(changes))):
        parts.add(count_window(pairs(changes[begin:end], begin, begin + 1), Limits(), 1e6))
    for name in ("pairs", "scored", "agreed", "entities", "change", "flips", "errors", "slow", "segments"):
        assert getattr(whole.comparison, name) == getattr(parts.comparison, name), name


@given(st.lists(st.tuples(st.integers(1, 8), st.integers(1, 3)), max_size=30), st.sets(st.integers(1, 8)))
def test_a_request_id_counts_with_its_first_pair_and_rows_stay_with_their_request(
    requests: list[tuple[int, int]], counted: set[int]
) -> None:
    keys, rows = (np.array([request[place] for request in requests], dtype=np.int64) for place in (0, 1))
    scores = np.repeat(np.arange(len(keys)), rows).astype(np.float32)
    whole = pairs([0.0] * len(keys))
    sides = {name: replace(getattr(whole, name), scores=scores) for name in ("champion", "candidate")}
    whole = replace(whole, rows=rows, request=keys.astype(np.uint64), **sides)
    found = whole.first_of_requests(np.array(sorted(counted), dtype=np.uint64))
    kept = [n for n, key in enumerate(keys.tolist()) if key not in counted and key not in keys.tolist()[:n]]
    assert [key for n, key in enumerate(keys.tolist()) if n in kept] == found.request.tolist()
    assert [float(n) for n in kept for _ in range(rows[n])] == found.champion.scores.tolist() == found.candidate.scores.tolist()
    assert kept == [second // 1_000_000 for second in found.arrived_us.tolist()]


def test_a_window_with_a_request_that_was_counted_is_named_and_refused() -> None:
    counted = Accumulation(Limits())
    counted.add(count_window(pairs([0.1, 0.2]), Limits(), 1e6))
    again = count_window(pairs([0.1, 0.2], first_second=2, entity=2), Limits(), 1e6)
    assert [2] == counted.repeated(again).tolist()
    with pytest.raises(EvidenceError, match="counted before"):
        counted.add(again)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40))), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40))))
def test_rows_of_ids_that_repeat_are_joined_with_what_is_near(
    own: list[tuple[int, int]], others: list[tuple[int, int]]
) -> None:
    def rows(of: list[tuple[int, int]]) -> Rows:
        return Rows(np.array([code for code, _ in of], dtype=np.int64), np.array([at for _, at in of], dtype=np.int64))

    def near(one: tuple[int, int], among: list[tuple[int, int]]) -> list[int]:
        return [n for n, other in enumerate(among) if one[0] == other[0] and abs(one[1] - other[1]) <= 5]

    found = join_near(rows(own), rows(others), 5)
    partners, same = [near(one, others) for one in own], [len(near(one, own)) for one in own]
    assert [p[0] if (len(p), n) == (1, 1) else -1 for p, n in zip(partners, same, strict=True)] == found.partner.tolist()
    assert [(len(p), n) == (0, 1) for p, n in zip(partners, same, strict=True)] == found.is_alone.tolist()
    assert [bool(near(one, own)) for one in others] == found.has_request.tolist()


def test_a_caller_with_a_segment_for_each_request_does_not_fill_the_memory() -> None:
    counts = Comparison()
    for number in range(MAX_SEGMENTS + 50):
        counts = counts.merge(Comparison(segments={f"s{number}": SegmentCounts()}))
    assert (MAX_SEGMENTS + 1, True) == (len(counts.segments), OTHER_SEGMENTS in counts.segments)


def test_pairs_that_lack_a_partner_are_tolerated_up_to_the_limit_and_only_where_all_are_copied() -> None:
    few = Comparison(pairs=9_950, left_out={"only in the champion's log": 50})
    many = Comparison(pairs=9_800, left_out={"only in the champion's log": 200})
    limits = Limits(unpaired_pct=1.0)
    found = [judge_pairing(counts, limits, copied).verdict for counts in (few, many) for copied in (True, False)]
    assert [Verdict.SAFE, Verdict.SAFE, Verdict.UNKNOWN, Verdict.SAFE] == found


def test_without_pairs_nothing_is_safe_and_nothing_is_harm() -> None:
    assert {Verdict.UNKNOWN} == {gate.verdict for gate in judge(Comparison(), Limits()).gates}


@given(
    st.lists(st.sampled_from([0.1, 0.2, 0.4, 0.8]), min_size=1, max_size=20),
    st.lists(st.sampled_from([0.1, 0.2, 0.4, 0.8]), min_size=1, max_size=20),
)
def test_the_area_under_the_curve_is_the_share_of_pairs_in_the_right_order(yes: list[float], no: list[float]) -> None:
    expected = np.mean([(a > b) + (a == b) / 2 for a in yes for b in no])
    found = area_under_curve(*(count_scores(np.array(side, dtype=np.float32)) for side in (yes, no)))
    assert pytest.approx(expected) == found
    assert math.isnan(area_under_curve(count_scores(np.array([], dtype=np.float32)), count_scores(np.float32(no))))


def test_a_verdict_needs_every_gate_that_is_needed_and_no_harm_by_any() -> None:
    safe = [Gate(name, Verdict.SAFE) for name in SHADOW_NEEDED]
    assert Verdict.SAFE is decide_verdict(safe, SHADOW_NEEDED)[0]
    assert Verdict.UNKNOWN is decide_verdict(safe[1:], SHADOW_NEEDED)[0]
    assert Verdict.HARM is decide_verdict([*safe, Gate("worst_segment", Verdict.HARM)], SHADOW_NEEDED)[0]


@pytest.mark.parametrize(
    ("given_limits", "message"),
    [
        ({"score_change": 0.6}, r"limits: score_change is 0.6; allowed is a hundred-thousandth of score_scale"),
        ({"flips_per_1000": 0}, r"limits: flips_per_1000 is 0; allowed is 0.01 to 990"),
        ({"alpha": float("nan")}, r"limits: alpha is nan"),
        ({"luck": 1}, r"limits: unknown key 'luck'; known are threshold, score_change"),
        (3, r"limits are int; allowed is an object"),
        ({"alpha": "much"}, r"limits: a value has the wrong type"),
    ],
)
def test_limits_that_make_no_sense_are_refused_with_the_plan(given_limits: Any, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Plan.from_json({"limits": given_limits})


def test_limits_are_part_of_the_plan_and_of_its_digest() -> None:
    plan = Plan(strategy="shadow", limits=Limits(cost_per_flip=3.0))
    assert plan == Plan.from_json(plan.to_json())
    assert plan.digest != Plan(strategy="shadow").digest
