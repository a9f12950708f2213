"""Steps of a batch run: find the package, plan, score, check, publish. Each is safe to repeat."""

import time
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from hotcold.adapters.batch_table import delete_abandoned, read_lineage, table_folder, write_lineage
from hotcold.adapters.package_files import package_dir, verify_package_ref
from hotcold.adapters.score_database import ScoreDatabase
from hotcold.adapters.score_pointer import STORE, project_scores, read_pointer
from hotcold.adapters.score_store import open_score_store
from hotcold.adapters.table_folder import plain_output, plain_url
from hotcold.domain.errors import CorruptPackageError, ReadersBehindError, ScoresError
from hotcold.domain.gate import first_harm
from hotcold.domain.package import PackageRef
from hotcold.domain.receipt import Receipt, content_digest, ids_are_unique
from hotcold.domain.score_quality import Duplicates, Published, judge_table
from hotcold.domain.score_table import ScoreTable, TableState, tables_to_delete
from hotcold.domain.scoring_summary import Progress, ScoringSummary
from hotcold.scoring import Run, choose_device, gives_probabilities, plan_run, score_missing, summarise_run
from hotcold.settings import Settings
from hotcold.table_index import delete_fragments, index_table, restore_fragments
from tasks.context import controller_name, open_registry
from tasks.packaging import package_version
from tasks.scoring_progress import ProgressArtifact
from tasks.scoring_request import ScoringRequest, complete_request

_LOCAL: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}
_PLAIN = {"input_url": plain_url, "output_url": plain_output}
KEPT_TABLES = 5
# A run that was not taken up again for so long has other input by now.
ABANDONED_AFTER_S = 7 * 86_400.0


def read_request(given: Mapping[str, Any]) -> ScoringRequest | None:
    """Complete what was asked for by what the model's last table was made with; None if no input was ever named.

    Raises:
        BatchError: an address that cannot be used, or a parameter out of range.
    """
    settings = Settings()
    database = open_scores(settings)
    try:
        tables = database.read_tables(given["model"])
    finally:
        database.close()
    urls = {name: plain(given[name]) for name, plain in _PLAIN.items() if given[name]}
    return complete_request({**given, **urls}, tables, str(settings.root / "batch" / given["model"]))


def open_scores(settings: Settings) -> ScoreDatabase:
    """The part of the release database that knows score tables."""
    database = ScoreDatabase(settings.release_database_url)
    database.prepare()
    return database


@task(name="find package", task_run_name="package of {model}", **_LOCAL)
def find_package(model: str, version: int | None) -> PackageRef:
    """The champion's package, or that of a version; built if it is not there. Needs MLflow only if it has to be built.

    Raises:
        PackageError: it cannot be built.
        RegistryError: there is no such version, or no champion.
    """
    settings = Settings()
    database = open_scores(settings)
    try:
        champion = database.read_champion(model)
    finally:
        database.close()
    if champion and version in (None, champion.version):
        try:
            verify_package_ref(champion, settings.bento_home)
            return champion
        except CorruptPackageError as error:
            get_run_logger().warning("%s; building it again", error)
            version = champion.version
    number = open_registry().resolve(model, version, alias="champion")
    return package_version(model, number, None, True)


@task(name="plan", **_LOCAL)
def plan_scoring(request: ScoringRequest, package: PackageRef) -> Run:
    """Cut the input into parts, or find how far an earlier run of the same table came.

    Raises:
        BadInputError: the input is empty or cannot be read.
        BatchError: the output cannot be written.
        ClusterError: a scheduler by address cannot be reached.
    """
    folder = package_dir(package, Settings().bento_home)
    run = plan_run(
        folder,
        request.input_url,
        request.output_url,
        request.columns,
        request.on_bad_part,
        request.rows_per_part,
        device=choose_device(request.cluster, folder),
        with_index=request.score_store,
    )
    get_run_logger().info(
        "table %s of %s: %d files, %d parts, %d of them done before",
        run.table_id,
        package.tag,
        len(run.table.plan.files),
        len(run.parts),
        len(run.done),
    )
    return run


@task(name="score", **_LOCAL)
def score_missing_parts(request: ScoringRequest, run: Run) -> tuple[Receipt, ...]:
    """Score the parts that are missing, on Dask, with the progress in the UI.

    Raises:
        BadInputError: a part cannot be scored while `on_bad_part` is `fail`.
        BatchError: the output cannot be written.
        ClusterError: no cluster, or it was lost again and again.
    """
    began = time.monotonic()
    with ProgressArtifact(run.manifest.model) as artifact:
        progress = _progress_before(run)

        def show(receipt: Receipt) -> None:
            nonlocal progress
            progress = progress.with_part(receipt.rows_in, time.monotonic() - began)
            artifact.update(progress)

        return score_missing(run, request.cluster, Settings().run_dir / "dask", on_receipt=show)


