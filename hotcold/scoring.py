"""One batch run from the plan to the complete table, each step safe to repeat. Prefect shows it; nothing here needs Prefect."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hotcold.adapters.batch_run import score_parts
from hotcold.adapters.batch_table import PlannedTable, TableRequest, plan_table, read_receipts
from hotcold.adapters.cluster import KINDS, Cluster, Device, has_cuda, open_cluster
from hotcold.adapters.engines import XGBOOST_FILE
from hotcold.adapters.package_files import MODEL_DIR, read_reference, verify_package
from hotcold.adapters.part_scorer import ScoringJob
from hotcold.adapters.table_folder import DATA
from hotcold.domain.batch_plan import Columns, OnBadPart, Part
from hotcold.domain.errors import BatchError, ClusterError, UnreachableInputError
from hotcold.domain.package import Manifest
from hotcold.domain.receipt import Receipt, Totals, missing_parts, summarise

_LOG = logging.getLogger("hotcold.scoring")
# A scheduler or a disk that was lost may come back; what is done is kept.
_ATTEMPTS = 3


@dataclass(frozen=True, eq=False)
class Run:
    """A planned run and how far it is.

    Args:
        table: what is to be made.
        manifest: of the package that scores.
        job: what all parts have in common.
        parts: all parts of the table.
        done: receipts of earlier runs.
        missing: parts that are left.
    """

    table: PlannedTable
    manifest: Manifest
    job: ScoringJob
    parts: tuple[Part, ...]
    done: tuple[Receipt, ...]
    missing: tuple[Part, ...]

    @property
    def table_id(self) -> str:
        """Names the table."""
        return self.table.plan.table_id

    @property
    def rows_total(self) -> int | None:
        """Rows of the input; None where only reading tells."""
        rows = [part.rows for part in self.parts]
        return None if None in rows else sum(row for row in rows if row is not None)


def choose_device(cluster: str, package: Path) -> Device:
    """What a run on this cluster scores on; it decides about the table's bytes, so it is known before the cluster starts.

    Args:
        cluster: see `open_cluster`.
        package: folder of the package.

    Raises:
        ClusterError: a scheduler by address cannot be reached, or CUDA was asked for and the package has nothing for it.
    """
    if not (package / MODEL_DIR / XGBOOST_FILE).is_file():
        if cluster == "cuda":
            raise ClusterError("the package holds no XGBoost model, which is what CUDA scores; run again with cluster=local")
        return "cpu"
    if cluster in KINDS:
        return "cuda" if cluster == "cuda" or (cluster == "auto" and has_cuda()) else "cpu"
    with open_cluster(cluster) as running:
        return running.device


def gives_probabilities(package: Path, manifest: Manifest) -> bool:
    """Whether all scores of the package's reference sample lie between 0 and 1."""
    _, expected = read_reference(package, manifest)
    return bool(expected.min() >= 0.0 and expected.max() <= 1.0)


def plan_run(
    package: Path,
    input_url: str,
    output_url: str,
    columns: Columns,
    on_bad_part: OnBadPart,
    rows_per_part: int,
    device: Device = "cpu",
    with_index: bool = True,
) -> Run:
    """Plan a table, or find how far an earlier run of the same table came.

    Args:
        package: folder of the package that scores.
        input_url: files to score.
        output_url: folder that readers know.
        columns: id and columns to pass through.
        on_bad_part: see `BatchPlan`.
        rows_per_part: wanted rows of a part.
        device: see `choose_device`.
        with_index: write what the score store is built from.

    Raises:
        BadInputError: the input is empty or cannot be read.
        BatchError: the output cannot be written, or what lies there does not suit the plan.
        PackageError: the package is not what it should be.
    """
    manifest = verify_package(package)
    engine = "cuda" if device == "cuda" else manifest.measured.cold_engine
    table = plan_table(
        TableRequest(manifest.model, manifest.digest, engine, input_url, output_url, columns, on_bad_part, rows_per_part)
    )
    job = ScoringJob(
        table_url=table.folder.url,
        package_dir=str(package),
        package_digest=manifest.digest,
        device=device,
        columns=columns,
        output_schema=table.written.serialize().to_pybytes(),
        format=table.plan.format,
        on_bad_part=on_bad_part,
        with_index=with_index,
    )
    parts, done = table.parts(), read_receipts(table)
    return Run(table, manifest, job, parts, done, missing_parts(parts, done))


