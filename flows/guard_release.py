"""Go on with releases whose driver is gone; runs on schedule."""

from prefect import State, flow, get_run_logger
from prefect.states import Completed, Failed

from hotcold.settings import Settings
from tasks.driverless import look_after_releases
from tasks.notices import tell_people


@flow(name="guard-release", persist_result=False)
def guard_release() -> State:
    """Have a run take over each release whose driver is gone, whatever killed it: the flow run, the worker, the server.

    The run goes on at the release's step, by the release's own plan. What waits for a person is left alone. A release that lost
    its driver again and again is ended, unless it has live traffic; then this run fails and says what to do. Traffic does not
    depend on this: an agent takes it off a candidate without a driver within seconds, and needs neither Prefect nor MLflow.
    What people have not been told of releases yet, they are told now.
    """
    cared = look_after_releases()
    tell_people(Settings(), get_run_logger())
    if cared.open:
        return Failed(message=f"{len(cared.open)} releases need somebody: {cared.open[0]}")
    return Completed(message="; ".join(cared.done) or "every release has a driver")
