"""The prediction log of this process, if whoever started it wants one."""

from __future__ import annotations

import logging
import os
import uuid
from functools import cache
from typing import TYPE_CHECKING

import orjson

from hotcold.domain.errors import PredictionLogError
from hotcold.domain.prediction import Origin
from services.serving import Served, served_package

if TYPE_CHECKING:
    from hotcold.adapters.prediction_log import PredictionLog

# JSON: the options of the log, and `writer`, a name that no other process has.
LOG_VARIABLE = "HOTCOLD_REPLICA_LOG"
_log = logging.getLogger("hotcold.scorer")


@cache
def answer_log() -> PredictionLog | None:
    """The log, opened by the first call; None where nobody asked for one, as under `bentoml serve`.

    Raises:
        PredictionLogError: what was asked for cannot be understood.
    """
    text = os.environ.get(LOG_VARIABLE, "")
    if not text:
        return None
    # Arrow takes 28 MiB, which a replica without a log does not need.
    from hotcold.adapters.prediction_log import LogOptions, PredictionLog

    try:
        document = orjson.loads(text)
        writer = document.pop("writer", uuid.uuid4().hex)
    except (orjson.JSONDecodeError, AttributeError, TypeError) as error:
        raise PredictionLogError(f"{LOG_VARIABLE} is no JSON object: {error}; unset it, or let the agent set it") from error
    options = LogOptions.from_json(document)
    log = PredictionLog(options, _origin(served_package(), writer))
    log.start()
    _log.info("answers are logged folder=%s writer=%s", options.root, writer)
    return log


def _origin(served: Served, writer: str) -> Origin:
    manifest = served.manifest
    return Origin(
        model=manifest.model,
        version=manifest.semver,
        digest=manifest.digest,
        slot=served.slot,
        schema=manifest.schema.fingerprint,
        features=len(manifest.schema.fields),
        writer=writer,
    )


def log_metrics() -> str:
    """What became of the answers, in Prometheus' text format."""
    log = answer_log()
    if log is None:
        return ""
    counts = log.counts()
    return "".join(
        (
            _metric("answers_total", "counter", "answers written to the prediction log", {"": counts.written}),
            _metric(
                "dropped_total",
                "counter",
                "answers that the prediction log has lost",
                {'{reason="queue full"}': counts.dropped_full, '{reason="disk"}': counts.dropped_failed},
            ),
            _metric("bytes_total", "counter", "bytes written to the prediction log", {"": counts.written_bytes}),
            _metric("segments_total", "counter", "log segments begun", {"": counts.segments}),
            _metric("queued", "gauge", "answers that wait to be written", {"": counts.queued}),
        )
    )


def _metric(name: str, kind: str, help_text: str, values: dict[str, int]) -> str:
    full = f"hotcold_prediction_log_{name}"
    lines = [f"# HELP {full} {help_text}", f"# TYPE {full} {kind}", *(f"{full}{label} {n}" for label, n in values.items())]
    return "\n".join(lines) + "\n"