def score_missing(
    run: Run,
    cluster: str = "auto",
    scratch: Path | None = None,
    workers: int = 0,
    on_receipt: Callable[[Receipt], None] | None = None,
) -> tuple[Receipt, ...]:
    """Score what is missing; starts no cluster if nothing is.

    Args:
        run: the plan.
        cluster: see `open_cluster`.
        scratch: folder for what workers spill.
        workers: see `open_cluster`.
        on_receipt: called with each receipt as it comes.

    Returns:
        Receipts of all parts, those of earlier runs included.

    Raises:
        BadInputError: a part cannot be scored while `on_bad_part` is `fail`.
        BatchError: the output cannot be written.
        ClusterError: no cluster, or it was lost again and again.
        UnreachableInputError: the input was lost again and again.
    """
    receipts = {receipt.part: receipt for receipt in run.done}
    for attempt in range(1, _ATTEMPTS + 1):
        missing = [part for part in run.missing if part.index not in receipts]
        if not missing:
            break
        try:
            with open_cluster(_suitable(cluster, run), scratch, workers) as running:
                _require_device(running, run)
                for receipt in score_parts(running, run.job, run.table.plan, missing):
                    receipts[receipt.part] = receipt
                    if on_receipt:
                        on_receipt(receipt)
        except (ClusterError, UnreachableInputError) as error:
            if attempt == _ATTEMPTS:
                raise
            _LOG.warning("cluster or input lost, trying again", extra={"attempt": attempt, "error": str(error)})
    return tuple(receipts[index] for index in sorted(receipts))


def _suitable(cluster: str, run: Run) -> str:
    """A worker per GPU would be too few for a run that scores on the CPU."""
    return "local" if cluster == "auto" and run.job.device == "cpu" else cluster


def _require_device(cluster: Cluster, run: Run) -> None:
    if run.job.device == "cuda" and cluster.device != "cuda":
        raise ClusterError(f"the run was planned for CUDA and {cluster.where} has none; run again with cluster=local")


def summarise_run(run: Run, receipts: Sequence[Receipt]) -> Totals:
    """Add up a run whose parts are all done, and clear away what writers that were killed have left.

    Raises:
        BatchError: rows were lost or doubled, or a part's file is not there as its receipt says.
    """
    totals = summarise(run.table.plan, run.parts, receipts)
    require_files(run, receipts)
    run.table.folder.delete_leftovers()
    return totals


def require_files(run: Run, receipts: Sequence[Receipt]) -> None:
    """Make sure that the files which the receipts describe are in the table's folder, and no others.

    Raises:
        BatchError: names the first that is missing, of another size, or too many.
    """
    wanted = {f"{run.parts[receipt.part].name}.parquet": receipt.size_bytes for receipt in receipts}
    # Temporary names are cleared away afterwards.
    found = {name: size for name, size in run.table.folder.sizes(DATA).items() if not name.startswith(".")}
    folder = f"{run.table.folder.url}/{DATA}"
    for name, size in wanted.items():
        if found.get(name) != size:
            raise BatchError(
                f"{folder}/{name} has {found.get(name, 'no')} bytes where its receipt says {size}; run again: the part is "
                "scored once more"
            )
    if strange := sorted(found.keys() - wanted.keys()):
        raise BatchError(f"{folder}/{strange[0]} is no part of the table, and readers would read it too; move it elsewhere")
