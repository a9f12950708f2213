"""Take the last release of a model back, at once."""

from typing import Annotated

from prefect import flow, get_run_logger
from pydantic import Field

from hotcold.domain.errors import EdgeError, HotcoldError, RegistryError
from hotcold.rollback import Undone
from hotcold.rollback import roll_back as take_back
from hotcold.settings import Settings
from hotcold.shown_scores import show_scores
from tasks.context import controller_name, open_database
from tasks.forms import ModelName
from tasks.registry import project_to_registry
from tasks.reporting import publish_release_report
from tasks.score_requests import start_requested_scores

Reason = Annotated[str, Field(min_length=1, max_length=500)]


@flow(name="roll-back", flow_run_name="roll back {model}", persist_result=False)
def roll_back(model: ModelName = "flights", reason: Reason = "rolled back from the Prefect UI") -> str:
    """Give all live traffic back to the champion before, and readers of batch scores its tables.

    Ends the release under way or, if none is, undoes the last promotion. The slot before is still warm, so this is a route
    change. `hotcold rollback MODEL` does the same with Prefect and MLflow down.

    Args:
        model: Registered model name.
        reason: Why; it is kept in the audit and in the registry.
    """
    settings = Settings()
    database = open_database(settings)
    try:
        undone = take_back(database, model, controller_name(), reason)
        scores = show_scores(settings, model)
        publish_release_report(undone.release, database.read_events(undone.release.id), ())
    except EdgeError:
        # The decision is written all the same, and readers of scores do not wait for the edge.
        show_scores(settings, model)
        raise
    finally:
        database.close()
    _score_again()
    _tell_registry(model)
    return _summary(undone, scores)


def _score_again() -> None:
    try:
        start_requested_scores()
    except HotcoldError as error:
        get_run_logger().warning("traffic and scores are back; score-requested will have them scored anew later: %s", error)


def _tell_registry(model: str) -> None:
    try:
        project_to_registry(model)
    except RegistryError as error:
        get_run_logger().warning("traffic is back; the registry will be told later by sync-registry: %s", error)


def _summary(undone: Undone, scores: tuple[str, ...]) -> str:
    champion = undone.release.champion.tag if undone.release.champion else "nobody"
    traffic = f"{champion} has the traffic; the edge confirmed it after {undone.confirmed_s * 1e3:.0f} ms"
    text = "; ".join((traffic, *scores))
    get_run_logger().info(text)
    return text
