"""An alias in a real MLflow starts one promotion in a real Prefect, by webhook, by watch-registry, or by both."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from prefect import State
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness

from flows.watch_registry import watch_registry
from hotcold.adapters.alias_database import AliasDatabase
from hotcold.adapters.prefect_api import PrefectApi
from hotcold.adapters.promotion_start import PromotionStart
from hotcold.adapters.release_database import ReleaseDatabase
from hotcold.domain.errors import RegistryError
from hotcold.domain.release import Command, Observation
from tests.fixtures.promotion_scene import RegistryScene, deployed, make_scene, runs
from tests.fixtures.release_steps import LEASE_S, PLAN, step
from tests.fixtures.stack import free_ports, wait_for


@pytest.fixture(scope="module", autouse=True)
def _prefect() -> Iterator[None]:
    with prefect_test_harness():
        yield


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, _empty_mlflow_db: Path, _prefect: None) -> Iterator[RegistryScene]:
    """MLflow runs; the receiver does where a test starts it."""
    made = make_scene(tmp_path_factory.mktemp("home"), str(PREFECT_API_URL.value()))
    shutil.copy(_empty_mlflow_db, made.settings.root / "mlflow" / "mlflow.db")
    with made.process("mlflow-server", "/health"):
        yield made


@pytest.fixture
def prefect() -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def promotions(prefect: SyncPrefectClient) -> Iterator[str]:
    with deployed(prefect, "promote-model") as deployment:
        yield deployment


@pytest.fixture
def model(scene: RegistryScene, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model of its own for each test, with two versions; the flow runs in this installation."""
    monkeypatch.setenv("HOTCOLD_HOME", str(scene.settings.root))
    monkeypatch.setenv("HOTCOLD_PROMOTE_ON_ALIAS", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", scene.record.mlflow_url)
    name = f"m{uuid.uuid4().hex[:10]}"
    scene.add_versions(name, 2)
    return name


def promoted(prefect: SyncPrefectClient, deployment: str, model: str) -> list[object]:
    """Versions of the model whose promotion was started, in any order."""
    return [run.parameters["version"] for run in runs(prefect, deployment) if run.parameters["model"] == model]


def watch() -> State:
    return watch_registry(return_state=True)


def test_an_alias_starts_one_run_however_often_it_is_looked_at_or_set(
    scene: RegistryScene, model: str, prefect: SyncPrefectClient, promotions: str
) -> None:
    assert [] == promoted(prefect, promotions, model)
    scene.client.set_registered_model_alias(model, "candidate", "2")
    state = watch()
    assert f"{model}: run " in str(state.message)
    scene.client.set_registered_model_alias(model, "candidate", "2")
    assert "nothing to start" in str(watch().message)
    assert [2] == promoted(prefect, promotions, model)


def test_another_version_is_another_promotion(
    scene: RegistryScene, model: str, prefect: SyncPrefectClient, promotions: str
) -> None:
    for version in ("1", "2"):
        scene.client.set_registered_model_alias(model, "candidate", version)
        watch()
    assert [1, 2] == sorted(promoted(prefect, promotions, model))


def test_a_version_that_was_taken_back_is_promoted_again_only_when_the_alias_is_set_anew(
    scene: RegistryScene, model: str, prefect: SyncPrefectClient, promotions: str
) -> None:
    reject(scene, model, 2)
    scene.client.set_registered_model_alias(model, "candidate", "2")
    watch()
    assert [] == promoted(prefect, promotions, model)
    scene.client.delete_registered_model_alias(model, "candidate")
    watch()
    scene.client.set_registered_model_alias(model, "candidate", "2")
    watch()
    assert [2] == promoted(prefect, promotions, model)


def reject(scene: RegistryScene, model: str, version: int) -> None:
    """A release of the version is opened and taken back."""
    database = ReleaseDatabase(scene.settings.release_database_url)
    database.prepare()
    release = database.start(model, version, PLAN, "test", 100.0, LEASE_S)
    taken_back = step(database, release, Observation(command=Command.ROLL_BACK), 101.0)
    step(database, taken_back, Observation(edge_share=0, edge_mirror=0), 102.0)
    database.close()


def test_while_another_version_is_released_the_next_one_waits_and_is_not_forgotten(
    scene: RegistryScene, model: str, prefect: SyncPrefectClient, promotions: str
) -> None:
    database = ReleaseDatabase(scene.settings.release_database_url)
    database.prepare()
    release = database.start(model, 1, PLAN, "test", 100.0, LEASE_S)
    scene.client.set_registered_model_alias(model, "candidate", "2")
    watch()
    assert [] == promoted(prefect, promotions, model)
    taken_back = step(database, release, Observation(command=Command.ROLL_BACK), 101.0)
    step(database, taken_back, Observation(edge_share=0, edge_mirror=0), 102.0)
    database.close()
    watch()
    assert [2] == promoted(prefect, promotions, model)


def test_without_the_setting_nothing_is_started(
    scene: RegistryScene, model: str, prefect: SyncPrefectClient, promotions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOTCOLD_PROMOTE_ON_ALIAS")
    scene.client.set_registered_model_alias(model, "candidate", "2")
    assert "Skipped" == watch().name
    assert [] == promoted(prefect, promotions, model)


def test_with_mlflow_down_the_run_says_so_and_the_next_one_makes_up_for_it(
    scene: RegistryScene, model: str, prefect: SyncPrefectClient, promotions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.client.set_registered_model_alias(model, "candidate", "2")
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_ports(1)[0]}")
        state = watch()
        assert state.is_failed()
        with pytest.raises(RegistryError, match="does not answer"):
            state.result()
    watch()
    assert [2] == promoted(prefect, promotions, model)


def test_without_the_deployment_the_run_says_so_and_the_next_one_makes_up_for_it(
    scene: RegistryScene, model: str, prefect: SyncPrefectClient
) -> None:
    scene.client.set_registered_model_alias(model, "candidate", "2")
    state = watch()
    assert state.is_failed()
    assert "promotions were not started" in str(state.message)
    with deployed(prefect, "promote-model") as deployment:
        watch()
        assert [2] == promoted(prefect, deployment, model)


def test_many_looks_at_once_start_one_run(
    scene: RegistryScene, model: str, prefect: SyncPrefectClient, promotions: str
) -> None:
    database, api = AliasDatabase(scene.settings.release_database_url), PrefectApi(scene.record.prefect_api_url)
    database.prepare()
    start = PromotionStart(database, api)
    with ThreadPoolExecutor(8) as threads:
        said = {why for _, why in threads.map(lambda number: start.take(model, 2, 1000.0 + number / 100), range(16))}
    assert 1 == len(said), said
    assert [2] == promoted(prefect, promotions, model)
    api.close()
    database.close()


def test_mlflow_tells_by_webhook_and_the_look_at_the_registry_adds_nothing(
    scene: RegistryScene, model: str, prefect: SyncPrefectClient, promotions: str
) -> None:
    """With MLflow's own delivery, signature and encryption."""
    with scene.process("registry-webhook", "/health"):
        _wait_until_registered(scene, 1)
        scene.client.set_registered_model_alias(model, "candidate", "2")
        wait_for(lambda: [2] == promoted(prefect, promotions, model), 30, "the run")
        watch()
        assert [2] == promoted(prefect, promotions, model)
        scene.client.delete_registered_model_alias(model, "candidate")
        wait_for(lambda: '"version": null' in scene.log("registry-webhook"), 30, "the second delivery")
    with scene.process("registry-webhook", "/health"):
        _wait_until_registered(scene, 2)
        assert 1 == len(scene.client.list_webhooks())


def _wait_until_registered(scene: RegistryScene, times: int) -> None:
    wait_for(lambda: times == scene.log("registry-webhook").count("registered with MLflow"), 30, "the registration")
    (webhook,) = scene.client.list_webhooks()
    assert f"http://127.0.0.1:{scene.record.webhook_port}/registry-webhook" == webhook.url


def test_mlflow_knows_the_webhook_after_a_restart(scene: RegistryScene, model: str) -> None:
    """It encrypts the secret; with a key of the moment, which is its default, it could not even list its webhooks any more."""
    scene.client.create_webhook("mine", "http://127.0.0.1:1/", ["model_version.created"], secret="s")
    (port,) = free_ports(1)
    again = replace(scene, record=replace(scene.record, mlflow_port=port, mlflow_url=f"http://127.0.0.1:{port}"))
    with again.process("mlflow-server", "/health"):
        assert "mine" in [webhook.name for webhook in again.client.list_webhooks()]
