"""Start promotions of the versions that were given the alias `candidate` in MLflow."""

import time
from dataclasses import dataclass

from prefect import get_run_logger, task

from hotcold.adapters.alias_database import AliasDatabase
from hotcold.adapters.promotion_start import PromotionStart
from hotcold.domain.alias_watch import ALIAS, Ask
from hotcold.domain.errors import StackError
from hotcold.settings import Settings
from tasks.context import open_prefect, open_registry


@dataclass(frozen=True)
class Looked:
    """What came of one look at the registry.

    Args:
        models: models that were looked at.
        started: what was started, a clause for each.
        failed: what was not started though it should have been, and why.
    """

    models: int
    started: tuple[str, ...]
    failed: tuple[str, ...]


@task(name="look for candidates", persist_result=False)
def start_promotions() -> Looked:
    """Look which version of each model carries the alias, and start what that asks for; each setting of it once.

    Raises:
        RegistryError: MLflow cannot be reached; nothing was started, and the next run looks again.
        DatabaseError: the release database cannot be reached; the same holds.
    """
    # The time before the look: what is told by webhook meanwhile is newer.
    at = time.time()
    carried = open_registry().read_alias(ALIAS)
    database, prefect = AliasDatabase(Settings().release_database_url), open_prefect()
    try:
        database.prepare()
        # A model that was deleted, or renamed, has no alias any more.
        seen = dict.fromkeys(database.read_watched()) | carried
        return _take_all(PromotionStart(database, prefect), seen, at)
    finally:
        prefect.close()
        database.close()


def _take_all(start: PromotionStart, seen: dict[str, int | None], at: float) -> Looked:
    """Each model by itself: what is wrong with one is no reason to leave out the others."""
    started, failed = [], []
    for model, version in sorted(seen.items()):
        try:
            ask, why = start.take(model, version, at)
        except StackError as error:
            failed.append(f"{model} version {version}: {error}")
            continue
        if version is not None:
            get_run_logger().info("%s version %s: %s", model, version, why)
        if ask is Ask.PROMOTE:
            started.append(f"{model}: {why}")
    return Looked(len(seen), tuple(started), tuple(failed))
