"""Pairs of a real log are joined and counted: against counting by hand, live against afterwards, and with everything wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from hotcold.adapters.cluster import open_cluster
from hotcold.adapters.shadow_comparison import ComparisonJob, LiveComparison, add_window, compare, count_span, plan_spans
from hotcold.domain.gate import Verdict
from hotcold.domain.shadow.comparison import Comparison
from hotcold.domain.shadow.counting import Accumulation
from hotcold.domain.shadow.judgement import (
    APART,
    MISSING,
    ONLY_CANDIDATE,
    ONLY_CHAMPION,
    OTHER_REQUEST,
    OTHER_SHAPE,
    REPEATED,
    TORN,
    judge,
)
from tests.fixtures.prediction_logs import START_S
from tests.fixtures.shadow_logs import (
    BUDGET_US,
    Request,
    job,
    traffic,
    write_both,
    write_candidate,
    write_champion,
)

# Behind all traffic. Each window takes its time, also an empty one.
_AFTER_S = START_S + 600


def count(work: ComparisonJob, window_s: int = 300, until_s: float = _AFTER_S) -> Comparison:
    """All windows, one after the other, in this process."""
    counted = Accumulation(work.limits)
    again = partial(count_span, work)
    for span in plan_spans(work.source, START_S, until_s, window_s):
        add_window(counted, again(span), span, again)
    return counted.comparison


def verdicts(counts: Comparison, work: ComparisonJob) -> dict[str, Verdict]:
    return {gate.name: gate.verdict for gate in judge(counts, work.limits).gates}


def _hard_traffic(seed: int) -> list[Request]:
    """Several rows, failures of either side, no entity, slow answers."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(600):
        rows = int(random.integers(1, 5))
        scores = [tuple(random.uniform(0, 1, rows).tolist()) for _ in range(2)]
        fails = random.uniform(size=2) < 0.1
        made.append(
            Request(
                number,
                float(random.uniform(0, 40)),
                None if fails[0] else scores[0],
                None if fails[1] else scores[1],
                None if random.uniform() < 0.2 else f"e{random.integers(0, 150)}",
                random.choice([None, "new", "old"]),
                int(random.choice([100, 49_929, 49_930, 80_000])),
            )
        )
    return made


@pytest.mark.parametrize("seed", range(5))
def test_counts_are_those_made_by_hand(tmp_path: Path, seed: int) -> None:
    requests = sorted(_hard_traffic(seed), key=lambda request: request.at_s)
    write_both(tmp_path, requests)
    counts = count(job(tmp_path), window_s=7)
    scored = [r for r in requests if r.champion and r.candidate]
    flips = {
        r.number: np.mean([(a >= 0.5) != (b >= 0.5) for a, b in zip(r.champion, r.candidate, strict=True)])  # type: ignore[arg-type]
        for r in scored
    }
    first: dict[str, Request] = {}
    for request in requests:
        first.setdefault(request.entity or f"#{request.number}", request)
    own = [r for r in first.values() if r.number in flips]
    changes = [np.mean(np.float32(r.candidate).astype(float) - np.float32(r.champion)) for r in own]  # type: ignore[arg-type]
    by_second: dict[int, list[Request]] = {}
    for request in requests:
        by_second.setdefault(math.floor(request.at_s), []).append(request)
    errors = [np.mean([(r.champion is not None) - (r.candidate is not None) for r in rs]) for rs in by_second.values()]
    slow = [[r.infer_us + 70 >= BUDGET_US for r in rs if r.candidate] for rs in by_second.values()]
    assert (len(requests), len(scored), len(first)) == (counts.pairs, counts.scored, counts.entities)
    assert sum(flip == 0 for flip in flips.values()) == counts.agreed
    assert (len(own), len(own)) == (counts.change.total, counts.flips.total)
    assert pytest.approx(np.mean(np.clip(changes, -0.5, 0.5)), abs=1e-4) == counts.change.mean * 0.5
    assert pytest.approx(np.mean([flips[r.number] for r in own]), abs=1e-4) == counts.flips.mean
    assert pytest.approx(np.mean(errors), abs=1e-4) == counts.errors.mean
    assert pytest.approx(np.mean([np.mean(s) for s in slow if s]), abs=1e-4) == counts.slow.mean
    assert {} == counts.left_out
    assert sum(len(r.champion) for r in scored) == counts.champion.scores.total  # type: ignore[arg-type]
    sizes = {name or "": segment.errors.total for name, segment in counts.segments.items()}
    assert {n: sum((r.segment or "") == n for r in first.values()) for n in ("", "new", "old")} == sizes


