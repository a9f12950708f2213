"""Engines: four ways to compute the same scores, behind one method.

ONNX Runtime is fastest for a single row, oneDAL or XGBoost in bulk. The library of an engine is imported when the engine is
opened, so that a replica loads only the one it uses. Nothing here unpickles.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from hotcold.domain.errors import PackageError, first_line
from hotcold.domain.schema import Matrix

Scores = NDArray[np.float32]
Order = Literal["C", "F"]

ONNX_FILE, XGBOOST_FILE, SKLEARN_FILE = "model.onnx", "model.ubj", "model.skops"
ALL_THREADS = 0

# What skops does not trust by itself and a model may hold all the same; the imputer keeps the dtype of its input.
TRUSTED_TYPES = ("numpy.dtype",)

# Names that exporters give to the output with the scores, for models that have several outputs of the right shape.
_SCORE_NAMES = ("scores", "probabilities", "output_probability", "variable")


class Engine(Protocol):
    """Computes scores.

    Args:
        name: see `open_engine`.
        order: how a large matrix lies in memory best, see `Schema.encode_columns`; any engine takes either.
    """

    name: str
    order: Order

    def score(self, matrix: Matrix) -> Scores:
        """Scores of n rows.

        Args:
            matrix: shape (n, features), float32, contiguous.

        Returns:
            Shape (n,), float32: probability of the positive class, or the prediction of a regression.
        """


def open_engine(name: str, model_dir: Path, threads: int = 1) -> Engine:
    """Load a model into one engine.

    Args:
        name: `onnx`, `onedal`, `xgboost` or `sklearn`.
        model_dir: the package's `model` folder.
        threads: threads per call; ALL_THREADS takes all cores. One is fastest for single rows.

    Returns:
        An engine; its `score` may be called from several threads.

    Raises:
        PackageError: unknown name, a library or file that is missing, or a model that the engine cannot run.
    """
    if name not in _ENGINES:
        raise PackageError(f"the engine is {name!r}; known are {', '.join(_ENGINES)}")
    file, engine = _ENGINES[name]
    if not (model_dir / file).is_file():
        raise PackageError(f"the engine {name} needs model/{file}, which the package does not hold; build it again")
    try:
        return engine(model_dir / file, threads)
    except ImportError as error:
        raise PackageError(f"the engine {name} is not installed here: {error}") from error
    except PackageError:
        raise
    except Exception as error:
        # Each library has its own errors for a file that it cannot read; to the caller they are all the same.
        raise PackageError(f"the engine {name} cannot run model/{file}: {type(error).__name__}: {first_line(error)}") from error


@contextmanager
def unwatched_by_collector() -> Iterator[None]:
    """Keep the garbage collector still while libraries and models are loaded.

    They bring a hundred thousand objects that stay; looking for garbage among them again and again takes an eighth of the time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def model_file(name: str, model_dir: Path) -> Path:
    """The file that an engine reads, whether or not it exists."""
    return model_dir / _ENGINES[name][0]


