"""Build the package of a registry version."""

import tempfile
from pathlib import Path

from prefect import task

from hotcold.adapters.packages import build_package, package_dir, read_manifest
from hotcold.domain.errors import PackageError, RegistryError
from hotcold.domain.package import Manifest, PackageRef
from hotcold.domain.schema import breaking_changes
from hotcold.settings import Settings
from tasks.context import open_registry
from tasks.retries import retried_after


@task(
    name="package version",
    task_run_name="package {model} v{version}",
    persist_result=False,
    # A registry that is away may come back; a package that cannot be built stays so.
    **retried_after(RegistryError, pauses_s=(2, 2)),
)
def package_version(model: str, version: int, champion: PackageRef | None, allow_breaking_schema: bool) -> PackageRef:
    """Build the package once; a second call finds it.

    Raises:
        PackageError: it cannot be built, or its schema refuses requests that the champion takes.
        RegistryError: the registry lacks the version or something that belongs to it.
    """
    settings = Settings()
    with tempfile.TemporaryDirectory(prefix="hotcold-package-") as folder:
        source = open_registry().read_source(model, version, Path(folder))
        manifest = build_package(source, settings.bento_home)
    if champion and not allow_breaking_schema:
        _require_compatible(read_manifest(package_dir(champion, settings.bento_home)), manifest)
    return manifest.ref


def _require_compatible(champion: Manifest, candidate: Manifest) -> None:
    if breaks := breaking_changes(champion.schema, candidate.schema):
        raise PackageError(
            f"{candidate.ref.tag} would refuse requests that {champion.ref.tag} takes: {'; '.join(breaks[:5])}; "
            "release it with allow_breaking_schema if all consumers are ready for it"
        )
