"""Makes a staged package a Bento: `bentoml build` in a process of its own, which imports the staged code and no other."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from hotcold.adapters.package_files import package_dir
from hotcold.domain.errors import PackageError
from hotcold.domain.package import MANIFEST_FILE, Manifest

SERVICE = "services.scorer:Scorer"
# Without it BentoML does not take a folder for a Bento.
BENTO_FILE = "bento.yaml"
_TIMEOUT_S = 120.0
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO)

_REPLICA_REQUIREMENTS = ("bentoml", "httptools", "lmdb", "numpy", "orjson", "pyarrow", "redis", "uvicorn", "uvloop", "xxhash")
_ENGINE_REQUIREMENTS = {
    "onnx": ("onnxruntime",),
    "onedal": ("scikit-learn-intelex", "xgboost"),
    "xgboost": ("xgboost",),
    "sklearn": ("scikit-learn", "skops"),
}


def build_bento(stage: Path, manifest: Manifest, bento_home: Path) -> None:
    """Build the Bento of a staged package.

    Args:
        stage: folder with all files of the package, manifest included.
        manifest: its manifest.
        bento_home: BENTOML_HOME to build in.

    Raises:
        PackageError: BentoML refuses, or takes too long.
        OSError: the disk does not take it.
    """
    bentofile = bento_home / "bentofile.yaml"
    bentofile.write_text(json.dumps(_bentofile(manifest), indent=1))
    ref = manifest.ref
    command = [sys.executable, "-m", "bentoml", "build", str(stage), "-f", str(bentofile)]
    command += ["--name", ref.model, "--version", ref.bento_version, "-o", "tag"]
    try:
        done = subprocess.run(
            command,
            cwd=stage,
            env=_environment(stage, bento_home),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PackageError(
            f"bentoml build of {ref.tag} took longer than {_TIMEOUT_S:g} s; try again on a quieter machine"
        ) from error
    if done.returncode:
        raise _failure(manifest, done)
    # BentoML adds its build options to the sources. They hold versions of this environment, and serving does not read them.
    (package_dir(ref, bento_home) / "bentofile.yaml").unlink(missing_ok=True)


def _failure(manifest: Manifest, done: subprocess.CompletedProcess[str]) -> OSError | PackageError:
    said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
    number = re.search(r"\[Errno (\d+)\]", said)
    if number and int(number[1]) in _DISK_ERRORS:
        return OSError(int(number[1]), os.strerror(int(number[1])))
    return PackageError(f"bentoml build of {manifest.ref.tag} failed with exit code {done.returncode}; it said: {said[:500]}")


def _bentofile(manifest: Manifest) -> dict[str, object]:
    requirements = _REPLICA_REQUIREMENTS + _ENGINE_REQUIREMENTS[manifest.measured.hot_engine]
    return {
        "service": SERVICE,
        "include": [*manifest.files, MANIFEST_FILE],
        "labels": {"registry_version": str(manifest.version), "digest": manifest.digest[:12]},
        "python": {"packages": [f"{name}=={version(name)}" for name in sorted(requirements)], "lock_packages": False},
    }


def _environment(stage: Path, bento_home: Path) -> dict[str, str]:
    # BentoML looks for uv on the path, and the interpreter's folder need not be on it.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {
        **os.environ,
        "PATH": path,
        "PYTHONPATH": str(stage),
        "PYTHONDONTWRITEBYTECODE": "1",
        "BENTOML_HOME": str(bento_home),
        "BENTOML_DO_NOT_TRACK": "True",
    }
