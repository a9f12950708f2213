"""What a batch run shows of itself when it is done: tables and a page in the Prefect UI, and a run in MLflow."""

import base64
import html
from hashlib import sha256
from typing import Any

import orjson
from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from hotcold.adapters.score_experiment import ScoreExperiment
from hotcold.adapters.score_pictures import draw_scores
from hotcold.adapters.table_folder import Folder
from hotcold.domain.errors import BatchError, RegistryError, StackError
from hotcold.domain.gate import Verdict
from hotcold.domain.scoring_progress import describe_rate, describe_seconds
from hotcold.domain.scoring_summary import ScoringSummary
from tasks.context import open_registry, unsearched
from tasks.retries import retried_after

LOGGED_FILE = "mlflow.sha256"
_SHOWN_QUANTILES = (0.01, 0.5, 0.99)


@task(
    name="log scoring to MLflow",
    cache_policy=NO_CACHE,
    persist_result=False,
    **retried_after(RegistryError, pauses_s=(1, 3)),
)
def log_scoring_to_mlflow(summary: ScoringSummary) -> str:
    """Log a table as an MLflow run, or update the run that it has; the id of the run.

    Raises:
        RegistryError: MLflow cannot be reached or refuses.
        StackError: nobody said where MLflow is.
    """
    return ScoreExperiment(open_registry().tracking_uri).write(summary)


def log_scoring_if_reachable(summary: ScoringSummary, folder: Folder) -> str | None:
    """The same for a run that has done its work: what goes wrong here is a warning, and there is no id.

    A table that was found complete, with the outcome that this MLflow has already, is not logged again: that would take longer
    than all the rest of the run.

    Args:
        summary: of the finished run.
        folder: of the table; remembers what was logged where.
    """
    try:
        said = orjson.dumps([open_registry().tracking_uri, summary.outcome, summary.gates])
        # A digest, because the address may hold a password.
        sign = sha256(said).hexdigest().encode()
        if summary.parts_now == 0 and folder.read(LOGGED_FILE) == sign:
            return None
        run_id = log_scoring_to_mlflow(unsearched(summary))
    except (RegistryError, StackError) as error:
        get_run_logger().warning("table %s is not in MLflow: %s", summary.table, error)
        return None
    try:
        folder.write(LOGGED_FILE, sign)
    except BatchError as error:
        get_run_logger().warning("table %s will be logged to MLflow again: %s", summary.table, error)
    return run_id


def publish_scoring_report(summary: ScoringSummary) -> None:
    """One table of facts, one of the gates, and one page for people."""
    model = summary.model
    create_table_artifact(
        key=f"scores-{model}",
        description=f"Scores of {summary.package.tag}: {summary.outcome}",
        table=[{"fact": name, "value": value} for name, value in _facts(summary).items()],
    )
    create_table_artifact(
        key=f"score-gates-{model}",
        description=f"Quality gate of table {summary.table}",
        table=[
            # What was observed can be long; it comes last, or the columns behind it would be out of sight.
            {"gate": gate.name, "verdict": gate.verdict.value, "allowed": gate.limit, "observed": gate.observed}
            for gate in summary.gates
        ],
    )
    create_markdown_artifact(
        key=f"scored-{model}", description=f"{summary.package.tag}, table {summary.table}", markdown=scoring_page(summary)
    )


