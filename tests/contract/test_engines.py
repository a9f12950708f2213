"""Every engine, on every kind of model that it can run, keeps the same promises: shape, type, range, missing values, parity."""

from __future__ import annotations

import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from hotcold.adapters.engines import ALL_THREADS, ENGINE_NAMES, open_engine, score_output
from hotcold.adapters.onnx_export import export_onnx
from hotcold.domain.errors import PackageError
from hotcold.domain.package import PARITY_LIMIT
from tests.fixtures.packages import SCHEMA, make_rows

FEATURES = len(SCHEMA.fields)
FLAVORS = {
    "boosted": "xgboost",
    "boosted regression": "xgboost",
    "logistic": "sklearn",
    "mlp": "sklearn",
    "regression": "sklearn",
}
PAIRS = [
    *(("boosted", engine) for engine in ("xgboost", "onnx", "onedal")),
    *(("boosted regression", engine) for engine in ("xgboost", "onnx", "onedal")),
    *((kind, engine) for kind in ("logistic", "mlp", "regression") for engine in ("sklearn", "onnx")),
    ("graph", "onnx"),
]
ROWS = make_rows(300, seed=7)[0]


def save_booster(path: Path, objective: str) -> None:
    import xgboost

    matrix, labels = make_rows(1500)
    data = xgboost.QuantileDMatrix(matrix, labels, nthread=1, feature_names=list(SCHEMA.names))
    xgboost.train({"objective": objective, "max_depth": 4, "nthread": 1}, data, num_boost_round=20).save_model(path)


def save_pipeline(path: Path, kind: str) -> None:
    import skops.io
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    network = MLPClassifier((8,), max_iter=60, random_state=0)
    last = {"logistic": LogisticRegression(), "mlp": network, "regression": LinearRegression()}[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler(), last).fit(*make_rows(1500))
    if kind == "mlp":
        del network._optimizer
    skops.io.dump(pipeline, path)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model folder of each kind, as a package has it."""
    folders = {kind: tmp_path_factory.mktemp(kind.replace(" ", "-")) for kind in (*FLAVORS, "graph")}
    save_booster(folders["boosted"] / "model.ubj", "binary:logistic")
    save_booster(folders["boosted regression"] / "model.ubj", "reg:squarederror")
    for kind, flavor in FLAVORS.items():
        source = folders[kind] / {"xgboost": "model.ubj", "sklearn": "model.skops"}[flavor]
        if flavor == "sklearn":
            save_pipeline(source, kind)
        export_onnx(flavor, source, folders[kind] / "model.onnx", FEATURES)
    export_onnx("onnx", folders["logistic"] / "model.onnx", folders["graph"] / "model.onnx", FEATURES)
    return folders


@pytest.mark.parametrize(("kind", "name"), PAIRS)
class TestEveryEngine:
    """One suite for all."""

    def test_gives_one_float32_per_row(self, models: dict[str, Path], kind: str, name: str) -> None:
        engine = open_engine(name, models[kind])
        for count in (1, 2, 300):
            scores = engine.score(ROWS[:count])
            assert ((count,), np.float32) == (scores.shape, scores.dtype)
        assert name == engine.name

    def test_scores_missing_values(self, models: dict[str, Path], kind: str, name: str) -> None:
        assert np.isnan(ROWS).any()
        assert np.isfinite(open_engine(name, models[kind]).score(ROWS)).all()

    def test_gives_the_probability_of_the_positive_class(self, models: dict[str, Path], kind: str, name: str) -> None:
        scores = open_engine(name, models[kind]).score(ROWS)
        labels = make_rows(300, seed=7)[1]
        assert scores[labels == 1].mean() > scores[labels == 0].mean() + 0.05
        if "regression" not in kind:
            assert 0 <= scores.min() <= scores.max() <= 1

    def test_agrees_with_the_models_own_library(self, models: dict[str, Path], kind: str, name: str) -> None:
        own = open_engine(FLAVORS.get(kind, "onnx"), models[kind])
        engine = open_engine(name, models[kind])
        assert np.abs(engine.score(ROWS) - own.score(ROWS)).max() <= PARITY_LIMIT

    def test_scores_a_row_alike_alone_in_a_batch_and_on_all_cores(self, models: dict[str, Path], kind: str, name: str) -> None:
        engine, parallel = open_engine(name, models[kind]), open_engine(name, models[kind], ALL_THREADS)
        alone = np.concatenate([engine.score(ROWS[row : row + 1]) for row in range(20)])
        np.testing.assert_allclose(engine.score(ROWS)[:20], alone, rtol=0, atol=PARITY_LIMIT)
        np.testing.assert_allclose(parallel.score(ROWS)[:20], alone, rtol=0, atol=PARITY_LIMIT)

    def test_may_be_called_from_several_threads(self, models: dict[str, Path], kind: str, name: str) -> None:
        engine = open_engine(name, models[kind])
        expected = engine.score(ROWS)
        with ThreadPoolExecutor(4) as pool:
            for scores in pool.map(lambda _: engine.score(ROWS), range(12)):
                np.testing.assert_allclose(expected, scores, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", [*FLAVORS, "graph"])
def test_exporting_twice_gives_the_same_bytes(models: dict[str, Path], kind: str, tmp_path: Path) -> None:
    source = next(path for path in sorted(models[kind].iterdir(), reverse=True))
    export_onnx(FLAVORS.get(kind, "onnx"), source, tmp_path / "again.onnx", FEATURES)
    assert (models[kind] / "model.onnx").read_bytes() == (tmp_path / "again.onnx").read_bytes()


@pytest.mark.parametrize("name", ENGINE_NAMES)
def test_a_missing_model_file_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"needs model/model\.\w+, which the package does not hold"):
        open_engine(name, tmp_path)


@pytest.mark.parametrize("name", ENGINE_NAMES)
def test_a_file_that_is_no_model_is_refused(name: str, tmp_path: Path) -> None:
    for file in ("model.onnx", "model.ubj", "model.skops"):
        (tmp_path / file).write_bytes(b"no model")
    with pytest.raises(PackageError, match=f"engine {name} cannot run"):
        open_engine(name, tmp_path)


def test_an_unknown_engine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="known are onnx, onedal, xgboost, sklearn"):
        open_engine("abacus", tmp_path)


class Payload:
    """What a pickle would run."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("unpickled"),))


