"""The batch half of the demo: next month's schedule is scored, and the table follows the release there and back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import orjson

from hotcold.adapters.schedule import DAY_COLUMN, ID_COLUMN, write_schedule
from hotcold.adapters.score_pointer import POINTER_FILE
from hotcold.domain.errors import StackError

# A flight of the month, as its row is named.
LOOKED_UP = "UA1014-EWR-2013-10-01"
_POLL_S = 0.02


@dataclass(frozen=True)
class ShownTable:
    """What readers of the schedule's scores see.

    Args:
        table: its id.
        version: semantic version of what scored it.
        rows: its rows.
        rows_per_s: how fast they were scored.
        score: what a live lookup gives for one flight.
    """

    table: str
    version: str
    rows: int
    rows_per_s: float
    score: float


class BatchStory:
    """One month's schedule, its output, and what readers see of it.

    Args:
        folder: for the input and the output.
        edge_url: where live lookups go.
        model: registered model name.
    """

    def __init__(self, folder: Path, edge_url: str, model: str) -> None:
        self._source = folder / "schedule" / "2013-10.parquet"
        self._output = folder / "scores"
        self._client = httpx.Client(base_url=edge_url, timeout=5.0, trust_env=False)
        self._model = model

    def write_input(self) -> int:
        """Write the schedule of October, the month after the training; how many flights it has."""
        return write_schedule(self._source, date(2013, 10, 1), date(2013, 10, 31))

    def parameters(self) -> dict[str, Any]:
        """Parameters of `score-batch`."""
        return {
            "model": self._model,
            "input_url": str(self._source),
            "output_url": str(self._output),
            "id_column": ID_COLUMN,
            "passthrough": [DAY_COLUMN],
            # Versions of the demo differ on purpose.
            "quality": {"max_psi": 1.0},
        }

    def await_version(self, version: str, limit_s: float, meanwhile: Callable[[], None] = lambda: None) -> ShownTable:
        """Wait until readers of the table and live lookups see the scores of a version.

        Args:
            version: its semantic version.
            limit_s: longest wait, seconds.
            meanwhile: called now and then.

        Raises:
            StackError: they did not in time.
        """
        deadline = time.monotonic() + limit_s
        while (shown := self._shown()) is None or shown.version != version:
            if time.monotonic() > deadline:
                raise StackError(
                    f"readers of {self._output} do not see scores of {version} after {limit_s:g} s; see `hotcold scores list`"
                )
            meanwhile()
            time.sleep(_POLL_S)
        return shown

    def _shown(self) -> ShownTable | None:
        """What both kinds of readers agree on; None while they do not, or see nothing."""
        path = self._output / POINTER_FILE
        if not path.exists():
            return None
        table = orjson.loads(path.read_bytes())
        answer = self._client.get(f"/models/{self._model}/scores/{LOOKED_UP}")
        if not table["table"] or answer.status_code != httpx.codes.OK or answer.json()["table"] != table["table"]:
            return None
        return ShownTable(table["table"], table["version"], table["rows"], table["rows_per_s"], answer.json()["score"])

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
