"""The whole comparison of an evaluation that has ended, on Dask, as a report."""

import time
from collections.abc import Sequence
from functools import partial

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from hotcold.adapters.cluster import open_cluster
from hotcold.adapters.release_database import Event
from hotcold.adapters.shadow_comparison import SETTLED_S, ComparisonJob, compare, count_span, plan_spans
from hotcold.adapters.shadow_pairs import first_copy_s
from hotcold.domain.errors import ClusterError, EvidenceError
from hotcold.domain.gate import Gate, Verdict, first_harm
from hotcold.domain.release import Phase, Release
from hotcold.domain.shadow.judgement import judge
from hotcold.domain.shadow.report import ShadowReport, Source
from hotcold.domain.shadow.summary import Occasion, summarise
from hotcold.settings import Settings
from tasks.context import unsearched
from tasks.shadow_watch import comparison_job, copies_began

# Gates that rest on the edge and on the agents; the pairs know nothing of these.
_NOT_OF_PAIRS = ("replica_health", "copies")


def require_prediction_log() -> None:
    """Make sure that there is something to compare, before anything is deployed.

    Raises:
        EvidenceError: replicas do not log their answers.
    """
    if not Settings().prediction_log:
        raise EvidenceError("replicas do not log their answers, so nothing can be compared; set HOTCOLD_PREDICTION_LOG=true")


def compare_release(release: Release, events: Sequence[Event], gates: Sequence[Gate]) -> ShadowReport | None:
    """Compare all that was copied in a release; None if nothing ever was.

    Args:
        release: that has ended.
        events: its story.
        gates: verdicts under way.
    """
    entered = copies_began(events)
    if release.active and release.phase is not Phase.HELD:
        # Somebody else drives it, and will tell.
        return None
    if entered is None or release.champion is None or release.candidate is None:
        return None
    left = next((event.at for event in events if event.at > entered and event.phase is not Phase.SHADOW), entered)
    try:
        return compare_answers(unsearched(release), entered, left, tuple(gate for gate in gates if gate.name in _NOT_OF_PAIRS))
    except ClusterError as error:
        get_run_logger().error("there is no report, the verdict stands: %s", error)
        return None


@task(name="compare answers", cache_policy=NO_CACHE, persist_result=False, retries=1)
def compare_answers(release: Release, entered_s: float, left_s: float, gates: tuple[Gate, ...]) -> ShadowReport:
    """Join, count and judge on Dask.

    Args:
        release: that has ended.
        entered_s: when it began to copy requests, seconds since the epoch.
        left_s: when it stopped.
        gates: verdicts that do not rest on pairs.

    Raises:
        ClusterError: there is no cluster, or it was lost.
    """
    # The last answers are on their way to the log.
    time.sleep(max(left_s + SETTLED_S - time.time(), 0.0))
    settings = Settings()
    job = comparison_job(settings, release)
    since_s = first_copy_s(job.source, entered_s, left_s + SETTLED_S) or entered_s
    with open_cluster("local", settings.run_dir / "dask") as cluster:
        counts = compare(partial(count_span, job), tuple(plan_spans(job.source, since_s, left_s)), job.limits, cluster)
    get_run_logger().info("%d pairs from %d observations on %s", counts.pairs, counts.entities, cluster.where)
    judged = judge(counts, job.limits, all_copied=release.plan.mirror_pct >= 100)
    occasion = _occasion(release, job, since_s, left_s)
    verdict = (release.verdict or Verdict.UNKNOWN, release.reason)
    if verdict[0] is Verdict.SAFE and (harm := first_harm(judged.gates)):
        verdict = (Verdict.HARM, f"{harm.sentence}. This was seen when the evaluation had ended already: {release.reason}")
    return summarise(occasion, counts, judged, job.limits, verdict, gates)


def _occasion(release: Release, job: ComparisonJob, since_s: float, until_s: float) -> Occasion:
    return Occasion(
        model=release.model,
        release=release.id,
        source=Source.COPIES,
        champion=job.source.champion,
        candidate=job.source.candidate,
        since_s=since_s,
        until_s=until_s,
        share_pct=release.plan.mirror_pct,
        required=release.plan.shadow_gates,
    )
