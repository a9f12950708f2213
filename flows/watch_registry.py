"""Start promotions of versions that were given the alias `candidate` in MLflow; runs on schedule."""

from prefect import State, flow
from prefect.states import Completed, Failed

from hotcold.settings import Settings
from tasks.promotion_requests import start_promotions


@flow(name="watch-registry", persist_result=False)
def watch_registry() -> State:
    """Start `promote-model` for each version that was given the alias `candidate` since it was last seen without it.

    The backup of MLflow's webhook, and the other way around: both take note of what they see in the release database, and each
    setting of the alias starts one run. None is started for the champion, nor for a version whose release is under way. One
    that was released, rejected, rolled back or evaluated before is promoted again if the alias was seen gone after that and is
    set anew; hotcold takes it away itself when a release has ended. While another version is being released, the alias is that
    one's. A run that was started and failed is not started again: it is in the Prefect UI.

    Off unless HOTCOLD_PROMOTE_ON_ALIAS is set: training gives its versions this alias, and on a schedule nobody would look.
    """
    if not Settings().promote_on_alias:
        return Completed(name="Skipped", message="aliases start nothing here; HOTCOLD_PROMOTE_ON_ALIAS=true changes that")
    looked = start_promotions()
    if looked.failed:
        return Failed(message=f"{len(looked.failed)} promotions were not started, the next run tries again: {looked.failed[0]}")
    return Completed(message="; ".join(looked.started) or f"{looked.models} models, nothing to start")
