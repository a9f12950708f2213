"""Releases on the whole stack: Prefect, MLflow, agent, Envoy and replicas are real, and so are the flights."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path

import httpx
import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from hotcold.adapters.schedule import ID_COLUMN, write_schedule
from hotcold.adapters.score_pointer import open_table, read_pointer
from hotcold.domain.release import Phase
from hotcold.domain.serving import Slot
from tests.fixtures.stack import Installation, wait_for
from tests.fixtures.world import MODEL, World

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_a_release_moves_traffic_and_registry_and_an_undo_from_prefect_takes_both_back(
    world: World, versions: tuple[int, int]
) -> None:
    first, second = versions
    world.ensure_champion(first)
    with world.load() as load:
        run = world.release(MODEL, second)
        assert ("COMPLETED", second) == (run.state, world.champion())
        assert {"champion": second, "previous": first} == world.aliases()
        assert ("Production", "Archived") == (world.stage(second), world.stage(first))

        clicked = time.monotonic()
        undo = world.stack.run_flow("roll-back/roll-back", model=MODEL, reason="the test says so")
        undo_s = time.monotonic() - clicked
        answered = len(load.results())
        wait_for(lambda: len(load.results()) > answered + 20, 30, "requests after the undo")
    assert ("COMPLETED", first) == (undo.state, world.champion())
    assert undo_s < 15
    assert {"champion": first} == world.aliases()
    assert ("Archived", "Production") == (world.stage(second), world.stage(first))
    assert {"1.0.0", "1.1.0"} == {exchange.version for exchange in load.results()}
    assert "1.0.0" == load.results()[-1].version


def test_a_run_leaves_a_table_of_what_it_did(world: World, versions: tuple[int, int]) -> None:
    world.ensure_champion(versions[0])
    found = httpx.post(f"{world.stack.record.prefect_api_url}/artifacts/latest/filter", json={}, trust_env=False).json()
    tables = {artifact["key"]: artifact["data"] for artifact in found if artifact["type"] == "table"}
    assert {f"release-{MODEL}", f"gates-{MODEL}"} <= tables.keys()
    assert "promoted" in tables[f"release-{MODEL}"] or "rolled_back" in tables[f"release-{MODEL}"]


def test_rollback_works_with_prefect_and_mlflow_down_and_the_registry_follows_later(
    world: World, versions: tuple[int, int]
) -> None:
    first, second = versions
    world.ensure_champion(first)
    world.ensure_champion(second)
    with frozen(world.stack, "prefect-server", "mlflow-server", "worker"):
        answer = world.stack.hotcold("rollback", MODEL, timeout_s=30)
        assert 0 == answer.returncode, answer.stderr
        assert "1.0.0" in answer.stdout
        assert first == world.champion()
        body = world.replay.request(0)
        served = httpx.post(world.edge_url + body[0], content=body[2], headers=dict(body[1]), trust_env=False)
        assert "1.0.0" == served.headers["x-model-version"]
    assert "COMPLETED" == world.stack.run_flow("sync-registry/sync-registry").state
    assert ({"champion": first}, "Archived") == (world.aliases(), world.stage(second))


@contextmanager
def frozen(stack: Installation, *names: str) -> Iterator[None]:
    """Processes that hang: they hold their ports and answer nothing."""
    with ExitStack() as thaw:
        for name in names:
            process = psutil.Process(stack.process(name).pid)
            process.suspend()
            thaw.callback(process.resume)
        yield


def test_a_killed_flow_leaves_no_wrong_split_and_the_guard_has_its_release_go_on(
    world: World, versions: tuple[int, int]
) -> None:
    first, second = versions
    world.ensure_champion(first)
    with world.load():
        run = world.prefect.start(
            "cut-over/cut-over", {"model": MODEL, "version": second, "plan": {"replicas": 1, "bake_s": 15}}
        )
        wait_for(lambda: world.latest().version == second and world.latest().phase is Phase.BAKING, 60, "the bake")
        release = world.latest()
        refused = world.stack.hotcold("release", MODEL, "--version", str(second))
        assert 3 == refused.returncode, refused.stderr
        assert f"held by flow run cut over {MODEL} ({run.id})" in refused.stderr
        world.kill_flow(run)
        wait_for(lambda: world.database.read_release(release.id).phase is Phase.HELD, 40, "the agent holds the release")
        wait_for(lambda: world.database.read_plan(MODEL).route.share(release.slot) == 0, 5, "the split goes back")
        world.drive_on(release)
        wait_for(lambda: world.database.read_release(release.id).phase is Phase.PROMOTED, 90, "the release goes on to its end")
    assert release.id == world.latest().id
    assert second == world.champion()


def test_a_batch_run_that_is_killed_is_finished_by_the_next_one(
    world: World, versions: tuple[int, int], tmp_path: Path
) -> None:
    """Prefect hears of the death, lets the next run start, and that one does only what is missing."""
    world.ensure_champion(versions[0])
    flights = write_schedule(tmp_path / "in.parquet", date(2013, 10, 1), date(2013, 10, 31))
    output = tmp_path / "out"
    given = {"model": MODEL, "input_url": str(tmp_path / "in.parquet"), "output_url": str(output), "id_column": ID_COLUMN}
    given |= {"rows_per_part": 500, "cluster": "local"}

    def receipts() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in output.glob("tables/*/receipts/part-*.json")}

    killed = world.prefect.start("score-batch/score-batch", given)
    wait_for(lambda: len(receipts()) >= 3, 60, "three parts")
    world.kill_flow(killed)
    done = receipts()
    assert not (output / "SCORES.json").exists()
    run = world.stack.run_flow("score-batch/score-batch", **given)
    assert "COMPLETED" == run.state, run.message
    assert "published" in run.message
    assert done.items() <= receipts().items()
    table = pq.read_table(open_table(str(output)))
    assert (flights, flights) == (len(table), len(set(table[ID_COLUMN].to_pylist())))
    row = table.slice(7, 1).to_pylist()[0]
    answer = httpx.get(f"{world.edge_url}/models/{MODEL}/scores/{row[ID_COLUMN]}", trust_env=False).json()
    assert pytest.approx(row["score"]) == answer["score"]
    wait_for(lambda: world.prefect.read(killed.id).ended, 30, "Prefect knows that the run is dead")
    assert "CRASHED" == world.prefect.read(killed.id).state


def test_a_promotion_has_the_table_scored_anew_and_an_undo_brings_the_old_one_back(
    world: World, versions: tuple[int, int], tmp_path: Path
) -> None:
    """Nobody starts a batch run here but the release."""
    first, second = versions
    world.ensure_champion(first)
    flights = write_schedule(tmp_path / "in.parquet", date(2013, 10, 1), date(2013, 10, 2))
    output = str(tmp_path / "out")
    given = {"model": MODEL, "input_url": str(tmp_path / "in.parquet"), "output_url": output, "id_column": ID_COLUMN}
    run = world.stack.run_flow("score-batch/score-batch", **given, quality={"max_psi": 10.0})
    assert "COMPLETED" == run.state, run.message
    before = read_pointer(output).table
    assert "COMPLETED" == world.release(MODEL, second).state
    wait_for(lambda: read_pointer(output).table != before, 90, "the table of the new champion")
    assert flights == len(pq.read_table(open_table(output)))
    assert 0 == world.stack.hotcold("rollback", MODEL).returncode
    assert before == read_pointer(output).table


def test_a_version_that_does_not_exist_is_refused_with_those_that_do(world: World, versions: tuple[int, int]) -> None:
    run = world.release(MODEL, 99)
    assert "FAILED" == run.state
    assert "has no version 99; it has" in run.message


def test_a_version_without_what_packaging_needs_is_rejected_and_traffic_stays(world: World, versions: tuple[int, int]) -> None:
    champion = world.champion()
    bare = world.train(trees=10)
    world.registry._client.delete_model_version_tag(MODEL, str(bare), "hotcold.semver")
    run = world.release(MODEL, bare)
    assert "FAILED" == run.state
    assert "lacks the tag hotcold.semver" in run.message
    assert (champion, Phase.REJECTED) == (world.champion(), world.latest().phase)


@pytest.mark.parametrize("flavor", ["logistic_regression", "mlp", "onnx"])
def test_models_that_are_not_xgboost_are_served_beside_it(world: World, versions: tuple[int, int], flavor: str) -> None:
    if world.champion() is None:
        world.ensure_champion(versions[0])
    model = f"flights-{flavor.replace('_', '-')}"
    version = world.train(model, flavor=flavor, epochs=1)
    run = world.release(model, version)
    assert "COMPLETED" == run.state, run.message
    path, headers, body = world.replay.request(3)
    for name in (MODEL, model):
        answer = httpx.post(world.edge_url + path.replace(MODEL, name), content=body, headers=dict(headers), trust_env=False)
        assert (200, name) == (answer.status_code, answer.json()["model"])
        assert 0 <= answer.json()["scores"][0] <= 1


def test_a_client_of_the_open_inference_protocol_works_against_the_edge(world: World, versions: tuple[int, int]) -> None:
    import tritonclient.http as triton

    if world.champion() is None:
        world.ensure_champion(versions[0])
    client = triton.InferenceServerClient(world.edge_url.removeprefix("http://"))
    try:
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(MODEL)
        width = client.get_model_metadata(MODEL)["inputs"][0]["shape"][1]
        assert "hotcold" == client.get_server_metadata()["name"]
        rows = np.zeros((3, width), dtype=np.float32)
        scores = [infer(client, rows, binary) for binary in (True, False)]
        assert (3,) == scores[0].reshape(-1).shape
        np.testing.assert_array_equal(scores[0], scores[1])
    finally:
        client.close()


def infer(client: object, rows: np.ndarray, binary: bool) -> np.ndarray:
    import tritonclient.http as triton

    tensor = triton.InferInput("features", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows, binary_data=binary)
    wanted = triton.InferRequestedOutput("scores", binary_data=binary)
    answer = client.infer(MODEL, [tensor], outputs=[wanted])  # type: ignore[attr-defined]
    return np.asarray(answer.as_numpy("scores"))


def test_a_slot_can_be_asked_directly_by_testers(world: World, versions: tuple[int, int]) -> None:
    first, second = versions
    world.ensure_champion(first)
    world.ensure_champion(second)
    path, headers, body = world.replay.request(1)
    plan = world.database.read_plan(MODEL)
    assert plan.route.champion is not None
    expected = {"champion": "1.1.0", plan.route.champion.value: "1.1.0", plan.route.champion.other.value: "1.0.0"}
    for value, version in expected.items():
        answer = httpx.post(
            world.edge_url + path, content=body, headers={**headers, "x-hotcold-variant": value}, trust_env=False
        )
        assert (200, version) == (answer.status_code, answer.headers["x-model-version"])
    assert Slot(answer.headers["x-variant"]) is plan.route.champion.other
