"""A package is named by its content; measurements are sealed but do not change the name."""

from __future__ import annotations

import json

import pytest

from hotcold.domain.errors import CorruptPackageError
from hotcold.domain.field import Field
from hotcold.domain.package import EngineReport, Manifest, Measured
from hotcold.domain.schema import Schema


def manifest(**changes: object) -> Manifest:
    values: dict[str, object] = {
        "model": "m",
        "version": 3,
        "semver": "1.2.0",
        "run_id": "run",
        "flavor": "xgboost",
        "schema": Schema((Field("a"), Field("b", "category", categories=("x", "y")))),
        "reference_engine": "xgboost",
        "training_window": ("2013-01-01", "2013-06-30"),
        "dataset_fingerprint": "f",
        "git_commit": "",
        "hyperparameters": {"depth": 3},
        "metrics": {"auc": 0.7},
        "files": {"model/model.onnx": "0" * 64},
        "measured": Measured("onnx", "xgboost", {"onnx": EngineReport(1e-7, 12.0, 1e5)}, "2013-07-01"),
    }
    return Manifest(**{**values, **changes})  # type: ignore[arg-type]


def test_a_manifest_survives_json() -> None:
    assert manifest() == Manifest.from_json(json.loads(json.dumps(manifest().to_json())))


def test_the_digest_covers_the_content_and_not_the_timings() -> None:
    faster = manifest().with_measured(Measured("onnx", "onnx"))
    assert manifest().digest == faster.digest and manifest().seal != faster.seal
    assert manifest().digest != manifest(hyperparameters={"depth": 4}).digest
    assert f"m:v1.2.0-{manifest().digest[:12]}" == manifest().ref.tag


@pytest.mark.parametrize("key", ["semver", "flavor", "reference_engine", "digest", "seal"])
def test_a_changed_manifest_is_corrupt(key: str) -> None:
    document = manifest().to_json()
    document[key] = document[key][:-1] + ("0" if document[key][-1] != "0" else "1")
    with pytest.raises(CorruptPackageError, match="changed after it was built"):
        Manifest.from_json(document)


def test_a_measurement_that_was_changed_is_corrupt() -> None:
    document = manifest().to_json()
    document["measured"]["hot_engine"] = "sklearn"
    with pytest.raises(CorruptPackageError, match="changed after it was built"):
        Manifest.from_json(document)


@pytest.mark.parametrize("key", ["files", "schema", "measured", "seal"])
def test_a_manifest_with_a_missing_key_is_corrupt(key: str) -> None:
    document = manifest().to_json()
    del document[key]
    with pytest.raises(CorruptPackageError, match="missing or unknown keys"):
        Manifest.from_json(document)


@pytest.mark.parametrize(
    ("report", "eligible"),
    [
        (EngineReport(1e-6, 1.0, 1.0), True),
        (EngineReport(1e-5, 1.0, 1.0), True),
        (EngineReport(2e-5, 1.0, 1.0), False),
        (EngineReport(None), False),
        (EngineReport(float("nan")), False),
        (EngineReport(0.0, note="NaN differs"), False),
    ],
)
def test_an_engine_serves_only_with_parity(report: EngineReport, eligible: bool) -> None:
    assert eligible is report.eligible
