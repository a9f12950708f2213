"""Served answers of a real log are counted over spans: against counting by hand, look by look, and with everything wrong."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hotcold.adapters.canary_answers import LiveCanary
from hotcold.adapters.prediction_log import LogOptions, PredictionLog
from hotcold.domain.canary.counts import CanaryCounts
from hotcold.domain.canary.judgement import judge
from hotcold.domain.canary.spans import Span
from hotcold.domain.gate import Verdict
from hotcold.domain.package import PackageRef
from hotcold.domain.prediction import Prediction
from hotcold.domain.shadow.judgement import MISSING, REPEATED, TORN, UNREADABLE
from tests.fixtures.labels import LabelScene
from tests.fixtures.prediction_logs import START_S, making, origin
from tests.fixtures.shadow_logs import BUDGET_US, CANDIDATE, CHAMPION, Request, job, write_candidate, write_champion

LATER_S = START_S + 10_000


def served(request: Request, is_candidate: bool, base_s: float = START_S, **changes: object) -> Prediction:
    """An answer of one side to a consumer."""
    values = {"shadow": False, "arrived_us": round((base_s + request.at_s) * 1e6), **changes}
    return request.of_candidate(**values) if is_candidate else request.of_champion(**values)


def write_real(root: Path, package: PackageRef, slot: str, answers: Iterable[Prediction]) -> None:
    """By the writer that replicas have."""
    who = origin(f"real{slot}", digest=package.digest, version=package.semver, slot=slot)
    log = PredictionLog(LogOptions(root, feature_rate=0.0), who)
    log.start()
    for answer in answers:
        log.offer(making(answer))
    log.close()
    assert 0 == log.counts().dropped_full + log.counts().dropped_failed


def is_candidates(request: Request) -> bool:
    """The side of an entity stays; without one, it is drawn for each request."""
    return (request.number * 7 if request.entity is None else int(request.entity[1:])) % 3 == 0


def hard_traffic(seed: int, count: int = 900) -> list[Request]:
    """Several rows, failures, no entity, slow answers, by time."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        rows = int(random.integers(1, 4))
        scores = tuple(random.uniform(0, 1, rows).tolist())
        answer = None if random.uniform() < 0.1 else scores
        entity = None if random.uniform() < 0.2 else f"e{random.integers(0, 200)}"
        segment = random.choice([None, "new", "old"])
        slow = int(random.choice([100, 49_929, 49_930, 80_000]))
        made.append(Request(number, float(random.uniform(0, 60)), answer, answer, entity, segment, slow))
    return sorted(made, key=lambda request: request.at_s)


def by_hand(requests: list[Request], spans: list[tuple[int, int, int]]) -> dict[str, object]:
    """The same by plain loops; spans are share, first second and the one after the last."""
    seen: set[str] = set()
    failed: set[str] = set()
    entities, failures, asked = {}, {}, {}
    means: dict[tuple[int, bool], list[float]] = {}
    seconds: dict[int, list[bool]] = {}
    first_us: dict[tuple[int, bool], int] = {}
    sizes: dict[str, int] = {}
    for request in requests:
        second, mine = math.floor(request.at_s), is_candidates(request)
        share = next((share for share, begin, end in spans if begin <= second < end), None)
        if share is None:
            continue
        scores, key = request.champion, request.entity or f"#{request.number}"
        total_us = (request.infer_us if mine else 100) + 70
        asked[share, mine] = asked.get((share, mine), 0) + 1
        if scores and mine:
            seconds.setdefault(second, []).append(total_us >= BUDGET_US)
        if key not in seen:
            entities[share, mine] = entities.get((share, mine), 0) + 1
            if scores:
                means.setdefault((share, mine), []).append(float(np.mean(np.float32(scores).astype(float))))
                first_us.setdefault((second, mine), total_us)
        if not scores and key not in failed:
            failures[share, mine] = failures.get((share, mine), 0) + 1
        if key not in seen or (not scores and key not in failed):
            sizes[request.segment or ""] = sizes.get(request.segment or "", 0) + 1
        seen.add(key)
        failed |= set() if scores else {key}
    slow = [float(np.mean(flags)) for flags in seconds.values()]
    return {
        "asked": asked,
        "entities": entities,
        "failures": failures,
        "means": means,
        "slow": slow,
        "us": first_us,
        "sizes": sizes,
    }