def _exact(counts: Comparison) -> Comparison:
    """Without sums of floats, which depend on how they were added up."""
    champion, candidate = (
        replace(side, loss=0.0, **{n: replace(getattr(side, n), sum=0.0) for n in ("scores", "positives", "negatives")})
        for side in (counts.champion, counts.candidate)
    )
    return replace(counts, champion=champion, candidate=candidate)


def test_windows_live_looks_and_dask_give_the_same_counts(tmp_path: Path) -> None:
    write_both(tmp_path, sorted(_hard_traffic(9), key=lambda request: request.at_s))
    work = job(tmp_path)
    whole = _exact(count(work))
    assert whole == _exact(count(work, window_s=3))
    live, now = LiveComparison(work, START_S), START_S
    while now < START_S + 50:
        seen = live.look(now := now + 1.7)
    assert whole == _exact(seen)
    spans = tuple(plan_spans(work.source, START_S, START_S + 100, 9))
    with open_cluster("local", tmp_path / "dask", workers=2) as cluster:
        assert whole == _exact(compare(partial(count_span, work), spans, work.limits, cluster))


def _with_repeats() -> list[Request]:
    """Ids that come back at once, soon, after a while and after long; the last with a segment that tells whether they count."""
    requests = traffic(1000, per_s=40.0)
    for number, later_s in ((3, 0.0), (90, 1.0), (200, 4.9), (340, 5.5), (510, 7.0), (600, 12.0), (777, 18.0), (777, 19.0)):
        first = requests[number]
        requests.append(
            replace(first, at_s=first.at_s + later_s, candidate=(0.999,), entity=f"again {number}", segment="again")
        )
    # One of the copies is lost of an id that comes back; and one comes back without its request.
    requests += [replace(requests[900], at_s=requests[900].at_s + 10.0), replace(requests[40], at_s=35.0)]
    return requests


def test_ids_that_repeat_give_the_same_counts_and_verdict_live_in_windows_and_on_dask(tmp_path: Path) -> None:
    requests = _with_repeats()
    by_time = sorted(range(len(requests)), key=lambda n: requests[n].at_s)
    write_champion(tmp_path, [requests[n].of_champion() for n in by_time if n != len(requests) - 1])
    write_candidate(tmp_path, [requests[n].of_candidate() for n in by_time if n != len(requests) - 2])
    work, until_s = job(tmp_path), START_S + 50
    whole = _exact(count(work, until_s=until_s))
    # Within five seconds neither counts, later on the first does; 777 comes back twice, within a second of each other.
    assert {REPEATED: 2 * 3 + 3 + 2, ONLY_CHAMPION: 1, ONLY_CANDIDATE: 1} == dict(whole.left_out)
    assert (1000 - 3, True) == (whole.pairs, "again" not in whole.segments)
    for window_s in (3, 7, 20):
        assert whole == _exact(count(work, window_s, until_s)), window_s
    live, now = LiveComparison(work, START_S), START_S
    while now < until_s + 10:
        seen = live.look(now := now + 1.7)
    assert whole == _exact(seen)
    spans = tuple(plan_spans(work.source, START_S, until_s, 9))
    with open_cluster("local", tmp_path / "dask", workers=2) as cluster:
        found = _exact(compare(partial(count_span, work), spans, work.limits, cluster))
    assert whole == found
    assert [gate.sentence for gate in judge(seen, work.limits).gates] == [g.sentence for g in judge(found, work.limits).gates]


def test_the_same_versions_are_safe_and_a_shifted_one_is_harm(tmp_path: Path) -> None:
    work = job(tmp_path / "good")
    write_both(tmp_path / "good", traffic(8000))
    found = verdicts(count(work), work)
    assert {Verdict.SAFE} == {found[name] for name in ("pairing", "score_spread", "score_change", "decision_flips")}
    assert (Verdict.SAFE, Verdict.SAFE) == (found["error_rate"], found["latency_budget"])
    work = job(tmp_path / "bad")
    write_both(tmp_path / "bad", traffic(8000, change=0.2))
    found = verdicts(count(work), work)
    assert (Verdict.HARM, Verdict.HARM) == (found["score_change"], found["decision_flips"])


