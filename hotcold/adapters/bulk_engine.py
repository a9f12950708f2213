"""What a batch worker scores with: a package opened once per process, held to one thread per part, on the CPU or on CUDA."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hotcold.adapters.engines import unwatched_by_collector
from hotcold.adapters.package_files import OpenPackage, open_package, read_manifest
from hotcold.domain.batch_plan import InputFile, Piece
from hotcold.domain.errors import PackageError
from hotcold.domain.field import DictionaryColumn
from hotcold.domain.receipt import Timings
from hotcold.domain.schema import Schema

Columns = Mapping[str, NDArray[Any] | DictionaryColumn]

# Large enough for the fixed cost of a batch to vanish, small enough for a few of them to fit into memory many times over.
CPU_BATCH_ROWS = 65_536


@dataclass(frozen=True, eq=False)
class BatchScores:
    """Scores of one batch and how long each stage took.

    Args:
        scores: shape (n,), float32.
        timings: seconds by stage.
    """

    scores: NDArray[np.float32]
    timings: Timings = field(default_factory=Timings)


class BulkEngine(Protocol):
    """Scores columns as they come from a file."""

    schema: Schema
    digest: str
    batch_rows: int

    def score(self, columns: Columns, rows: int) -> BatchScores:
        """Encode and score.

        Raises:
            InvalidInputError: a value breaks the schema; names row and feature.
        """
        ...

    def read_and_score(self, file: InputFile, piece: Piece) -> BatchScores | None:
        """Score a piece of a Parquet file whose features the engine reads by itself, to where it needs them.

        Returns:
            None where it does not, or if anything is wrong: then the file is to be read the other way, which says what.
        """
        ...


class CpuBulkEngine:
    """The engine that packaging chose for bulk, on one thread.

    Args:
        package: opened for the cold path.
    """

    batch_rows = CPU_BATCH_ROWS

    def __init__(self, package: OpenPackage) -> None:
        self.schema: Schema = package.manifest.schema
        self.digest: str = package.manifest.digest
        self._engine = package.engine

    def score(self, columns: Columns, rows: int) -> BatchScores:
        """See BulkEngine."""
        if not rows:
            return BatchScores(np.empty(0, dtype=np.float32))
        began = time.perf_counter()
        matrix = self.schema.encode_columns(columns, rows, self._engine.order)
        encoded = time.perf_counter()
        scores = self._engine.score(matrix)
        return BatchScores(scores, Timings(encode_s=encoded - began, score_s=time.perf_counter() - encoded))

    def read_and_score(self, _file: InputFile, _piece: Piece) -> BatchScores | None:
        """See BulkEngine."""
        return None


_opened: dict[tuple[str, str, str], BulkEngine] = {}
_opening = threading.Lock()


def bulk_engine(package_dir: str, digest: str, device: str) -> BulkEngine:
    """The engine of a package; verified and opened once per process.

    Args:
        package_dir: folder of the package.
        digest: what has to lie there.
        device: `cpu` or `cuda`.

    Raises:
        PackageError: another package lies there, it is damaged, or it cannot be run on the device.
    """
    key = (package_dir, digest, device)
    with _opening:
        if key not in _opened:
            _hold_to_one_thread()
            with unwatched_by_collector():
                _opened[key] = _open(Path(package_dir), digest, device)
        return _opened[key]


def _open(src: Path, digest: str, device: str) -> BulkEngine:
    if device == "cuda":
        from hotcold.adapters.cuda_engine import open_cuda_engine

        engine: BulkEngine = open_cuda_engine(src)
    else:
        if read_manifest(src).measured.cold_engine == "onedal":
            _hold_onedal_to_one_thread()
        engine = CpuBulkEngine(open_package(src, "cold", threads=1))
    if engine.digest != digest:
        raise PackageError(
            f"the package in {src} has digest {engine.digest[:12]}; the run needs {digest[:12]}. Build it again on this machine"
        )
    return engine


def _hold_to_one_thread() -> None:
    """Workers times threads are the cores already; libraries that start threads of their own would get in each other's way."""
    import pyarrow as pa
    from threadpoolctl import threadpool_limits

    if "jemalloc" in pa.supported_memory_backends():
        # Of Arrow's allocators, the one that keeps pages between batches without keeping everything.
        pa.set_memory_pool(pa.jemalloc_memory_pool())
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    threadpool_limits(1)


def _hold_onedal_to_one_thread() -> None:
    try:
        import daal4py
    except ImportError:
        # Opening the engine will say so.
        return
    daal4py.daalinit(1)
