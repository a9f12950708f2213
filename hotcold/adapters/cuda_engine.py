"""Scores on a CUDA device: a batch goes there in one transfer, or is unpacked there by cuDF, and its scores come back in one.

The arithmetic is written for an array module, so that the same lines run on NumPy in the tests of machines without a GPU.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotcold.adapters.bulk_engine import BatchScores
from hotcold.adapters.cudf_reader import import_cudf, read_features
from hotcold.adapters.engines import XGBOOST_FILE
from hotcold.adapters.package_files import MODEL_DIR, read_reference, verify_package
from hotcold.domain.batch_plan import InputFile, Piece
from hotcold.domain.errors import InvalidInputError, PackageError, ParityError
from hotcold.domain.field import DictionaryColumn, require_length
from hotcold.domain.package import PARITY_LIMIT, Manifest
from hotcold.domain.receipt import Timings
from hotcold.domain.schema import Schema

_LOG = logging.getLogger("hotcold.scoring")
# Large, since each batch costs a few launches and two transfers whatever its size.
CUDA_BATCH_ROWS = 1 << 20


class CudaBulkEngine:
    """XGBoost on the device that this worker sees.

    Args:
        manifest: of the package.
        booster: loaded onto the device.
        arrays: CuPy, or NumPy in tests.
        cudf: cuDF; None where it is not installed.
    """

    batch_rows = CUDA_BATCH_ROWS

    def __init__(self, manifest: Manifest, booster: Any, arrays: Any, cudf: Any = None) -> None:
        self.schema: Schema = manifest.schema
        self.digest = manifest.digest
        self._booster = booster
        self._arrays = arrays
        self._cudf = cudf

    def score(self, columns: Mapping[str, NDArray[Any] | DictionaryColumn], rows: int) -> BatchScores:
        """See BulkEngine."""
        if not rows:
            return BatchScores(np.empty(0, dtype=np.float32))
        clock = _Clock(self._arrays)
        laid_out = lay_out(self.schema, columns, rows, np)
        encoding = Timings(encode_s=clock.lap())
        matrix = self._arrays.asarray(laid_out)
        transfer = Timings(transfer_s=clock.lap())
        scored = self._score_matrix(matrix, clock)
        if scored is None:
            # The host's encoder names the row and the value, which is worth a second pass when something is wrong.
            self.schema.encode_columns(columns, rows)
            raise InvalidInputError("a value is refused on the GPU and allowed on the CPU; run again with cluster=local")
        return BatchScores(scored.scores, encoding + transfer + scored.timings)

    def read_and_score(self, file: InputFile, piece: Piece) -> BatchScores | None:
        """See BulkEngine."""
        if self._cudf is None or not piece.rows:
            return None
        clock = _Clock(self._arrays)
        try:
            columns = read_features(self._cudf, file, piece, self.schema)
            if columns is None:
                return None
            reading = Timings(read_s=clock.lap())
            scored = self._score_matrix(lay_out(self.schema, columns, piece.rows, self._arrays), clock)
        except Exception as error:  # noqa: BLE001 - cuDF and its libraries raise errors of their own; Arrow names what is wrong
            _LOG.warning("cuDF did not read a file, Arrow does", extra={"file": file.url, "error": f"{error!r}"[:300]})
            return None
        return BatchScores(scored.scores, reading + scored.timings) if scored else None

    def _score_matrix(self, matrix: Any, clock: _Clock) -> BatchScores | None:
        """Scores of a matrix on the device; None if the schema does not allow one of its values."""
        if not suits(self.schema, matrix, self._arrays):
            return None
        encode_s = clock.lap()
        scores = self._booster.inplace_predict(matrix)
        score_s = clock.lap()
        on_host = to_host(scores)
        return BatchScores(on_host, Timings(encode_s=encode_s, score_s=score_s, transfer_s=clock.lap()))


class _Clock:
    """Tells the seconds between moments at which the device has nothing left to do; launches return before it has."""

    def __init__(self, arrays: Any) -> None:
        self._device = arrays.cuda.Device() if hasattr(arrays, "cuda") else None
        self._last = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last lap."""
        if self._device is not None:
            self._device.synchronize()
        before, self._last = self._last, time.perf_counter()
        return self._last - before


def lay_out(schema: Schema, columns: Mapping[str, Any], rows: int, arrays: Any) -> Any:
    """The matrix that `Schema.encode_columns` gives, made where the columns lie and not yet checked.

    Args:
        schema: features of the model.
        columns: as a file holds them; of a dictionary, the codes lie where the other columns do.
        rows: number of rows.
        arrays: array module of that place.

    Returns:
        Shape (rows, len(fields)), float32, feature after feature, hence in one piece; infinite where a category is unknown, or
        null and that is not allowed.

    Raises:
        InvalidInputError: a column is missing or of another length.
    """
    matrix = arrays.empty((rows, len(schema.fields)), dtype=arrays.float32, order="F")
    for index, field in enumerate(schema.fields):
        column = columns.get(field.name)
        require_length(field, column, rows)
        with np.errstate(over="ignore"):
            if isinstance(column, DictionaryColumn):
                matrix[:, index] = arrays.asarray(_code_table(field.codes, column))[column.codes]
            else:
                matrix[:, index] = arrays.nan if column is None else column
    return matrix


def suits(schema: Schema, matrix: Any, arrays: Any) -> bool:
    """Whether a schema allows all values of a matrix; looked at where it lies.

    Args:
        schema: features of the model.
        matrix: shape (n, len(fields)).
        arrays: array module of its device.
    """
    bad = arrays.zeros((), dtype=arrays.bool_)
    for index, field in enumerate(schema.fields):
        values = matrix[:, index]
        missing = arrays.isnan(values)
        bad |= arrays.isinf(values).any()
        if not field.nullable:
            bad |= missing.any()
        if field.limits:
            lowest, highest = field.limits
            bad |= (~missing & ((values < lowest) | (values > highest) | (arrays.floor(values) != values))).any()
    return not bool(bad)


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
    engine = CudaBulkEngine(manifest, load_booster(src, "cuda"), cupy, import_cudf())
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
