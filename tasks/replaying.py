"""Lets a candidate score logged requests, and compares it with the champion that answered them."""

import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from hotcold.adapters.cluster import open_cluster
from hotcold.adapters.package_files import package_dir
from hotcold.adapters.shadow_comparison import SETTLED_S, ComparisonJob, compare, plan_spans
from hotcold.adapters.shadow_pairs import PairSource
from hotcold.adapters.shadow_replay import ReplayJob, check_replay, replay_span
from hotcold.domain.errors import EvidenceError
from hotcold.domain.package import PackageRef
from hotcold.domain.shadow.judgement import judge
from hotcold.domain.shadow.limits import Limits
from hotcold.domain.shadow.report import ShadowReport, Source
from hotcold.domain.shadow.summary import Occasion, decide_verdict, summarise
from hotcold.settings import Settings
from tasks.context import open_database

# What scoring anew can tell: nothing of failures and of latency.
_GATES = ("pairing", "score_spread", "score_change", "decision_flips", "log_loss", "accuracy", "worst_segment")
NEEDED = ("pairing", "score_spread", "score_change", "decision_flips")


def read_champion(model: str) -> PackageRef:
    """The package whose answers are in the log.

    Raises:
        EvidenceError: nobody serves.
    """
    database = open_database(Settings())
    try:
        plan = database.read_plan(model)
    finally:
        database.close()
    package = plan.slot(plan.route.champion).package if plan.route.champion else None
    if package is None:
        raise EvidenceError(f"{model} has no champion, so no answers are logged to compare with; release a version first")
    return package


@task(name="replay requests", cache_policy=NO_CACHE, persist_result=False, retries=1)
def replay_requests_on_dask(
    champion: PackageRef, candidate: PackageRef, since_s: float, until_s: float, limits: Limits
) -> ShadowReport:
    """Score, join, count and judge.

    Args:
        champion: package that answered.
        candidate: package that scores the same requests.
        since_s: requests count from here on, seconds since the epoch.
        until_s: up to here.
        limits: what is tolerated.

    Raises:
        EvidenceError: the candidate has another feature schema.
        ClusterError: there is no cluster, or it was lost.
    """
    settings = Settings()
    folders = [_folder(ref, settings) for ref in (champion, candidate)]
    source = PairSource(settings.prediction_dir, champion, candidate)
    # Scored anew, no answer is late.
    job = ReplayJob(ComparisonJob(source, limits, float("inf"), settings.label_dir), folders[1])
    check_replay(job, folders[0])
    spans = tuple(plan_spans(source, since_s, min(until_s, time.time() - SETTLED_S)))
    with open_cluster("local", settings.run_dir / "dask") as cluster:
        counts = compare(partial(replay_span, job), spans, limits, cluster)
    get_run_logger().info("%d requests scored anew in %d windows", counts.pairs, len(spans))
    judged = judge(counts, limits)
    gates = tuple(gate for gate in judged.gates if gate.name in _GATES)
    findings = tuple(finding for finding in judged.findings if finding.signal in _GATES)
    occasion = Occasion(champion.model, flow_run.id or "", Source.REPLAY, champion, candidate, since_s, until_s, 100.0, NEEDED)
    told = replace(judged, gates=gates, findings=findings)
    return summarise(occasion, counts, told, limits, decide_verdict(gates, NEEDED))


def _folder(package: PackageRef, settings: Settings) -> Path:
    return package_dir(package, settings.bento_home)
