"""Semantic versions follow from what changed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotcold.domain.errors import RegistryError, SchemaError
from hotcold.domain.field import Field
from hotcold.domain.schema import Schema
from hotcold.domain.semver import Bump, Recipe, Released, SemVer, derive_version

VERSIONS = st.builds(SemVer, *[st.integers(0, 10**6)] * 3)
BUMPS = st.sampled_from([Bump.MAJOR, Bump.MINOR, Bump.PATCH])
SCHEMA = Schema((Field("a"), Field("b", nullable=True)))
RECIPE = Recipe("mlp", {"hidden_units": [32, 16], "epochs": 8}, SCHEMA)
ONE = SemVer(1, 2, 3)


@given(VERSIONS)
def test_text_and_version_are_the_same_thing(version: SemVer) -> None:
    assert version == SemVer.parse(str(version))


@given(VERSIONS, VERSIONS)
def test_versions_are_ordered_by_number_and_not_as_text(left: SemVer, right: SemVer) -> None:
    by_number = (left.major, left.minor, left.patch) < (right.major, right.minor, right.patch)
    assert by_number == (left < right)


@given(VERSIONS, BUMPS)
def test_a_bump_makes_a_higher_version(version: SemVer, bump: Bump) -> None:
    assert version < version.bump(bump)


@given(VERSIONS, BUMPS, BUMPS)
def test_a_greater_part_wins_over_a_smaller_one(version: SemVer, first: Bump, second: Bump) -> None:
    rank = {Bump.MAJOR: 2, Bump.MINOR: 1, Bump.PATCH: 0}
    assert (rank[first] > rank[second]) == (version.bump(first) > version.bump(second))


def test_the_parts_behind_the_bumped_one_start_at_zero() -> None:
    bumped = [str(ONE.bump(bump)) for bump in (Bump.MAJOR, Bump.MINOR, Bump.PATCH)]
    assert ["2.0.0", "1.3.0", "1.2.4"] == bumped


@pytest.mark.parametrize(
    "text", ["", "1", "1.2", "1.2.3.4", "v1.2.3", "1.2.3-rc1", "01.2.3", "1.2.x", " 1.2.3", "1.2.3\n", "-1.0.0"]
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(RegistryError, match="three numbers"):
        SemVer.parse(text)


@pytest.mark.parametrize(
    ("new", "version", "reason"),
    [
        (RECIPE, "1.2.4", "same recipe"),
        (replace(RECIPE, hyperparameters={"epochs": 8, "hidden_units": (32, 16)}), "1.2.4", "same recipe"),
        (replace(RECIPE, hyperparameters={"hidden_units": [32, 16], "epochs": 9}), "1.3.0", "epochs 8 to 9"),
        (replace(RECIPE, hyperparameters={"hidden_units": [32, 16]}), "1.3.0", "epochs 8 to None"),
        (replace(RECIPE, flavor="xgboost"), "1.3.0", "from mlp to xgboost"),
        (replace(RECIPE, schema=Schema((*SCHEMA.fields, Field("c", nullable=True, required=False)))), "1.3.0", "c added"),
        (replace(RECIPE, schema=Schema((Field("a", nullable=True), SCHEMA.fields[1]))), "1.3.0", "allows more"),
        (replace(RECIPE, schema=Schema((*SCHEMA.fields, Field("c")))), "2.0.0", "c is new and required"),
        (replace(RECIPE, schema=Schema(SCHEMA.fields[:1]), flavor="xgboost"), "2.0.0", "b was removed"),
    ],
)  # fmt: skip
def test_the_greatest_change_decides(new: Recipe, version: str, reason: str) -> None:
    derived = derive_version(Released(ONE, RECIPE), new)
    assert version == str(derived.version)
    assert reason in derived.reason


def test_the_first_version_is_one() -> None:
    assert (SemVer(1, 0, 0), Bump.FIRST) == (derive_version(None, RECIPE).version, derive_version(None, RECIPE).bump)


def test_without_the_old_recipe_compatibility_is_not_assumed() -> None:
    derived = derive_version(Released(ONE, None), RECIPE)
    assert (SemVer(2, 0, 0), Bump.MAJOR) == (derived.version, derived.bump)


def test_a_recipe_survives_json() -> None:
    read = Recipe.from_json(json.loads(json.dumps(RECIPE.to_json())))
    assert (RECIPE, RECIPE.fingerprint) == (read, read.fingerprint)


@pytest.mark.parametrize(
    "document", [{}, {"flavor": "x", "hyperparameters": 5, "schema": {}}, {"flavor": "x", "hyperparameters": {}}]
)
def test_what_is_not_a_recipe_is_refused(document: dict[str, object]) -> None:
    with pytest.raises(SchemaError):
        Recipe.from_json(document)
