"""What this process serves: the package that its own code lies in."""

from __future__ import annotations

import gc
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import orjson

import hotcold
import services
from hotcold.adapters.engines import Engine
from hotcold.adapters.package_files import open_package
from hotcold.domain.errors import PackageError
from hotcold.domain.package import Manifest
from hotcold.domain.schema import Matrix
from hotcold.domain.tensors import DATATYPE, INPUT_NAME, decode_infer, encode_infer

SLOT_VARIABLE = "HOTCOLD_SLOT"
_WARM_UP_CALLS = 50
# Collections of what a request leaves behind then come after some 100,000 objects; those of everything practically never.
_GC_THRESHOLDS = (100_000, 50, 50)
_log = logging.getLogger("hotcold.scorer")


@dataclass(frozen=True, eq=False)
class Served:
    """The package of this process, ready to score.

    Args:
        manifest: its manifest.
        engine: the one that packaging chose for single rows.
        sample: reference rows.
        slot: `blue` or `green`; `none` outside of a slot.
        headers: on every answer, as ASGI wants them.
        threads: for requests with many rows.
    """

    manifest: Manifest
    engine: Engine
    sample: Matrix
    slot: str
    headers: list[tuple[bytes, bytes]]
    threads: ThreadPoolExecutor


@cache
def served_package() -> Served:
    """Verify and open the package; once per process, since its code serves nothing else.

    Raises:
        PackageError: the package can never be served here.
    """
    src = Path(__file__).resolve().parents[1]
    _require_own_code(src)
    package = open_package(src)
    slot, manifest = os.environ.get(SLOT_VARIABLE, "") or "none", package.manifest
    headers = [
        (b"x-model-version", manifest.semver.encode()),
        (b"x-variant", slot.encode()),
        (b"x-package-digest", manifest.digest[:12].encode()),
    ]
    threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="many-rows")
    return Served(manifest, package.engine, package.sample, slot, headers, threads)


def _require_own_code(src: Path) -> None:
    """A replica must not run a checkout's code: it would change with the checkout."""
    for module in (hotcold, services):
        if not Path(str(module.__file__)).resolve().is_relative_to(src):
            raise PackageError(
                f"the code of {module.__name__} does not come from the package; start the replica in the package's src folder "
                "with PYTHONPATH set to it"
            )


def get_ready(served: Served) -> None:
    """Warm everything up that a request runs through, then keep the garbage collector away from what stays for good.

    A full collection stops all requests for about 100 ms, and it would come up every few seconds.
    """
    row = [None if np.isnan(value) else float(value) for value in served.sample[0]]
    tensor = {"name": INPUT_NAME, "datatype": DATATYPE, "shape": [1, len(row)], "data": row}
    body = orjson.dumps({"inputs": [tensor]})
    for _ in range(_WARM_UP_CALLS):
        request = decode_infer(body, None, served.manifest.schema)
        encode_infer(request, served.manifest.model, served.manifest.semver, served.engine.score(request.matrix))
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    ref = served.manifest.ref
    _log.info("ready package=%s digest=%s engine=%s slot=%s", ref.tag, ref.digest, served.engine.name, served.slot)
