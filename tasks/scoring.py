"""Steps of a batch run: find the package, plan, score, check, publish. Each is safe to repeat."""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from hotcold.adapters.batch_table import read_lineage, write_lineage
from hotcold.adapters.package_files import package_dir, verify_package_ref
from hotcold.adapters.score_database import ScoreDatabase
from hotcold.adapters.score_store import open_score_store
from hotcold.adapters.table_folder import plain_output, plain_url
from hotcold.domain.errors import CorruptPackageError
from hotcold.domain.gate import first_harm
from hotcold.domain.package import PackageRef
from hotcold.domain.receipt import Receipt, content_digest, ids_are_unique
from hotcold.domain.score_quality import Duplicates, Published, judge_table
from hotcold.domain.scoring_progress import Progress
from hotcold.domain.scoring_summary import ScoringSummary
from hotcold.scoring import Run, choose_device, gives_probabilities, plan_run, score_missing, summarise_run
from hotcold.settings import Settings
from hotcold.table_index import delete_fragments, index_table, restore_fragments
from tasks.context import open_registry
from tasks.packaging import package_version
from tasks.scoring_progress import ProgressArtifact
from tasks.scoring_request import ScoringRequest, complete_request

_LOCAL: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}
_PLAIN = {"input_url": plain_url, "output_url": plain_output}


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
    summary = _summarise(request, run, package, receipts, elapsed_s)
    write_lineage(run.table.folder, summary.to_lineage())
    delete_fragments(run)
    for gate in summary.gates:
        get_run_logger().info(gate.sentence)
    return summary


def _summarise(
    request: ScoringRequest, run: Run, package: PackageRef, receipts: tuple[Receipt, ...], elapsed_s: float
) -> ScoringSummary:
    settings = Settings()
    totals = summarise_run(run, receipts)
    found = read_lineage(run.table.folder) or {}
    scored_at = _scored_at(found)
    duplicates = _duplicates(request, run, receipts, scored_at, found)
    published = _published(settings, request, run.table_id, found)
    limits = request.quality.limits(gives_probabilities(package_dir(package, settings.bento_home), run.manifest))
    gates = judge_table(totals, duplicates, published, limits)
    return ScoringSummary(
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
        gates=gates,
        published=published,
        parameters=request.parameters(),
        # It is said of a table, not of a run: found again, the table stays what it was. Where no gate says no, nobody is
        # overruled.
        overruled=(request.overrule or found.get("overruled", "")) if first_harm(gates) else "",
        found=found,
    )


def _scored_at(found: Mapping[str, Any]) -> float:
    """When the table was complete: a run that only finds it complete changes nothing."""
    return datetime.fromisoformat(found["scored_at"]).timestamp() if found else time.time()


def _duplicates(
    request: ScoringRequest, run: Run, receipts: Sequence[Receipt], scored_at: float, found: Mapping[str, Any]
) -> Duplicates:
    """Found once; a run that only finds the table complete reads what was found then."""
    store = open_score_store(Settings().score_store) if request.score_store else None
    if found and (store is None or store.has(run.manifest.model, run.table_id)):
        return Duplicates(found["duplicates"]["rows"], tuple(found["duplicates"]["examples"]))
    if store is None and ids_are_unique(receipts):
        return Duplicates()
    restore_fragments(run)
    return index_table(run, sum(receipt.rows_out for receipt in receipts), scored_at, store)


def _published(settings: Settings, request: ScoringRequest, table_id: str, found: Mapping[str, Any]) -> Published | None:
    """The table that readers of the output see now; where that is this one already, the one that it was compared with then."""
    database = open_scores(settings)
    try:
        pointers = {pointer.output: pointer for pointer in database.read_pointers(request.model)}
        tables = {table.id: table for table in database.read_tables(request.model) if table.output == request.output_url}
    finally:
        database.close()
    pointer = pointers.get(request.output_url)
    shown = pointer.table if pointer else ""
    compared = tables.get(found["compared_with"] or "" if shown == table_id and found else shown)
    return Published.from_lineage(compared.lineage) if compared else None
