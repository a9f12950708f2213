"""Where parts are scored: one worker per GPU, one per core of this machine, or a Dask scheduler that runs already."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from hotcold.domain.errors import ClusterError

if TYPE_CHECKING:
    from distributed import Client

Device = Literal["cpu", "cuda"]
KINDS = ("auto", "cuda", "local")
_CONNECT_S = 10.0
_FIRST_WORKER_S = 60.0
# Share of a GPU's memory from which on Dask moves what it keeps there to the host.
_SPILL_SHARE = 0.8
# Blocks up to this size stay with a worker that has freed them.
_KEPT_BYTES = 64 * 2**20
# The profiler looks into every thread a hundred times a second, which costs 5 % of the scoring. The rest watches what hardly
# moves here: memory that grows by a batch, results that do not stay with workers, a dashboard that nobody opens.
_QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.monitor-interval": "1s",
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.scheduler.work-stealing-interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.admin.tick.interval": "1s",
    # Dask has workers give every free block above 64 KiB back to the system, which costs more than half of the encoding: each
    # batch of rows then begins by touching its pages again. Here memory is used again and again in the same sizes.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": _KEPT_BYTES,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": _KEPT_BYTES,
}


@dataclass(frozen=True, eq=False)
class Cluster:
    """A Dask cluster that is ready to score.

    Args:
        client: connected to its scheduler.
        device: what its workers score on.
        threads: parts that are scored at the same time when all workers are there.
        where: for people.
    """

    client: Client
    device: Device
    threads: int
    where: str

    @property
    def summary(self) -> str:
        """For people."""
        return f"{self.threads} threads on {self.where}, {self.device}"


def has_cuda() -> bool:
    """Whether this machine has GPUs that may be used, and what scores on them is installed."""
    return bool(visible_gpus()) and all(find_spec(name) for name in ("dask_cuda", "cupy"))


def visible_gpus() -> int:
    """GPUs that this process may use; 0 without a driver, or where CUDA_VISIBLE_DEVICES leaves none."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return sum(1 for name in chosen.split(",") if name.strip() not in ("", "-1", "NoDevFiles"))
    try:
        import pynvml

        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetCount())
    except Exception:  # noqa: BLE001 - without a driver NVML raises errors of its own, and without dask-cuda it is not there
        return 0


@contextmanager
def open_cluster(cluster: str = "auto", scratch: Path | None = None, workers: int = 0) -> Iterator[Cluster]:
    """A cluster for the time of the block.

    Args:
        cluster: `cuda`: a worker per GPU of this machine; `local`: a worker per core; `auto`: `cuda` where CUDA works, else
            `local`; or the address of a scheduler, such as `tcp://10.0.0.5:8786`.
        scratch: folder for what workers spill; None takes Dask's own choice.
        workers: number of local workers; 0 takes one per core.

    Raises:
        ClusterError: it cannot be started or reached, or has no workers.
    """
    if cluster not in KINDS and "://" not in cluster:
        raise ClusterError(f"the cluster is {cluster!r}; allowed are {', '.join(KINDS)}, or an address such as tcp://host:8786")
    if "://" in cluster:
        with _connect(cluster) as client:
            yield Cluster(client, _device_of(client), _threads_of(client), cluster)
        return
    device: Device = "cuda" if cluster == "cuda" or (cluster == "auto" and has_cuda()) else "cpu"
    with _start(device, scratch, workers) as local, _connect(local) as client:
        yield Cluster(client, device, _threads_of(client), "this machine")


@contextmanager
def _start(device: Device, scratch: Path | None, workers: int) -> Iterator[Any]:
    import dask
    import distributed  # noqa: F401 - brings its defaults into Dask's configuration, which must not happen within `set`

    options = {
        "host": "127.0.0.1",
        # On loopback, like everything else, and never in the way of another cluster's.
        "dashboard_address": "127.0.0.1:0",
        "worker_dashboard_address": "127.0.0.1:0",
        "silence_logs": logging.ERROR,
        "local_directory": str(scratch) if scratch else None,
    }
    try:
        with dask.config.set(_QUIET), _bare_main():
            cluster = _cuda_cluster(options) if device == "cuda" else _cpu_cluster(options, workers)
    except Exception as error:
        # The libraries raise whatever their drivers, sockets and subprocesses raise.
        raise ClusterError(f"the {device} cluster cannot be started: {type(error).__name__}: {error}") from error
    try:
        yield cluster
    finally:
        # Nobody needs to wait until workers that have nothing left to do are gone; the end of the process does.
        Thread(target=cluster.close, name="closing the Dask cluster").start()


@contextmanager
def _bare_main() -> Iterator[None]:
    """Keep processes that are spawned meanwhile from importing this one's main module: Prefect's takes each of them seconds."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _cpu_cluster(options: dict[str, Any], workers: int) -> Any:
    """Processes with one thread each: a worker that dies takes one part with it, and no library fights for the cores."""
    from distributed import LocalCluster

    return LocalCluster(n_workers=workers or usable_cores(), threads_per_worker=1, processes=True, **options)


def _cuda_cluster(options: dict[str, Any]) -> Any:
    """One worker per GPU; what does not fit into its memory is spilled to the host's.

    No pool of RMM: XGBoost and CuPy take memory from CUDA and keep it themselves, and would have to share what a pool leaves.
    """
    from dask_cuda import LocalCUDACluster

    return LocalCUDACluster(threads_per_worker=1, device_memory_limit=_SPILL_SHARE, **options)


@contextmanager
def _connect(target: Any) -> Iterator[Client]:
    from distributed import Client

    try:
        client = Client(target, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise ClusterError(f"no Dask scheduler answers at {target} within {_CONNECT_S:g} s: {error}") from error
    try:
        _await_worker(client)
        yield client
    finally:
        client.close()


def _await_worker(client: Client) -> None:
    try:
        client.wait_for_workers(1, timeout=_FIRST_WORKER_S)
    except TimeoutError as error:
        raise ClusterError(f"the Dask scheduler has no worker after {_FIRST_WORKER_S:g} s; start one") from error


def _threads_of(client: Client) -> int:
    threads: dict[str, int] = client.nthreads()
    return max(sum(threads.values()), 1)


def _device_of(client: Client) -> Device:
    """What all workers score on. dask-cuda gives each of its workers a GPU by CUDA_VISIBLE_DEVICES; others share by chance."""
    gpus = client.run(_own_gpus)
    return "cuda" if gpus and all(gpus.values()) else "cpu"


def _own_gpus() -> int:
    """GPUs that were given to this worker on purpose. Asked in the worker: sent as a method, the environment would be ours."""
    return visible_gpus() if os.environ.get("CUDA_VISIBLE_DEVICES") else 0


def usable_cores() -> int:
    """Cores that this process may use: those that it may run on, or fewer where a container is given less time than that."""
    from dask.system import CPU_COUNT

    return int(CPU_COUNT)
