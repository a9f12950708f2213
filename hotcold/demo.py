"""The whole story on real flights: release a version, score a month, evaluate two others, cut over to the better, undo."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from hotcold.adapters.prefect_api import PrefectApi
from hotcold.adapters.release_database import ReleaseDatabase
from hotcold.adapters.replay import FlightReplay
from hotcold.adapters.replay_client import LoadClient
from hotcold.demo_batch import LOOKED_UP, BatchStory, ShownTable
from hotcold.demo_shadow import Evaluated, ShadowStory
from hotcold.domain.errors import ReleaseError, StackError
from hotcold.domain.metrics import evaluate_scores
from hotcold.domain.release import Phase, Release
from hotcold.domain.traffic import Exchange, TrafficSummary, last_answer_after, summarise
from hotcold.rollback import Undone, roll_back

MODEL = "flights"
TRAINED_UNTIL = date(2013, 9, 30)
REPLAY_DAYS = (date(2013, 10, 1), date(2013, 12, 31))

_REQUESTS_PER_S = 150.0
_STEADY_S = 5.0
_FLOW_LIMIT_S = 240.0
_SCORES_BACK_S = 30.0
_POLL_S = 0.2
_PLAN = {"replicas": 2, "bake_s": 3.0}
# What differs is a hyperparameter, so the second is a minor version.
_FIRST = {"trees": 60, "depth": 6, "learning_rate": 0.15, "train_until": TRAINED_UNTIL.isoformat()}
# Learns the training days by heart: deep trees of single flights, each taken at its word.
_WORSE = {
    "trees": 40,
    "depth": 14,
    "learning_rate": 1.0,
    "min_child_weight": 1.0,
    "train_until": TRAINED_UNTIL.isoformat(),
}
_SECOND = {"trees": 200, "depth": 8, "learning_rate": 0.08, "train_until": TRAINED_UNTIL.isoformat()}

Say = Callable[[str], None]


@dataclass(frozen=True)
class Report:
    """The demo in numbers.

    Args:
        traffic: all live requests.
        cutover_s: from the decision to switch until the last answer by the version before.
        undo_s: from the decision to undo until the edge confirmed it.
        undo_last_candidate_answer_s: from the decision to undo until the last answer by the version taken back.
        auc_by_version: area under the ROC curve of the live answers against what became of the flights, dimensionless.
        auc: the same, of the version that was released last.
        batch_rows: flights of the month that was scored.
        scores_shown: version of the scores that readers saw: at first, after the release, after the undo.
        scores_back_s: from the decision to undo until readers and live lookups saw the scores from before.
        evaluated: what the shadow said of the worse and of the better version: version, verdict, seconds of copies.
    """

    traffic: TrafficSummary
    cutover_s: float
    undo_s: float
    undo_last_candidate_answer_s: float
    auc_by_version: dict[str, float]
    auc: float
    batch_rows: int
    scores_shown: tuple[str, str, str]
    scores_back_s: float
    evaluated: tuple[tuple[str, str, float], ...]

    def to_json(self) -> dict[str, Any]:
        """The content of `report.json`."""
        values = {
            **asdict(self.traffic),
            **{name: getattr(self, name) for name in self.__dataclass_fields__ if name != "traffic"},
        }
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in values.items()}


class Demo:
    """Plays the story against a running stack.

    Args:
        edge_url: where consumers send requests.
        prefect: the API through which flows are started.
        database: the release database.
        batch: the batch half of the story.
        folder: for what the story writes.
        say: takes one line of progress at a time.
    """

    def __init__(
        self, edge_url: str, prefect: PrefectApi, database: ReleaseDatabase, batch: BatchStory, folder: Path, say: Say
    ) -> None:
        self._edge_url = edge_url
        self._prefect = prefect
        self._database = database
        self._batch = batch
        self._folder = folder
        self._say = say

    def play(self) -> Report:
        """Tell it from the start to the end.

        Raises:
            StackError: a flow did not end well.
            ReleaseError: a release did not end with a promotion.
        """
        self._train(_FIRST)
        first = self._release()
        shown = [self._score(first)]
        replay = FlightReplay(MODEL, *REPLAY_DAYS, run=f"demo-{uuid.uuid4().hex[:8]}")
        shadow = ShadowStory(self._folder, self._prefect, self._database, replay, MODEL, self._say)
        load = LoadClient(self._edge_url, replay.request, _REQUESTS_PER_S, connections=8)
        self._say(f"replaying {len(replay)} flights from {REPLAY_DAYS[0]} on as live requests, {_REQUESTS_PER_S:g} a second")
        with load:
            self._watch(load, _STEADY_S)
            self._train(_WORSE)
            evaluated = [shadow.evaluate(load)]
            if evaluated[0].verdict == "SAFE":
                raise ReleaseError("the worse version was found SAFE; see its report in MLflow")
            self._train(_SECOND)
            evaluated.append(shadow.evaluate(load))
            if evaluated[-1].verdict != "SAFE":
                raise ReleaseError(f"the better version was not found SAFE: {evaluated[-1].reason}; see its report in MLflow")
            self._watch(load, 0.0)
            second = self._release(load)
            shown.append(self._await_scores(second, load))
            undone = roll_back(self._database, MODEL, "the demo", "the demo takes it back")
            self._say(f"taken back; the edge confirmed it after {undone.confirmed_s * 1e3:.0f} ms")
            shown.append(self._batch.await_version(shown[0].version, _SCORES_BACK_S))
            back = time.time() - undone.decided_at
            self._say(f"readers of the batch see table {shown[2].table} of {shown[2].version} again after {back * 1e3:.0f} ms")
            self._watch(load, _STEADY_S)
        self._say("live requests ended")
        return self._report(load.results(), first, second, undone, replay, shown, back, evaluated)

    def _train(self, recipe: Mapping[str, Any]) -> None:
        self._say(f"training {recipe['trees']} trees of depth {recipe['depth']} on the flights until {recipe['train_until']}")
        self._run_flow("train-model/train-model", {"model": MODEL, "recipe": dict(recipe)})

    def _release(self, load: LoadClient | None = None) -> Release:
        """Release the version with the alias `candidate`, which is the one that was trained last."""
        self._say("releasing it: package, deploy to the idle slot, smoke tests, switch, bake")
        message = self._run_flow("cut-over/cut-over", {"model": MODEL, "plan": _PLAN}, load)
        release = self._database.read_releases(MODEL, 1)[0]
        if release.phase is not Phase.PROMOTED or release.candidate is None:
            raise ReleaseError(f"the release ended {release.phase.value}: {release.reason}; see `hotcold logs worker`")
        self._say(message)
        return release

    def _score(self, release: Release) -> ShownTable:
        """Score next month's schedule with the champion, and publish it."""
        version = release.candidate.semver if release.candidate else ""
        flights = self._batch.write_input()
        self._say(f"scoring October's schedule, {flights:,} flights, with the champion")
        self._say(self._run_flow("score-batch/score-batch", self._batch.parameters()))
        shown = self._batch.await_version(version, _FLOW_LIMIT_S)
        self._say(f"readers see {shown.rows:,} scores of {shown.version}; a live lookup of {LOOKED_UP} gives {shown.score:.3f}")
        return shown

    def _await_scores(self, release: Release, load: LoadClient) -> ShownTable:
        """The promotion has the month scored anew by the new champion; nobody starts that."""
        version = release.candidate.semver if release.candidate else ""
        self._say(f"the promotion has October scored again, by {version}")
        shown = self._batch.await_version(version, _FLOW_LIMIT_S)
        self._say(f"readers see table {shown.table} of {shown.version}; the lookup gives {shown.score:.3f}; {_progress(load)}")
        return shown

    def _run_flow(self, deployment: str, parameters: Mapping[str, Any], load: LoadClient | None = None) -> str:
        run = self._prefect.start(deployment, parameters)
        began = shown = time.monotonic()
        while not run.ended:
            if time.monotonic() - began > _FLOW_LIMIT_S:
                raise StackError(f"{deployment} did not end within {_FLOW_LIMIT_S:g} s; see `hotcold logs worker`")
            if load and time.monotonic() - shown > 5:
                shown = time.monotonic()
                self._say(_progress(load))
            time.sleep(_POLL_S)
            run = self._prefect.read(run.id)
        if run.state != "COMPLETED":
            raise StackError(f"{deployment} ended {run.state.lower()}: {run.message}; see `hotcold logs worker`")
        return run.message

    def _watch(self, load: LoadClient, seconds: float) -> None:
        time.sleep(seconds)
        self._say(_progress(load))

    def _report(
        self,
        exchanges: Sequence[Exchange],
        first: Release,
        second: Release,
        undone: Undone,
        replay: FlightReplay,
        shown: Sequence[ShownTable],
        scores_back_s: float,
        evaluated: Sequence[Evaluated],
    ) -> Report:
        old, new = (release.candidate.semver if release.candidate else "" for release in (first, second))
        before_undo = [exchange for exchange in exchanges if exchange.sent_at < undone.decided_at]
        auc_by_version = {version: _live_auc(exchanges, version, replay) for version in (old, new)}
        return Report(
            traffic=summarise(exchanges),
            cutover_s=last_answer_after(before_undo, old, self._switched_at(second)),
            undo_s=undone.confirmed_s,
            undo_last_candidate_answer_s=last_answer_after(exchanges, new, undone.decided_at),
            auc_by_version=auc_by_version,
            auc=auc_by_version[new],
            batch_rows=shown[0].rows,
            scores_shown=(shown[0].version, shown[1].version, shown[2].version),
            scores_back_s=scores_back_s,
            evaluated=tuple((one.version, one.verdict, round(one.copied_s, 1)) for one in evaluated),
        )

    def _switched_at(self, release: Release) -> float:
        """When the decision to switch was written."""
        return next(event.at for event in self._database.read_events(release.id) if event.phase is Phase.CUTOVER)


def _live_auc(exchanges: Sequence[Exchange], version: str, replay: FlightReplay) -> float:
    scored = [exchange for exchange in exchanges if exchange.version == version and exchange.score is not None]
    labels = np.array([replay.label(exchange.index) for exchange in scored])
    return evaluate_scores(labels, np.array([exchange.score for exchange in scored])).auc


def _progress(load: LoadClient) -> str:
    summary = summarise(load.results())
    versions = ", ".join(f"{count} by {version}" for version, count in summary.versions.items())
    return f"{summary.requests} requests, {summary.failed} failed ({versions}), p99 {summary.p99_ms:.1f} ms"
