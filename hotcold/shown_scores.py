"""What readers of a model's scores see, brought in line with the release database at once and said in sentences."""

from __future__ import annotations

from hotcold.adapters.score_database import ScoreDatabase
from hotcold.adapters.score_pointer import project_scores, read_pointer
from hotcold.adapters.score_store import open_score_store
from hotcold.domain.errors import HotcoldError
from hotcold.settings import Settings


def show_scores(settings: Settings, model: str) -> tuple[str, ...]:
    """Let all readers of a model see what they should, and say what they see. Needs neither Prefect nor MLflow.

    Nothing is raised on purpose: whoever moves traffic has done so already, and the agent repeats what failed here.

    Args:
        settings: where release database and score store are.
        model: registered model name.

    Returns:
        A sentence for each output, read from its pointer file, and one for each trouble; none if nothing was ever published.
    """
    database, said = ScoreDatabase(settings.release_database_url), []
    try:
        database.prepare()
        pointers = database.read_pointers(model)
        try:
            project_scores(database, model, open_score_store(settings.score_store) if pointers else None)
        except HotcoldError as error:
            said.append(f"scores are behind, and the agent tries again: {error}")
        for pointer in pointers:
            found = read_pointer(pointer.output)
            said.append(f"readers of {pointer.output} see " + (f"table {found.table}" if found.table else "no table"))
    except HotcoldError as error:
        said.append(f"what readers of scores see is not known: {error}")
    finally:
        database.close()
    return tuple(said)
