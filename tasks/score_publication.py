"""The end of a batch run: let readers see its table, and delete what nobody needs any more."""

import time
from dataclasses import replace
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from hotcold.adapters.batch_table import delete_abandoned, table_folder
from hotcold.adapters.score_database import ScoreDatabase
from hotcold.adapters.score_pointer import STORE, project_scores, read_pointer
from hotcold.adapters.score_store import ScoreStore, delete_unknown_tables, open_score_store
from hotcold.domain.errors import HotcoldError, ReadersBehindError, RegistryError, ScoresError, StackError
from hotcold.domain.score_table import ScoreTable, TableState, tables_to_delete
from hotcold.domain.scoring_summary import ScoringSummary
from hotcold.scoring import Run
from hotcold.settings import Settings
from tasks.context import controller_name, open_registry
from tasks.scoring import open_scores
from tasks.scoring_request import ScoringRequest

_LOCAL: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}
KEPT_TABLES = 5
# A run that was not taken up again for so long has other input by now.
ABANDONED_AFTER_S = 7 * 86_400.0


@task(name="publish", retries=3, retry_delay_seconds=[1, 3, 10], **_LOCAL)
def publish_table(request: ScoringRequest, summary: ScoringSummary) -> ScoringSummary:
    """Record the table and, if it passed the gate and its package is the champion, let readers see it.

    Returns:
        The summary with its outcome.

    Raises:
        DatabaseError: the release database cannot be reached.
        ScoresError: some readers do not see the table yet.
    """
    settings = Settings()
    database = open_scores(settings)
    table = _table_of(request, summary)
    try:
        database.record(table, controller_name(), time.time())
        publication = database.publish(table.output, table.id, controller_name(), time.time())
        _project(database, request)
    finally:
        database.close()
    verb = "refused" if table.state is TableState.REFUSED else "kept"
    outcome = f"{verb}: {publication.refused}" if publication.refused else "published"
    get_run_logger().info("table %s: %s", table.id, outcome)
    return replace(summary, outcome=outcome)


def _project(database: ScoreDatabase, request: ScoringRequest) -> None:
    """Let readers see the table. Other outputs of the model, such as one whose folder is gone, are no reason to fail."""
    try:
        project_scores(database, request.model, open_score_store(Settings().score_store))
    except ReadersBehindError as error:
        own = {request.output_url, STORE} if request.score_store else {request.output_url}
        if own & error.failures.keys():
            raise
        get_run_logger().warning("other readers are behind: %s", error)


def _table_of(request: ScoringRequest, summary: ScoringSummary) -> ScoreTable:
    harm = summary.refused_by
    reason = f"shown although the quality gate says no: {summary.overruled}" if summary.overruled else ""
    return ScoreTable(
        id=summary.table,
        model=summary.model,
        output=request.output_url,
        package=summary.package,
        input_url=summary.input_url,
        input_fingerprint=summary.input_fingerprint,
        rows=summary.totals.rows_out,
        in_store=request.score_store,
        scored_at=summary.scored_at,
        parameters=summary.parameters,
        state=TableState.REFUSED if harm else TableState.STAGED,
        reason=harm.sentence if harm else reason,
        lineage=summary.to_lineage(),
    )


def note_archived_version(summary: ScoringSummary) -> ScoringSummary:
    """Say so where somebody has archived or deleted the version in MLflow while it scored.

    What serves is decided by releases and not by a stage, so the table follows the champion all the same. A run that found
    everything done asks nobody, and neither does one that cannot reach MLflow.
    """
    if not summary.parts_now:
        return summary
    try:
        put_aside = open_registry().put_aside(summary.model, summary.package.version)
    except (RegistryError, StackError):
        return summary
    if not put_aside:
        return summary
    note = f"version {summary.package.version} is {put_aside} in MLflow; if it is not to be used any more, run roll-back"
    get_run_logger().warning(note)
    return replace(summary, outcome=f"{summary.outcome}; {note}")


@task(name="delete old tables", **_LOCAL)
def delete_old_tables(request: ScoringRequest, run: Run) -> int:
    """Keep the latest tables and those that an undo needs, and clear away what runs that were given up have left.

    What cannot be deleted now is no reason to call a published table a failure; the next run tries again.

    Returns:
        How many were deleted.
    """
    database, store = open_scores(Settings()), open_score_store(Settings().score_store)
    try:
        return _delete_surplus(database, store, request) + _delete_unknown(database, store, request, run)
    except (HotcoldError, OSError) as error:
        get_run_logger().warning("old tables of %s stay for now: %s", request.output_url, error)
        return 0
    finally:
        database.close()


def _delete_surplus(database: ScoreDatabase, store: ScoreStore, request: ScoringRequest) -> int:
    known = database.read_tables(request.model)
    tables = [table for table in known if table.output == request.output_url]
    elsewhere = {table.id for table in known if table.output != request.output_url}
    current = {pointer.output: pointer.table for pointer in database.read_pointers(request.model)}
    champion, previous = database.read_champion(request.model), database.read_previous(request.model)
    gone = tables_to_delete(tables, current.get(request.output_url, ""), champion, previous, KEPT_TABLES)
    for table in gone:
        # Struck off first: a table without data must never be chosen.
        database.forget(table.output, table.id)
        if table.id not in elsewhere:
            store.delete(table.model, table.id)
        table_folder(table.output, table.id).delete()
    return len(gone)


def _delete_unknown(database: ScoreDatabase, store: ScoreStore, request: ScoringRequest, run: Run) -> int:
    """What nobody knows, in the output and in the store; nothing, unless it is certain what readers see: a database that was
    lost does not know.
    """
    try:
        shown = read_pointer(request.output_url).table
    except ScoresError:
        return 0
    tables, before = database.read_tables(), time.time() - ABANDONED_AFTER_S
    here = {table.id for table in tables if table.output == request.output_url}
    of_model = {table.id for table in tables if table.model == request.model}
    delete_unknown_tables(store, request.model, of_model | {run.table_id, shown}, before)
    return delete_abandoned(request.output_url, here | {run.table_id, shown}, before)
