"""The shadow half of the demo: versions are compared with the champion on copies of requests, and on what became of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hotcold.adapters.flight_labels import KNOWN_AT, LATE, REQUEST_ID, write_flight_labels
from hotcold.adapters.prefect_api import FlowRun, PrefectApi
from hotcold.adapters.release_database import ReleaseDatabase
from hotcold.adapters.replay import FlightReplay
from hotcold.adapters.replay_client import LoadClient
from hotcold.domain.errors import StackError, first_line
from hotcold.domain.plan import SHADOW_NEEDED
from hotcold.domain.release import Phase

DEPLOYMENT = "evaluate-shadow/evaluate-shadow"
# A demo has no time for the limits that one would choose: 10 % of errors or slow answers take 40 seconds to exclude, 2 % five
# minutes. A week of flights passes in that time, and on a stormy day many of them are at the threshold.
PLAN: dict[str, Any] = {
    "replicas": 2,
    "shadow_min_s": 5.0,
    "shadow_max_s": 150.0,
    "shadow_min_pairs": 1000,
    "latency_budget_ms": 200.0,
    "shadow_gates": [*SHADOW_NEEDED, "log_loss"],
    "limits": {
        "score_change": 0.1,
        "flips_per_1000": 200.0,
        "error_pct": 10.0,
        "slow_pct": 10.0,
        "lost_pct": 10.0,
        "log_loss": 0.05,
        "cost_per_flip": 25.0,
    },
}
_LABELS_AFTER_S = 20.0
_LIMIT_S = 300.0
_POLL_S = 0.2


@dataclass(frozen=True)
class Evaluated:
    """What became of an evaluation.

    Args:
        version: semantic version of the candidate.
        verdict: SAFE, HARM or UNKNOWN.
        reason: why, one sentence.
        copied_s: for how long requests were copied, seconds.
    """

    version: str
    verdict: str
    reason: str
    copied_s: float


class Aside(threading.Thread):
    """Does something while the story goes on; what goes wrong there ends the story.

    Args:
        do: what is done.
    """

    def __init__(self, do: Callable[[], None]) -> None:
        super().__init__(name="aside", daemon=True)
        self._do = do
        self._error: Exception | None = None

    def run(self) -> None:
        """Do it."""
        try:
            self._do()
        except Exception as error:  # noqa: BLE001 - told by whoever asks; a thread that died would only print
            self._error = error

    def check(self) -> None:
        """Raise what went wrong so far.

        Raises:
            StackError: something did.
        """
        if self._error:
            raise StackError(f"the labels were not joined, so the demo ends: {first_line(self._error)}") from self._error


class ShadowStory:
    """Evaluates candidates while live requests go on.

    Args:
        folder: for the labels.
        prefect: the API through which flows are started.
        database: the release database.
        replay: the live requests, whose ids have a name.
        model: registered model name.
        say: takes one line of progress at a time.
    """

    def __init__(
        self,
        folder: Path,
        prefect: PrefectApi,
        database: ReleaseDatabase,
        replay: FlightReplay,
        model: str,
        say: Callable[[str], None],
    ) -> None:
        self._labels = folder / "labels.parquet"
        self._prefect = prefect
        self._database = database
        self._replay = replay
        self._model = model
        self._say = say

    def evaluate(self, load: LoadClient) -> Evaluated:
        """Evaluate the version with the alias `candidate`.

        Args:
            load: the live requests.

        Raises:
            StackError: the flow died, or did not end in time; or labels could not be joined to its answers.
        """
        self._say("evaluating it in the shadow: the edge copies all live requests to it, and nobody gets its answers")
        run = self._prefect.start(DEPLOYMENT, {"model": self._model, "plan": PLAN})
        labels = Aside(partial(self._label, run, load))
        labels.start()
        run = self._await(run, labels.check)
        labels.join()
        labels.check()
        release = self._database.read_releases(self._model, 1)[0]
        if release.phase is not Phase.EVALUATED or release.candidate is None:
            raise StackError(f"the evaluation ended {run.state.lower()}: {run.message}; see `hotcold logs worker`")
        events = self._database.read_events(release.id)
        began = next(event.at for event in events if event.phase is Phase.SHADOW)
        ended = next(event.at for event in events if event.phase is Phase.CLOSING)
        found = Evaluated(release.candidate.semver, str(release.verdict), release.reason, ended - began)
        self._say(f"{found.version} is {found.verdict} after {found.copied_s:.0f} s of copies: {found.reason}")
        return found

    def _label(self, run: FlowRun, load: LoadClient) -> None:
        """When requests were copied for a while, their flights have arrived: the truth comes late, as it does in life."""
        copied_since = None
        while not self._prefect.read(run.id).ended:
            release = next(iter(self._database.read_releases(self._model, 1)), None)
            if release is not None and release.phase is Phase.SHADOW:
                copied_since = copied_since or time.monotonic()
            if copied_since and time.monotonic() - copied_since > _LABELS_AFTER_S:
                self.join_labels(load)
                return
            time.sleep(_POLL_S)

    def join_labels(self, load: LoadClient) -> None:
        """Write whether the flights of all requests so far arrived late, and join that to the prediction log.

        Raises:
            StackError: the flow that joins them died, or did not end in time.
        """
        indices: Sequence[int] = [exchange.index for exchange in load.results()]
        write_flight_labels(self._labels, self._replay, indices, [time.time()] * len(indices))
        self._say(f"{len(indices):,} flights have arrived: their delays are joined to the answers")
        run = self._prefect.start(
            "join-labels/join-labels",
            {
                "model": self._model,
                "labels_url": str(self._labels),
                "label_column": LATE,
                "request_id_column": REQUEST_ID,
                "known_at_column": KNOWN_AT,
            },
        )
        run = self._await(run)
        if run.state != "COMPLETED":
            raise StackError(f"join-labels ended {run.state.lower()}: {run.message}; see `hotcold logs worker`")
        self._say(run.message)

    def _await(self, run: FlowRun, check: Callable[[], None] = lambda: None) -> FlowRun:
        deadline = time.monotonic() + _LIMIT_S
        while not run.ended:
            check()
            if time.monotonic() > deadline:
                raise StackError(f"flow run {run.id[:8]} did not end within {_LIMIT_S:g} s; see `hotcold logs worker`")
            time.sleep(_POLL_S)
            run = self._prefect.read(run.id)
        return run