def _progress_before(run: Run) -> Progress:
    """What earlier runs of the same table have done."""
    rows, parts = sum(receipt.rows_in for receipt in run.done), len(run.done)
    return Progress(rows, run.rows_total, parts, len(run.parts), 0.0, rows_before=rows, parts_before=parts)


@task(name="check", **_LOCAL)
def check_table(
    request: ScoringRequest, run: Run, package: PackageRef, receipts: tuple[Receipt, ...], elapsed_s: float
) -> ScoringSummary:
    """Add up all rows, look for repeated ids, build the table's part of the score store, and judge the table.

    Raises:
        BatchError: rows were lost or doubled.
        ScoreStoreError: the store cannot be written.
    """
    settings = Settings()
    totals = summarise_run(run, receipts)
    before = read_lineage(run.table.folder) or {}
    scored_at = _scored_at(before)
    duplicates = _duplicates(request, run, receipts, scored_at, before)
    published = _published(settings, request, run.table_id, before)
    limits = request.quality.limits(gives_probabilities(package_dir(package, settings.bento_home), run.manifest))
    summary = ScoringSummary(
        package=package,
        mlflow_run=run.manifest.run_id,
        flow_run=str(flow_run.id or ""),
        engine=run.table.plan.engine,
        device=run.job.device,
        table=run.table_id,
        input_url=request.input_url,
        input_fingerprint=run.table.plan.input_fingerprint,
        parts_now=len(run.missing),
        rows_now=totals.rows_out - sum(receipt.rows_out for receipt in run.done),
        totals=totals,
        duplicates=duplicates,
        content_sha256=content_digest(receipts),
        elapsed_s=elapsed_s,
        scored_at=scored_at,
        gates=judge_table(totals, duplicates, published, limits),
        published=published,
        parameters=request.parameters(),
    )
    write_lineage(run.table.folder, summary.to_lineage())
    delete_fragments(run)
    for gate in summary.gates:
        get_run_logger().info(gate.sentence)
    return summary


def _scored_at(before: Mapping[str, Any]) -> float:
    """When the table was complete: a run that only finds it complete changes nothing."""
    return datetime.fromisoformat(before["scored_at"]).timestamp() if before else time.time()


def _duplicates(
    request: ScoringRequest, run: Run, receipts: Sequence[Receipt], scored_at: float, before: Mapping[str, Any]
) -> Duplicates:
    """Found once; a run that only finds the table complete reads what was found then."""
    store = open_score_store(Settings().score_store) if request.score_store else None
    if before and (store is None or store.has(run.manifest.model, run.table_id)):
        return Duplicates(before["duplicates"]["rows"], tuple(before["duplicates"]["examples"]))
    if store is None and ids_are_unique(receipts):
        return Duplicates()
    restore_fragments(run)
    return index_table(run, sum(receipt.rows_out for receipt in receipts), scored_at, store)


def _published(settings: Settings, request: ScoringRequest, table_id: str, before: Mapping[str, Any]) -> Published | None:
    """The table that readers of the output see now; where that is this one already, the one that it was compared with then."""
    database = open_scores(settings)
    try:
        pointers = {pointer.output: pointer for pointer in database.read_pointers(request.model)}
        tables = {table.id: table for table in database.read_tables(request.model) if table.output == request.output_url}
    finally:
        database.close()
    pointer = pointers.get(request.output_url)
    shown = pointer.table if pointer else ""
    compared = tables.get(before["compared_with"] or "" if shown == table_id and before else shown)
    return Published.from_lineage(compared.lineage) if compared else None


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
    harm = first_harm(summary.gates)
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
        reason=harm.sentence if harm else "",
        lineage=summary.to_lineage(),
    )


@task(name="delete old tables", **_LOCAL)
def delete_old_tables(request: ScoringRequest, run: Run) -> int:
    """Keep the latest tables and those that an undo needs, and clear away what runs that were given up have left.

    Returns:
        How many were deleted.
    """
    settings = Settings()
    database, store = open_scores(settings), open_score_store(settings.score_store)
    try:
        of_all = database.read_tables()
        known = [table for table in of_all if table.model == request.model]
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
    finally:
        database.close()
    in_use = {table.id for table in of_all if table.output == request.output_url} - {table.id for table in gone}
    return len(gone) + delete_abandoned_tables(request.output_url, in_use | {run.table_id})


def delete_abandoned_tables(output_url: str, known: AbstractSet[str]) -> int:
    """Nothing, unless it is certain what readers see: a database that was lost does not know."""
    try:
        shown = read_pointer(output_url).table
    except ScoresError:
        return 0
    return delete_abandoned(output_url, known | {shown}, time.time() - ABANDONED_AFTER_S)
