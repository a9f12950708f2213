"""Importing any module of the project does nothing: no connection, no thread, no file; and it is this checkout's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("hotcold", "tasks", "flows", "services")

# Runs in a process of its own, since this one has imported half of it already.
PROBE = """
import importlib, json, pathlib, socket, sys, threading

root, package = pathlib.Path(sys.argv[1]), sys.argv[2]

def refuse(*_):
    raise AssertionError("a socket was used at import")

for name in ("connect", "connect_ex", "bind", "listen", "sendto"):
    setattr(socket.socket, name, refuse)
seen = {}
for file in sorted((root / package).rglob("*.py")):
    parts = file.relative_to(root).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    try:
        seen[name] = importlib.import_module(name).__file__
    except Exception as error:
        seen[name] = f"{type(error).__name__}: {error}"
threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
print(json.dumps({"modules": seen, "threads": threads}))
"""


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_imports_and_nothing_happens(package: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    tmp_path = tmp_path_factory.mktemp("foreign")
    # Prefect makes its home when it is imported; that is Prefect's doing, and it happens elsewhere.
    prefect_home = str(tmp_path_factory.mktemp("prefect"))
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PREFECT_HOME": prefect_home}
    # From a foreign folder: the packages must be found because they are installed, not because one stands beside them.
    answer = subprocess.run(
        [sys.executable, "-c", PROBE, str(ROOT), package],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    report = json.loads(answer.stdout)

    wrong = {name: file for name, file in report["modules"].items() if not file.startswith(f"{ROOT / package}{os.sep}")}
    assert {} == wrong
    assert [] == report["threads"]
    assert [] == sorted(path.name for path in tmp_path.iterdir())


@pytest.mark.parametrize("module", ["hotcold.cli.app", "hotcold.rollback"])
def test_the_command_line_starts_without_the_heavy_libraries(module: str) -> None:
    """`hotcold --help` and `hotcold rollback` must answer at once."""
    heavy = ("mlflow", "prefect", "bentoml", "pandas", "xgboost", "sklearn", "onnxruntime", "dask", "circus")
    probe = f"import {module}, sys; print(*[name for name in {heavy!r} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=60)
    assert "" == answer.stdout.strip()
