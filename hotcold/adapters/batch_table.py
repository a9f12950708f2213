"""A score table on its way: planned once, filled part by part, picked up where it was left."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import fsspec
import orjson
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from fsspec.utils import glob_translate

from hotcold.adapters.batch_input import Listing, list_input, measure_files
from hotcold.adapters.input_files import content_fault, open_input
from hotcold.adapters.part_files import RECEIPTS, WRITER, output_columns, read_receipt
from hotcold.adapters.table_folder import DATA, LINEAGE_FILE, TABLES, Folder, plain_url, refuse_chain
from hotcold.domain.batch_plan import BatchPlan, Columns, FileFormat, InputFile, OnBadPart, Part
from hotcold.domain.errors import BadInputError, BatchError
from hotcold.domain.receipt import Receipt

PLAN_FILE = "plan.json"


@dataclass(frozen=True, eq=False)
class PlannedTable:
    """A table that may be complete, begun or not begun.

    Args:
        plan: what it consists of.
        written: types of the id and of the columns to pass through.
        folder: where it lies.
    """

    plan: BatchPlan
    written: pa.Schema
    folder: Folder

    def parts(self) -> tuple[Part, ...]:
        """Its parts; see `BatchPlan.parts`."""
        return self.plan.parts()


@dataclass(frozen=True)
class TableRequest:
    """What is to be scored with what.

    Args:
        model: registered model name.
        package_digest: SHA-256 of the package.
        engine: engine that scores.
        input_url: files to score.
        output_url: folder that readers know.
        columns: id and columns to pass through.
        on_bad_part: see `BatchPlan`.
        rows_per_part: wanted rows of a part.
    """

    model: str
    package_digest: str
    engine: str
    input_url: str
    output_url: str
    columns: Columns
    on_bad_part: OnBadPart
    rows_per_part: int

    def __post_init__(self) -> None:
        if not self.input_url or not self.output_url:
            raise BatchError("a batch run needs an input and an output")
        for url in (self.input_url, self.output_url):
            refuse_chain(url)
        if _finds(_place(self.input_url), f"{_place(self.output_url)}/{TABLES}"):
            raise BatchError(f"the output {self.output_url} lies in the input {self.input_url}; choose a folder outside of it")


def _place(url: str) -> str:
    """An address without its slash at the end; a local one as a path, whichever links lead there."""
    local = url.removeprefix("file://")
    return url.rstrip("/") if "://" in local else os.path.realpath(local)


def _finds(source: str, tables: str) -> bool:
    """Whether an input, a folder or a pattern, would find score tables, of which there may be none yet."""
    if "*" in source:
        return re.match(glob_translate(source), f"{tables}/id/{DATA}/part-000000.parquet") is not None
    return f"{tables}/".startswith(f"{source}/")


def table_folder(output_url: str, table_id: str) -> Folder:
    """Where a table of an output lies."""
    return Folder(f"{output_url.rstrip('/')}/{TABLES}/{table_id}")


def plan_table(request: TableRequest) -> PlannedTable:
    """Plan a table, or read the plan that an earlier run of the same table left.

    Only the names, sizes and versions of the input's files decide which table it is, so that a finished run is found without
    a file being opened.

    Raises:
        BadInputError: the input is empty or cannot be read; see `list_input` and `measure_files`.
        UnreachableInputError: a disk or network does not give a file.
        BatchError: the output cannot be written, or its score tables lie in the input.
    """
    listing = list_input(request.input_url)
    _require_outside(listing, request.output_url)
    plan = BatchPlan(
        model=request.model,
        package_digest=request.package_digest,
        engine=request.engine,
        format=listing.format,
        files=listing.files,
        columns=request.columns,
        on_bad_part=request.on_bad_part,
        rows_per_part=request.rows_per_part,
        writer=WRITER,
    )
    folder = table_folder(request.output_url, plan.table_id)
    if (content := folder.read(PLAN_FILE)) is not None:
        return _read_plan(content, folder)
    plan = replace(plan, files=measure_files(listing, request.rows_per_part, request.on_bad_part))
    written = output_columns(_first_schema(plan.files, plan.format), request.columns.names)
    document = {"plan": plan.to_json(), "written": base64.b64encode(written.serialize().to_pybytes()).decode()}
    folder.write(PLAN_FILE, orjson.dumps(document))
    return PlannedTable(plan, written, folder)


def _require_outside(listing: Listing, output_url: str) -> None:
    """Make sure that no score table of the output is scored: not by a pattern, not by a link."""
    files, path = fsspec.core.url_to_fs(f"{plain_url(output_url)}/{TABLES}")
    tables = f"{_place(files.unstrip_protocol(path))}/"
    if found := next((file.url for file in listing.files if _place(file.url).startswith(tables)), None):
        raise BatchError(
            f"the input holds {found}, which belongs to a score table of the output {output_url}; choose another one"
        )


def _read_plan(content: bytes, folder: Folder) -> PlannedTable:
    try:
        document = orjson.loads(content)
        written = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(document["written"])))
        return PlannedTable(BatchPlan.from_json(document["plan"]), written, folder)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise BatchError(f"{folder.url}/{PLAN_FILE} cannot be read ({error}); delete {folder.url} and run again") from error


def _first_schema(files: Sequence[InputFile], kind: FileFormat) -> pa.Schema:
    """Schema of the first file that can be read."""
    file = next(file for file in files if not file.problem)
    try:
        with open_input(file) as source:
            if kind == "parquet":
                return pq.read_schema(source)
            names = pacsv.read_csv(pa.BufferReader(source.read(file.header_bytes))).column_names
            return pa.schema([(name, pa.string()) for name in names])
    except Exception as error:
        raise BadInputError(f"{file.url} cannot be read: {content_fault(file.url, error)}") from error


def read_receipts(table: PlannedTable) -> tuple[Receipt, ...]:
    """Receipts of the parts that are done; a part whose file is missing or of another size is done again."""
    sizes = table.folder.sizes(DATA)
    receipts = []
    for name in sorted(table.folder.sizes(RECEIPTS)):
        content = table.folder.read(f"{RECEIPTS}/{name}")
        receipt = _usable_receipt(content) if content is not None and name.endswith(".json") else None
        if receipt and sizes.get(f"{name.removesuffix('.json')}.parquet") == receipt.size_bytes:
            receipts.append(receipt)
    return tuple(receipts)


def _usable_receipt(content: bytes) -> Receipt | None:
    try:
        return read_receipt(content)
    except BatchError:
        return None


def read_lineage(folder: Folder) -> dict[str, Any] | None:
    """What a complete table says of itself; None if it is not complete.

    Raises:
        BatchError: the file is there but cannot be read.
    """
    content = folder.read(LINEAGE_FILE)
    if content is None:
        return None
    try:
        return dict(json.loads(content))
    except (ValueError, TypeError) as error:
        raise BatchError(f"{folder.url}/{LINEAGE_FILE} cannot be read ({error}); delete it and run again") from error


def write_lineage(folder: Folder, lineage: dict[str, Any]) -> None:
    """Say that a table is complete, and where it comes from."""
    folder.write(LINEAGE_FILE, orjson.dumps(lineage, option=orjson.OPT_INDENT_2))


def delete_abandoned(output_url: str, kept: Collection[str], before: float) -> int:
    """Delete tables that were planned long ago and that nobody knows: runs that were given up, deletions that were killed.

    Args:
        output_url: folder that readers know.
        kept: ids of tables that stay.
        before: seconds since the epoch; what was planned later stays.

    Returns:
        How many were deleted.
    """
    tables = Folder(f"{output_url.rstrip('/')}/{TABLES}")
    gone = [name for name in tables.folders() if name not in kept and tables.child(name).modified(PLAN_FILE) < before]
    for name in gone:
        tables.child(name).delete()
    return len(gone)
