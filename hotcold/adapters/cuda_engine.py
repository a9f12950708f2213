"""Scores on a CUDA device: columns go to the device once, scores come back once, and all between stays there.

The arithmetic is written for an array module, so that the same lines run on NumPy in the tests of machines without a GPU.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotcold.adapters.bulk_engine import BatchScores
from hotcold.adapters.engines import XGBOOST_FILE
from hotcold.adapters.package_files import MODEL_DIR, read_reference, verify_package
from hotcold.domain.errors import PackageError, ParityError
from hotcold.domain.field import DictionaryColumn
from hotcold.domain.package import PARITY_LIMIT, Manifest
from hotcold.domain.schema import Schema

# Large, since each batch costs a few launches and two transfers whatever its size.
CUDA_BATCH_ROWS = 1 << 20


class CudaBulkEngine:
    """XGBoost on the device that this worker sees.

    Args:
        manifest: of the package.
        booster: loaded onto the device.
        arrays: CuPy, or NumPy in tests.
    """

    batch_rows = CUDA_BATCH_ROWS

    def __init__(self, manifest: Manifest, booster: Any, arrays: Any) -> None:
        self.schema: Schema = manifest.schema
        self.digest = manifest.digest
        self._booster = booster
        self._arrays = arrays

    def score(self, columns: Mapping[str, NDArray[Any] | DictionaryColumn], rows: int) -> BatchScores:
        """See BulkEngine."""
        if not rows:
            return BatchScores(np.empty(0, dtype=np.float32), 0.0, 0.0)
        began = time.perf_counter()
        matrix = encode_on_device(self.schema, columns, rows, self._arrays)
        encoded = time.perf_counter()
        scores = to_host(self._booster.inplace_predict(matrix))
        return BatchScores(scores, encoded - began, time.perf_counter() - encoded)


def encode_on_device(schema: Schema, columns: Mapping[str, NDArray[Any] | DictionaryColumn], rows: int, arrays: Any) -> Any:
    """The matrix that `Schema.encode_columns` gives, made on the device.

    Args:
        schema: features of the model.
        columns: as a file holds them.
        rows: number of rows.
        arrays: array module of the device.

    Returns:
        Shape (rows, len(fields)), float32, on the device.

    Raises:
        InvalidInputError: a value breaks the schema; found on the device, named by the host's encoder.
    """
    matrix = arrays.empty((rows, len(schema.fields)), dtype=arrays.float32, order="F")
    bad = arrays.zeros((), dtype=arrays.bool_)
    for index, field in enumerate(schema.fields):
        column = columns.get(field.name)
        if column is None or len(column) != rows:
            schema.encode_columns(columns, rows)
        values = matrix[:, index]
        if column is None:
            values[...] = arrays.nan
        elif isinstance(column, DictionaryColumn):
            values[...] = arrays.asarray(_code_table(field.codes, column))[arrays.asarray(column.codes)]
        else:
            values[...] = arrays.asarray(column)
        missing = arrays.isnan(values)
        bad |= arrays.isinf(values).any()
        if not field.nullable:
            bad |= missing.any()
        if field.limits:
            lowest, highest = field.limits
            bad |= (~missing & ((values < lowest) | (values > highest) | (arrays.floor(values) != values))).any()
    if bool(bad):
        # The host's encoder names the row and the value, which is worth a second pass when something is wrong.
        schema.encode_columns(columns, rows)
    return matrix


def _code_table(codes: Mapping[object, float], column: DictionaryColumn) -> NDArray[np.float32]:
    """Code of each value of a dictionary; the last entry is what the index -1 finds, for a missing value."""
    found = [codes.get(value, np.inf) for value in column.values]
    return np.array([*found, codes.get(None, np.inf)], dtype=np.float32)


def to_host(scores: Any) -> NDArray[np.float32]:
    """One score per row, on the host."""
    scores = scores.get() if hasattr(scores, "get") else scores
    if scores.ndim == 2 and scores.shape[1] <= 2:
        scores = scores[:, -1]
    return np.ascontiguousarray(scores, dtype=np.float32)


def open_cuda_engine(src: Path) -> CudaBulkEngine:
    """Verify a package and load its model onto this worker's device.

    Args:
        src: folder of the package.

    Raises:
        PackageError: it holds no XGBoost model, or CUDA or CuPy do not work here.
        ParityError: its scores differ from the stored ones.
    """
    manifest = verify_package(src)
    if not (src / MODEL_DIR / XGBOOST_FILE).is_file():
        raise PackageError(f"{manifest.ref.tag} holds no XGBoost model; on a GPU only such ones are scored: use cluster=local")
    try:
        import cupy

        cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        raise PackageError(f"CUDA cannot be used here ({error}); install cupy for this CUDA, or use cluster=local") from error
    engine = CudaBulkEngine(manifest, load_booster(src, "cuda"), cupy)
    require_parity(engine, src, manifest)
    return engine


def load_booster(src: Path, device: str) -> Any:
    """The package's Booster on a device, `cuda` or `cpu`."""
    import xgboost

    booster = xgboost.Booster(model_file=str(src / MODEL_DIR / XGBOOST_FILE))
    booster.set_param({"device": device, "nthread": 1})
    return booster


def require_parity(engine: CudaBulkEngine, src: Path, manifest: Manifest) -> None:
    """Compare the scores of the package's reference sample with the stored ones.

    Raises:
        ParityError: they differ by more than PARITY_LIMIT.
    """
    sample, expected = read_reference(src, manifest)
    columns = {name: _as_column(manifest.schema, name, sample[:, index]) for index, name in enumerate(manifest.schema.names)}
    worst = float(np.abs(engine.score(columns, len(sample)).scores.astype(np.float64) - expected).max())
    if not worst <= PARITY_LIMIT:
        raise ParityError(
            f"the scores on the GPU differ from the stored ones by {worst:.1e}; allowed is {PARITY_LIMIT:g}. Use cluster=local"
        )


def _as_column(schema: Schema, name: str, values: NDArray[np.float32]) -> NDArray[Any] | DictionaryColumn:
    field = next(field for field in schema.fields if field.name == name)
    if field.dtype != "category":
        return values
    return DictionaryColumn(field.categories, np.where(np.isnan(values), -1, values).astype(np.int32))
