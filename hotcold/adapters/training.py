"""Trains models: one trainer per kind, all behind the same two methods.

A trainer learns from the encoded matrix and writes an MLflow model folder; nothing else needs to know the library. No trainer
writes a pickle, and none uses categorical splits, which other engines than XGBoost cannot read.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hotcold.adapters.engines import TRUSTED_TYPES
from hotcold.domain.errors import TrainingError
from hotcold.domain.schema import Matrix

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Trained:
    """A trained model.

    Args:
        model: the library's object.
        score: maps a matrix of shape (n, features) to n probabilities.
    """

    model: Any
    score: Callable[[Matrix], Scores]


class Trainer(Protocol):
    """Makes one kind of model."""

    mlflow_flavor: str

    def train(self, matrix: Matrix, labels: NDArray[np.int8]) -> Trained:
        """Learn from n rows and their labels, 0 or 1."""

    def save(self, trained: Trained, folder: Path, **description: Any) -> None:
        """Write an MLflow model folder; `description` is signature, input_example and mlflow_model."""


@dataclass(frozen=True)
class XGBoostTrainer:
    """Gradient-boosted trees on numeric codes, grown by histogram.

    Args:
        trees: number of trees.
        depth: largest depth of a tree.
        learning_rate: share of each tree's correction that is taken.
        row_share: share of the rows that each tree sees.
        feature_share: share of the features that each tree sees.
        min_child_weight: least sum of instance weight in a leaf.
        seed: of the random choices.
        threads: 0 takes all cores; the result does not depend on it.
    """

    trees: int = 300
    depth: int = 8
    learning_rate: float = 0.05
    row_share: float = 0.8
    feature_share: float = 0.6
    min_child_weight: float = 20.0
    seed: int = 0
    threads: int = 0

    mlflow_flavor = "xgboost"

    def train(self, matrix: Matrix, labels: NDArray[np.int8]) -> Trained:
        """See Trainer."""
        xgboost = _import_xgboost()
        parameters = {
            "objective": "binary:logistic",
            "tree_method": "hist",
            "max_depth": self.depth,
            "eta": self.learning_rate,
            "subsample": self.row_share,
            "colsample_bytree": self.feature_share,
            "min_child_weight": self.min_child_weight,
            "seed": self.seed,
            "nthread": self.threads,
        }
        booster = xgboost.train(parameters, xgboost.QuantileDMatrix(matrix, labels), num_boost_round=self.trees)
        return Trained(booster, booster.inplace_predict)

    def save(self, trained: Trained, folder: Path, **description: Any) -> None:
        """See Trainer."""
        import mlflow.xgboost

        requirements = _pinned("mlflow", "xgboost")
        mlflow.xgboost.save_model(trained.model, folder, model_format="ubj", pip_requirements=requirements, **description)


@dataclass(frozen=True)
class LogisticRegressionTrainer:
    """Imputer, scaler and logistic regression.

    Args:
        regularisation: inverse strength; smaller is stronger.
    """

    regularisation: float = 1.0

    mlflow_flavor = "sklearn"

    def train(self, matrix: Matrix, labels: NDArray[np.int8]) -> Trained:
        """See Trainer."""
        from sklearn.linear_model import LogisticRegression

        return _train_pipeline(LogisticRegression(C=self.regularisation, max_iter=500), matrix, labels)

    def save(self, trained: Trained, folder: Path, **description: Any) -> None:
        """See Trainer."""
        _save_sklearn(trained, folder, description)


@dataclass(frozen=True)
class MLPTrainer:
    """Imputer, scaler and a small neural network.

    Args:
        hidden_units: width of each hidden layer.
        epochs: passes over the data.
        seed: of the first weights and of the order of rows.
    """

    hidden_units: tuple[int, ...] = (32, 16)
    epochs: int = 8
    seed: int = 0

    mlflow_flavor = "sklearn"

    def train(self, matrix: Matrix, labels: NDArray[np.int8]) -> Trained:
        """See Trainer."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPClassifier

        network = MLPClassifier(
            hidden_layer_sizes=tuple(self.hidden_units),
            max_iter=self.epochs,
            batch_size=min(512, len(labels)),
            alpha=1e-3,
            random_state=self.seed,
        )
        with warnings.catch_warnings():
            # The number of epochs is the caller's choice, not a fault.
            warnings.simplefilter("ignore", ConvergenceWarning)
            trained = _train_pipeline(network, matrix, labels)
        # Only further training needs it, and skops would have to be told to trust it.
        vars(network).pop("_optimizer")
        return trained

    def save(self, trained: Trained, folder: Path, **description: Any) -> None:
        """See Trainer."""
        _save_sklearn(trained, folder, description)


