"""Compare live and batch scores of the same rows, before a candidate gets traffic."""

from prefect import task

from hotcold.adapters.packages import package_dir
from hotcold.adapters.parity_check import check_parity
from hotcold.adapters.score_database import ScoreDatabase
from hotcold.domain.batch_plan import Columns
from hotcold.domain.gate import Gate
from hotcold.domain.package import PackageRef
from hotcold.domain.score_table import ScoreTable
from hotcold.domain.serving import Slot
from hotcold.settings import Settings


@task(name="batch parity", task_run_name="batch parity {slot}", persist_result=False)
def run_parity_check(package: PackageRef, slot: Slot, edges: tuple[str, ...]) -> Gate:
    """Score rows of the model's last batch input, or of the reference sample, on both paths."""
    settings = Settings()
    table = _last_table(settings, package.model)
    parameters = table.parameters if table else {}
    entity = str(parameters.get("id_column", ""))
    columns = Columns(entity, tuple(parameters.get("passthrough", ()))) if entity else None
    src = package_dir(package, settings.bento_home)
    return check_parity(package, src, slot.value, edges, table.input_url if table else "", columns)


def _last_table(settings: Settings, model: str) -> ScoreTable | None:
    database = ScoreDatabase(settings.release_database_url)
    try:
        return max(database.read_tables(model), key=lambda table: table.scored_at, default=None)
    finally:
        database.close()