def flat(by_share: dict[int, tuple[int, int]]) -> dict[tuple[int, bool], int]:
    return {(share, side == 0): n for share, pair in by_share.items() for side, n in enumerate(pair) if n}


def check(counts: CanaryCounts, expected: dict[str, object]) -> None:
    assert expected["asked"] == flat(dict(counts.answers.by_share))
    assert expected["entities"] == flat(dict(counts.entities.by_share))
    assert expected["failures"] == flat(dict(counts.errors.failures.by_share))
    means = {(s, side == 0): v for s, pair in counts.scores.by_share.items() for side, v in enumerate(pair) if v.total}
    assert {key: len(values) for key, values in expected["means"].items()} == {key: v.total for key, v in means.items()}  # type: ignore[attr-defined]
    for key, values in expected["means"].items():  # type: ignore[attr-defined]
        assert pytest.approx(np.mean(values), abs=1e-4) == (means[key].mean + 1) / 2
    assert (len(expected["slow"]), pytest.approx(np.mean(expected["slow"]), abs=1e-4)) == (counts.slow.total, counts.slow.mean)  # type: ignore[arg-type]
    firsts = [sum(mine is side for _, mine in expected["us"]) for side in (True, False)]  # type: ignore[attr-defined]
    assert firsts == [counts.candidate_us.total, counts.champion_us.total]
    assert expected["sizes"] == {name: own.errors.answers.total for name, own in counts.segments.items()}


@pytest.mark.parametrize("seed", range(4))
def test_counts_are_those_made_by_hand_whatever_the_looks(tmp_path: Path, seed: int) -> None:
    base = math.floor(time.time())
    requests = hard_traffic(seed)
    for package, slot, mine in ((CHAMPION, "blue", False), (CANDIDATE, "green", True)):
        own = [r for r in requests if is_candidates(r) is mine]
        # The log is not in the order of arrival.
        write_real(tmp_path, package, slot, [served(r, mine, base) for r in own[1::2] + own[::2]])
    closed, open_ = Span(10, base + 5.5, base + 25.2), Span(50, base + 28.0)
    expected = by_hand(requests, [(10, 7, 24), (50, 29, 52)])
    now = base + 60.0
    once = LiveCanary(job(tmp_path))
    check(once.look((closed, open_), now), expected)
    live, at = LiveCanary(job(tmp_path)), base + 6.0
    while at < now:
        spans = (
            (closed, open_) if at > open_.since_s else (replace(closed, until_s=closed.until_s if at > 25.2 + base else None),)
        )
        live.look(spans, at)
        at += 1.7
    assert once.look((closed, open_), now) == live.look((closed, open_), now)
    assert expected["asked"][50, True] == live.asked_in(open_)  # type: ignore[index]
    assert expected["asked"][50, True] == live.asked_between(base + 29, base + 99)  # type: ignore[index]


def write_sides(root: Path, requests: list[Request], **of_candidate: object) -> None:
    write_champion(root, [served(r, False) for r in requests if not is_candidates(r)])
    write_candidate(root, [served(r, True, **of_candidate) for r in requests if is_candidates(r)])


SPANS = (Span(33, START_S),)


def test_copies_tests_and_other_packages_are_not_counted_and_what_was_not_asked_is_not_there(tmp_path: Path) -> None:
    requests = hard_traffic(1)
    write_sides(tmp_path, requests, tester=True)
    write_candidate(tmp_path, [r.of_candidate() for r in requests], writer="copies")
    counts = LiveCanary(job(tmp_path)).look(SPANS, LATER_S)
    assert (0, True) == (counts.answers.candidate, counts.answers.champion > 0)
    assert {Verdict.UNKNOWN} >= {gate.verdict for gate in judge(CanaryCounts(), job(tmp_path).limits).gates}
    assert CanaryCounts() == LiveCanary(job(tmp_path)).look((), LATER_S)
    assert CanaryCounts() == LiveCanary(job(tmp_path)).look((Span(0, START_S),), LATER_S)


def test_a_request_without_entity_that_the_edge_sent_twice_counts_once_wherever_windows_begin(tmp_path: Path) -> None:
    requests = [Request(n, 2.0 + n, (0.3,), (0.3,), None if n % 2 else f"e{n}") for n in range(40)]
    twice = [served(r, True) for r in requests] + [served(replace(r, at_s=r.at_s + 2.1), True) for r in requests]
    write_candidate(tmp_path, twice)
    live, whole = LiveCanary(job(tmp_path)), LiveCanary(job(tmp_path)).look(SPANS, LATER_S)
    for second in range(60):
        pieces = live.look(SPANS, START_S + 10 + second)
    assert (40, 20, 60) == (whole.entities.total, whole.left_out[REPEATED], whole.answers.total)
    assert whole == pieces


