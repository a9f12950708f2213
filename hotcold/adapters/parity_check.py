"""Scores the same rows on both paths: in the batch from a Parquet file, live as JSON records through an edge."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hotcold.adapters.arrow_columns import schema_columns
from hotcold.adapters.batch_input import Listing, list_input, measure_files
from hotcold.adapters.batch_table import TableRequest, plan_table
from hotcold.adapters.package_files import read_manifest, read_reference
from hotcold.adapters.part_files import SCORE_COLUMN
from hotcold.adapters.part_scorer import ScoringJob, score_part
from hotcold.adapters.piece_reader import read_piece
from hotcold.adapters.row_batch import Wanted
from hotcold.adapters.table_folder import DATA
from hotcold.domain.batch_plan import BatchPlan, Columns
from hotcold.domain.errors import BadInputError, InvalidInputError, UnreachableInputError
from hotcold.domain.field import Field
from hotcold.domain.gate import Gate
from hotcold.domain.package import Manifest, PackageRef
from hotcold.domain.parity import LiveScores, judge_parity
from hotcold.domain.schema import Matrix, Schema

MAX_ROWS = 200
_ROWS_PER_REQUEST = 20
_TIMEOUT_S = 5.0
_ROW = "row"


def check_parity(
    package: PackageRef, src: Path, slot: str, edges: Sequence[str], input_url: str, columns: Columns | None
) -> Gate:
    """Compare the two paths of a package.

    Args:
        package: what has to answer.
        src: its folder.
        slot: slot that runs it; empty asks whoever the edge chooses.
        edges: addresses of all edges.
        input_url: what the model's batch runs score, empty if nothing is known.
        columns: id and columns to pass through of that input.

    Returns:
        See `judge_parity`. Rows are from the input where it can be read and suits the package, else from the reference
        sample; rows that the package refuses are left out, since both paths refuse them by the same function.
    """
    manifest = read_manifest(src)
    rows = read_input_rows(input_url, columns, manifest.schema) if input_url and columns else None
    source = input_url
    if rows is None:
        rows, _ = read_reference(src, manifest)
        source = "the reference sample"
    rows = rows[:MAX_ROWS]
    batch = score_in_batch(src, manifest, rows)
    live = [answer for edge in edges for answer in score_live(edge, package.model, slot, manifest.schema, rows)]
    return judge_parity(package, batch, live, source)


def read_input_rows(input_url: str, columns: Columns, schema: Schema) -> Matrix | None:
    """Rows of the first file of an input that suit a schema; None if there is none, or the file cannot be read."""
    try:
        listing = list_input(input_url)
        first = Listing(listing.files[:1], listing.format)
        files = measure_files(first, MAX_ROWS, "fail")
        plan = BatchPlan("", "", "", listing.format, files, columns, "fail", MAX_ROWS)
        piece = plan.parts()[0].pieces[0]
        read = next(read_piece(files[0], piece, Wanted(schema, columns, listing.format), MAX_ROWS))
    except (BadInputError, UnreachableInputError, InvalidInputError, StopIteration):
        return None
    batch = read.rows
    good = schema.find_bad_rows(schema_columns(batch, schema), batch.num_rows) < 0
    good[list(read.faults)] = False
    batch = batch.filter(pa.array(good))
    return schema.encode_columns(schema_columns(batch, schema), batch.num_rows) if batch.num_rows else None


def score_in_batch(src: Path, manifest: Manifest, rows: Matrix) -> NDArray[np.float64]:
    """Scores of n rows by the cold path: written as Parquet, read back, scored and read from the part's file.

    Args:
        src: folder of the package.
        manifest: its manifest.
        rows: shape (n, features), float32.

    Returns:
        Shape (n,).
    """
    with tempfile.TemporaryDirectory(prefix="hotcold-parity-") as folder:
        source = Path(folder) / "rows.parquet"
        pq.write_table(as_table(manifest.schema, rows), source)
        engine, columns = manifest.measured.cold_engine, Columns(_ROW)
        table = plan_table(
            TableRequest(manifest.model, manifest.digest, engine, str(source), f"{folder}/out", columns, "fail", MAX_ROWS)
        )
        written = table.written.serialize().to_pybytes()
        job = ScoringJob(
            table.folder.url, str(src), manifest.digest, "cpu", columns, written, table.plan.format, "fail", with_index=False
        )
        for part in table.parts():
            score_part(job, part, dict(enumerate(table.plan.files)))
        scores = pq.read_table(table.folder.path(DATA)).sort_by(_ROW)[SCORE_COLUMN].to_numpy()
    return np.asarray(scores, dtype=np.float64)


def as_table(schema: Schema, rows: Matrix) -> pa.Table:
    """Rows as people store them: text for categories, whole numbers, nulls; with a number for each row."""
    columns = {field.name: _as_column(field, rows[:, index]) for index, field in enumerate(schema.fields)}
    return pa.table({_ROW: pa.array(np.arange(len(rows), dtype=np.int64)), **columns})


def _as_column(field: Field, values: NDArray[np.float32]) -> pa.Array:
    missing = np.isnan(values)
    if field.categories:
        codes = np.where(missing, 0, values).astype(np.int32)
        return pa.DictionaryArray.from_arrays(pa.array(codes, mask=missing), list(field.categories)).cast(pa.string())
    kind = pa.int32() if field.dtype == "int32" else pa.float64()
    return pa.array(np.where(missing, 0, values).astype(np.float64), pa.float64(), mask=missing).cast(kind)


def score_live(edge_url: str, model: str, slot: str, schema: Schema, rows: Matrix) -> list[LiveScores]:
    """Scores of n rows by a slot, as JSON records, some rows at a time."""
    records = as_table(schema, rows).drop_columns([_ROW]).to_pylist()
    headers = {"content-type": "application/json"} | ({"x-hotcold-variant": slot} if slot else {})
    with httpx.Client(base_url=edge_url, timeout=_TIMEOUT_S, headers=headers, trust_env=False) as client:
        firsts = range(0, len(records), _ROWS_PER_REQUEST)
        return [_ask(client, model, records[first : first + _ROWS_PER_REQUEST], first) for first in firsts]


def _ask(client: httpx.Client, model: str, records: list[dict[str, Any]], first: int) -> LiveScores:
    nothing = np.empty(0, dtype=np.float64)
    try:
        answer = client.post(f"/models/{model}/predict", content=orjson.dumps({"records": records}))
    except httpx.HTTPError as error:
        return LiveScores(first, len(records), 0, "", nothing, type(error).__name__)
    digest = answer.headers.get("x-package-digest", "")
    if answer.status_code != httpx.codes.OK:
        return LiveScores(first, len(records), answer.status_code, digest, nothing, answer.text[:200])
    return LiveScores(first, len(records), 200, digest, np.array(answer.json()["scores"], dtype=np.float64))
