"""Packages: the same version gives the same package, and one that is not exactly what was built is never served."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml

from hotcold.adapters.package_files import read_reference
from hotcold.adapters.packages import (
    build_package,
    open_package,
    package_dir,
    read_manifest,
    verify_package,
    verify_package_ref,
)
from hotcold.domain.errors import CorruptPackageError, PackageError, ParityError
from hotcold.domain.field import Field
from hotcold.domain.package import PARITY_LIMIT, Manifest
from hotcold.domain.schema import Schema
from tests.fixtures.packages import GOOD_RECORD, MODEL, SCHEMA, SourceFactory, make_rows
from tests.fixtures.replicas import free_port, replica_environment, running


@pytest.fixture
def src(small_package: Manifest, bento_home: Path, tmp_path: Path) -> Path:
    """A copy of the small package, to be damaged."""
    return Path(shutil.copytree(package_dir(small_package.ref, bento_home), tmp_path / "bento" / "src"))


def left_behind(home: Path) -> list[str]:
    return sorted(path.name for path in home.iterdir() if path.name != "bentos")


def test_the_manifest_tells_everything_about_the_package(small_package: Manifest, bento_home: Path) -> None:
    folder = package_dir(small_package.ref, bento_home)
    assert small_package == read_manifest(folder) == verify_package_ref(small_package.ref, bento_home)
    assert (MODEL, 1, "1.0.0", "xgboost") == (
        small_package.model,
        small_package.version,
        small_package.semver,
        small_package.reference_engine,
    )
    assert f"{MODEL}:v1.0.0-{small_package.digest[:12]}" == small_package.ref.tag
    assert {"model/model.onnx", "model/model.ubj", "reference/sample.npy", "services/scorer.py"} < small_package.files.keys()
    assert [] == left_behind(bento_home)


def test_engines_are_chosen_by_measured_time_among_those_that_agree(small_package: Manifest) -> None:
    measured = small_package.measured
    fit = {name: report for name, report in measured.engines.items() if report.eligible}
    assert "xgboost" in fit and 0.0 == fit["xgboost"].parity
    assert min(fit, key=lambda name: fit[name].one_row_us or 0.0) == measured.hot_engine
    assert max(fit, key=lambda name: fit[name].rows_per_s or 0.0) == measured.cold_engine


def test_the_reference_sample_has_missing_values_and_the_right_scores(small_package: Manifest, bento_home: Path) -> None:
    package = open_package(package_dir(small_package.ref, bento_home), "cold")
    sample, expected = read_reference(package_dir(small_package.ref, bento_home), small_package)
    assert np.isnan(sample).any() and package.engine.name == small_package.measured.cold_engine
    assert np.abs(package.engine.score(sample) - expected).max() <= PARITY_LIMIT


def test_building_twice_finds_the_first_package(small_source: SourceFactory, small_package: Manifest, bento_home: Path) -> None:
    bento = package_dir(small_package.ref, bento_home).parent / "bento.yaml"
    before = bento.stat().st_mtime_ns
    assert small_package == build_package(small_source(version=1), bento_home)
    assert before == bento.stat().st_mtime_ns


def test_building_twice_in_different_places_at_once_gives_the_same_digest(
    small_source: SourceFactory, small_package: Manifest, tmp_path: Path
) -> None:
    source = small_source(version=1)
    with ThreadPoolExecutor(2) as pool:
        built = list(pool.map(lambda _: build_package(source, tmp_path / "store"), range(2)))
    assert {small_package.digest} == {manifest.digest for manifest in built}
    assert built[0] == built[1], "one of two builders wins, and both get its package"
    assert [] == left_behind(tmp_path / "store")


def test_byte_code_changes_nothing(src: Path, small_package: Manifest) -> None:
    (src / "services" / "__pycache__").mkdir()
    (src / "services" / "__pycache__" / "scorer.cpython-311.pyc").write_bytes(b"x")
    assert small_package == verify_package(src)


@pytest.mark.parametrize(
    "file",
    [
        "manifest.json",
        "model/model.onnx",
        "model/model.ubj",
        "reference/sample.npy",
        "reference/expected.npy",
        "hotcold/domain/schema.py",
        "services/scorer.py",
    ],
)
def test_a_flipped_byte_is_found(src: Path, file: str) -> None:
    content = bytearray((src / file).read_bytes())
    for position in (0, len(content) // 2, len(content) - 1):
        flipped = bytearray(content)
        flipped[position] ^= 1
        (src / file).write_bytes(flipped)
        with pytest.raises(CorruptPackageError, match="build the package again"):
            verify_package(src)
    (src / file).write_bytes(content)
    verify_package(src)


@pytest.mark.parametrize("file", ["manifest.json", "model/model.onnx", "services/__init__.py"])
def test_a_missing_file_is_named(src: Path, file: str) -> None:
    (src / file).unlink()
    with pytest.raises(CorruptPackageError, match=file):
        verify_package(src)


@pytest.mark.parametrize("file", ["more.py", "model/more.onnx", "hotcold/utils/__init__.py"])
def test_an_unexpected_file_is_named(src: Path, file: str) -> None:
    (src / file).parent.mkdir(exist_ok=True)
    (src / file).touch()
    with pytest.raises(CorruptPackageError, match=f"{file} does not belong"):
        verify_package(src)


def test_a_link_is_refused(src: Path, tmp_path: Path) -> None:
    shutil.move(src / "model" / "model.onnx", tmp_path / "model.onnx")
    (src / "model" / "model.onnx").symlink_to(tmp_path / "model.onnx")
    with pytest.raises(CorruptPackageError, match="not a plain file"):
        verify_package(src)


def change_manifest(src: Path, **changes: object) -> Manifest:
    """Write a manifest that is sound in itself but does not suit the rest."""
    manifest = replace(read_manifest(src), **changes)  # type: ignore[arg-type]
    (src / "manifest.json").write_text(json.dumps(manifest.to_json()))
    return manifest


def test_another_schema_is_refused(src: Path, small_package: Manifest, tmp_path: Path) -> None:
    wider = Schema((*SCHEMA.fields, Field("more", nullable=True, required=False)))
    change_manifest(src, schema=wider)
    with pytest.raises(CorruptPackageError, match="needed are"):
        open_package(src)

    place = package_dir(small_package.ref, tmp_path / "store")
    shutil.copytree(src, place)
    with pytest.raises(CorruptPackageError, match="in the place of"):
        verify_package_ref(small_package.ref, tmp_path / "store")


def test_scores_that_differ_from_the_stored_ones_are_refused(src: Path) -> None:
    expected = np.load(src / "reference" / "expected.npy")
    np.save(src / "reference" / "expected.npy", expected + np.float32(1e-3))
    from hotcold.adapters.package_files import hash_files

    change_manifest(src, files=hash_files(src))
    with pytest.raises(ParityError, match="differ from the stored ones"):
        open_package(src)


def test_a_damaged_package_is_built_again(
    small_source: SourceFactory, small_package: Manifest, src: Path, tmp_path: Path
) -> None:
    home = tmp_path / "store"
    place = package_dir(small_package.ref, home)
    shutil.copytree(src, place)
    (place / "model" / "model.onnx").write_bytes(b"damaged")
    built = build_package(small_source(version=1), home)
    assert small_package.ref == built.ref == verify_package_ref(small_package.ref, home).ref
    assert (place.parent / "bento.yaml").is_file() and [] == left_behind(home)


def sklearn_folder(folder: Path, serialization: str = "skops") -> Path:
    import skops.io
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folder.mkdir()
    pipeline = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()).fit(*make_rows(1000))
    skops.io.dump(pipeline, folder / "model.skops")
    entry = {"pickled_model": "model.skops", "serialization_format": serialization}
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": {"sklearn": entry}}))
    return folder


def onnx_folder(folder: Path, src: Path) -> Path:
    folder.mkdir()
    shutil.copyfile(src / "model" / "model.onnx", folder / "model.onnx")
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": {"onnx": {"data": "model.onnx"}}}))
    return folder


def test_a_scikit_learn_model_and_a_graph_can_be_packaged(small_source: SourceFactory, src: Path, tmp_path: Path) -> None:
    home = tmp_path / "store"
    pipeline = build_package(small_source(flavor="sklearn", model_dir=sklearn_folder(tmp_path / "a")), home)
    graph = build_package(small_source(flavor="onnx", model_dir=onnx_folder(tmp_path / "b", src)), home)
    assert {"onnx", "sklearn"} == pipeline.measured.engines.keys() and "sklearn" == pipeline.reference_engine
    assert ("onnx", "onnx", "onnx") == (graph.reference_engine, graph.measured.hot_engine, graph.measured.cold_engine)


def test_only_what_a_replica_needs_is_required(small_package: Manifest, bento_home: Path) -> None:
    text = (package_dir(small_package.ref, bento_home).parent / "env" / "python" / "requirements.txt").read_text()
    names = {line.partition("==")[0] for line in text.split() if "==" in line}
    store = {"lmdb", "pyarrow", "redis", "xxhash"}
    # Whichever engine was the fastest when this package was measured.
    engine = {"onnx": {"onnxruntime"}, "xgboost": {"xgboost"}, "onedal": {"scikit-learn-intelex", "xgboost"}}
    wanted = {"bentoml", "numpy", "orjson", "uvicorn", "uvloop", "httptools"} | engine[small_package.measured.hot_engine]
    assert wanted | store == names


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "Late Flights"}, "register the model under such a name"),
        ({"sample": np.zeros((0, 6), dtype=np.float32)}, "needed is"),
        ({"sample": np.zeros((4, 5), dtype=np.float32)}, "needed is"),
        ({"flavor": "sklearn"}, "no usable MLmodel file for flavor 'sklearn'"),
        ({"schema": Schema(SCHEMA.fields[:5]), "sample": np.zeros((4, 5), dtype=np.float32)}, "score its own reference sample"),
    ],
)
def test_what_cannot_be_packaged_is_refused(
    small_source: SourceFactory, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(PackageError, match=message):
        build_package(small_source(version=1, **changes), tmp_path / "store")
    assert not list(tmp_path.glob("store/*"))


def test_a_pickled_model_is_refused(small_source: SourceFactory, tmp_path: Path) -> None:
    folder = sklearn_folder(tmp_path / "model", serialization="cloudpickle")
    with pytest.raises(PackageError, match="log it with serialization_format='skops'"):
        build_package(small_source(flavor="sklearn", model_dir=folder), tmp_path / "store")


def test_a_model_file_outside_of_its_folder_is_refused(small_source: SourceFactory, src: Path, tmp_path: Path) -> None:
    folder = onnx_folder(tmp_path / "model", src)
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": {"onnx": {"data": "../bento/src/model/model.onnx"}}}))
    with pytest.raises(PackageError, match="not in its folder"):
        build_package(small_source(flavor="onnx", model_dir=folder), tmp_path / "store")


def test_a_store_that_cannot_be_written_is_named(small_source: SourceFactory, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PackageError, match=r"cannot be written below .*/file/store: Not a directory"):
        build_package(small_source(), tmp_path / "file" / "store")


FULL_DISK = """
import resource, sys
from pathlib import Path
from tests.fixtures.packages import MODEL, SCHEMA, make_rows
from hotcold.adapters.packages import PackageSource, build_package
from hotcold.domain.errors import PackageError

