"""Reads and verifies packages. This module travels inside each package, so it needs little more than the standard library.

A package is the `src` folder of a Bento: `manifest.json`, the model, a reference sample with its scores, and the code of a
replica. The manifest lists every other file with its SHA-256.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hotcold.adapters.engines import Engine, open_engine
from hotcold.domain.errors import CorruptPackageError, ParityError, SchemaError
from hotcold.domain.package import MANIFEST_FILE, PARITY_LIMIT, Manifest, PackageRef
from hotcold.domain.schema import Matrix

MODEL_DIR = "model"
SAMPLE_FILE, EXPECTED_FILE = "reference/sample.npy", "reference/expected.npy"
_PYCACHE = "__pycache__"
_REPAIR = "build the package again"


def package_dir(ref: PackageRef, bento_home: Path) -> Path:
    """Folder of a package, whether or not it exists.

    Args:
        ref: the package.
        bento_home: BENTOML_HOME of the package store.
    """
    return bento_home / "bentos" / ref.model / ref.bento_version / "src"


def read_manifest(src: Path) -> Manifest:
    """The manifest of a package; checks the manifest itself but no other file.

    Args:
        src: folder of the package.

    Raises:
        CorruptPackageError: there is no manifest, or it was changed.
    """
    try:
        document = json.loads((src / MANIFEST_FILE).read_bytes())
    except OSError as error:
        raise CorruptPackageError(f"{MANIFEST_FILE} cannot be read ({error.strerror}); {_REPAIR}") from error
    except (ValueError, RecursionError) as error:
        raise CorruptPackageError(f"{MANIFEST_FILE} is not JSON ({error}); {_REPAIR}") from error
    if not isinstance(document, dict):
        raise CorruptPackageError(f"{MANIFEST_FILE} is not a JSON object; {_REPAIR}")
    try:
        return Manifest.from_json(document)
    except SchemaError as error:
        raise CorruptPackageError(f"{MANIFEST_FILE} holds a schema that cannot be used ({error}); {_REPAIR}") from error


def hash_files(src: Path) -> dict[str, str]:
    """SHA-256 of every file of a package but the manifest; byte code that Python put there does not count.

    Args:
        src: folder of the package.

    Returns:
        Path relative to `src` to hexadecimal digest, sorted.

    Raises:
        CorruptPackageError: a link or something else that is not a plain file.
        OSError: a file cannot be read.
    """
    return {path.relative_to(src).as_posix(): _sha256(path) for path in sorted(_files(src))}


def _files(src: Path) -> Iterator[Path]:
    for path in src.rglob("*"):
        if _PYCACHE in path.relative_to(src).parts or path == src / MANIFEST_FILE:
            continue
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise CorruptPackageError(f"{path.relative_to(src)} is not a plain file; {_REPAIR}")
        if path.is_file():
            yield path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify_package(src: Path) -> Manifest:
    """Check every byte of a package.

    Args:
        src: folder of the package.

    Returns:
        Its manifest.

    Raises:
        CorruptPackageError: the manifest, or a file that is missing, changed or unexpected.
    """
    manifest = read_manifest(src)
    try:
        found = hash_files(src)
    except OSError as error:
        raise CorruptPackageError(f"a file of the package cannot be read ({error.strerror}); {_REPAIR}") from error
    _compare(manifest.files, found)
    return manifest


def _compare(expected: Mapping[str, str], found: Mapping[str, str]) -> None:
    if missing := sorted(expected.keys() - found.keys()):
        raise CorruptPackageError(f"the file {missing[0]} is missing; {_REPAIR}")
    if extra := sorted(found.keys() - expected.keys()):
        raise CorruptPackageError(f"the file {extra[0]} does not belong to the package; {_REPAIR}")
    if changed := sorted(name for name in expected if expected[name] != found[name]):
        name = changed[0]
        raise CorruptPackageError(
            f"the file {name} was changed: SHA-256 {found[name][:12]}, expected {expected[name][:12]}; {_REPAIR}"
        )


def verify_package_ref(ref: PackageRef, bento_home: Path) -> Manifest:
    """Check every byte of a package, and that it is the one that was asked for.

    Args:
        ref: the package.
        bento_home: BENTOML_HOME of the package store.

    Returns:
        Its manifest.

    Raises:
        CorruptPackageError: see `verify_package`, or another package lies in its place.
    """
    manifest = verify_package(package_dir(ref, bento_home))
    if manifest.ref != ref:
        raise CorruptPackageError(
            f"in the place of {ref.tag} lies {manifest.ref.tag}, registry version {manifest.version}, "
            f"digest {manifest.digest[:12]}; {_REPAIR}"
        )
    return manifest


@dataclass(frozen=True, eq=False)
class OpenPackage:
    """A verified package with an engine that gave the right scores.

    Args:
        manifest: its manifest.
        engine: ready to score.
        sample: reference rows, shape (n, features).
    """

    manifest: Manifest
    engine: Engine
    sample: Matrix


def open_package(src: Path, path: Literal["hot", "cold"] = "hot", threads: int = 1) -> OpenPackage:
    """Verify a package, open the engine that packaging chose, and compare its scores with the stored ones.

    Args:
        src: folder of the package.
        path: which of the two choices.
        threads: see `open_engine`.

    Raises:
        CorruptPackageError: see `verify_package`, or the reference sample does not suit the schema.
        ParityError: the scores differ here, for instance by another processor or library version.
        PackageError: the engine cannot be opened.
    """
    manifest = verify_package(src)
    name = manifest.measured.hot_engine if path == "hot" else manifest.measured.cold_engine
    engine = open_engine(name, src / MODEL_DIR, threads)
    sample, expected = read_reference(src, manifest)
    worst = float(np.abs(engine.score(sample).astype(np.float64) - expected).max())
    if not worst <= PARITY_LIMIT:
        raise ParityError(
            f"the scores of engine {name} differ from the stored ones by {worst:.1e}; allowed is {PARITY_LIMIT:g}. "
            "Compare the versions of its library here and where the package was built, or build the package here"
        )
    return OpenPackage(manifest, engine, sample)


def read_reference(src: Path, manifest: Manifest) -> tuple[Matrix, NDArray[np.float64]]:
    """The reference sample and its scores.

    Args:
        src: folder of the package.
        manifest: its manifest.

    Returns:
        Rows of shape (n, features), float32, and n scores, float64.

    Raises:
        CorruptPackageError: they do not suit each other or the schema.
    """
    try:
        sample = np.load(src / SAMPLE_FILE, allow_pickle=False)
        expected = np.load(src / EXPECTED_FILE, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise CorruptPackageError(f"the reference sample cannot be read ({error}); {_REPAIR}") from error
    width = len(manifest.schema.fields)
    if sample.ndim != 2 or sample.shape[1] != width or sample.dtype != np.float32 or expected.shape != (len(sample),):
        raise CorruptPackageError(
            f"the reference sample has shape {list(sample.shape)} and its scores {list(expected.shape)}; "
            f"needed are [n, {width}] and [n]; {_REPAIR}"
        )
    return sample, expected.astype(np.float64)
