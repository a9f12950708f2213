"""Keep the prediction log small: closed segments become Parquet, old answers are deleted."""

import time

from prefect import get_run_logger, task

from hotcold.adapters.prediction_compaction import Compaction, compact
from hotcold.settings import Settings


@task(
    name="compact predictions",
    task_run_name="predictions of {model}",
    retries=2,
    retry_delay_seconds=[5, 30],
    persist_result=False,
)
def compact_log(model: str, older_than_s: float) -> int:
    """Idempotent: what an earlier run was killed over is finished.

    Returns:
        Rows that went into archives.

    Raises:
        OSError: the disk does not take them; everything is as it was.
    """
    settings = Settings()
    done = compact(settings.prediction_dir / model, older_than_s, settings.prediction_keep_days, time.time())
    _log(model, done)
    return done.rows


def _log(model: str, done: Compaction) -> None:
    logger = get_run_logger()
    if done.is_skipped:
        logger.warning("%s: another compaction is under way, so this one did nothing", model)
        return
    logger.info("%s: %d rows of %d segments in %d archives", model, done.rows, done.segments, done.archives)
    if done.leftovers:
        logger.info("%s: %d files of compactions or writers that were killed are cleared away", model, done.leftovers)
    if done.expired:
        logger.info("%s: answers of %s are deleted, being too old", model, ", ".join(done.expired))
    if done.torn:
        logger.warning("%s: torn by a kill, kept up to there: %s", model, ", ".join(done.torn))
    for file, reason in done.unreadable.items():
        logger.error("%s: %s stays where it is: %s", model, file, reason)