def test_one_segment_that_is_harmed_stands_out_among_those_that_are_not(tmp_path: Path) -> None:
    requests = [
        replace(r, candidate=(min(r.champion[0] + 0.3, 0.999),)) if r.segment == "s1" and r.champion else r
        for r in traffic(3000)
    ]
    write_both(tmp_path, requests)
    judged = judge(count(job(tmp_path)), job(tmp_path).limits)
    assert ["s1"] == [row.segment for row in judged.segments if row.stands_out]
    assert "s1" == judged.segments[0].segment
    gate = next(gate for gate in judged.gates if gate.name == "worst_segment")
    assert (Verdict.HARM, True) == (gate.verdict, "s1" in gate.observed)


def _missing(requests: list[Request], root: Path) -> None:
    write_champion(root, [r.of_champion() for r in requests])
    write_candidate(root, [r.of_candidate() for r in requests if r.number % 20])


def _other_missing(requests: list[Request], root: Path) -> None:
    write_champion(root, [r.of_champion() for r in requests if r.number % 20])
    write_candidate(root, [r.of_candidate() for r in requests])


def _repeated(requests: list[Request], root: Path) -> None:
    write_champion(root, [r.of_champion() for r in requests])
    write_candidate(root, [r.of_candidate() for r in requests for _ in range(1 + (r.number % 20 == 0))])


def _other_features(requests: list[Request], root: Path) -> None:
    write_champion(root, [r.of_champion() for r in requests])
    odd = np.zeros((1, 3), dtype=np.float32)
    write_candidate(root, [r.of_candidate(**({"matrix": odd} if r.number == 77 else {})) for r in requests])


def _other_classes(requests: list[Request], root: Path) -> None:
    write_champion(root, [r.of_champion() for r in requests])
    three = np.array([0.2, 0.3, 0.5], dtype=np.float32)
    write_candidate(root, [r.of_candidate(scores=three) for r in requests])


def _torn(requests: list[Request], root: Path) -> None:
    write_champion(root, [r.of_champion() for r in requests])
    path = write_candidate(root, [r.of_candidate() for r in requests[:-200]], how="killed")
    with path.open("ab") as file:
        file.write(b"\xff\xff\xff\xff\x10\x01\x00\x00torn")
    write_candidate(root, [r.of_candidate() for r in requests[-200:]], number=1, started_s=START_S + 100)


def _deleted(requests: list[Request], root: Path) -> None:
    write_champion(root, [r.of_champion() for r in requests])
    for number in range(3):
        path = write_candidate(root, [r.of_candidate() for r in requests[number::3]], number=number)
        if number == 1:
            path.unlink()


def _skewed(requests: list[Request], root: Path) -> None:
    write_both(root, [replace(r, skew_s=60.0) for r in requests])


def _candidate_refuses(requests: list[Request], root: Path) -> None:
    """It cannot read every fourth request, so it has no features of it."""
    write_champion(root, [r.of_champion() for r in requests])
    refused = {"status": 422, "matrix": None, "scores": None}
    write_candidate(root, [r.of_candidate(**(refused if r.number % 4 == 0 else {})) for r in requests])


def test_requests_that_only_the_candidate_cannot_read_are_its_failures(tmp_path: Path) -> None:
    requests = traffic(3000)
    _candidate_refuses(requests, tmp_path)
    counts = count(job(tmp_path))
    assert (3000, {}) == (counts.pairs, dict(counts.left_out))
    assert Verdict.HARM is verdicts(counts, job(tmp_path))["error_rate"]


def test_a_malformed_request_that_both_refuse_is_no_evidence_of_anything(tmp_path: Path) -> None:
    wrong = {"status": 400, "matrix": None, "scores": None}
    requests = traffic(8000)
    write_champion(tmp_path, [r.of_champion(**(wrong if r.number == 7 else {})) for r in requests])
    write_candidate(tmp_path, [r.of_candidate(**(wrong if r.number == 7 else {})) for r in requests])
    found = verdicts(count(job(tmp_path)), job(tmp_path))
    assert (Verdict.SAFE, Verdict.SAFE) == (found["pairing"], found["error_rate"])


def test_a_candidate_with_another_schema_has_other_hashes_and_pairs_all_the_same(tmp_path: Path) -> None:
    requests = traffic(500)
    write_champion(tmp_path, [r.of_champion() for r in requests])
    more = np.zeros((1, 4), dtype=np.float32)
    write_candidate(tmp_path, [r.of_candidate(matrix=more) for r in requests], schema="0" * 64, features=4)
    assert (500, {}) == (count(job(tmp_path)).pairs, dict(count(job(tmp_path)).left_out))


