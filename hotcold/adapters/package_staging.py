"""Puts the files of a package together: the model for each engine, scores of the reference sample, a replica's code."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

import hotcold
from hotcold.adapters.engines import ONNX_FILE, SKLEARN_FILE, XGBOOST_FILE, Scores, open_engine
from hotcold.adapters.onnx_export import export_onnx
from hotcold.domain.errors import PackageError
from hotcold.domain.schema import Matrix

# The code that a replica runs, relative to the checkout. Everything that one of these imports has to be here as well.
CODE = (
    "hotcold/__init__.py",
    "hotcold/adapters/__init__.py",
    "hotcold/adapters/engines.py",
    "hotcold/adapters/folder_sync.py",
    "hotcold/adapters/lmdb_lookup.py",
    "hotcold/adapters/package_files.py",
    "hotcold/adapters/prediction_columns.py",
    "hotcold/adapters/prediction_log.py",
    "hotcold/adapters/redis_lookup.py",
    "hotcold/adapters/score_lookup.py",
    "hotcold/adapters/score_store.py",
    "hotcold/adapters/segment_file.py",
    "hotcold/domain/__init__.py",
    "hotcold/domain/errors.py",
    "hotcold/domain/field.py",
    "hotcold/domain/headers.py",
    "hotcold/domain/inference.py",
    "hotcold/domain/package.py",
    "hotcold/domain/prediction.py",
    "hotcold/domain/schema.py",
    "hotcold/domain/score_blocks.py",
    "hotcold/domain/tensors.py",
    "services/__init__.py",
    "services/answer_log.py",
    "services/endpoints.py",
    "services/exchange.py",
    "services/lookups.py",
    "services/problem.py",
    "services/replica.py",
    "services/request_body.py",
    "services/scorer.py",
    "services/serving.py",
)


def copy_code(stage: Path) -> None:
    """Copy the code of a replica from where it runs now.

    Args:
        stage: folder of the new package.

    Raises:
        PackageError: a module is missing.
        OSError: the disk does not take it.
    """
    root = Path(hotcold.__file__).parents[1]
    for name in CODE:
        if not (root / name).is_file():
            raise PackageError(f"{name} is missing beside the installed hotcold; install the project again")
        (stage / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, stage / name)


def stage_model(flavor: str, model_dir: Path, target: Path, features: int) -> dict[str, str]:
    """Write the model file of each engine.

    Args:
        flavor: `xgboost`, `sklearn` or `onnx`.
        model_dir: MLflow model folder.
        target: folder to make.
        features: number of features.

    Returns:
        Engine to the reason why there is no file for it.

    Raises:
        PackageError: the model folder does not hold what it should.
        OSError: the disk does not take it.
    """
    target.mkdir(parents=True)
    source = _registered_file(flavor, model_dir)
    notes: dict[str, str] = {}
    if flavor == "xgboost":
        _save_booster(source, target / XGBOOST_FILE)
        source = target / XGBOOST_FILE
    elif flavor == "sklearn":
        shutil.copyfile(source, target / SKLEARN_FILE)
    try:
        export_onnx(flavor, source, target / ONNX_FILE, features)
    except PackageError as error:
        if flavor == "onnx":
            raise
        notes["onnx"] = str(error)
    return notes


def _registered_file(flavor: str, model_dir: Path) -> Path:
    entry = _flavor_entry(flavor, model_dir)
    if flavor == "sklearn" and entry.get("serialization_format") != "skops":
        raise PackageError(
            f"the scikit-learn model was logged as {entry.get('serialization_format')}, which runs code when it is read; "
            "log it with serialization_format='skops'"
        )
    name = str(entry.get("pickled_model" if flavor == "sklearn" else "data"))
    path = model_dir / name
    if not path.resolve().is_relative_to(model_dir.resolve()) or not path.is_file():
        raise PackageError(f"the MLflow model names the file {name!r}, which is not in its folder; log the model again")
    return path


def _flavor_entry(flavor: str, model_dir: Path) -> dict[str, Any]:
    import yaml

    try:
        document = yaml.safe_load((model_dir / "MLmodel").read_text())
        return dict(document["flavors"][flavor])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise PackageError(f"the MLflow model folder has no usable MLmodel file for flavor {flavor!r}: {error}") from error


def _save_booster(source: Path, target: Path) -> None:
    """Write a Booster in XGBoost's current binary format; the same model gives the same bytes."""
    import xgboost

    try:
        content = xgboost.Booster(model_file=str(source)).save_raw("ubj")
    except xgboost.core.XGBoostError as error:
        raise PackageError(f"XGBoost cannot read {source.name}: {str(error).splitlines()[0][:200]}") from error
    # Not by XGBoost itself, which does not notice that a disk is full.
    target.write_bytes(content)


def score_reference(flavor: str, model_dir: Path, sample: Matrix) -> Scores:
    """Scores of the reference sample by the model's own library.

    Args:
        flavor: names the engine.
        model_dir: staged model files.
        sample: shape (n, features), float32.

    Returns:
        Shape (n,), float32.

    Raises:
        PackageError: the model cannot score the sample, or gives something else than a finite number per row.
    """
    from threadpoolctl import threadpool_limits

    engine = open_engine(flavor, model_dir)
    try:
        # One thread adds up in one order, so that the same model gives the same bytes each time.
        with threadpool_limits(1):
            scores = engine.score(sample)
    except PackageError:
        raise
    except Exception as error:
        # Each library complains in its own way, for instance about missing values that the schema allows.
        raise PackageError(
            f"the model cannot score its own reference sample: {type(error).__name__}: {str(error)[:300]}; "
            "the schema and the model have to agree on features and missing values"
        ) from error
    if scores.shape != (len(sample),) or not np.isfinite(scores).all():
        raise PackageError("the model does not give one finite score for each row of its reference sample; train it again")
    return scores
