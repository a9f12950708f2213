"""What the registry adapter has to hold, on an MLflow database and on an MLflow server."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hotcold.adapters.experiments import ExperimentLog, LoggedRun, TrainingReport
from hotcold.adapters.mlflow_client import connect
from hotcold.adapters.registry import Registered, Registry
from hotcold.adapters.training import make_trainer
from hotcold.domain.dataset import reference_sample
from hotcold.domain.errors import RegistryError
from hotcold.domain.field import Field
from hotcold.domain.metrics import calibration_bins, evaluate_scores
from hotcold.domain.projection import Projection
from hotcold.domain.schema import Schema
from hotcold.domain.semver import Recipe, SemVer

SCHEMA = Schema((Field("a"), Field("b", nullable=True)))
TINY: dict[str, dict[str, Any]] = {
    "xgboost": {"trees": 2, "depth": 2},
    "logistic_regression": {},
    "mlp": {"hidden_units": [4], "epochs": 2},
    "onnx": {"hidden_units": [4], "epochs": 2},
}


@pytest.fixture
def registry(mlflow_uri: str) -> Registry:
    return Registry(mlflow_uri)


@pytest.fixture
def model() -> str:
    """A name of its own for each test, because all share one server."""
    return f"m{uuid.uuid4().hex[:10]}"


def trained_run(uri: str, model: str, flavor: str = "xgboost", **hyperparameters: Any) -> tuple[LoggedRun, TrainingReport]:
    matrix = np.random.default_rng(0).random((200, 2), dtype=np.float32)
    labels = (matrix[:, 0] > 0.5).astype(np.int8)
    recipe = Recipe(flavor, TINY[flavor] | hyperparameters, SCHEMA)
    trainer = make_trainer(flavor, recipe.hyperparameters)
    trained = trainer.train(matrix, labels)
    scores = trained.score(matrix)
    report = TrainingReport(
        model=model,
        recipe=recipe,
        training_window=("2013-01-01", "2013-01-31"),
        evaluation_window=("2013-02-01", "2013-02-28"),
        training_rows=200,
        metrics=evaluate_scores(labels, scores),
        calibration=calibration_bins(labels, scores),
        dataset_fingerprint="f" * 64,
        git_commit="c" * 40,
        sample=reference_sample(matrix, SCHEMA, rows=16),
    )
    return ExperimentLog(uri).write(report, trainer, trained), report


def register(registry: Registry, model: str, **hyperparameters: Any) -> Registered:
    run, report = trained_run(registry.tracking_uri, model, **hyperparameters)
    return registry.register(model, run, report.recipe, report.tags)


def register_by_hand(registry: Registry, model: str, tags: dict[str, str]) -> None:
    """A version whose run holds a model and nothing else."""
    client = connect(registry.tracking_uri)
    run = client.create_run(client.get_experiment_by_name(model).experiment_id)
    client.log_text(run.info.run_id, "flavors: {}", "model/MLmodel")
    client.create_model_version(model, f"{run.info.artifact_uri}/model", run.info.run_id, tags=tags, await_creation_for=0)


def view(model: str, **roles: Any) -> Projection:
    empty = Projection(model, champion=None, previous=None, candidate=None, archived=(), verdicts={})
    return replace(empty, **roles)


def stages(registry: Registry, model: str) -> dict[int, str]:
    found = connect(registry.tracking_uri).search_model_versions(f"name='{model}'")
    return {int(version.version): version.current_stage for version in found}


def aliases(registry: Registry, model: str) -> dict[str, int]:
    found = connect(registry.tracking_uri).get_registered_model(model).aliases
    return {alias: int(version) for alias, version in found.items()}


def test_the_semantic_version_follows_from_the_recipe(registry: Registry, model: str) -> None:
    first = register(registry, model)
    second = register(registry, model)
    third = register(registry, model, trees=3)
    assert [(1, "1.0.0"), (2, "1.0.1"), (3, "1.1.0")] == [(v.version, v.semver) for v in (first, second, third)]
    assert "trees 2 to 3" in third.reason
    highest = registry.highest(model)
    assert highest is not None
    assert (SemVer(1, 1, 0), 3) == (highest.version, highest.recipe and highest.recipe.hyperparameters["trees"])


def test_a_retry_of_register_finds_the_version_of_the_first_try(registry: Registry, model: str) -> None:
    run, report = trained_run(registry.tracking_uri, model)
    first = registry.register(model, run, report.recipe, report.tags)
    assert first == registry.register(model, run, report.recipe, report.tags)
    assert {1: "None"} == stages(registry, model)


def test_a_lost_recipe_makes_the_next_version_major(registry: Registry, model: str) -> None:
    register(registry, model)
    register_by_hand(registry, model, {"hotcold.semver": "1.4.0"})
    assert "2.0.0" == register(registry, model).semver


def test_resolve_takes_a_number_or_an_alias(registry: Registry, model: str) -> None:
    register(registry, model)
    registry.set_alias(model, "candidate", 1)
    assert (1, 1) == (registry.resolve(model, 1), registry.resolve(model, None))


@pytest.mark.parametrize(
    ("version", "alias", "message"), [(7, "", "has no version 7; it has 1"), (None, "champion", "carries the alias 'champion'")]
)
def test_resolve_refuses_what_is_not_there(
    registry: Registry, model: str, version: int | None, alias: str, message: str
) -> None:
    register(registry, model)
    with pytest.raises(RegistryError, match=message):
        registry.resolve(model, version, alias)


def test_an_unknown_model_is_refused_by_name(registry: Registry, model: str) -> None:
    with pytest.raises(RegistryError, match=f"no model '{model}'"):
        registry.resolve(model, None)


@pytest.mark.parametrize(("flavor", "kind"), [("xgboost", "xgboost"), ("logistic_regression", "sklearn"), ("onnx", "onnx")])
def test_read_source_brings_all_that_a_package_needs(
    registry: Registry, model: str, flavor: str, kind: str, tmp_path: Path
) -> None:
    run, report = trained_run(registry.tracking_uri, model, flavor)
    registry.register(model, run, report.recipe, report.tags)
    registry.set_alias(model, "candidate", 1)
    source = registry.read_source(model, "candidate", tmp_path / "into")
    assert (model, 1, "1.0.0", run.run_id, kind) == (
        source.model,
        source.version,
        source.semver,
        source.run_id,
        source.flavor,
    )
    assert (source.model_dir / "MLmodel").is_file()
    assert report.recipe.schema == source.schema
    np.testing.assert_array_equal(report.sample, source.sample)
    assert (report.training_window, "f" * 64, "c" * 40) == (
        source.training_window,
        source.dataset_fingerprint,
        source.git_commit,
    )
    assert report.recipe.hyperparameters == source.hyperparameters
    assert report.metrics.auc == source.metrics["auc"]


def test_a_model_registered_by_hand_is_refused_with_what_it_lacks(registry: Registry, model: str, tmp_path: Path) -> None:
    register(registry, model)
    register_by_hand(registry, model, {})
    with pytest.raises(RegistryError) as refusal:
        registry.read_source(model, 2, tmp_path)
    for part in ("the tag hotcold.semver", "hotcold/schema.json", "hotcold/recipe.json", "hotcold/reference_sample.npy"):
        assert part in str(refusal.value)


def test_a_release_moves_stages_and_aliases_with_it(registry: Registry, model: str) -> None:
    """None, then Staging while it is released, then Production, then Archived when it leaves."""
    register(registry, model)
    register(registry, model)
    registry.project(view(model, candidate=1))
    assert ({1: "Staging", 2: "None"}, {"candidate": 1}) == (stages(registry, model), aliases(registry, model))

    registry.project(view(model, champion=1, verdicts={1: "promoted"}))
    assert ({1: "Production", 2: "None"}, {"champion": 1}) == (stages(registry, model), aliases(registry, model))

    registry.project(view(model, champion=2, previous=1, verdicts={1: "promoted", 2: "promoted"}))
    assert {1: "Archived", 2: "Production"} == stages(registry, model)
    assert {"champion": 2, "previous": 1} == aliases(registry, model)

    registry.project(view(model, champion=1, archived=(2,), verdicts={1: "promoted", 2: "rolled_back: errors"}))
    assert ({1: "Production", 2: "Archived"}, {"champion": 1}) == (stages(registry, model), aliases(registry, model))


def test_projecting_twice_writes_nothing(registry: Registry, model: str) -> None:
    register(registry, model)
    register(registry, model)
    wanted = view(model, champion=1, candidate=2, verdicts={1: "promoted"})
    assert 5 == registry.project(wanted)
    assert 0 == registry.project(wanted)


def test_a_candidate_that_was_rejected_before_it_was_deployed_loses_its_stage(registry: Registry, model: str) -> None:
    register(registry, model)
    registry.project(view(model, candidate=1))
    registry.project(view(model, verdicts={1: "rejected: corrupt"}))
    assert ({1: "None"}, {}) == (stages(registry, model), aliases(registry, model))


def test_a_fresh_version_keeps_the_alias_candidate_while_no_release_is_under_way(registry: Registry, model: str) -> None:
    """train-model sets it for the next release; the scheduled sync-registry must not take it away."""
    register(registry, model)
    register(registry, model)
    registry.set_alias(model, "candidate", 2)
    registry.project(view(model, champion=1, verdicts={1: "promoted"}))
    assert {"champion": 1, "candidate": 2} == aliases(registry, model)


def test_a_version_that_was_evaluated_without_harm_waits_for_a_release_and_another_does_not(
    registry: Registry, model: str
) -> None:
    register(registry, model)
    register(registry, model)
    verdicts = {1: "promoted", 2: "evaluated SAFE: every gate is SAFE"}
    registry.project(view(model, champion=1, candidate=2, verdicts=verdicts))
    assert {1: "Production", 2: "Staging"} == stages(registry, model)
    registry.project(replace(view(model, champion=1, verdicts=verdicts), waiting=(2,)))
    assert {1: "Production", 2: "None"} == stages(registry, model)
    assert {"champion": 1, "candidate": 2} == aliases(registry, model)
    registry.project(view(model, champion=1, verdicts=verdicts))
    assert {"champion": 1} == aliases(registry, model)


def test_a_role_for_a_version_that_mlflow_lacks_is_refused(registry: Registry, model: str) -> None:
    register(registry, model)
    with pytest.raises(RegistryError, match="lacks version 9"):
        registry.project(view(model, champion=9))


@pytest.fixture
def silent_address() -> Iterator[str]:
    """A port that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def closed_address() -> str:
    """A port that refuses connections."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.parametrize("fault", ["silent_address", "closed_address"])
def test_a_server_that_is_down_is_reported_within_five_seconds(
    request: pytest.FixtureRequest, fault: str, tmp_path: Path
) -> None:
    registry = Registry(request.getfixturevalue(fault))
    for call in (
        lambda: registry.resolve("flights", 1),
        lambda: registry.project(view("flights", champion=1)),
        lambda: registry.read_source("flights", 1, tmp_path),
    ):
        begun = time.monotonic()
        with pytest.raises(RegistryError, match="does not answer"):
            call()
        assert time.monotonic() - begun < 5.0


def test_the_password_of_a_database_url_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(RegistryError) as refusal:
        Registry("http://someone:secret@127.0.0.1:9").resolve("flights", 1)
    assert "secret" not in str(refusal.value)
