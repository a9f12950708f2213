"""The MLflow model registry: versions, their semantic versions, what packaging needs of them, aliases and stages.

MLflow has deprecated stages in favour of aliases. People still look for them, so both are written, and no other module knows
that stages exist.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hotcold.adapters.experiments import LoggedRun
from hotcold.adapters.mlflow_client import connect, talking
from hotcold.adapters.registry_source import SEMVER_TAG, download_source, read_recipe
from hotcold.domain.errors import RegistryError
from hotcold.domain.projection import Projection
from hotcold.domain.semver import Derived, Recipe, Released, SemVer, derive_version

if TYPE_CHECKING:
    from hotcold.adapters.packages import PackageSource

BUMP_TAG, VERDICT_TAG = "hotcold.bump", "hotcold.verdict"
ALIASES = ("candidate", "champion", "previous")
_NO_STAGE, _ARCHIVED = "None", "Archived"


@dataclass(frozen=True)
class Registered:
    """A new version in the registry.

    Args:
        version: registry version, counted by MLflow.
        semver: semantic version.
        reason: why it got that semantic version.
    """

    version: int
    semver: str
    reason: str


class Registry:
    """The model registry of one MLflow server or database.

    Args:
        tracking_uri: `http://…` of a server, or a database URL.
    """

    def __init__(self, tracking_uri: str) -> None:
        self.tracking_uri = tracking_uri

    @cached_property
    def _client(self) -> Any:
        return connect(self.tracking_uri)

    def resolve(self, model: str, version: int | None, alias: str = "candidate") -> int:
        """The number of a version that exists.

        Args:
            model: registered model name.
            version: its number; None takes the one that carries the alias.
            alias: used where no number is given.

        Raises:
            RegistryError: there is no such model, version or alias, or MLflow cannot be reached.
        """
        with talking(self.tracking_uri, f"look up {model}"):
            known = self._versions(model)
            found = version if version is not None else self._aliases(model).get(alias)
        if found is None:
            raise RegistryError(f"no version of {model!r} carries the alias {alias!r}; name a version, or train one")
        if found not in known:
            raise RegistryError(f"{model!r} has no version {found}; it has {', '.join(map(str, sorted(known))) or 'none'}")
        return found

    def highest(self, model: str) -> Released | None:
        """The version of a model with the highest semantic version; None if none has one.

        Raises:
            RegistryError: MLflow cannot be reached.
        """
        with talking(self.tracking_uri, f"list the versions of {model}"):
            return self._highest(self._versions(model).values())

    def register(self, model: str, run: LoggedRun, recipe: Recipe, tags: Mapping[str, str]) -> Registered:
        """Make a logged model a version of a registered model; a second call with the same run finds the first one's.

        Args:
            model: registered model name, made if it is new.
            run: the run that trained it, with its model.
            recipe: from which the semantic version is derived.
            tags: set on the version.

        Returns:
            The version.

        Raises:
            RegistryError: MLflow cannot be reached or refuses.
        """
        with talking(self.tracking_uri, f"register a version of {model}"):
            self._require_model(model)
            same_run = [v for v in self._versions(model).values() if v.run_id == run.run_id and SEMVER_TAG in v.tags]
            if same_run:
                return _registered(same_run[0])
            derived = derive_version(self._highest(self._versions(model).values()), recipe)
            # The files' own address: MLflow resolves `models:/<id>` with its global client, which knows another address.
            made = self._client.create_model_version(
                model,
                run.model_uri,
                run.run_id,
                tags={**tags, **_version_tags(derived)},
                await_creation_for=0,
                model_id=run.model_id,
            )
            derived = self._settle(model, int(made.version), recipe, derived)
        return Registered(int(made.version), str(derived.version), derived.reason)

    def _settle(self, model: str, number: int, recipe: Recipe, derived: Derived) -> Derived:
        """Derive again if another training registered the same semantic version just before this one did."""
        earlier = [v for other, v in self._versions(model).items() if other < number]
        if not any(v.tags.get(SEMVER_TAG) == str(derived.version) for v in earlier):
            return derived
        derived = derive_version(self._highest(earlier), recipe)
        for tag, value in _version_tags(derived).items():
            self._client.set_model_version_tag(model, str(number), tag, value)
        return derived

    def _highest(self, versions: Iterable[Any]) -> Released | None:
        tagged = [v for v in versions if SEMVER_TAG in v.tags]
        if not tagged:
            return None
        top = max(tagged, key=_semver)
        return Released(_semver(top), read_recipe(self._client, top.run_id) if top.run_id else None)

    def read_alias(self, alias: str) -> dict[str, int | None]:
        """Which version carries an alias, for every model.

        Args:
            alias: its name.

        Returns:
            By model name; None where no version carries it.

        Raises:
            RegistryError: MLflow cannot be reached.
        """
        with talking(self.tracking_uri, f"look for the alias {alias}"):
            found, token = {}, None
            while True:
                page = self._client.search_registered_models(max_results=1000, page_token=token)
                found.update({model.name: model.aliases.get(alias) for model in page})
                token = page.token
                if not token:
                    return {model: None if version is None else int(version) for model, version in found.items()}

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Let an alias point to a version.

        Raises:
            RegistryError: MLflow cannot be reached or refuses.
        """
        with talking(self.tracking_uri, f"set the alias {alias} of {model}"):
            self._client.set_registered_model_alias(model, alias, str(version))

    def read_source(self, model: str, version: int | str, into: Path) -> PackageSource:
        """Download all that a package is built from.

        Args:
            model: registered model name.
            version: number or alias.
            into: folder for the files.

        Returns:
            The model folder and what is known of the version.

        Raises:
            RegistryError: MLflow cannot be reached, or lacks something that packaging needs; the message names it.
        """
        alias = version if isinstance(version, str) else ""
        number = self.resolve(model, None if isinstance(version, str) else version, alias)
        with talking(self.tracking_uri, f"download {model} version {number}"):
            return download_source(self._client, self.tracking_uri, self._versions(model)[number], into)

    def put_aside(self, model: str, version: int) -> str:
        """What somebody has done to a version so that it is not used any more: `archived`, `missing`, or empty for nothing.

        Raises:
            RegistryError: MLflow cannot be reached.
        """
        with talking(self.tracking_uri, f"look up {model} version {version}"):
            found = self._versions(model).get(version)
        if found is None:
            return "missing"
        return "archived" if found.current_stage == _ARCHIVED else ""

    def project(self, view: Projection) -> int:
        """Bring aliases, stages and verdicts in line with what the release database says; writes only differences.

        Args:
            view: versions by role.

        Returns:
            Number of values written.

        Raises:
            RegistryError: MLflow cannot be reached, or lacks a version that has a role.
        """
        with talking(self.tracking_uri, f"set stages and aliases of {view.model}"):
            known = self._versions(view.model)
            stages = _wanted_stages(view, {number: v.current_stage for number, v in known.items()})
            if missing := sorted(stages.keys() - known.keys()):
                raise RegistryError(f"MLflow lacks version {missing[0]} of {view.model!r}, which has a role in a release")
            return self._write_aliases(view) + self._write_stages(view.model, known, stages) + self._write_verdicts(view, known)

    def _write_aliases(self, view: Projection) -> int:
        aliases, written = self._aliases(view.model), 0
        for alias in ALIASES:
            wanted, now = getattr(view, alias), aliases.get(alias)
            waits = now not in view.verdicts or now in view.waiting
            if wanted == now or (wanted is None and alias == "candidate" and waits):
                # Where no release is under way, a version that may be released waits with the alias `candidate` for it.
                continue
            if wanted is None:
                self._client.delete_registered_model_alias(view.model, alias)
            else:
                self._client.set_registered_model_alias(view.model, alias, str(wanted))
            written += 1
        return written

    def _write_stages(self, model: str, known: Mapping[int, Any], stages: Mapping[int, str]) -> int:
        changes = {number: stage for number, stage in stages.items() if known[number].current_stage != stage}
        for number, stage in changes.items():
            self._client.transition_model_version_stage(model, str(number), stage, archive_existing_versions=False)
        return len(changes)

    def _write_verdicts(self, view: Projection, known: Mapping[int, Any]) -> int:
        changes = {
            number: verdict
            for number, verdict in view.verdicts.items()
            if number in known and known[number].tags.get(VERDICT_TAG) != verdict
        }
        for number, verdict in changes.items():
            self._client.set_model_version_tag(view.model, str(number), VERDICT_TAG, verdict)
        return len(changes)

    def _versions(self, model: str) -> dict[int, Any]:
        """All versions of a model by number; empty if the model is unknown."""
        if "'" in model:
            raise RegistryError(f"the model is named {model!r}; a quote is not allowed in a name")
        versions, token = {}, None
        while True:
            page = self._client.search_model_versions(f"name='{model}'", max_results=1000, page_token=token)
            versions.update({int(v.version): v for v in page})
            token = page.token
            if not token:
                return versions

    def _aliases(self, model: str) -> dict[str, int]:
        from mlflow.exceptions import MlflowException

        try:
            aliases = self._client.get_registered_model(model).aliases
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise RegistryError(f"MLflow has no model {model!r}; train one, or register one under that name") from error
            raise
        return {alias: int(version) for alias, version in aliases.items()}

    def _require_model(self, model: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def _wanted_stages(view: Projection, now: Mapping[int, str]) -> dict[int, str]:
    """Stage by version; versions without a role that are still staged fall back, and all others stay as they are."""
    fallen = {number: _NO_STAGE for number, stage in now.items() if stage == "Staging"}
    retired = {number: _ARCHIVED for number, stage in now.items() if stage == "Production"}
    roles = dict.fromkeys(view.archived, _ARCHIVED)
    # Later ones win: a version can be archived from an earlier release and candidate in this one.
    named = ((view.previous, _ARCHIVED), (view.candidate, "Staging"), (view.champion, "Production"))
    return fallen | retired | roles | {number: stage for number, stage in named if number is not None}


def _semver(version: Any) -> SemVer:
    return SemVer.parse(version.tags[SEMVER_TAG])


def _version_tags(derived: Derived) -> dict[str, str]:
    return {SEMVER_TAG: str(derived.version), BUMP_TAG: json.dumps({"bump": derived.bump, "reason": derived.reason})}


def _registered(version: Any) -> Registered:
    return Registered(int(version.version), version.tags[SEMVER_TAG], json.loads(version.tags[BUMP_TAG])["reason"])
