"""What readers get at the end of a batch run: overruled gates, several outputs, archived versions, what is kept."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from prefect.logging import disable_run_logger

from flows.score_batch import score_batch
from hotcold.adapters.batch_table import read_lineage, table_folder
from hotcold.adapters.mlflow_client import connect
from hotcold.adapters.score_pointer import read_pointer
from hotcold.domain.package import Manifest
from tasks.score_publication import ABANDONED_AFTER_S, delete_old_tables
from tasks.scoring import plan_scoring, read_request
from tests.fixtures.batch import make_table, write_parquet
from tests.fixtures.packages import MODEL
from tests.fixtures.releases import promote
from tests.fixtures.scoring_scene import ROWS, Scene, message

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_a_gate_is_overruled_for_one_table_and_not_for_the_next(scene: Scene, small_package: Manifest) -> None:
    promote(scene.releases, small_package.ref)
    assert scene.score(input_url=str(scene.input())).is_completed()
    few = str(scene.input(rows=1000, seed=1, name="few.parquet"))
    refused = scene.score(input_url=few)
    assert (True, True) == (refused.is_failed(), "20.0 % of the 5,000 that readers see" in (refused.message or ""))
    shown = scene.score(input_url=few, overrule="a strike: most flights are cancelled")
    assert shown.is_completed(), message(shown)
    assert (1000, "a strike: most flights are cancelled") == (len(scene.shown()), scene.lineage()["overruled"])
    assert any("quality gate says no: a strike" in event.reason for event in scene.scores.read_events(MODEL))
    # Found again, it stays what it was; a new table is judged by the gate.
    assert scene.score(input_url=few).is_completed()
    assert 1000 == len(scene.shown())
    fewer = scene.score(input_url=str(scene.input(rows=100, seed=2, name="fewer.parquet")))
    assert (True, 1000) == (fewer.is_failed(), len(scene.shown()))
    assert "" == scene.scores.read_table(read_pointer(scene.output).table).parameters.get("overrule", "")


def test_where_no_gate_says_no_nobody_is_overruled(scene: Scene, small_package: Manifest) -> None:
    promote(scene.releases, small_package.ref)
    assert scene.score(input_url=str(scene.input()), overrule="to be sure").is_completed()
    said = [event.reason for event in scene.scores.read_events(MODEL)]
    assert ("", []) == (scene.lineage()["overruled"], [reason for reason in said if "gate says no" in reason])


def test_a_sample_scored_beside_it_takes_neither_the_lookups_nor_the_next_run(scene: Scene, small_package: Manifest) -> None:
    promote(scene.releases, small_package.ref)
    source = scene.input()
    assert scene.score(input_url=str(source)).is_completed()
    sample = scene.input(rows=10, seed=4, name="sample.parquet")
    elsewhere = str(scene.home / "desk")
    assert scene.score(input_url=str(sample), output_url=elsewhere).is_completed()
    assert 10 == read_lineage(table_folder(elsewhere, read_pointer(elsewhere).table))["rows"]  # type: ignore[index]
    assert scene.lookup(str(ROWS - 1)) is not None
    write_parquet(make_table(ROWS + 1, seed=5), source)
    assert score_batch(model=MODEL, return_state=True).is_completed()
    assert ROWS + 1 == len(scene.shown())


def test_a_run_that_finds_the_table_complete_leaves_its_history_alone(scene: Scene, small_package: Manifest) -> None:
    promote(scene.releases, small_package.ref)
    source = str(scene.input())
    assert scene.score(input_url=source).is_completed()
    table = read_pointer(scene.output).table
    before = read_lineage(table_folder(scene.output, table))
    assert before
    assert (5, ROWS) == (before["parts_now"], before["rows_now"])
    assert scene.score(input_url=source).is_completed()
    assert before == read_lineage(table_folder(scene.output, table)) == scene.scores.read_table(table).lineage


def put_in_stage(client: Any, stage: str) -> None:
    """As people do in MLflow's pages; stages are deprecated, which it says each time."""
    with pytest.warns(FutureWarning, match="stages"):
        client.transition_model_version_stage(MODEL, "1", stage)


