"""The Open Inference Protocol, version 2: one input tensor `features`, one output tensor `scores`, as JSON or binary.

Binary tensors follow the protocol's binary data extension: the body starts with the JSON part, whose length a header gives, and
goes on with the bytes of the tensors, little-endian, row by row. Keys and parameters that the protocol leaves to
implementations are ignored, unless ignoring one would change what the caller gets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from hotcold.domain.errors import InvalidInputError, MalformedBodyError
from hotcold.domain.inference import Scores, check_duplicates, check_rows, read_object
from hotcold.domain.schema import Matrix, Schema

INPUT_NAME, OUTPUT_NAME, DATATYPE = "features", "scores", "FP32"
_ITEM_BYTES = 4
_MAX_ID_CHARS = 256
_NUMBERS = frozenset({int, float, type(None)})


@dataclass(frozen=True, eq=False)
class InferRequest:
    """A request as read.

    Args:
        matrix: shape (n, features), float32.
        request_id: to be echoed; None if the caller gave none.
        binary_output: the scores are wanted as bytes.
    """

    matrix: Matrix
    request_id: str | None = None
    binary_output: bool = False


@dataclass(frozen=True)
class InferAnswer:
    """An answer as written.

    Args:
        body: JSON, followed by the scores where they are wanted as bytes.
        json_bytes: length of the JSON part; None if there is nothing behind it.
    """

    body: bytes
    json_bytes: int | None = None


def decode_infer(body: bytes, json_length: str | None, schema: Schema) -> InferRequest:
    """Read an inference request.

    Args:
        body: the whole body.
        json_length: value of the header `Inference-Header-Content-Length`; None if there is none.
        schema: features of the model.

    Returns:
        The request, its matrix checked against the schema.

    Raises:
        RequestError: what is wrong, with tensor or feature where one is at fault.
    """
    text, tail = _split(body, json_length)
    document = read_object(text)
    tensor = _only_input(document)
    shape = _shape(tensor, schema)
    matrix = _binary(tensor, tail, shape) if _is_binary(tensor) else _from_json(tensor, tail, shape, schema)
    check_duplicates(text, _count_keys(document))
    with np.errstate(invalid="ignore"):
        return InferRequest(schema.check_matrix(matrix), _request_id(document), _wants_binary(document))


def _split(body: bytes, json_length: str | None) -> tuple[bytes, bytes]:
    if json_length is None:
        return body, b""
    if not (json_length.isascii() and json_length.isdigit()) or len(json_length) > 9 or int(json_length) > len(body):
        raise MalformedBodyError(
            f"the header Inference-Header-Content-Length is {json_length[:40]!r}; needed is a number of bytes up to the "
            f"{len(body)} of the body",
            field="Inference-Header-Content-Length",
        )
    return body[: int(json_length)], body[int(json_length) :]


def _only_input(document: Mapping[str, Any]) -> dict[str, Any]:
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or not all(isinstance(tensor, dict) for tensor in inputs):
        raise InvalidInputError("the body needs the key 'inputs' with an array of tensors", field="inputs")
    for tensor in inputs:
        if tensor.get("name") != INPUT_NAME:
            name = str(tensor.get("name"))[:80]
            raise InvalidInputError(f"there is no input {name!r}; the only one is {INPUT_NAME!r}", field=name)
    if len(inputs) != 1:
        raise InvalidInputError(f"the input {INPUT_NAME!r} is given {len(inputs)} times; give it once", field=INPUT_NAME)
    tensor = inputs[0]
    if tensor.get("datatype") != DATATYPE:
        raise InvalidInputError(
            f"the input {INPUT_NAME!r} has datatype {str(tensor.get('datatype'))[:20]!r}; only {DATATYPE} is taken, so convert "
            "the numbers before sending them",
            field=INPUT_NAME,
        )
    return dict(tensor)


def _shape(tensor: Mapping[str, Any], schema: Schema) -> tuple[int, int]:
    shape = tensor.get("shape")
    least, most = len(schema.required_names), len(schema.fields)
    is_pair = isinstance(shape, list) and len(shape) == 2 and all(type(size) is int for size in shape)
    if not is_pair or not least <= shape[1] <= most:  # type: ignore[index]
        allowed = f"{most}" if least == most else f"{least} to {most}"
        raise InvalidInputError(
            f"the input {INPUT_NAME!r} has shape {str(shape)[:60]}; needed is [rows, {allowed}]", field=INPUT_NAME
        )
    rows, columns = shape  # type: ignore[misc]
    check_rows(rows, INPUT_NAME)
    return rows, columns


def _parameters(part: Mapping[str, Any]) -> dict[str, Any]:
    parameters = part.get("parameters", {})
    if not isinstance(parameters, dict):
        raise InvalidInputError("'parameters' has to be an object", field="parameters")
    for name in parameters:
        if name == "classification" or name.startswith("shared_memory"):
            raise InvalidInputError(
                f"the parameter {name[:80]!r} is not supported here; send the tensor itself", field=name[:80]
            )
    return parameters


def _is_binary(tensor: Mapping[str, Any]) -> bool:
    binary = "binary_data_size" in _parameters(tensor)
    if binary == ("data" in tensor):
        seen = "both 'data' and 'binary_data_size'" if binary else "neither 'data' nor 'binary_data_size'"
        raise InvalidInputError(f"the input {INPUT_NAME!r} has {seen}; exactly one is needed", field=INPUT_NAME)
    return binary


def _binary(tensor: Mapping[str, Any], tail: bytes, shape: tuple[int, int]) -> Matrix:
    size, needed = tensor["parameters"]["binary_data_size"], shape[0] * shape[1] * _ITEM_BYTES
    if type(size) is not int or size != needed or len(tail) != needed:
        raise InvalidInputError(
            f"the input {INPUT_NAME!r} announces {str(size)[:20]} bytes and {len(tail)} follow the JSON part; its shape "
            f"{list(shape)} needs {needed}",
            field=INPUT_NAME,
        )
    return np.frombuffer(tail, dtype="<f4").reshape(shape).astype(np.float32)


def _from_json(tensor: Mapping[str, Any], tail: bytes, shape: tuple[int, int], schema: Schema) -> Matrix:
    if tail:
        raise InvalidInputError(
            f"{len(tail)} bytes follow the JSON part, but the input {INPUT_NAME!r} carries its numbers in 'data'",
            field=INPUT_NAME,
        )
    values = _flat(tensor["data"], shape)
    if not set(map(type, values)) <= _NUMBERS:
        at = next(index for index, value in enumerate(values) if type(value) not in _NUMBERS)
        row, column = divmod(at, shape[1])
        name = schema.names[column]
        raise InvalidInputError(f"row {row}, feature {name!r} is not a number; a number or null is needed", field=name, row=row)
    with np.errstate(over="ignore"):
        return np.array([math.nan if v is None else v for v in values], dtype=np.float64).astype(np.float32).reshape(shape)


def _flat(data: object, shape: tuple[int, int]) -> Sequence[object]:
    """The numbers of a flat array or of an array of rows, both of which the protocol allows."""
    rows, columns = shape
    if isinstance(data, list) and len(data) == rows and all(isinstance(row, list) and len(row) == columns for row in data):
        return [value for row in data for value in row]
    if not isinstance(data, list) or len(data) != rows * columns:
        seen = f"{len(data)} values" if isinstance(data, list) else "no array"
        raise InvalidInputError(
            f"the input {INPUT_NAME!r} has {seen} in 'data'; its shape {list(shape)} needs {rows * columns} numbers, or "
            f"{rows} rows of {columns}",
            field=INPUT_NAME,
        )
    return data


def _count_keys(value: object) -> int:
    if isinstance(value, dict):
        # Numbers only: it was checked before, and may be long.
        return len(value) + sum(_count_keys(part) for name, part in value.items() if name != "data")
    return sum(map(_count_keys, value)) if isinstance(value, list) else 0


def _request_id(document: Mapping[str, Any]) -> str | None:
    request_id = document.get("id")
    if request_id is None or (isinstance(request_id, str) and len(request_id) <= _MAX_ID_CHARS):
        return request_id
    raise InvalidInputError(f"'id' has to be a text of up to {_MAX_ID_CHARS} characters", field="id")


def _wants_binary(document: Mapping[str, Any]) -> bool:
    binary = _flag(_parameters(document), "binary_data_output", False)
    outputs = document.get("outputs") or []
    if not isinstance(outputs, list) or not all(isinstance(output, dict) for output in outputs):
        raise InvalidInputError("'outputs' has to be an array of objects", field="outputs")
    for output in outputs:
        if output.get("name") != OUTPUT_NAME:
            name = str(output.get("name"))[:80]
            raise InvalidInputError(f"there is no output {name!r}; the only one is {OUTPUT_NAME!r}", field=name)
        binary = _flag(_parameters(output), "binary_data", binary)
    if len(outputs) > 1:
        raise InvalidInputError(f"the output {OUTPUT_NAME!r} is asked for {len(outputs)} times; ask once", field=OUTPUT_NAME)
    return binary


def _flag(parameters: Mapping[str, Any], name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InvalidInputError(f"the parameter {name!r} has to be true or false", field=name)
    return value


def encode_infer(request: InferRequest, model: str, version: str, scores: Scores) -> InferAnswer:
    """Write the answer to an inference request.

    Args:
        request: what was asked.
        model: name of the model.
        version: its semantic version.
        scores: shape (n,).
    """
    output: dict[str, Any] = {"name": OUTPUT_NAME, "datatype": DATATYPE, "shape": [len(scores)]}
    document: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": [output]}
    if request.request_id is not None:
        document["id"] = request.request_id
    if not request.binary_output:
        output["data"] = scores
        return InferAnswer(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY))
    data = scores.astype("<f4").tobytes()
    output["parameters"] = {"binary_data_size": len(data)}
    text = orjson.dumps(document)
    return InferAnswer(text + data, len(text))
