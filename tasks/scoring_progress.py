"""How far a batch run is, in the Prefect UI. Showing it never holds the run up."""

import time
from collections.abc import Callable
from contextvars import copy_context
from threading import Thread
from types import TracebackType
from typing import Self, cast
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.exceptions import PrefectException

from hotcold.domain.scoring_progress import Progress

INTERVAL_S = 5.0
_LAST_WORD_S = 5.0


class ProgressArtifact:
    """The progress artifact `scoring-<model>` of the flow run that makes this object.

    Prefect's client asks a server that is away again and again, for a minute and more. So a thread tells it, one update at a
    time, and what cannot be shown is left out. The first failure is logged, the others are not.

    Args:
        model: registered model name.
        clock: seconds that never go back.
        interval_s: least time between two updates, seconds.
    """

    def __init__(self, model: str, clock: Callable[[], float] = time.monotonic, interval_s: float = INTERVAL_S) -> None:
        self._key = f"scoring-{model}"
        self._clock = clock
        self._interval_s = interval_s
        self._logger = get_run_logger()
        self._artifact: UUID | None = None
        self._failed = False
        self._sent_at = float("-inf")
        self._latest: Progress | None = None
        self._shown: Progress | None = None
        self._sender: Thread | None = None

    def update(self, progress: Progress) -> None:
        """Show a progress soon, unless the one before was shown just now; returns at once."""
        self._latest = progress
        if self._clock() - self._sent_at >= self._interval_s and not self._is_sending:
            self._start_sending(progress)

    def close(self) -> None:
        """Show the last progress, if it is not shown yet; waits some seconds at most."""
        if self._sender:
            self._sender.join(_LAST_WORD_S)
        if self._latest and self._latest != self._shown and not self._is_sending:
            self._start_sending(self._latest).join(_LAST_WORD_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def _is_sending(self) -> bool:
        return self._sender is not None and self._sender.is_alive()

    def _start_sending(self, progress: Progress) -> Thread:
        self._sent_at = self._clock()
        # The context holds the flow run, which the artifact belongs to. The end of the process does not wait for the thread.
        self._sender = Thread(target=copy_context().run, args=(self._send, progress), name=self._key, daemon=True)
        self._sender.start()
        return self._sender

    def _send(self, progress: Progress) -> None:
        percent = round(progress.percent, 1)
        try:
            if self._artifact is None:
                self._artifact = cast(UUID, create_progress_artifact(percent, self._key, progress.sentence))
            else:
                update_progress_artifact(self._artifact, percent, progress.sentence)
            self._shown = progress
        except (httpx.HTTPError, PrefectException, OSError, RuntimeError) as error:
            if not self._failed:
                self._failed = True
                self._logger.warning("the progress is not shown, Prefect does not take it (%s); the run goes on", error)
