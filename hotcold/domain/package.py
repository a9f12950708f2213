"""What a package is: one registry version, made immutable, named by the digest of its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from hotcold.domain.errors import CorruptPackageError
from hotcold.domain.schema import Schema

PARITY_LIMIT = 1e-5
MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True)
class PackageRef:
    """Names one package exactly.

    Args:
        model: registered model name.
        version: MLflow registry version.
        semver: semantic version, for instance `1.2.0`.
        digest: SHA-256 of the content, 64 hexadecimal digits.
    """

    model: str
    version: int
    semver: str
    digest: str

    @property
    def bento_version(self) -> str:
        """Version part of the Bento's tag."""
        return f"v{self.semver}-{self.digest[:12]}"

    @property
    def tag(self) -> str:
        """Name of the Bento and of an image built from it."""
        return f"{self.model}:{self.bento_version}"


@dataclass(frozen=True)
class EngineReport:
    """What packaging measured for one engine.

    Args:
        parity: largest absolute difference to the reference scores on the sample; None if the engine failed.
        one_row_us: median time for one row, microseconds.
        rows_per_s: rows per second in bulk.
        note: why the engine is not used, empty if it may be.
    """

    parity: float | None = None
    one_row_us: float | None = None
    rows_per_s: float | None = None
    note: str = ""

    @property
    def eligible(self) -> bool:
        """The engine agrees with the reference, so it may serve."""
        return not self.note and self.parity is not None and self.parity <= PARITY_LIMIT


@dataclass(frozen=True)
class Measured:
    """What differs from one build to the next, so it is sealed but not part of the digest."""

    hot_engine: str
    cold_engine: str
    engines: dict[str, EngineReport] = field(default_factory=dict)
    built_at: str = ""


@dataclass(frozen=True)
class Manifest:
    """The content of `manifest.json`.

    `files` maps each file of the package, relative to the manifest's folder, to its SHA-256. The digest covers everything
    but `measured` and is the package's identity; the seal covers everything and finds a flipped byte in the manifest itself.

    Args:
        model: registered model name.
        version: MLflow registry version.
        semver: semantic version.
        run_id: MLflow run that trained the model.
        flavor: `xgboost`, `sklearn` or `onnx`.
        schema: features of the model.
        reference_engine: engine that defines the right scores.
        training_window: first and last day of the training data, ISO 8601.
        dataset_fingerprint: SHA-256 of the training data.
        git_commit: commit that trained the model, empty if unknown.
        hyperparameters: as logged with the run.
        metrics: as logged with the run.
        files: relative path to SHA-256.
        measured: timings, parity and choice of engines.
    """

    model: str
    version: int
    semver: str
    run_id: str
    flavor: str
    schema: Schema
    reference_engine: str
    training_window: tuple[str, str]
    dataset_fingerprint: str
    git_commit: str
    hyperparameters: dict[str, Any]
    metrics: dict[str, float]
    files: dict[str, str]
    measured: Measured

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON without `measured`."""
        document = self._document()
        del document["measured"]
        return _sha256(document)

    @property
    def seal(self) -> str:
        """SHA-256 of the canonical JSON with `measured`."""
        return _sha256(self._document())

    @property
    def ref(self) -> PackageRef:
        """The package's name."""
        return PackageRef(self.model, self.version, self.semver, self.digest)

    def with_measured(self, measured: Measured) -> Manifest:
        """The same package with other measurements; its digest stays."""
        return replace(self, measured=measured)

    def _document(self) -> dict[str, Any]:
        document = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {
            **document,
            "schema": self.schema.to_json(),
            "measured": asdict(self.measured),
            "training_window": list(self.training_window),
        }

    def to_json(self) -> dict[str, Any]:
        """The manifest as plain JSON values, with digest and seal."""
        return {**self._document(), "digest": self.digest, "seal": self.seal}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Manifest:
        """Inverse of `to_json`; checks digest and seal.

        Raises:
            CorruptPackageError: keys are missing or unknown, or a byte of the manifest was changed.
        """
        values = dict(document)
        try:
            digest, seal = values.pop("digest"), values.pop("seal")
            measured = dict(values["measured"])
            measured["engines"] = {name: EngineReport(**report) for name, report in measured["engines"].items()}
            values["measured"] = Measured(**measured)
            values["schema"] = Schema.from_json(values["schema"])
            values["training_window"] = (values["training_window"][0], values["training_window"][1])
            manifest = cls(**values)
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise CorruptPackageError(
                f"{MANIFEST_FILE} has missing or unknown keys ({error}); build the package again"
            ) from error
        if (manifest.digest, manifest.seal) != (digest, seal):
            raise CorruptPackageError(
                f"{MANIFEST_FILE} was changed after it was built: digest {manifest.digest[:12]}, expected {str(digest)[:12]}; "
                "build the package again"
            )
        return manifest


def _sha256(document: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