class OnnxEngine:
    """ONNX Runtime on the CPU.

    Args:
        path: ONNX file with one input [n, features] and a float output [n], [n, 1] or [n, 2].
        threads: see `open_engine`.
    """

    name = "onnx"
    order: Order = "C"

    def __init__(self, path: Path, threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Waiting threads that spin take the core from the event loop and from other replicas.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        inputs = session.get_inputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 2:
            seen = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
            raise PackageError(f"the ONNX model takes {seen}; needed is one tensor(float) [n, features]")
        self._run, self._input = session.run, inputs[0].name
        self._outputs = [score_output([(o.name, o.type, list(o.shape)) for o in session.get_outputs()])]

    def score(self, matrix: Matrix) -> Scores:
        """See Engine."""
        return _last_column(self._run(self._outputs, {self._input: matrix})[0])


def score_output(outputs: list[tuple[str, str, list[Any]]]) -> str:
    """The output of an ONNX model that holds the scores.

    Args:
        outputs: name, type as ONNX Runtime writes it, and shape of each output.

    Returns:
        Its name.

    Raises:
        PackageError: no output has a usable shape, or several have and none has a usual name.
    """
    fit = [name for name, kind, shape in outputs if kind in ("tensor(float)", "tensor(double)") and _holds_scores(shape)]
    if len(fit) > 1:
        fit = [name for name in _SCORE_NAMES if name in fit][:1]
    if not fit:
        seen = ", ".join(f"{name} {kind} {shape}" for name, kind, shape in outputs)
        raise PackageError(f"the ONNX model gives {seen}; needed is one float output of shape [n], [n, 1] or [n, 2]")
    return fit[0]


def _holds_scores(shape: list[Any]) -> bool:
    # An unknown width is a text or None; the scores of the reference sample will tell.
    return len(shape) == 1 or (len(shape) == 2 and (shape[1] in (1, 2) or not isinstance(shape[1], int)))


class XGBoostEngine:
    """XGBoost's own prediction.

    Args:
        path: a Booster as UBJSON or JSON.
        threads: see `open_engine`.
    """

    name = "xgboost"
    order: Order = "C"

    def __init__(self, path: Path, threads: int = 1) -> None:
        import xgboost

        self._booster = xgboost.Booster({"nthread": threads}, model_file=str(path))

    def score(self, matrix: Matrix) -> Scores:
        """See Engine."""
        return _last_column(self._booster.inplace_predict(matrix))


class OneDALEngine:
    """Intel's oneDAL, which reads the trees of an XGBoost model; it decides by itself how many threads a call is worth.

    Args:
        path: a Booster as UBJSON or JSON, without categorical splits.
    """

    name = "onedal"
    order: Order = "F"

    def __init__(self, path: Path) -> None:
        import xgboost
        from daal4py.mb import convert_model

        model = convert_model(xgboost.Booster(model_file=str(path)))
        self._predict: Callable[[Matrix], Any] = model.predict if model.is_regressor_ else model.predict_proba

    def score(self, matrix: Matrix) -> Scores:
        """See Engine."""
        return _last_column(self._predict(matrix))


class SklearnEngine:
    """A scikit-learn estimator or pipeline; estimators carry their own number of threads.

    Args:
        path: skops file that holds trusted types only.
    """

    name = "sklearn"
    order: Order = "C"

    def __init__(self, path: Path) -> None:
        self._predict = predict_function(load_skops(path))

    def score(self, matrix: Matrix) -> Scores:
        """See Engine."""
        return _last_column(self._predict(matrix))


def load_skops(path: Path) -> Any:
    """Load an estimator, provided that it consists of trusted types only.

    Raises:
        PackageError: the file holds other types; they are named.
    """
    import skops.io

    if unknown := sorted(set(skops.io.get_untrusted_types(file=path)) - set(TRUSTED_TYPES)):
        raise PackageError(
            f"the scikit-learn model holds types that are not trusted: {', '.join(unknown[:5])}; "
            f"trusted beyond skops' own list are {', '.join(TRUSTED_TYPES)}, so train it without them"
        )
    return skops.io.load(path, trusted=list(TRUSTED_TYPES))


def predict_function(model: Any) -> Callable[[Matrix], Any]:
    """The method of an estimator that gives its scores.

    Raises:
        PackageError: a classifier without probabilities or with more than two classes.
    """
    from sklearn.base import is_classifier

    if not is_classifier(model):
        predict: Callable[[Matrix], Any] = model.predict
        return predict
    if not hasattr(model, "predict_proba") or len(model.classes_) != 2:
        raise PackageError("the scikit-learn classifier has no probabilities for two classes; only such ones can be served")
    proba: Callable[[Matrix], Any] = model.predict_proba
    return proba


def _last_column(scores: Any) -> Scores:
    """One score per row: a vector as it is, otherwise the last of one or two columns."""
    if scores.ndim == 2 and scores.shape[1] <= 2:
        scores = scores[:, -1]
    if scores.ndim != 1:
        raise PackageError(f"the model gives scores of shape {list(scores.shape)}; needed is [n], [n, 1] or [n, 2]")
    return np.ascontiguousarray(scores, dtype=np.float32)


_ENGINES: dict[str, tuple[str, Callable[[Path, int], Engine]]] = {
    "onnx": (ONNX_FILE, OnnxEngine),
    "onedal": (XGBOOST_FILE, lambda path, _: OneDALEngine(path)),
    "xgboost": (XGBOOST_FILE, XGBoostEngine),
    "sklearn": (SKLEARN_FILE, lambda path, _: SklearnEngine(path)),
}
ENGINE_NAMES = tuple(_ENGINES)
