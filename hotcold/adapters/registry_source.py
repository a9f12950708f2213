"""Downloads from MLflow what a package is built from, and names what a model lacks that somebody registered by hand."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hotcold.adapters.experiments import (
    ARTIFACT_FOLDER,
    COMMIT_TAG,
    FINGERPRINT_TAG,
    RECIPE_FILE,
    SAMPLE_FILE,
    SCHEMA_FILE,
    WINDOW_TAG,
)
from hotcold.domain.errors import RegistryError, SchemaError
from hotcold.domain.schema import Schema
from hotcold.domain.semver import Recipe

if TYPE_CHECKING:
    from hotcold.adapters.packages import PackageSource

SEMVER_TAG = "hotcold.semver"
FLAVORS = ("xgboost", "sklearn", "onnx")
_FILES = (SCHEMA_FILE, RECIPE_FILE, SAMPLE_FILE)
_TAGS = (SEMVER_TAG, WINDOW_TAG, FINGERPRINT_TAG)
_GONE = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND")


def read_recipe(client: Any, run_id: str) -> Recipe | None:
    """The recipe that a run was logged with.

    Args:
        client: an MlflowClient.
        run_id: the run.

    Returns:
        The recipe; None if the run or the file is gone, or the file is not a recipe.
    """
    if RECIPE_FILE not in _own_files(client, run_id):
        return None
    with tempfile.TemporaryDirectory(prefix="hotcold-recipe-") as folder:
        path = client.download_artifacts(run_id, f"{ARTIFACT_FOLDER}/{RECIPE_FILE}", folder)
        try:
            return Recipe.from_json(json.loads(Path(path).read_text()))
        except (ValueError, SchemaError):
            return None


def download_source(client: Any, tracking_uri: str, version: Any, into: Path) -> PackageSource:
    """Download a registered version.

    Args:
        client: an MlflowClient.
        tracking_uri: where MLflow is.
        version: the ModelVersion.
        into: folder for the files.

    Returns:
        The model folder and what is known of the version.

    Raises:
        RegistryError: a tag, an artifact or a usable flavor is missing; the message names it.
    """
    from hotcold.adapters.packages import PackageSource

    _require_complete(client, version)
    own = Path(client.download_artifacts(version.run_id, ARTIFACT_FOLDER, str(_folder(into / "run"))))
    model_dir = _download_model(client, tracking_uri, version, _folder(into / "model"))
    recipe = _read_recipe_file(own / RECIPE_FILE, _name(version))
    schema = Schema.from_json(json.loads((own / SCHEMA_FILE).read_text()))
    first_day, _, last_day = version.tags[WINDOW_TAG].partition("/")
    return PackageSource(
        model=version.name,
        version=int(version.version),
        semver=version.tags[SEMVER_TAG],
        run_id=version.run_id,
        flavor=_flavor(model_dir, _name(version)),
        model_dir=model_dir,
        schema=schema,
        sample=_read_sample(own / SAMPLE_FILE, schema, _name(version)),
        training_window=(first_day, last_day),
        dataset_fingerprint=version.tags[FINGERPRINT_TAG],
        git_commit=version.tags.get(COMMIT_TAG, ""),
        hyperparameters=dict(recipe.hyperparameters),
        metrics=dict(client.get_run(version.run_id).data.metrics),
    )


def _require_complete(client: Any, version: Any) -> None:
    missing = [f"the tag {tag}" for tag in _TAGS if not version.tags.get(tag)]
    files = _own_files(client, version.run_id) if version.run_id else frozenset()
    missing += [f"the run artifact {ARTIFACT_FOLDER}/{name}" for name in _FILES if name not in files]
    if missing:
        raise RegistryError(
            f"{_name(version)} lacks {', '.join(missing)}, so it cannot be packaged; "
            "train it with the flow train-model, or log these with it and register it again"
        )


def _own_files(client: Any, run_id: str) -> frozenset[str]:
    from mlflow.exceptions import MlflowException

    try:
        return frozenset(Path(file.path).name for file in client.list_artifacts(run_id, ARTIFACT_FOLDER))
    except MlflowException as error:
        if error.error_code in _GONE:
            return frozenset()
        raise


def _download_model(client: Any, tracking_uri: str, version: Any, into: Path) -> Path:
    from mlflow.artifacts import download_artifacts

    # The files' own address, because MLflow looks up `models:/<name>/<version>` at the address of its global client.
    uri = client.get_model_version_download_uri(version.name, version.version)
    return Path(download_artifacts(uri, dst_path=str(into), tracking_uri=tracking_uri, registry_uri=tracking_uri))


def _read_recipe_file(path: Path, name: str) -> Recipe:
    try:
        return Recipe.from_json(json.loads(path.read_text()))
    except (ValueError, SchemaError) as error:
        raise RegistryError(
            f"{ARTIFACT_FOLDER}/{RECIPE_FILE} of {name} cannot be read: {error}; train the model again"
        ) from error


def _read_sample(path: Path, schema: Schema, name: str) -> Any:
    try:
        sample = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise RegistryError(f"{ARTIFACT_FOLDER}/{SAMPLE_FILE} of {name} is not a NumPy array; train the model again") from error
    if sample.ndim != 2 or not len(sample) or sample.shape[1] != len(schema.fields) or sample.dtype != np.float32:
        raise RegistryError(
            f"{ARTIFACT_FOLDER}/{SAMPLE_FILE} of {name} is {sample.dtype} of shape {list(sample.shape)}; needed is float32 of "
            f"shape [rows, {len(schema.fields)}] with at least one row"
        )
    return sample


def _flavor(model_dir: Path, name: str) -> str:
    from mlflow.models import Model

    flavors = Model.load(str(model_dir)).flavors
    for flavor in FLAVORS:
        if flavor in flavors:
            return flavor
    raise RegistryError(
        f"{name} has the flavors {', '.join(flavors)}; packages are built from {', '.join(FLAVORS)}, so log it with one of them"
    )


def _name(version: Any) -> str:
    return f"{version.name} version {version.version}"


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path