def test_nothing_is_ever_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("model.onnx", "model.ubj", "model.skops"):
        (tmp_path / file).write_bytes(pickle.dumps(Payload()))
    for name in ENGINE_NAMES:
        with pytest.raises(PackageError):
            open_engine(name, tmp_path)
    assert not (tmp_path / "unpickled").exists()


def test_a_type_that_is_not_trusted_is_named(tmp_path: Path) -> None:
    import skops.io

    skops.io.dump({"x": Payload()}, tmp_path / "model.skops")
    with pytest.raises(PackageError, match=r"types that are not trusted: .*Payload"):
        open_engine("sklearn", tmp_path)


def test_a_classifier_with_three_classes_is_refused(tmp_path: Path) -> None:
    import skops.io
    from sklearn.linear_model import LogisticRegression

    matrix = np.nan_to_num(make_rows(300)[0])
    skops.io.dump(LogisticRegression().fit(matrix / 1000, np.arange(300) % 3), tmp_path / "model.skops")
    with pytest.raises(PackageError, match="two classes"):
        open_engine("sklearn", tmp_path)


def test_a_booster_with_three_classes_is_refused(tmp_path: Path) -> None:
    import xgboost

    data = xgboost.QuantileDMatrix(make_rows(300)[0], np.arange(300) % 3, nthread=1)
    xgboost.train({"objective": "multi:softprob", "num_class": 3, "nthread": 1}, data, 2).save_model(tmp_path / "model.ubj")
    with pytest.raises(PackageError, match=r"scores of shape \[300, 3\]"):
        open_engine("xgboost", tmp_path).score(ROWS)


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ([("p", "tensor(float)", ["n"])], "p"),
        ([("label", "tensor(int64)", ["n"]), ("p", "tensor(float)", ["n", 2])], "p"),
        ([("embedding", "tensor(float)", ["n", 16]), ("p", "tensor(float)", ["n", 1])], "p"),
        ([("raw", "tensor(float)", ["n", 1]), ("probabilities", "tensor(float)", ["n", 2])], "probabilities"),
    ],
)
def test_the_output_with_the_scores_is_found(outputs: list[tuple[str, str, list[object]]], expected: str) -> None:
    assert expected == score_output(outputs)


@pytest.mark.parametrize(
    "outputs",
    [
        [("label", "tensor(int64)", ["n"])],
        [("p", "tensor(float)", ["n", 3])],
        [("a", "tensor(float)", ["n"]), ("b", "tensor(float)", ["n"])],
        [("p", "seq(map(int64,tensor(float)))", [])],
    ],
)
def test_outputs_without_clear_scores_are_refused(outputs: list[tuple[str, str, list[object]]]) -> None:
    with pytest.raises(PackageError, match="needed is one float output"):
        score_output(outputs)
