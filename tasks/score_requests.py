"""Start the batch runs that promotions, undos and people have asked for."""

import time

import httpx
from prefect import get_run_logger, task
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound, PrefectException

from hotcold.adapters.score_database import ScoreDatabase, ScoreRequest
from hotcold.domain.errors import StackError
from hotcold.settings import Settings
from tasks.context import controller_name

DEPLOYMENT = "score-batch/score-batch"


@task(name="request all scores", persist_result=False)
def request_all_scores(reason: str) -> int:
    """Ask for every output of every model to be scored again, each with its own champion and as it was scored last.

    Returns:
        Number of outputs.
    """
    database = ScoreDatabase(Settings().release_database_url)
    try:
        database.prepare()
        return database.request_all(reason, controller_name(), time.time())
    finally:
        database.close()


@task(name="start requested scores", persist_result=False)
def start_requested_scores() -> int:
    """Start `score-batch` for each open request. A request whose run was started, but not written down, gets the same run.

    Returns:
        Number of runs started.

    Raises:
        StackError: Prefect refuses a run; `score-requested` repeats it on schedule.
    """
    database, troubles = ScoreDatabase(Settings().release_database_url), []
    try:
        database.prepare()
        requests = database.read_requests()
        with get_client(sync_client=True) as client:
            for request in requests:
                try:
                    database.close_request(request.id, start_run(client, request), time.time())
                except StackError as error:
                    troubles.append(str(error))
    finally:
        database.close()
    if troubles:
        raise StackError(f"{len(troubles)} of {len(requests)} requested batch runs were not started: {troubles[0]}")
    return len(requests)


def start_run(client: SyncPrefectClient, request: ScoreRequest) -> str:
    """Start the run of a request, or find it; its id.

    Raises:
        StackError: Prefect does not take it.
    """
    try:
        deployment = client.read_deployment_by_name(DEPLOYMENT)
        run = client.create_flow_run_from_deployment(
            deployment.id, parameters=dict(request.parameters), idempotency_key=f"score-request-{request.id}"
        )
    except ObjectNotFound as error:
        raise StackError(f"Prefect does not know {DEPLOYMENT}; run `hotcold up`, which deploys everything") from error
    except (PrefectException, httpx.HTTPError) as error:
        raise StackError(f"Prefect did not take a run of {DEPLOYMENT} for {request.output}: {error}") from error
    get_run_logger().info("%s: run %s scores %s, as %s", request.model, run.name, request.output, request.reason)
    return str(run.id)
