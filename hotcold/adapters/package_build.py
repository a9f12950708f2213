"""Builds a package: stages its files, names it by their digest, measures the engines, makes it a Bento, moves it into place."""

from __future__ import annotations

import errno
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from hotcold.adapters.bento import BENTO_FILE, build_bento
from hotcold.adapters.engines import Scores
from hotcold.adapters.package_files import EXPECTED_FILE, MODEL_DIR, SAMPLE_FILE, hash_files, package_dir, verify_package_ref
from hotcold.adapters.package_measurement import measure_engines
from hotcold.adapters.package_staging import copy_code, score_reference, stage_model
from hotcold.domain.errors import CorruptPackageError, PackageError
from hotcold.domain.package import MANIFEST_FILE, Manifest, Measured
from hotcold.domain.schema import Matrix, Schema

# What BentoML allows in a name, so that it can also be the name of an image.
_MODEL_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, eq=False)
class PackageSource:
    """All that a package is built from.

    Args:
        model: registered model name.
        version: registry version.
        semver: semantic version.
        run_id: MLflow run that trained the model.
        flavor: `xgboost`, `sklearn` or `onnx`.
        model_dir: downloaded MLflow model folder.
        schema: features of the model.
        sample: reference rows, shape (n, features), float32, NaN where a nullable feature is missing.
        training_window: first and last day, ISO 8601.
        dataset_fingerprint: SHA-256 of the training data.
        git_commit: commit that trained the model, empty if unknown.
        hyperparameters: as logged.
        metrics: as logged.
    """

    model: str
    version: int
    semver: str
    run_id: str
    flavor: str
    model_dir: Path
    schema: Schema
    sample: Matrix
    training_window: tuple[str, str]
    dataset_fingerprint: str
    git_commit: str
    hyperparameters: dict[str, Any]
    metrics: dict[str, float]


def build_package(source: PackageSource, bento_home: Path) -> Manifest:
    """Build the package of a registry version, or find the one that was built before.

    The package appears in one piece or not at all, whatever happens on the way. One that is there but was damaged is replaced.

    Args:
        source: what to build it from.
        bento_home: BENTOML_HOME of the package store; made if it does not exist.

    Returns:
        The manifest of the verified package.

    Raises:
        PackageError: the model cannot be packaged, or the disk does not take it.
    """
    _check_source(source)
    with _workspace(bento_home, source) as workspace:
        stage = workspace / "stage"
        notes, expected = _stage(source, stage)
        draft = _draft_manifest(source, stage)
        if existing := _existing(draft, bento_home):
            return existing
        built_at = datetime.now(UTC).isoformat(timespec="seconds")
        measured = measure_engines(stage / MODEL_DIR, source.sample, expected, source.flavor, notes, built_at)
        manifest = draft.with_measured(measured)
        (stage / MANIFEST_FILE).write_text(json.dumps(manifest.to_json(), indent=1))
        build_bento(stage, manifest, workspace)
        verify_package_ref(manifest.ref, workspace)
        return _publish(manifest, workspace, bento_home)


def _check_source(source: PackageSource) -> None:
    if not _MODEL_NAME.fullmatch(source.model):
        raise PackageError(
            f"the model is named {source.model[:80]!r}; a package can be named with a-z, 0-9, '.', '_' and '-' only, up to 63 "
            "of them, so register the model under such a name"
        )
    width = len(source.schema.fields)
    if source.sample.ndim != 2 or not len(source.sample) or source.sample.shape[1] != width:
        raise PackageError(f"the reference sample has shape {list(source.sample.shape)}; needed is [at least 1, {width}]")


@contextmanager
def _workspace(bento_home: Path, source: PackageSource) -> Iterator[Path]:
    """A private BENTOML_HOME on the disk of the store, so that a finished package can be renamed into place."""
    folder = None
    try:
        bento_home.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".building-", dir=bento_home))
        yield folder
    except OSError as error:
        raise PackageError(
            f"the package of {source.model} version {source.version} cannot be written below {bento_home}: "
            f"{error.strerror or error}; free space or make the folder writable, then build again"
        ) from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _stage(source: PackageSource, stage: Path) -> tuple[dict[str, str], Scores]:
    """Write all files but the manifest; returns why engines are out of the question, and the reference scores."""
    notes = stage_model(source.flavor, source.model_dir, stage / MODEL_DIR, len(source.schema.fields))
    sample = np.ascontiguousarray(source.sample, dtype=np.float32)
    expected = score_reference(source.flavor, stage / MODEL_DIR, sample)
    (stage / SAMPLE_FILE).parent.mkdir(parents=True)
    np.save(stage / SAMPLE_FILE, sample, allow_pickle=False)
    np.save(stage / EXPECTED_FILE, expected, allow_pickle=False)
    copy_code(stage)
    return notes, expected


def _draft_manifest(source: PackageSource, stage: Path) -> Manifest:
    return Manifest(
        model=source.model,
        version=source.version,
        semver=source.semver,
        run_id=source.run_id,
        flavor=source.flavor,
        schema=source.schema,
        reference_engine=source.flavor,
        training_window=source.training_window,
        dataset_fingerprint=source.dataset_fingerprint,
        git_commit=source.git_commit,
        # By way of JSON, so that the manifest read back is equal to this one: a tuple becomes a list.
        hyperparameters=json.loads(json.dumps(dict(source.hyperparameters), default=str)),
        metrics={name: float(value) for name, value in source.metrics.items()},
        files=hash_files(stage),
        measured=Measured(source.flavor, source.flavor),
    )


def _existing(draft: Manifest, bento_home: Path) -> Manifest | None:
    if not (package_dir(draft.ref, bento_home).parent / BENTO_FILE).is_file():
        return None
    try:
        return verify_package_ref(draft.ref, bento_home)
    except CorruptPackageError:
        # Nothing is there, or it is damaged; either way it is built and put in place below.
        return None


def _publish(manifest: Manifest, workspace: Path, bento_home: Path) -> Manifest:
    built = package_dir(manifest.ref, workspace).parent
    place = package_dir(manifest.ref, bento_home).parent
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        built.rename(place)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise
        # Somebody else built the same package meanwhile, or the one in its place is damaged.
        if existing := _existing(manifest, bento_home):
            return existing
        place.rename(workspace / "damaged")
        built.rename(place)
    return verify_package_ref(manifest.ref, bento_home)
