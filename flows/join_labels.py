"""Join what became of things, known late, to the answers in the prediction log; runs on schedule."""

from typing import Annotated, Literal

from prefect import State, flow, get_run_logger
from prefect.states import Completed, Failed
from pydantic import Field

from hotcold.domain.errors import HotcoldError
from hotcold.domain.label_counts import LabelJoin
from hotcold.domain.label_source import LabelSource, complete_source
from tasks.forms import ModelName
from tasks.label_report import publish_label_report
from tasks.labels import (
    delete_labels_of_old_answers,
    join_label_files,
    labelled_models,
    last_source,
    measure_label_coverage,
)

Seconds = Annotated[float | None, Field(ge=0, le=7 * 86_400)]
Hours = Annotated[float | None, Field(ge=0, le=24 * 366)]
Days = Annotated[int, Field(ge=1, le=366)]


@flow(name="join-labels", flow_run_name="labels of {model}", persist_result=False)
def join_labels(
    model: ModelName | Literal[""] = "flights",
    labels_url: str = "",
    label_column: str = "",
    request_id_column: str = "",
    entity_column: str = "",
    time_column: str = "",
    known_at_column: str = "",
    tolerance_s: Seconds = None,
    max_wait_h: Hours = None,
    coverage_days: Days = 7,
    remember: bool = True,
) -> State:
    """Join late labels to the answers in the prediction log, served ones and those of shadows, and measure coverage and delay.

    What is left empty is as it was in the model's last run, so that a scheduled run needs nothing but the model. A run may be
    repeated: files that are done are not read again, and a label is joined once. Of contradicting labels none is used.

    Args:
        model: Registered model name; empty: every model whose labels were joined before, which is what the scheduled run does.
        labels_url: Parquet or CSV files: a path or URL of a file, a folder, or a pattern with *.
        label_column: Column with what became of it: 0 or 1, true or false, or a share in between.
        request_id_column: Column with the id of the request (x-request-id); or else name an entity and a time.
        entity_column: Column with the entity (x-entity-id).
        time_column: Column with the time at which the entity's request was sent.
        known_at_column: Column with the time at which the label became known; empty: when its file was first seen.
        tolerance_s: By entity and time: how far from that time a request may have arrived, in seconds; 5 at first.
        max_wait_h: For how long a file is read again while requests of it are not in the log, in hours; 72 at first.
        coverage_days: Days over which coverage and delay are measured, today among them.
        remember: Scheduled runs take labels from here from now on.
    """
    if not model:
        return _join_all(coverage_days)
    source = complete_source(locals(), last_source(model))
    if source is None:
        return Completed(name="Skipped", message=f"no labels were ever named for {model}; start a run with labels_url")
    return _state_of(_join(source, coverage_days, remember))


def _join(source: LabelSource, coverage_days: int, remember: bool) -> LabelJoin:
    done = join_label_files(source, remember)
    publish_label_report(source.model, done, measure_label_coverage(source.model, coverage_days))
    return done


def _join_all(coverage_days: int) -> State:
    """Each model by itself: what is wrong with one is no reason to leave out the others."""
    failed, joined = [], 0
    for model in labelled_models():
        try:
            if (source := last_source(model)) is None:
                delete_labels_of_old_answers(model)
            else:
                done = _join(source, coverage_days, remember=True)
                joined += done.counts.joined
                failed += [f"{model}: {url}: {why}" for url, why in done.problems.items()]
        except (HotcoldError, OSError) as error:
            get_run_logger().exception("labels of %s are not joined", model)
            failed.append(f"{model}: {error}")
    if failed:
        return Failed(message=f"{joined} labels joined, but {len(failed)} models or files are not: {failed[0]}")
    return Completed(message=f"{joined} labels joined")


def _state_of(done: LabelJoin) -> State:
    message = f"{done.counts.joined} labels joined; {done.files_done} of {done.files} files are done"
    if done.problems:
        url, why = next(iter(done.problems.items()))
        return Failed(message=f"{message}; {len(done.problems)} cannot be read, the first is {url}: {why}")
    return Completed(message=message)