@dataclass(frozen=True)
class OnnxTrainer:
    """The small neural network, released as nothing but an ONNX graph.

    Args:
        network: what is trained and then exported.
    """

    network: MLPTrainer = field(default_factory=MLPTrainer)

    mlflow_flavor = "onnx"

    def train(self, matrix: Matrix, labels: NDArray[np.int8]) -> Trained:
        """See Trainer. The scores are those of the exported graph."""
        import onnxruntime
        from skl2onnx import to_onnx

        pipeline = self.network.train(matrix, labels).model
        graph = _answering_scores(to_onnx(pipeline, matrix[:1], options={"zipmap": False}))
        session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return Trained(graph, lambda rows: session.run(["scores"], {name: rows})[0])

    def save(self, trained: Trained, folder: Path, **description: Any) -> None:
        """See Trainer."""
        import mlflow.onnx

        mlflow.onnx.save_model(
            trained.model,
            folder,
            pip_requirements=_pinned("mlflow", "onnx", "onnxruntime"),
            onnx_execution_providers=["CPUExecutionProvider"],
            # One file is easier to seal than two, and these graphs are far below the 2 GiB that a file may hold.
            save_as_external_data=False,
            **description,
        )


_TRAINERS: Mapping[str, Callable[..., Trainer]] = {
    "xgboost": XGBoostTrainer,
    "logistic_regression": LogisticRegressionTrainer,
    "mlp": MLPTrainer,
    "onnx": lambda **hyperparameters: OnnxTrainer(MLPTrainer(**hyperparameters)),
}


def make_trainer(flavor: str, hyperparameters: Mapping[str, Any]) -> Trainer:
    """The trainer of one kind of model.

    Args:
        flavor: `xgboost`, `logistic_regression`, `mlp` or `onnx`.
        hyperparameters: fields of that trainer.

    Raises:
        TrainingError: unknown flavor or hyperparameter.
    """
    if flavor not in _TRAINERS:
        raise TrainingError(f"the flavor is {flavor!r}; allowed are {', '.join(_TRAINERS)}")
    try:
        return _TRAINERS[flavor](**hyperparameters)
    except TypeError as error:
        raise TrainingError(f"hyperparameters of {flavor}: {error}") from error


def _train_pipeline(estimator: Any, matrix: Matrix, labels: NDArray[np.int8]) -> Trained:
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # Without keep_empty_features a feature that is missing in the whole window would silently vanish.
    pipeline = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler(), estimator)
    pipeline.fit(matrix, labels)
    return Trained(pipeline, lambda rows: pipeline.predict_proba(rows)[:, 1])


def _answering_scores(graph: Any) -> Any:
    """The exported classifier with one output, the probability of label 1, of shape [n].

    An MLflow server cannot put the converter's two outputs, one of them a matrix, into the table that it answers with.
    """
    import onnx

    graph.graph.initializer.append(onnx.numpy_helper.from_array(np.array(1, dtype=np.int64), "positive"))
    graph.graph.node.append(onnx.helper.make_node("Gather", ["probabilities", "positive"], ["scores"], axis=1))
    del graph.graph.output[:]
    graph.graph.output.append(onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [None]))
    onnx.checker.check_model(graph)
    return graph


def _save_sklearn(trained: Trained, folder: Path, description: Mapping[str, Any]) -> None:
    import mlflow.sklearn

    mlflow.sklearn.save_model(
        trained.model,
        folder,
        serialization_format="skops",
        skops_trusted_types=list(TRUSTED_TYPES),
        pyfunc_predict_fn="predict_proba",
        pip_requirements=_pinned("mlflow", "scikit-learn", "skops"),
        **description,
    )


def _import_xgboost() -> Any:
    """XGBoost, told to let waiting threads sleep.

    By default they spin at every barrier. Where other processes need the cores as well, for instance the replicas that serve
    the champion, 100 trees then took 52 s in place of 9 s. The variable is read once, when the library is loaded.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import xgboost

    return xgboost


def _pinned(*packages: str) -> list[str]:
    """Exact requirements; given to MLflow, or it would start a process and load the model to find them out."""
    return [f"{package}=={version(package)}" for package in packages]