def _facts(summary: ScoringSummary) -> dict[str, str]:
    totals, histogram = summary.totals, summary.histogram
    stages = ", ".join(f"{name} {describe_seconds(s)}" for name, s in totals.timings.stages.items())
    quantiles = ", ".join(f"{share:.0%} {histogram.quantile(share):.4g}" for share in _SHOWN_QUANTILES)
    return {
        "outcome": summary.outcome,
        "table": summary.table,
        "package": summary.package.tag,
        "registry version": str(summary.package.version),
        "MLflow run of the model": summary.mlflow_run,
        "scored with": f"{summary.engine} on {summary.device}",
        "input": summary.input_url,
        "input fingerprint": summary.input_fingerprint[:12],
        "input files": _uncounted(f"{summary.totals.files:,}", totals.uncounted_files),
        "parts": f"{totals.parts:,}, of which {summary.parts_now:,} by this run",
        "rows read": f"{totals.rows_in:,}",
        "rows scored": f"{totals.rows_out:,}",
        "rows quarantined": f"{totals.rows_quarantined:,}",
        "rows that repeat an id": f"{summary.duplicates.rows:,}",
        "time": f"{describe_seconds(summary.elapsed_s)}, {_speed(summary)}",
        "time by stage, summed over threads": stages,
        "scores": f"mean {histogram.mean:.4g}; quantiles {quantiles}" if histogram.total else "none",
        "PSI": _psi(summary),
        "size": f"{totals.size_bytes / 1e6:,.1f} MB",
        "content SHA-256": summary.content_sha256[:12],
        **{f"parameter {name}": str(value) for name, value in summary.parameters.items()},
    }


def _uncounted(files: str, uncounted: int) -> str:
    return f"{files}, of which {uncounted:,} cannot be read" if uncounted else files


def _speed(summary: ScoringSummary) -> str:
    return describe_rate(summary.rows_per_s) if summary.parts_now else "all parts were done before"


def _psi(summary: ScoringSummary) -> str:
    if summary.psi is None or summary.published is None:
        return "no published table to compare with"
    return f"{summary.psi:.4f} against table {summary.published.id}"


def scoring_page(summary: ScoringSummary) -> str:
    """The report as Markdown: the verdict first, then picture, numbers and what was set aside.

    Args:
        summary: of the finished run.
    """
    totals = summary.totals
    picture = base64.b64encode(draw_scores(summary)).decode()
    verdict, _, reason = summary.outcome.partition(": ")
    return f"""# {summary.model} {summary.package.semver}: {_text(verdict)}

{_text(reason)}

{_gates(summary)}

![Scores of table {summary.table}](data:image/png;base64,{picture})

| of the run | |
|---|---:|
| rows read | {totals.rows_in:,} |
| rows scored | {totals.rows_out:,} |
| rows quarantined | {totals.rows_quarantined:,} |
| rows that repeat an id | {summary.duplicates.rows:,} |
| parts by this run | {summary.parts_now:,} of {totals.parts:,} |
| time | {describe_seconds(summary.elapsed_s)} |
| speed | {_speed(summary)} |
| mean score | {f"{summary.histogram.mean:.4g}" if summary.histogram.total else "none"} |
| PSI | {_psi(summary)} |
| scored with | {summary.engine} on {summary.device} |

Table `{summary.table}` of `{_code(summary.input_url)}`.
{_quarantine(summary)}"""


def _gates(summary: ScoringSummary) -> str:
    """What did not hold; in one line, if all did."""
    harm = [gate for gate in summary.gates if gate.verdict is not Verdict.SAFE]
    safe = f"{len(summary.gates) - len(harm)} of {len(summary.gates)} checks are SAFE."
    return "\n".join([safe, "", *(f"- {_text(gate.sentence)}" for gate in harm)]).rstrip()


def _quarantine(summary: ScoringSummary) -> str:
    totals = summary.totals
    if not totals.problems:
        return ""
    # A list, because the cells of a table do not wrap.
    lines = "\n".join(
        f"- {_text(p.file)}, {'an unknown number of' if p.rows is None else f'{p.rows:,}'} rows: {_text(p.what)}"
        for p in totals.problems
    )
    more = totals.problem_count - len(totals.problems)
    return f"\n## Set aside\n\n{lines}\n" + (f"- … and {more:,} more\n" if more > 0 else "")


def _text(words: Any) -> str:
    """Words that come from an input, so that a page shows them as they are."""
    shown = html.escape(" ".join(str(words).split()), quote=False)
    for mark in ("\\", "|", "`", "*", "_", "[", "]"):
        shown = shown.replace(mark, f"\\{mark}")
    return shown


def _code(words: str) -> str:
    return " ".join(words.split()).replace("`", "'")
