"""Semantic versions of models, derived from what changed rather than chosen by somebody.

major: a request that suited the version before may be refused now. minor: the features, the kind of model or its
hyperparameters changed. patch: the same recipe, trained on other data.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from hotcold.domain.errors import RegistryError, SchemaError
from hotcold.domain.schema import Schema, breaking_changes

_PATTERN = re.compile(r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})")


class Bump(StrEnum):
    """Which part of a version grows."""

    FIRST = "first"
    MAJOR = "major"
    MINOR = "minor"
    PATCH = "patch"


@dataclass(frozen=True, order=True)
class SemVer:
    """A version `major.minor.patch`; ordered by its three numbers, not as text."""

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> SemVer:
        """Read `1.2.3`.

        Raises:
            RegistryError: the text is anything else; pre-releases and build numbers are not used here.
        """
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise RegistryError(f"the semantic version is {text[:40]!r}; needed are three numbers such as 1.2.3")
        return cls(*map(int, match.groups()))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    def bump(self, part: Bump) -> SemVer:
        """The next version: one part grows by one, the parts behind it start at 0."""
        if part is Bump.MAJOR:
            return SemVer(self.major + 1, 0, 0)
        if part is Bump.MINOR:
            return SemVer(self.major, self.minor + 1, 0)
        return SemVer(self.major, self.minor, self.patch + 1)


FIRST_VERSION = SemVer(1, 0, 0)


@dataclass(frozen=True)
class Recipe:
    """How a model is made, apart from the data.

    Args:
        flavor: kind of model, for instance `xgboost`.
        hyperparameters: name to JSON value.
        schema: the features.
    """

    flavor: str
    hyperparameters: Mapping[str, Any]
    schema: Schema

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain JSON values."""
        return {"flavor": self.flavor, "hyperparameters": dict(self.hyperparameters), "schema": self.schema.to_json()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Recipe:
        """Inverse of `to_json`.

        Raises:
            SchemaError: keys are missing or the schema contradicts itself.
        """
        try:
            return cls(str(document["flavor"]), dict(document["hyperparameters"]), Schema.from_json(document["schema"]))
        except (KeyError, TypeError, ValueError) as error:
            raise SchemaError(f"not a recipe: {error!r}; needed are flavor, hyperparameters and schema") from error

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON, in hexadecimal."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True)
class Released:
    """A version and how it was made; the recipe is None if it is no longer known."""

    version: SemVer
    recipe: Recipe | None


@dataclass(frozen=True)
class Derived:
    """The version of a new model.

    Args:
        version: the version it gets.
        bump: which part grew.
        reason: why, for a person to read.
    """

    version: SemVer
    bump: Bump
    reason: str


def derive_version(previous: Released | None, new: Recipe) -> Derived:
    """The semantic version of a newly trained model.

    Args:
        previous: the highest version so far; None if the model has none.
        new: recipe of the new model.

    Returns:
        Version, bumped part and reason.
    """
    if previous is None:
        return Derived(FIRST_VERSION, Bump.FIRST, "the model has no version yet")
    if previous.recipe is None:
        # Without it nobody can promise that requests for the old version suit the new one.
        bump, reason = Bump.MAJOR, f"the recipe of {previous.version} is no longer known"
    else:
        bump, reason = _compare(previous.recipe, new)
    return Derived(previous.version.bump(bump), bump, reason)


def _compare(old: Recipe, new: Recipe) -> tuple[Bump, str]:
    if breaks := breaking_changes(old.schema, new.schema):
        return Bump.MAJOR, "the input schema broke: " + "; ".join(breaks)
    if old.schema.fingerprint != new.schema.fingerprint:
        return Bump.MINOR, f"the features changed compatibly: {_feature_change(old.schema, new.schema)}"
    if old.flavor != new.flavor:
        return Bump.MINOR, f"the kind of model changed from {old.flavor} to {new.flavor}"
    if changed := _changed_values(old.hyperparameters, new.hyperparameters):
        return Bump.MINOR, "hyperparameters changed: " + ", ".join(changed)
    return Bump.PATCH, "same recipe, trained anew"


def _feature_change(old: Schema, new: Schema) -> str:
    added = [name for name in new.names if name not in old.names]
    return f"{', '.join(added)} added" if added else "a field allows more than before"


def _changed_values(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    names = sorted(old.keys() | new.keys())
    # Compared as JSON: a recipe read back holds a list where the new one holds a tuple.
    return [
        f"{name} {old.get(name)} to {new.get(name)}" for name in names if json.dumps(old.get(name)) != json.dumps(new.get(name))
    ]
