"""`make bench-release`: whole canary releases in the simulator: how many a minute, and what they come to."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from benchmarks.release_simulator import PLAN, Story, simulate
from benchmarks.release_traffic import BROKEN, IDENTICAL, Candidate
from benchmarks.report import Figure, at_least, at_most, observed, publish
from benchmarks.stack import bench_root, say
from hotcold.domain.release import Phase

RELEASES = 1000
PER_MINUTE, FALSE_PCT, WRONG_PCT = 1000.0, 5.0, 2.0
_PROCESSES, _CHUNK = 2, 10
# Of ten releases, this many are of an identical version; the others are of broken ones in turn. Each fifth asks people.
_IDENTICAL, _ASKS_EACH = 4, 5
_APPROVALS = (50, 100)
# What is broken for everybody is seen within seconds, in which the first step alone decides how many consumers meet it; and
# a release that ends at once has few requests to share that with. So half of the broken versions begin with a smaller step.
_CAREFUL = (2, *PLAN.canary.steps)
# What ends a release that says nothing of the version.
_OF_THE_PLATFORM = ("undo", "no replica", "the edge did not confirm", "replica_health", "edge_probe", "a person")


def candidate_of(seed: int) -> Candidate:
    """The version that a seed releases."""
    place = seed % 10 - _IDENTICAL
    return IDENTICAL if place < 0 else BROKEN[(place + 6 * (seed // 10)) % len(BROKEN)]


def simulate_one(seed: int) -> Story:
    """The release of a seed."""
    candidate = candidate_of(seed)
    canary = PLAN.canary if seed % _ASKS_EACH else replace(PLAN.canary, approvals=_APPROVALS)
    if not candidate.is_identical and seed // 10 % 4 > 1:
        canary = replace(canary, steps=_CAREFUL)
    return simulate(seed, candidate, replace(PLAN, canary=canary))


def is_taken_back(story: Story) -> bool:
    """The evidence spoke against the version, and it did not come through."""
    return story.phase is Phase.ROLLED_BACK and not story.reason.startswith(_OF_THE_PLATFORM)


def figures_of(stories: Sequence[Story], elapsed_s: float) -> list[Figure]:
    """The table.

    Args:
        stories: of all releases.
        elapsed_s: wall-clock seconds that simulating them took.
    """
    broken = sum(len(story.broken) for story in stories)
    figures = [
        at_least("simulated releases", 60 * len(stories) / elapsed_s, "a minute", PER_MINUTE),
        at_most("rules broken in all histories", broken, "times", 0),
        observed("  steps of the state machine that were checked", sum(story.steps for story in stories), ""),
        observed("  stale controllers that were refused", sum(story.refused for story in stories), ""),
        observed("  controllers that took a release over", sum(story.taken_over for story in stories), ""),
    ]
    figures += _identical([story for story in stories if story.kind == IDENTICAL.kind])
    for candidate in BROKEN:
        for first_pct in (PLAN.canary.steps[0], _CAREFUL[0]):
            chosen = [story for story in stories if (story.kind, story.first_pct) == (candidate.kind, first_pct)]
            figures += _broken(f"{candidate.kind}, from {first_pct} %", chosen, first_pct == _CAREFUL[0])
    return figures


def is_false(story: Story) -> bool:
    """Of an identical version: what the evidence has taken back or, where nothing went wrong around it, whatever else."""
    return is_taken_back(story) or (story.calm and not _is_promoted(story))


def _identical(stories: Sequence[Story]) -> list[Figure]:
    calm = [story for story in stories if story.calm]
    return [
        at_most(f"false rollbacks of {len(stories)} identical versions", _share(stories, is_false), "%", FALSE_PCT),
        observed("  promoted, where nothing went wrong around them", _share(calm, _is_promoted), "%"),
        observed("  promoted, of all", _share(stories, _is_promoted), "%"),
        observed("  simulated time, median", float(np.median([story.lasted_s for story in stories])), "s"),
        observed("  looks at the evidence, mean", float(np.mean([story.looks for story in stories])), "a release"),
    ]


def _broken(kind: str, stories: Sequence[Story], promised: bool) -> list[Figure]:
    caught = [story for story in stories if is_taken_back(story)]
    wrong = [100 * story.wrong / story.requests for story in stories] or [0.0]
    name, mean = "  requests of the release that were answered wrongly, mean", float(np.mean(wrong))
    return [
        observed(f"{kind}: taken back for what it is, of {len(stories)}", _share(stories, is_taken_back), "%"),
        observed("  promoted", _share(stories, _is_promoted), "%"),
        at_most(name, mean, "%", WRONG_PCT) if promised else observed(name, mean, "%"),
        observed("  the same, 95th percentile of the releases", float(np.percentile(wrong, 95)), "%"),
        observed("  until it was taken back, median", float(np.median([story.lasted_s for story in caught] or [0.0])), "s"),
    ]


def _is_promoted(story: Story) -> bool:
    return story.phase is Phase.PROMOTED


def _share(stories: Sequence[Story], holds: Callable[[Story], bool]) -> float:
    return 100 * sum(map(holds, stories)) / max(len(stories), 1)


def _tell(stories: Sequence[Story]) -> None:
    """Why releases ended, and what was broken, for who looks into it."""
    for (kind, phase, why), count in sorted(Counter((s.kind, s.phase.value, _blamed(s)) for s in stories).items()):
        say(f"{count:5} {kind}: {phase} {why}".rstrip())
    for seed, story in enumerate(stories):
        for sentence in story.broken[:3]:
            say(f"seed {seed}: {sentence}")


def _blamed(story: Story) -> str:
    return "" if _is_promoted(story) else " ".join(story.reason.split()[:4])


def main() -> None:
    """Simulate, print, write; exit code 1 if a promise is not kept. A number as argument is another number of releases."""
    releases = int(sys.argv[1]) if len(sys.argv) > 1 else RELEASES
    say(f"{releases:,} releases on {_PROCESSES} processes")
    began_s = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(_PROCESSES) as pool:
        stories = list(pool.imap(simulate_one, range(releases), chunksize=_CHUNK))
    elapsed_s = time.perf_counter() - began_s
    _tell(stories)
    kept = publish("Canary releases in the simulator", figures_of(stories, elapsed_s), bench_root() / "release.json")
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
