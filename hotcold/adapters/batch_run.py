"""Scores the missing parts of a table on a cluster, a bounded number at a time, and survives the loss of workers."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from itertools import islice
from typing import TYPE_CHECKING

from hotcold.adapters.cluster import Cluster
from hotcold.adapters.part_scorer import ScoringJob, score_part
from hotcold.domain.batch_plan import BatchPlan, InputFile, Part
from hotcold.domain.errors import BatchError, ClusterError, HotcoldError, first_line
from hotcold.domain.receipt import Receipt

if TYPE_CHECKING:
    from distributed import Future

# Enough for no thread to wait for its next part, few enough for the graph to stay small however many parts there are.
_PARTS_PER_THREAD = 3


def score_parts(cluster: Cluster, job: ScoringJob, plan: BatchPlan, parts: Sequence[Part]) -> Iterator[Receipt]:
    """Score parts and give the receipt of each as it is done, in no particular order.

    A worker that dies loses only what it was at; Dask gives that to another one.

    Args:
        cluster: where.
        job: what all parts have in common.
        plan: names the input files.
        parts: those that are missing.

    Raises:
        BadInputError: a part cannot be scored while `on_bad_part` is `fail`.
        BatchError: the output cannot be written.
        ClusterError: the scheduler was lost, or a part has killed one worker after the other.
    """
    # A scheduler that others use too takes tasks of one name for one task, even where their outputs differ.
    name = f"{plan.table_id}-{uuid.uuid4().hex[:8]}"
    waiting = iter(parts)
    limit = cluster.threads * _PARTS_PER_THREAD
    try:
        running = {_submit(cluster, job, plan, part, name) for part in islice(waiting, limit)}
        while running:
            done, running = _await_one(cluster, running)
            running |= {_submit(cluster, job, plan, part, name) for part in islice(waiting, len(done))}
            for future in done:
                yield _result(future)
    except HotcoldError:
        raise
    except OSError as error:
        # CommClosedError and the like.
        raise ClusterError(f"the Dask scheduler was lost ({error}); run again: what is done is kept") from error


def _submit(cluster: Cluster, job: ScoringJob, plan: BatchPlan, part: Part, name: str) -> Future[Receipt]:
    files = {piece.file: plan.files[piece.file] for piece in part.pieces}
    return cluster.client.submit(score_and_make_room, job, part, files, key=f"{part.name}-{name}", pure=False)


def score_and_make_room(job: ScoringJob, part: Part, files: Mapping[int, InputFile]) -> Receipt:
    """Score a part on a worker, which begins the next one while this one waits for the disk."""
    from distributed import secede

    return score_part(job, part, files, before_writing=secede)


def _await_one(cluster: Cluster, running: set[Future[Receipt]]) -> tuple[set[Future[Receipt]], set[Future[Receipt]]]:
    """What is done, at least one part, and what is not; sleeps meanwhile, where `as_completed` looks ten times a second."""
    from distributed import wait

    try:
        with cluster.client.as_current():
            done, not_done = wait(running, return_when="FIRST_COMPLETED")
    except CancelledError as error:
        raise ClusterError(f"the scheduler gave parts up: {first_line(error)} Run again: what is done is kept") from error
    return done, not_done


def _result(future: Future[Receipt]) -> Receipt:
    from distributed import KilledWorker

    try:
        receipt: Receipt = future.result()
    except KilledWorker as error:
        raise ClusterError(
            f"{future.key} ended one worker after the other, most likely for lack of memory; run with fewer rows_per_part"
        ) from error
    except OSError as error:
        if future.status != "error":
            raise
        raise BatchError(
            f"{future.key}: {type(error).__name__}: {first_line(error)}; run again: what is done is kept"
        ) from error
    except CancelledError as error:
        raise ClusterError(f"{future.key} was given up by the scheduler; run again: what is done is kept") from error
    future.release()
    return receipt
