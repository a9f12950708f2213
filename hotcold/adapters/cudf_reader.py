"""Reads the features of Parquet files with cuDF: packed bytes go to the device, which unpacks them; the values stay there."""

from __future__ import annotations

import logging
from typing import Any

from hotcold.adapters.input_files import local_path
from hotcold.adapters.piece_reader import read_footer
from hotcold.domain.batch_plan import InputFile, Piece
from hotcold.domain.field import DictionaryColumn, Field
from hotcold.domain.schema import Schema

_LOG = logging.getLogger("hotcold.scoring")
# Else cuDF looks for columns in the names of the folders, as in `day=2013-10-01/`.
_FILES_ONLY = {"format": "parquet"}


def import_cudf() -> Any | None:
    """cuDF where it is installed and works; None elsewhere."""
    try:
        import cudf
    except ImportError:
        return None
    except Exception as error:  # noqa: BLE001 - it looks for a driver and a device, and raises whatever these raise
        _LOG.warning("cuDF is installed and does not work, files are read by Arrow", extra={"error": f"{error!r}"[:300]})
        return None
    return cudf


def read_features(cudf: Any, file: InputFile, piece: Piece, schema: Schema) -> dict[str, Any] | None:
    """The features of a piece, on the device.

    Args:
        cudf: the library.
        file: a Parquet file as it was planned.
        piece: which of its rows.
        schema: features of the model.

    Returns:
        By feature name n values: an array of CuPy with NaN where a number is null, or a dictionary whose codes are one. An
        optional feature may be missing. None if the file does not lie on this machine's disks.
    """
    path = local_path(file)
    if path is None:
        return None
    _, found = read_footer(file)
    fields = [field for field in schema.fields if field.name in found.names]
    frame = cudf.read_parquet(
        str(path),
        columns=[field.name for field in fields],
        row_groups=list(range(piece.first, piece.first + piece.count)),
        use_pandas_metadata=False,
        dataset_kwargs=_FILES_ONLY,
    )
    if piece.is_slice:
        frame = frame.iloc[piece.skip_rows : piece.skip_rows + (piece.rows or 0)]
    return {field.name: _values(field, frame[field.name]) for field in fields}


def _values(field: Field, series: Any) -> Any:
    if field.dtype != "category":
        return series.values
    # Nulls have the code -1. The distinct values are few, and come to the host to be looked up in the schema.
    codes, distinct = series.factorize()
    return DictionaryColumn(distinct.to_arrow().to_pylist(), codes)
