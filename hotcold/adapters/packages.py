"""Packages: built once from a registry version, then only read.

The parts are in three modules, because a replica carries only the one that reads.
"""

from __future__ import annotations

from hotcold.adapters.package_build import PackageSource, build_package
from hotcold.adapters.package_files import (
    OpenPackage,
    open_package,
    package_dir,
    read_manifest,
    verify_package,
    verify_package_ref,
)

__all__ = [
    "OpenPackage",
    "PackageSource",
    "build_package",
    "open_package",
    "package_dir",
    "read_manifest",
    "verify_package",
    "verify_package_ref",
]