def test_what_has_not_settled_is_not_counted(tmp_path: Path) -> None:
    requests = hard_traffic(2)
    write_sides(tmp_path, requests)
    counts = LiveCanary(job(tmp_path)).look(SPANS, START_S + 30.9)
    assert sum(1 <= r.at_s < 22 for r in requests) == counts.answers.total


def test_labels_that_come_later_are_counted_with_all_before(tmp_path: Path) -> None:
    requests = [Request(n, n / 10, (0.2 + n % 2 / 2,), (0.2 + n % 2 / 2,), f"e{n}") for n in range(300)]
    scene = LabelScene(tmp_path)
    write_sides(scene.log, requests)
    live = LiveCanary(job(scene.log, tmp_path / "labels"))
    before = live.look(SPANS, LATER_S)
    scene.write("late.parquet", id=[f"r{n}" for n in range(300)], late=[float(n % 4 == 1) for n in range(300)])
    scene.join(now_s=LATER_S)
    after = live.look(SPANS, LATER_S)
    counted = sum(r.at_s >= 1 for r in requests)
    assert (0, counted) == (sum(before.wrong.totals), sum(after.wrong.totals))
    assert before.scores == after.scores
    wrong = sum(n % 4 == 3 for n in range(10, 300))
    ones = sum(side.total * (side.mean + 1) / 2 for sides in after.wrong.by_share.values() for side in sides)
    assert wrong == round(ones)


def torn(root: Path, requests: list[Request]) -> None:
    write_champion(root, [served(r, False) for r in requests if not is_candidates(r)])
    path = write_candidate(root, [served(r, True) for r in requests if is_candidates(r)], how="killed")
    with path.open("ab") as file:
        file.write(b"\xff\xff\xff\xff\x10\x01\x00\x00torn")


def missing(root: Path, requests: list[Request]) -> None:
    write_champion(root, [served(r, False) for r in requests if not is_candidates(r)])
    own = [served(r, True) for r in requests if is_candidates(r)]
    for number in range(3):
        path = write_candidate(root, own[number::3], number=number)
        if number == 1:
            path.unlink()


def unreadable(root: Path, requests: list[Request]) -> None:
    write_sides(root, requests)
    path = write_candidate(root, [served(r, True) for r in requests[:3]], writer="broken")
    path.write_bytes(b"nothing of Arrow" * 10)


@pytest.mark.parametrize("write,reason", [(torn, TORN), (missing, MISSING), (unreadable, UNREADABLE)])
def test_a_damaged_log_is_counted_once_named_and_never_safe(tmp_path: Path, write, reason: str) -> None:  # type: ignore[no-untyped-def]
    entities = [Request(n, n / 50, (0.3 + n % 5 / 10,), (0.3 + n % 5 / 10,), f"e{n}") for n in range(15_000)]
    write(tmp_path, entities)
    live = LiveCanary(job(tmp_path))
    for second in (50, 170, 400):
        counts = live.look(SPANS, START_S + second)
    assert 1 == counts.left_out[reason]
    gates = judge(counts, job(tmp_path).limits).gates
    assert Verdict.SAFE not in {gate.verdict for gate in gates}
    assert all(f"1 {reason}" in gate.observed for gate in gates if gate.verdict is Verdict.UNKNOWN)


def test_the_same_versions_become_safe_and_a_shifted_one_is_harm(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    scores = random.beta(2, 3, 12_000)
    for name, shift in (("good", 0.0), ("bad", 0.2)):
        write_sides(
            tmp_path / name,
            [Request(n, n / 40, (float(s),), (min(float(s) + shift, 1.0),), f"e{n}") for n, s in enumerate(scores)],
        )
        counts = LiveCanary(job(tmp_path / name)).look((Span(33, START_S),), LATER_S)
        found = {gate.name: gate.verdict for gate in judge(counts, job(tmp_path).limits).gates}
        expected = Verdict.SAFE if name == "good" else Verdict.HARM
        assert (expected, Verdict.SAFE) == (found["score_shift"], found["latency_budget"])
