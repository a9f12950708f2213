"""Every trainer: learns, gives probabilities, takes gaps, and writes a model that MLflow loads and that is no pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hotcold.adapters.training import Trained, Trainer, make_trainer
from hotcold.domain.errors import TrainingError
from hotcold.domain.metrics import evaluate_scores

RANDOM = np.random.default_rng(0)
MATRIX = RANDOM.random((2000, 4), dtype=np.float32)
LABELS = (MATRIX[:, 0] + MATRIX[:, 1] + RANDOM.normal(0, 0.3, 2000) > 1).astype(np.int8)
GAPS = MATRIX[:64].copy()
GAPS[::2, 0] = np.nan
GAPS[5] = np.nan
FILES = {
    "xgboost": {"model.ubj"},
    "logistic_regression": {"model.skops"},
    "mlp": {"model.skops"},
    "onnx": {"model.onnx"},
}
HYPERPARAMETERS: dict[str, dict[str, Any]] = {
    "xgboost": {"trees": 20, "depth": 3},
    "logistic_regression": {},
    "mlp": {"epochs": 60},
    "onnx": {"epochs": 60},
}


@pytest.fixture(scope="module", params=list(FILES))
def flavor(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def trainer(flavor: str) -> Trainer:
    return make_trainer(flavor, HYPERPARAMETERS[flavor])


@pytest.fixture(scope="module")
def trained(trainer: Trainer) -> Trained:
    return trainer.train(MATRIX, LABELS)


def test_scores_are_probabilities_that_rank_better_than_chance(trained: Trained) -> None:
    scores = trained.score(MATRIX)
    assert (2000,) == scores.shape
    assert evaluate_scores(LABELS, scores).auc > 0.8


def test_rows_with_gaps_get_finite_scores(trained: Trained) -> None:
    scores = trained.score(GAPS)
    assert np.isfinite(scores).all()
    assert scores[0] != trained.score(MATRIX[:1])[0]


def test_training_twice_gives_the_same_model(trainer: Trainer, trained: Trained) -> None:
    np.testing.assert_array_equal(trained.score(GAPS), trainer.train(MATRIX, LABELS).score(GAPS))


# MLflow hands a table with column names to a pipeline that was trained on a plain matrix.
@pytest.mark.filterwarnings("ignore:X has feature names:UserWarning")
def test_the_saved_model_gives_the_same_scores_and_is_no_pickle(
    flavor: str, trainer: Trainer, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # MLflow's switch against pickles shuts out the safe format too; the model is our own.
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    import mlflow.pyfunc

    trainer.save(trained, tmp_path / "model")
    files = {path.name for path in (tmp_path / "model").iterdir()}
    assert FILES[flavor] == {name for name in files if name.startswith("model.")}
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "model")).predict(pd.DataFrame(GAPS, columns=list("abcd")))
    np.testing.assert_allclose(_positive(loaded), trained.score(GAPS), rtol=0, atol=1e-6)


def _positive(prediction: Any) -> Any:
    """Probability of the positive class in what each flavor's pyfunc answers."""
    scores = np.asarray(prediction)
    return scores[:, -1] if scores.ndim == 2 else scores


@pytest.mark.parametrize(
    ("flavor", "hyperparameters", "message"),
    [
        ("random_forest", {}, "the flavor is 'random_forest'; allowed are xgboost, logistic_regression, mlp, onnx"),
        ("xgboost", {"leaves": 3}, "hyperparameters of xgboost.*leaves"),
    ],
)
def test_unknown_kinds_and_hyperparameters_are_refused(flavor: str, hyperparameters: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        make_trainer(flavor, hyperparameters)
