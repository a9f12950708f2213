"""score-batch, run in a real Prefect on a real Dask cluster, with real packages, releases and score store."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest
from prefect import State

from flows.score_batch import score_batch
from hotcold.adapters.batch_table import table_folder
from hotcold.adapters.locks import hold_output
from hotcold.adapters.mlflow_client import connect
from hotcold.adapters.score_pointer import read_pointer
from hotcold.domain.errors import BadInputError, BatchError
from hotcold.domain.package import Manifest
from tests.fixtures.batch import make_table, write_parquet
from tests.fixtures.data_plane import wait_until
from tests.fixtures.flow_runs import artifacts
from tests.fixtures.packages import MODEL
from tests.fixtures.releases import promote, take_back
from tests.fixtures.scoring_scene import ROWS, Scene, message

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_the_champions_scores_are_published_looked_up_and_shown(
    scene: Scene, small_package: Manifest, mlflow_sqlite: str
) -> None:
    promote(scene.releases, small_package.ref)
    source = scene.input()
    state = scene.score(input_url=str(source), passthrough=["day"], cluster="local")
    assert state.is_completed(), message(state)

    table, lineage = scene.shown(), scene.lineage()
    assert (ROWS, ["flight_id", "score", "day"]) == (len(table), table.column_names)
    assert pytest.approx(table["score"][17].as_py()) == scene.lookup("17")
    assert scene.lookup("no-such-flight") is None
    assert (small_package.digest, ROWS, ROWS, 0) == tuple(
        lineage[name] for name in ("digest", "rows_in", "rows", "rows_quarantined")
    )
    assert lineage.keys() >= {"input_fingerprint", "mlflow_run", "flow_run", "seconds", "content_sha256"}
    assert not Path(table_folder(scene.output, lineage["table"]).path("index")).exists()

    client = connect(mlflow_sqlite)
    experiment = client.get_experiment_by_name(f"{MODEL}-scoring")
    run = client.search_runs([experiment.experiment_id])[0]
    assert (ROWS, lineage["table"]) == (run.data.metrics["rows"], run.data.tags["hotcold.table"])
    for key in (f"scores-{MODEL}", f"score-gates-{MODEL}", f"scored-{MODEL}", f"scoring-{MODEL}"):
        assert lineage["flow_run"] in {str(artifact.flow_run_id) for artifact in artifacts(key)}


def test_a_run_that_is_repeated_scores_nothing_and_changes_nothing(scene: Scene, small_package: Manifest) -> None:
    promote(scene.releases, small_package.ref)
    source = scene.input()
    assert scene.score(input_url=str(source)).is_completed()
    before, pointer, written = scene.lineage(), read_pointer(scene.output), scene.receipts()
    # The same place, written in another way.
    assert scene.score(input_url=f"file://{source}", output_url=f"{scene.output}/").is_completed()
    assert pointer == read_pointer(scene.output)
    assert before["content_sha256"] == scene.lineage()["content_sha256"]
    assert (written, 5) == (scene.receipts(), len(written))
    assert 1 == len(scene.scores.read_tables(MODEL))


def test_a_table_that_is_shown_already_is_not_compared_with_itself(scene: Scene, small_package: Manifest) -> None:
    """Its evidence stays what it was judged by; against itself every table is stable."""
    promote(scene.releases, small_package.ref)
    assert scene.score(input_url=str(scene.input())).is_completed()
    first = read_pointer(scene.output).table
    source = str(scene.input(seed=1, name="next.parquet"))
    assert scene.score(input_url=source).is_completed()
    evidence = scene.evidence()
    assert (first, True) == (evidence["compared_with"], evidence["psi"] > 0)
    for _ in range(2):
        assert scene.score(input_url=source).is_completed()
        assert evidence == scene.evidence()


def test_a_scheduled_run_needs_nothing_but_the_model(scene: Scene, small_package: Manifest) -> None:
    promote(scene.releases, small_package.ref)
    source = scene.input()
    assert scene.score(input_url=str(source), passthrough=["day"]).is_completed()
    write_parquet(make_table(ROWS + 500, seed=3), source)
    state = score_batch(model=MODEL, return_state=True)
    assert state.is_completed(), message(state)
    assert (ROWS + 500, ["flight_id", "score", "day"]) == (len(scene.shown()), scene.shown().column_names)


def test_without_an_input_ever_named_there_is_nothing_to_do(scene: Scene) -> None:
    state = score_batch(model=MODEL, return_state=True)
    assert ("Skipped", True) == (state.name, state.is_completed())


def test_a_table_of_the_candidate_waits_for_its_promotion_and_goes_with_the_undo(
    scene: Scene, small_package: Manifest, other_package: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One decision moves both paths: the pointers move in the transactions of the release.

    Both packages are built already and MLflow is left out, since it takes a training to fill; `tests/e2e/test_release.py` and
    the demo have the real one.
    """
    promote(scene.releases, small_package.ref)
    source = scene.input()
    assert scene.score(input_url=str(source)).is_completed()
    first, before = read_pointer(scene.output).table, scene.lookup("17")

    monkeypatch.setattr("tasks.scoring.package_version", lambda *_: other_package.ref)
    monkeypatch.setattr("hotcold.adapters.registry.Registry.resolve", lambda *_, **__: other_package.version)
    state = scene.score(input_url=str(source), version=other_package.version, quality={"max_psi": 10.0})
    assert state.is_completed(), message(state)
    assert "is not the champion" in (state.message or "")
    assert first == read_pointer(scene.output).table

    promote(scene.releases, other_package.ref)
    (pointer,) = scene.scores.read_pointers(MODEL)
    assert pointer.table.startswith(other_package.digest[:12])

    take_back(scene.releases, MODEL)
    (pointer,) = scene.scores.read_pointers(MODEL)
    assert first == pointer.table
    (request,) = scene.scores.read_requests()
    assert (str(source), None) == (request.parameters["input_url"], request.parameters["version"])
    state = score_batch(**request.parameters, return_state=True)
    assert state.is_completed(), message(state)
    assert (first, before) == (read_pointer(scene.output).table, scene.lookup("17"))