def test_a_version_that_is_archived_in_mlflow_meanwhile_is_named(
    scene: Scene, small_package: Manifest, mlflow_sqlite: str
) -> None:
    """Releases decide what is shown; whoever reads the run's outcome learns that people meant otherwise."""
    promote(scene.releases, small_package.ref)
    unknown = scene.score(input_url=str(scene.input(seed=7, name="first.parquet")))
    assert "published; version 1 is missing in MLflow" in (unknown.message or "")
    client = connect(mlflow_sqlite)
    client.create_registered_model(MODEL)
    client.create_model_version(MODEL, "file:///nowhere", await_creation_for=0)
    put_in_stage(client, "Production")
    kept = scene.score(input_url=str(scene.input()))
    assert (True, False) == (kept.is_completed(), "archived" in (kept.message or "")), message(kept)
    put_in_stage(client, "Archived")
    state = scene.score(input_url=str(scene.input(seed=1, name="next.parquet")))
    assert state.is_completed(), message(state)
    assert "published; version 1 is archived in MLflow" in (state.message or "")
    assert (ROWS, 0) == (len(scene.shown()), scene.lineage()["rows_quarantined"])


def test_an_output_that_is_gone_does_not_hold_up_the_others(
    scene: Scene, small_package: Manifest, caplog: pytest.LogCaptureFixture
) -> None:
    promote(scene.releases, small_package.ref)
    elsewhere = scene.home / "elsewhere"
    assert scene.score(input_url=str(scene.input()), output_url=str(elsewhere)).is_completed()
    shutil.rmtree(elsewhere)
    state = scene.score(input_url=str(scene.input(seed=1, name="next.parquet")))
    assert state.is_completed(), message(state)
    assert ROWS == len(scene.shown())
    assert f"other readers are behind: the output {elsewhere} is not on this machine" in caplog.text


def test_what_nobody_knows_is_deleted_but_never_on_the_word_of_a_database_that_was_lost(
    scene: Scene, small_package: Manifest
) -> None:
    promote(scene.releases, small_package.ref)
    assert scene.score(input_url=str(scene.input())).is_completed()
    tables, shown = Path(scene.output, "tables"), read_pointer(scene.output).table
    store = scene.home / "scores" / "store" / MODEL
    (kept,) = [path for path in store.iterdir() if shown in path.name]
    shutil.copytree(tables / shown, tables / "given-up")
    given_up = Path(shutil.copy(kept, kept.with_name(kept.name.replace(shown, "given-up"))))
    long_ago = time.time() - ABANDONED_AFTER_S - 60
    for path in (*(folder / "plan.json" for folder in tables.iterdir()), kept, given_up):
        os.utime(path, (long_ago, long_ago))
    pointer = Path(scene.output, "SCORES.json").read_bytes()
    request = read_request({"model": MODEL, "input_url": "", "output_url": ""})
    assert request

    Path(scene.output, "SCORES.json").write_text("torn")
    with disable_run_logger():
        run = plan_scoring.fn(request, small_package.ref)
        assert 0 == delete_old_tables.fn(request, run)
        Path(scene.output, "SCORES.json").write_bytes(pointer)
        assert 1 == delete_old_tables.fn(request, run)
    assert ([shown], False, True) == ([folder.name for folder in tables.iterdir()], given_up.exists(), kept.exists())
    assert scene.lookup("17") is not None


def test_an_output_has_one_name_whichever_link_leads_there(scene: Scene, small_package: Manifest) -> None:
    promote(scene.releases, small_package.ref)
    (scene.home / "real").mkdir()
    (scene.home / "link").symlink_to(scene.home / "real")
    assert scene.score(input_url=str(scene.input()), output_url=str(scene.home / "link")).is_completed()
    assert [str(scene.home / "real")] == [table.output for table in scene.scores.read_tables(MODEL)]


def test_old_tables_are_deleted_and_those_an_undo_needs_are_kept(scene: Scene, small_package: Manifest) -> None:
    promote(scene.releases, small_package.ref)
    source = scene.input(1000)
    for seed in range(7):
        write_parquet(make_table(1000, seed=seed), source)
        assert scene.score(input_url=str(source), quality={"max_psi": 10.0}).is_completed()
    kept = {path.name for path in Path(scene.output, "tables").iterdir()}
    assert 5 == len(kept)
    assert kept == {table.id for table in scene.scores.read_tables(MODEL)}
    assert read_pointer(scene.output).table in kept
