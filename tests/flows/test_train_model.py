"""train-model, run in a real Prefect against a real MLflow, on real flights."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from flows.train_model import TrainedVersion, train_model
from hotcold.adapters.mlflow_client import connect
from hotcold.adapters.registry import Registry
from hotcold.domain.errors import RegistryError, TrainingError
from hotcold.domain.flights import FLIGHTS_SCHEMA
from tasks.training_recipe import TrainingRecipe
from tests.fixtures.flow_runs import artifacts

pytestmark = pytest.mark.usefixtures("prefect_server")

SHORT: dict[str, Any] = {
    "train_from": date(2013, 1, 1),
    "train_until": date(2013, 1, 14),
    "evaluate_weeks": 1,
    "trees": 10,
    "depth": 4,
    "hidden_units": [4],
    "epochs": 2,
}


@pytest.fixture(autouse=True)
def _mlflow(mlflow_sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_sqlite)


def train(model: str = "flights", **changes: Any) -> TrainedVersion:
    return train_model(model, TrainingRecipe(**(SHORT | changes)))


def test_a_run_can_be_traced_and_packaged(mlflow_sqlite: str) -> None:
    """Parameters, metrics, picture, signature, example, window, fingerprint and sample are all where they belong."""
    result = train()
    client = connect(mlflow_sqlite)
    run = client.get_run(result.run_id)
    version = client.get_model_version_by_alias("flights", "candidate")

    assert ("FINISHED", 1, "1.0.0") == (run.info.status, int(version.version), version.tags["hotcold.semver"])
    assert "2013-01-01/2013-01-14" == version.tags["hotcold.training_window"]
    assert 64 == len(version.tags["hotcold.dataset_fingerprint"])
    assert run.data.params.keys() >= {"flavor", "trees", "depth", "train_from", "evaluate_until", "git_commit"}
    assert run.data.metrics.keys() == {"auc", "log_loss", "brier", "calibration_error", "positive_rate", "rows"}
    assert result.auc == run.data.metrics["auc"] > 0.55
    assert {"calibration.png", "hotcold"} == {file.path for file in client.list_artifacts(result.run_id)}


def test_the_logged_model_has_a_signature_and_an_example(mlflow_sqlite: str) -> None:
    from mlflow.models import Model

    train()
    version = connect(mlflow_sqlite).get_model_version_by_alias("flights", "candidate")
    model = Model.load(f"{version.source}")
    assert list(FLIGHTS_SCHEMA.names) == model.signature.inputs.input_names()
    assert "input_example.json" == model.saved_input_example_info["artifact_path"]


def test_the_reference_sample_holds_gaps_in_each_nullable_feature(mlflow_sqlite: str, tmp_path: Any) -> None:
    result = train()
    path = connect(mlflow_sqlite).download_artifacts(result.run_id, "hotcold/reference_sample.npy", str(tmp_path))
    sample = np.load(path, allow_pickle=False)
    assert ((256, len(FLIGHTS_SCHEMA.fields)), np.float32) == (sample.shape, sample.dtype)
    assert [field.nullable for field in FLIGHTS_SCHEMA.fields] == np.isnan(sample).any(axis=0).tolist()
    np.testing.assert_array_equal(sample, FLIGHTS_SCHEMA.check_matrix(sample))


def test_the_semantic_version_follows_from_what_changed() -> None:
    versions = [train(), train(train_until=date(2013, 1, 15)), train(trees=12), train(trees=12, flavor="logistic_regression")]
    assert ["1.0.0", "1.0.1", "1.1.0", "1.2.0"] == [version.semver for version in versions]
    assert [1, 2, 3, 4] == [version.version for version in versions]


@pytest.mark.parametrize("flavor", ["xgboost", "logistic_regression", "mlp", "onnx"])
def test_each_kind_of_model_is_registered_without_a_pickle(flavor: str, mlflow_sqlite: str, tmp_path: Any) -> None:
    result = train(flavor=flavor)
    assert (1, "1.0.0") == (result.version, result.semver)
    files = [path.suffix for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not {".pkl", ".pickle", ".joblib", ".cloudpickle"} & set(files)


def test_what_the_run_did_is_shown_as_a_table_and_a_page() -> None:
    train("shown")
    for key, text in (("train-shown", "semantic version"), ("trained-shown", "# shown 1.0.0")):
        (artifact,) = artifacts(key)
        assert text in str(artifact.data)


def test_without_the_alias_nothing_becomes_the_candidate(mlflow_sqlite: str) -> None:
    train(set_candidate_alias=False)
    with pytest.raises(RegistryError, match="carries the alias 'candidate'"):
        Registry(mlflow_sqlite).resolve("flights", None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_from": date(2013, 2, 1)}, "is empty"),
        ({"train_from": date(2012, 12, 1)}, "outside the data"),
        ({"train_until": date(2013, 12, 31)}, "nothing is left to evaluate on"),
    ],
)
def test_an_impossible_window_ends_the_run_before_training(changes: dict[str, Any], message: str, mlflow_sqlite: str) -> None:
    with pytest.raises(TrainingError, match=message):
        train(**changes)
    assert [] == connect(mlflow_sqlite).search_registered_models()


@pytest.mark.parametrize(
    "changes",
    [
        {"trees": 0},
        {"depth": 17},
        {"learning_rate": 0},
        {"flavor": "forest"},
        {"evaluate_weeks": 0},
        {"colour": "red"},
        {"hidden_units": []},
        {"hidden_units": [0]},
    ],
)
def test_the_form_refuses_what_makes_no_sense(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TrainingRecipe(**changes)


def test_every_field_of_the_form_is_described() -> None:
    schema = TrainingRecipe.model_json_schema()["properties"]
    assert [] == [name for name, field in schema.items() if not field.get("description")]