def test_repeated_ids_are_refused_and_named_and_readers_keep_what_they_have(scene: Scene, small_package: Manifest) -> None:
    promote(scene.releases, small_package.ref)
    assert scene.score(input_url=str(scene.input())).is_completed()
    before = read_pointer(scene.output)
    table = make_table(ROWS)
    doubled = pa.concat_tables([table, table.slice(1234, 2)])
    state = scene.score(input_url=str(write_parquet(doubled, scene.home / "doubled.parquet")))
    assert state.is_failed()
    assert "2 rows repeat an id" in (state.message or "")
    assert "1234 in row 234 of part-000001 and row 0 of part-000005" in (state.message or "")
    assert before == read_pointer(scene.output)
    assert ROWS == len(scene.shown())
    allowed = scene.score(input_url=str(scene.home / "doubled.parquet"), quality={"unique_ids": False})
    assert allowed.is_completed(), message(allowed)
    assert ROWS + 2 == len(scene.shown())
    assert 2 == scene.lineage()["duplicates"]["rows"]


def test_ids_that_were_allowed_to_repeat_are_not_forgotten(scene: Scene, small_package: Manifest) -> None:
    """The table is complete when it is asked again, and the answer must not be that there were none."""
    promote(scene.releases, small_package.ref)
    table = make_table(ROWS)
    source = write_parquet(pa.concat_tables([table, table.slice(7, 1)]), scene.home / "in.parquet")
    allowed = scene.score(input_url=str(source), score_store=False, quality={"unique_ids": False})
    assert allowed.is_completed(), message(allowed)
    assert scene.score(input_url=str(source), score_store=False, quality={"unique_ids": True}).is_failed()
    assert "" == read_pointer(scene.output).table


