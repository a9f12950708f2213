"""The comparison without live traffic: the candidate scores logged requests anew, window by window."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hotcold.adapters.package_files import OpenPackage, open_package, read_manifest
from hotcold.adapters.prediction_reader import Place, PredictionReader, Window
from hotcold.adapters.shadow_comparison import ComparisonJob, Span, complete_window, each_once, read_labels
from hotcold.adapters.shadow_pairs import NEEDED_COLUMNS, JoinedWindow, pair_rows, read_answers, together
from hotcold.domain.errors import EvidenceError
from hotcold.domain.prediction import MAX_FEATURE_ROWS
from hotcold.domain.shadow.counting import WindowCounts, count_window
from hotcold.domain.shadow.judgement import FAILED, NO_FEATURES, NOT_LOGGED, REPEATED

_COLUMNS = (*NEEDED_COLUMNS, "features")


@dataclass(frozen=True)
class ReplayJob:
    """What all windows of a replay have in common. It may be sent to other processes.

    Args:
        comparison: what is compared.
        package: folder of the candidate's package, where every worker finds it.
    """

    comparison: ComparisonJob
    package: Path


def check_replay(job: ReplayJob, champion: Path) -> None:
    """Make sure that the candidate reads the features as the champion logged them.

    Args:
        job: with the candidate's package.
        champion: folder of the champion's package.

    Raises:
        EvidenceError: their schemas differ, so that the numbers in the log mean something else to the candidate.
        PackageError: a package is damaged.
    """
    ours, theirs = (read_manifest(folder).schema.fingerprint for folder in (champion, job.package))
    if ours != theirs:
        raise EvidenceError(
            f"the candidate {job.comparison.source.candidate.tag} has another feature schema ({theirs[:12]}) than the champion "
            f"({ours[:12]}), whose numbers are logged; evaluate it on copies of live requests (evaluate-shadow)"
        )


def replay_span(job: ReplayJob, span: Span) -> WindowCounts:
    """Read the champion's answers of one window, score their requests with the candidate, and count.

    Args:
        job: what is compared.
        span: the window.
    """
    comparison = job.comparison
    labels = read_labels(comparison, span)
    joined = each_once(_score_window(job, span.places, span.since_s, span.until_s, labels.table), span)
    return complete_window(count_window(joined.pairs, comparison.limits, comparison.budget_us), joined, labels, span)


def _score_window(
    job: ReplayJob, places: tuple[Place, ...], since_s: int, until_s: int, labels: pa.Table | None
) -> JoinedWindow:
    source = job.comparison.source
    reader = PredictionReader(source.root, source.champion.model)
    digest = source.champion.digest
    found = read_answers(reader, places, Window(since_s, until_s, _COLUMNS), (digest,), since_s, until_s)
    table = together([_live(one) for one in found.tables.get(digest, ())], _COLUMNS).sort_by("at")
    once, repeated = _once(table)
    good = pc.equal(once["status"], 200)
    features = _kept_features(once)
    chosen = pc.and_(good, features)
    left_out = {
        FAILED: pc.sum(pc.invert(good)).as_py() or 0,
        NO_FEATURES: pc.sum(pc.and_(good, pc.invert(features))).as_py() or 0,
        REPEATED: repeated,
        NOT_LOGGED: found.not_logged,
    }
    champion = once.filter(chosen)
    pairs, refused = pair_rows(champion, _scored_anew(champion, job.package), labels)
    return JoinedWindow(pairs, {reason: count for reason, count in (left_out | refused).items() if count}, found.damage)


def _live(table: pa.Table) -> pa.Table:
    return table.filter(pc.and_(pc.invert(table["shadow"]), pc.invert(table["tester"])))


def _once(table: pa.Table) -> tuple[pa.Table, int]:
    """Requests whose id is there once, and how many rows are of others."""
    codes = table["request_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    is_single = np.bincount(codes)[codes] == 1 if len(codes) else np.full(0, True)
    return table.filter(pa.array(is_single)), len(codes) - int(np.count_nonzero(is_single))


def _kept_features(table: pa.Table) -> pa.ChunkedArray:
    """Whether the features of all rows of a request are in the log."""
    rows = pc.fill_null(pc.list_value_length(table["scores"]), 0)
    return pc.and_(table["features"].is_valid(), pc.less_equal(rows, MAX_FEATURE_ROWS))


def _scored_anew(champion: pa.Table, package: Path) -> pa.Table:
    """The same requests with the candidate's scores."""
    if not len(champion):
        return champion
    opened = _opened(package)
    features = pc.list_flatten(champion["features"].combine_chunks()).to_numpy(zero_copy_only=False)
    matrix = np.require(
        features.reshape(-1, len(opened.manifest.schema.fields)), dtype=np.float32, requirements=opened.engine.order
    )
    scores = np.asarray(opened.engine.score(matrix), dtype=np.float32)
    offsets = champion["scores"].combine_chunks().value_lengths().to_numpy()
    ends = np.concatenate([[0], np.cumsum(offsets)]).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(ends), pa.array(scores)).cast(champion.schema.field("scores").type)
    return champion.set_column(champion.schema.get_field_index("scores"), "scores", lists)


@lru_cache(maxsize=2)
def _opened(package: Path) -> OpenPackage:
    """Verified and opened once per process."""
    return open_package(package, "cold", threads=1)