def test_what_several_windows_and_looks_see_of_one_torn_segment_counts_once(tmp_path: Path) -> None:
    _torn(traffic(2000), tmp_path)
    work = job(tmp_path)
    live, now = LiveComparison(work, START_S), START_S
    while now < START_S + 150:
        seen = live.look(now := now + 7.0)
    assert [1, 1, 1] == [counts.left_out[TORN] for counts in (count(work), count(work, window_s=5), seen)]


FAULTS: list[tuple[Callable[[list[Request], Path], None], str, int]] = [
    (_missing, ONLY_CHAMPION, 200),
    (_other_missing, ONLY_CANDIDATE, 200),
    (_repeated, REPEATED, 200),
    (_other_features, OTHER_REQUEST, 1),
    (_other_classes, OTHER_SHAPE, 4000),
    (_torn, TORN, 1),
    (_deleted, MISSING, 1),
    (_skewed, APART, 4000),
]


@pytest.mark.parametrize(("write", "reason", "expected"), FAULTS, ids=[write.__name__[1:] for write, _, _ in FAULTS])
def test_what_is_wrong_with_the_pairs_is_counted_and_named_and_never_safe(
    tmp_path: Path, write: Callable[[list[Request], Path], None], reason: str, expected: int
) -> None:
    write(traffic(4000), tmp_path)
    work = job(tmp_path)
    counts = count(work)
    gate = judge(counts, work.limits).gates[0]
    assert (expected, Verdict.UNKNOWN) == (counts.left_out[reason], gate.verdict)
    assert f"{expected:,} {reason}" in gate.observed


def test_reordered_and_slightly_late_pairs_are_pairs_all_the_same(tmp_path: Path) -> None:
    requests = traffic(2000)
    write_champion(tmp_path, [r.of_champion() for r in requests])
    shuffled = [requests[i] for i in np.random.default_rng(1).permutation(len(requests))]
    write_candidate(tmp_path, [replace(r, skew_s=3.0).of_candidate() for r in shuffled])
    counts = count(job(tmp_path), window_s=10)
    assert (2000, {}) == (counts.pairs, dict(counts.left_out))


def test_tests_of_people_and_answers_of_other_packages_are_no_evidence(tmp_path: Path) -> None:
    requests = traffic(400)
    write_both(tmp_path, requests[:200])
    write_champion(tmp_path, [r.of_champion(tester=True) for r in requests[200:]], writer="tested")
    write_candidate(tmp_path, [r.of_candidate(shadow=False) for r in requests[200:]], writer="live")
    counts = count(job(tmp_path))
    assert (200, {}) == (counts.pairs, dict(counts.left_out))


def test_nothing_equal_scores_and_scores_that_are_no_numbers_are_never_safe(tmp_path: Path) -> None:
    work = job(tmp_path / "nothing")
    found = verdicts(count(work), work)
    assert {Verdict.UNKNOWN} == set(found.values())
    work = job(tmp_path / "equal")
    write_both(tmp_path / "equal", traffic(4000, noise=0.0, scores=np.full(4000, 0.3)))
    assert Verdict.UNKNOWN is verdicts(count(work), work)["score_spread"]
    work = job(tmp_path / "nan")
    write_both(tmp_path / "nan", [replace(r, candidate=(math.nan,)) if r.number == 9 else r for r in traffic(4000)])
    found = verdicts(count(work), work)
    assert (Verdict.UNKNOWN, Verdict.UNKNOWN) == (found["score_spread"], found["score_change"])


def test_a_candidate_that_fails_or_is_slow_is_harm(tmp_path: Path) -> None:
    failing = [replace(r, candidate=None) if r.number % 4 == 0 else r for r in traffic(3000)]
    write_both(tmp_path / "failing", failing)
    work = job(tmp_path / "failing")
    assert Verdict.HARM is verdicts(count(work), work)["error_rate"]
    write_both(tmp_path / "slow", [replace(r, infer_us=60_000) if r.number % 4 == 0 else r for r in traffic(3000)])
    work = job(tmp_path / "slow")
    found = verdicts(count(work), work)
    assert Verdict.HARM is found["latency_budget"]