def test_repeated_ids_are_found_without_a_score_store_too(scene: Scene, small_package: Manifest) -> None:
    promote(scene.releases, small_package.ref)
    table = make_table(ROWS)
    assert scene.score(input_url=str(scene.input()), score_store=False).is_completed()
    doubled = write_parquet(pa.concat_tables([table, table.slice(7, 1)]), scene.home / "doubled.parquet")
    state = scene.score(input_url=str(doubled), score_store=False)
    assert state.is_failed()
    assert "1 rows repeat an id: 7 in row 7 of part-000000 and row 0 of part-000005" in (state.message or "")
    assert scene.lookup_is_empty()


def test_a_table_that_did_not_pass_is_published_with_other_limits_without_scoring_again(
    scene: Scene, small_package: Manifest
) -> None:
    promote(scene.releases, small_package.ref)
    table = make_table(ROWS)
    carriers = table["carrier"].to_pylist()
    carriers[:100] = ["ZZ"] * 100
    table = table.set_column(table.schema.get_field_index("carrier"), "carrier", pa.array(carriers))
    source = str(write_parquet(table, scene.home / "in.parquet"))
    refused = scene.score(input_url=source, on_bad_part="quarantine")
    assert refused.is_failed()
    assert "100 of 5,000 rows, 2.00 %" in (refused.message or "")
    assert "'ZZ'" in (refused.message or "")
    receipts = scene.receipts()
    accepted = scene.score(input_url=source, on_bad_part="quarantine", quality={"max_quarantined_pct": 5.0})
    assert accepted.is_completed(), message(accepted)
    assert receipts == scene.receipts()
    assert (ROWS - 100, 100) == (len(scene.shown()), scene.lineage()["rows_quarantined"])


def test_a_champion_that_is_replaced_in_mid_run_does_not_publish(
    scene: Scene, small_package: Manifest, other_package: Manifest
) -> None:
    promote(scene.releases, small_package.ref)
    source = scene.input(60_000)
    states: list[State] = []
    run = threading.Thread(target=lambda: states.append(scene.score(input_url=str(source))))
    run.start()
    wait_until(lambda: list(Path(scene.output).glob("tables/*/receipts/*.json")), "the first part")
    promote(scene.releases, other_package.ref)
    run.join(timeout=120)
    assert states[0].is_completed(), message(states[0])
    assert f"{small_package.ref.tag} is not the champion, {other_package.ref.tag} is" in (states[0].message or "")
    assert () == scene.scores.read_pointers(MODEL)


def test_it_needs_no_mlflow_for_a_package_that_is_there(
    scene: Scene, small_package: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(scene.releases, small_package.ref)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    state = scene.score(input_url=str(scene.input()))
    assert state.is_completed(), message(state)
    assert ROWS == len(scene.shown())


def test_a_second_run_to_the_same_output_is_told_so(scene: Scene, small_package: Manifest) -> None:
    promote(scene.releases, small_package.ref)
    with hold_output(scene.settings, scene.output):
        state = scene.score(input_url=str(scene.input()))
    assert state.is_failed()
    with pytest.raises(BatchError, match="another run writes to"):
        state.result()


def test_bad_input_fails_the_run_with_its_name(scene: Scene, small_package: Manifest) -> None:
    promote(scene.releases, small_package.ref)
    source = scene.input()
    source.write_bytes(source.read_bytes()[:5000])
    state = scene.score(input_url=str(source))
    assert state.is_failed()
    with pytest.raises(BadInputError, match=r"in\.parquet: not a complete Parquet file"):
        state.result()


def test_a_store_that_was_lost_is_built_again(scene: Scene, small_package: Manifest) -> None:
    promote(scene.releases, small_package.ref)
    source = scene.input()
    assert scene.score(input_url=str(source)).is_completed()
    score = scene.lookup("17")
    for path in Path(scene.settings.score_store, MODEL).glob("*.mdb"):
        path.unlink()
    began = time.monotonic()
    assert scene.score(input_url=str(source)).is_completed()
    assert score == scene.lookup("17")
    assert time.monotonic() - began < 30
