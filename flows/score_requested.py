"""Start the batch runs that promotions, undos and people have asked for; runs on schedule."""

from prefect import flow

from tasks.score_requests import start_requested_scores


@flow(name="score-requested", persist_result=False)
def score_requested() -> int:
    """Score every output whose readers do not see a table of the champion, or whose scores were taken back.

    `cut-over` and `roll-back` do the same at once; this makes up for those that died before, and for commands without Prefect.
    A run that was started and failed is not started again: its failure is in the Prefect UI, and the nightly run comes.

    Returns:
        Number of runs of `score-batch` that were started.
    """
    return start_requested_scores()
