"""Turns a registered model into ONNX: once, while it is packaged; the same model gives the same bytes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from hotcold.adapters.engines import load_skops
from hotcold.domain.errors import PackageError

INPUT_NAME = "features"
_GRAPH_NAME = "hotcold"


def export_onnx(flavor: str, source: Path, target: Path, features: int) -> None:
    """Write a model as an ONNX file.

    Args:
        flavor: `xgboost`, `sklearn` or `onnx`.
        source: the model file of that flavor.
        target: file to write.
        features: number of features.

    Raises:
        PackageError: the converter cannot convert this model.
    """
    try:
        with warnings.catch_warnings():
            # Converters warn about versions of each other; the parity check is what decides.
            warnings.simplefilter("ignore")
            model = _EXPORTERS[flavor](source, features)
            target.write_bytes(_canonical_bytes(model))
    except (PackageError, OSError):
        raise
    except Exception as error:
        # Converters raise whatever they run into; whichever it is, the package goes without this engine.
        raise PackageError(f"the model cannot be written as ONNX: {type(error).__name__}: {str(error)[:300]}") from error


def _canonical_bytes(model: Any) -> bytes:
    # Converters put random names and their own versions here; none of it changes a score.
    model.graph.name = _GRAPH_NAME
    for field in ("producer_name", "producer_version", "doc_string", "domain"):
        model.ClearField(field)
    return bytes(model.SerializeToString(deterministic=True))


def _from_xgboost(source: Path, features: int) -> Any:
    import onnxmltools
    import xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    booster = xgboost.Booster(model_file=str(source))
    # The converter reads column numbers from names like f0; a model that was trained with names has others.
    booster.feature_names = None
    booster.feature_types = None
    inputs = [(INPUT_NAME, FloatTensorType([None, features]))]
    return _only_scores(onnxmltools.convert_xgboost(booster, name=_GRAPH_NAME, initial_types=inputs))


def _from_sklearn(source: Path, features: int) -> Any:
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.base import is_classifier

    estimator = load_skops(source)
    options = {"zipmap": False} if is_classifier(estimator) else None
    inputs = [(INPUT_NAME, FloatTensorType([None, features]))]
    return _only_scores(to_onnx(estimator, initial_types=inputs, options=options, name=_GRAPH_NAME))


def _from_onnx(source: Path, features: int) -> Any:
    import onnx

    model = onnx.load(source)
    for tensor in model.graph.input:
        width = [axis.dim_value for axis in tensor.type.tensor_type.shape.dim][1:]
        # 0 stands for a width that the model leaves open.
        if len(model.graph.input) == 1 and width not in ([features], [0]):
            raise PackageError(f"the ONNX model takes {tensor.name} of width {width}; the schema has {features} features")
    return model


def _only_scores(model: Any) -> Any:
    """Drop the output with the class, and what computes nothing else is skipped by ONNX Runtime."""
    labels = [output for output in model.graph.output if output.name in ("label", "output_label")]
    for output in labels:
        model.graph.output.remove(output)
    return model


_EXPORTERS = {"xgboost": _from_xgboost, "sklearn": _from_sklearn, "onnx": _from_onnx}
