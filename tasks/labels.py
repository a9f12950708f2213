"""Join late labels to the prediction log, and say how many answers have one."""

import time
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from hotcold.adapters.label_coverage import measure_coverage
from hotcold.adapters.label_join import LabelJoiner, delete_old_labels
from hotcold.adapters.label_state import models_with_labels, read_state
from hotcold.adapters.label_store import LabelStore
from hotcold.adapters.prediction_reader import PredictionReader
from hotcold.domain.errors import UnreachableInputError
from hotcold.domain.label_counts import DayCoverage, LabelJoin
from hotcold.domain.label_source import LabelSource
from hotcold.settings import Settings
from tasks.retries import retried_after

_LOCAL: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}


def last_source(model: str) -> LabelSource | None:
    """Where the model's labels came from last; None if no scheduled run is to take any.

    Raises:
        LabelError: what is remembered is damaged.
    """
    return read_state(Settings().label_dir / model).source


def labelled_models() -> list[str]:
    """Models whose labels were ever joined."""
    return models_with_labels(Settings().label_dir)


@task(
    name="join labels",
    task_run_name="labels of {source.model}",
    **retried_after(UnreachableInputError, OSError, pauses_s=(5, 30)),
    **_LOCAL,
)
def join_label_files(source: LabelSource, is_remembered: bool) -> LabelJoin:
    """Idempotent: files that are done are not read again, and labels that are joined are not joined twice.

    Raises:
        LabelError: another run is at it.
        BatchError: the files cannot be listed or reached.
        OSError: the disk does not take the labels; everything is as it was.
    """
    settings = Settings()
    reader = PredictionReader(settings.prediction_dir, source.model)
    joiner = LabelJoiner(source, reader, LabelStore(settings.label_dir, source.model), time.time())
    done = joiner.join(settings.prediction_keep_days, is_remembered)
    _log(source.model, done)
    _warn(reader.unreadable)
    return done


@task(name="delete old labels", task_run_name="old labels of {model}", **_LOCAL)
def delete_labels_of_old_answers(model: str) -> None:
    """For models whose labels are joined no more."""
    settings = Settings()
    delete_old_labels(LabelStore(settings.label_dir, model), settings.prediction_keep_days, time.time())


@task(name="measure coverage", task_run_name="coverage of {model}", **_LOCAL)
def measure_label_coverage(model: str, days: int) -> tuple[DayCoverage, ...]:
    """Coverage by day, of the days from the first one on that has answers."""
    settings = Settings()
    store = LabelStore(settings.label_dir, model)
    found = measure_coverage(PredictionReader(settings.prediction_dir, model), store, days, time.time())
    _warn(store.unreadable)
    return found


def _log(model: str, done: LabelJoin) -> None:
    logger, counts = get_run_logger(), done.counts
    files = f"{done.files_done} of {done.files} files are done"
    logger.info("%s: %d rows gave %d new labels; %s", model, counts.rows, counts.joined, files)
    if counts.contradicting:
        logger.warning("%s: %d requests are left out, since their labels contradict each other", model, counts.contradicting)
    for reason, rows in counts.invalid.items():
        logger.warning("%s: %d rows are left out: %s", model, rows, reason)
    for url, problem in done.problems.items():
        logger.error("%s: %s", url, problem)


def _warn(unreadable: dict[str, str]) -> None:
    for file, reason in unreadable.items():
        get_run_logger().warning("%s is skipped: %s", file, reason)