folder, home, limit_bytes = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
source = PackageSource(MODEL, 1, "1.0.0", "", "xgboost", folder, SCHEMA, make_rows(64)[0], ("", ""), "", "", {}, {})
resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
try:
    build_package(source, home)
except PackageError as error:
    print(error)
"""


@pytest.mark.parametrize("limit_bytes", [200, 20_000])
def test_a_disk_that_takes_no_more_leaves_no_half_package(
    small_source: SourceFactory, tmp_path: Path, limit_bytes: int
) -> None:
    """A limit on the size of files stands for a full disk; it strikes at the first or at a later file."""
    home = tmp_path / "store"
    command = [sys.executable, "-W", "ignore", "-c", FULL_DISK, str(small_source().model_dir), str(home), str(limit_bytes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, cwd=Path(__file__).parents[2])
    assert "File too large; free space or make the folder writable, then build again" in done.stdout
    assert [] == list(home.iterdir())


def start_replica(src: Path, tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A replica that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "services.replica", "--port", str(free_port())],
        cwd=src,
        env=replica_environment(src, tmp_path / "bentoml", **environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def truncate(src: Path) -> None:
    os.truncate(src / "model" / "model.onnx", 100)


def remove(src: Path) -> None:
    (src / "reference" / "sample.npy").unlink()


def widen(src: Path) -> None:
    change_manifest(src, schema=Schema((*SCHEMA.fields, Field("more"))))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [(truncate, "model/model.onnx was changed"), (remove, "reference/sample.npy is missing"), (widen, "needed are [n, 7]")],
)
def test_a_replica_refuses_a_package_that_is_not_what_was_built(
    src: Path, tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    damage(src)
    done = start_replica(src, tmp_path, HOTCOLD_REFUSAL_FILE=str(tmp_path / "reason"))
    assert 78 == done.returncode
    last = done.stderr.splitlines()[-1]
    assert last.startswith("PACKAGE REFUSED: ") and reason in last
    assert last.removeprefix("PACKAGE REFUSED: ") == (tmp_path / "reason").read_text()


def test_a_replica_refuses_to_run_the_code_of_a_checkout(tmp_path: Path) -> None:
    done = start_replica(Path(__file__).parents[2], tmp_path)
    assert 78 == done.returncode and "manifest.json cannot be read" in done.stderr


def test_bentoml_serves_the_package_by_its_tag(small_package: Manifest, bento_home: Path, tmp_path: Path) -> None:
    port = free_port()
    home = tmp_path / "bentoml"
    home.mkdir()
    # A home of its own, as for a replica: each `serve` wipes folders in it.
    (home / "bentos").symlink_to(bento_home / "bentos")
    command = [sys.executable, "-m", "bentoml", "serve", small_package.ref.tag, "--host", "127.0.0.1", "--port", str(port)]
    environment = replica_environment(Path(), home)
    del environment["PYTHONPATH"]
    with running(command, port, tmp_path, environment, tmp_path / "log") as server:
        answer = httpx.post(f"{server.url}/models/{MODEL}/predict", json={"records": [GOOD_RECORD]}, trust_env=False)
        described = httpx.get(f"{server.url}/models/{MODEL}", trust_env=False).json()
    assert (200, small_package.digest[:12]) == (answer.status_code, answer.headers["x-package-digest"])
    assert ("package", small_package.digest) == (described["code"], described["digest"])
    verify_package_ref(small_package.ref, bento_home)
