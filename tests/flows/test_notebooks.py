"""The notebooks run from the first cell to the last on what a batch run leaves, and are committed without results."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from hotcold.domain.package import Manifest
from tests.fixtures.releases import promote
from tests.fixtures.scoring_scene import Scene, message

pytestmark = pytest.mark.usefixtures("prefect_server")

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_they_are_committed_without_results(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [] == [cell.source for cell in cells if cell.outputs or cell.execution_count]


# Jupyter's own messaging opens sockets and files that it leaves to the garbage collector.
@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_the_walk_through_of_a_score_table_runs(scene: Scene, small_package: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    promote(scene.releases, small_package.ref)
    state = scene.score(input_url=str(scene.input()))
    assert state.is_completed(), message(state)
    monkeypatch.setenv("SCORES", scene.output)
    monkeypatch.setenv("MPLBACKEND", "agg")
    notebook = nbformat.read(ROOT / "notebooks" / "batch_scores.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute()
    assert "late-flights" in str(notebook.cells[3].outputs)
