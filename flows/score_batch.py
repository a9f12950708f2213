"""Score a table of rows with a model, check the result, and let readers see it; runs on schedule and after each promotion."""

import time
from typing import Annotated, Literal

from prefect import State, flow
from prefect.states import Completed, Failed
from pydantic import Field

from hotcold.adapters.locks import hold_output
from hotcold.domain.scoring_summary import ScoringSummary
from hotcold.settings import Settings
from tasks.context import unsearched
from tasks.forms import ModelName
from tasks.score_publication import delete_old_tables, note_archived_version, publish_table
from tasks.score_requests import request_all_scores, start_requested_scores
from tasks.scoring import check_table, find_package, plan_scoring, read_request, score_missing_parts
from tasks.scoring_report import log_scoring_if_reachable, publish_scoring_report
from tasks.scoring_request import Quality

Version = Annotated[int | None, Field(ge=1)]
Cluster = Annotated[str, Field(pattern=r"^(|auto|cuda|local|[a-z]+://.+)$")]


@flow(name="score-batch", flow_run_name="score {model}", persist_result=False)
def score_batch(
    model: ModelName | Literal[""] = "flights",
    input_url: str = "",
    output_url: str = "",
    version: Version = None,
    id_column: str = "",
    passthrough: list[str] | None = None,
    on_bad_part: Literal["", "fail", "quarantine"] = "",
    rows_per_part: Annotated[int | None, Field(ge=1, le=10_000_000)] = None,
    cluster: Cluster = "",
    score_store: bool | None = None,
    quality: Quality | None = None,
    overrule: str = "",
) -> State:
    """Score many rows with the champion and publish the table in one piece.

    What is left empty is as it was for the model's last table, so that a scheduled run needs nothing but the model. A run
    that died is picked up where it was; readers see the table before until the new one is complete and has passed the gate.

    Args:
        model: Registered model name; empty: every output that was ever scored gets a run of its own, which is what the nightly
            run does.
        input_url: Parquet files or a CSV file: a path or URL of a file, a folder, or a pattern with *.
        output_url: Folder that readers know; empty for a new model: below hotcold's home.
        version: Registry version; empty: the champion. A version that is not the champion is scored but not shown.
        id_column: Column that names each row; text or whole numbers.
        passthrough: Columns that are copied to the output.
        on_bad_part: `fail` ends the run at the first row that cannot be scored; `quarantine` sets such rows aside.
        rows_per_part: Rows that one task scores and one file holds.
        cluster: `auto`, `cuda`, `local`, or the address of a Dask scheduler.
        score_store: Make the scores available to live lookups by id, too; a new model's are.
        quality: What a table of this output may look like to be shown; from now on, until it is set anew.
        overrule: Why this one table is to be shown although it does not look like that; nothing is scored twice.
    """
    if not model:
        request_all_scores("the nightly run")
        return Completed(message=f"{start_requested_scores()} runs started, one for each output")
    request = read_request(locals())
    began = time.monotonic()
    if request is None:
        return Completed(name="Skipped", message=f"no input was ever named for {model}; start a run with input_url")
    with hold_output(Settings(), request.output_url):
        package = find_package(request.model, request.version)
        run = plan_scoring(request, package)
        receipts = score_missing_parts(request, unsearched(run))
        summary = check_table(request, unsearched(run), package, unsearched(receipts), time.monotonic() - began)
        summary = publish_table(request, unsearched(summary))
        delete_old_tables(request, unsearched(run))
    summary = note_archived_version(summary)
    log_scoring_if_reachable(summary, run.table.folder)
    publish_scoring_report(summary)
    return _state_of(summary)


def _state_of(summary: ScoringSummary) -> State:
    message = f"table {summary.table} of {summary.package.tag}: {summary.outcome}"
    if summary.refused_by:
        return Failed(
            message=f"{message}. To show it all the same, run again and say why in `overrule`; nothing is scored twice"
        )
    return Completed(message=message)
