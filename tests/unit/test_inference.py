"""Requests: what is read from good ones, and that bad ones are refused with the right status and the field at fault."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotcold.domain.errors import BodyTooLargeError, InvalidInputError, MalformedBodyError, RequestError
from hotcold.domain.field import Field
from hotcold.domain.inference import MAX_ROWS, decode_predict, encode_predict
from hotcold.domain.schema import Schema
from hotcold.domain.tensors import InferRequest, decode_infer, encode_infer

SCHEMA = Schema(
    (
        Field("minute", "int32"),
        Field("carrier", "category", categories=("AA", "B:6", 'U"A')),
        Field("wind", "float32", nullable=True),
        Field("gust", "float32", nullable=True, required=False),
    )
)
GOOD = {"minute": 615, "carrier": "B:6", "wind": 3.5, "gust": None}
quick = settings(max_examples=200, derandomize=True, deadline=None, database=None)


def records(*rows: object) -> bytes:
    return json.dumps({"records": rows}).encode()


def tensor(**changes: Any) -> dict[str, Any]:
    return {"name": "features", "datatype": "FP32", "shape": [1, 4], "data": [615, 1, 3.5, None], **changes}


def infer(**changes: Any) -> bytes:
    return json.dumps({"inputs": [tensor(**changes)]}).encode()


def binary(rows: np.ndarray, size: int | None = None, **changes: Any) -> tuple[bytes, str]:
    parameters = {"binary_data_size": rows.nbytes if size is None else size}
    head = {"name": "features", "datatype": "FP32", "shape": list(rows.shape), "parameters": parameters, **changes}
    text = json.dumps({"inputs": [head]}).encode()
    return text + rows.tobytes(), str(len(text))


def test_records_become_the_matrix_in_schema_order() -> None:
    matrix = decode_predict(records(GOOD, {"wind": None, "carrier": 'U"A', "minute": 7}), SCHEMA)
    np.testing.assert_array_equal(np.array([[615, 1, 3.5, np.nan], [7, 2, np.nan, np.nan]], dtype=np.float32), matrix)
    assert np.float32 == matrix.dtype


def test_the_answer_names_model_and_version_and_keeps_each_bit_of_a_score() -> None:
    scores = np.array([0.1, 1 / 3], dtype=np.float32)
    answer = json.loads(encode_predict("m", "1.2.0", scores))
    assert {"model", "version", "scores"} == answer.keys()
    assert ("m", "1.2.0") == (answer["model"], answer["version"])
    np.testing.assert_array_equal(scores, np.array(answer["scores"], dtype=np.float32))


@pytest.mark.parametrize(
    ("body", "error", "field", "row"),
    [
        (b"", MalformedBodyError, "", None),
        (b"{", MalformedBodyError, "", None),
        (b"\xff", MalformedBodyError, "", None),
        (b"null", MalformedBodyError, "", None),
        (b"[]", MalformedBodyError, "", None),
        (b"[" * 100_000, MalformedBodyError, "", None),
        (b'{"records":' + b"[" * 900 + b"]" * 900 + b"}", InvalidInputError, "", 0),
        (b'{"records":[{"minute":NaN}]}', MalformedBodyError, "", None),
        (b'{"records":[{"minute":-Infinity}]}', MalformedBodyError, "", None),
        (b'{"records":[{"minute":1e400}]}', MalformedBodyError, "", None),
        (b"{}", InvalidInputError, "records", None),
        (b'{"records":null}', InvalidInputError, "records", None),
        (b'{"records":{}}', InvalidInputError, "records", None),
        (b'{"records":[]}', InvalidInputError, "records", None),
        (b'{"records":[],"more":1}', InvalidInputError, "more", None),
        (records(*[{}] * (MAX_ROWS + 1)), BodyTooLargeError, "records", None),
        (records(GOOD, None), InvalidInputError, "", 1),
        (records(GOOD, {}), InvalidInputError, "carrier", 1),
        (records({**GOOD, "speed": 1}), InvalidInputError, "speed", 0),
        (records(GOOD, {**GOOD, "minute": "615"}), InvalidInputError, "minute", 1),
        (records({**GOOD, "minute": True}), InvalidInputError, "minute", 0),
        (records({**GOOD, "minute": None}), InvalidInputError, "minute", 0),
        (records({**GOOD, "minute": 1.5}), InvalidInputError, "minute", 0),
        (records({**GOOD, "minute": [1]}), InvalidInputError, "minute", 0),
        (records({**GOOD, "minute": 10**40}), InvalidInputError, "minute", 0),
        (records({**GOOD, "wind": 1e40}), InvalidInputError, "wind", 0),
        (records({**GOOD, "wind": -1e40}, {**GOOD, "wind": 1e40}), InvalidInputError, "wind", 0),
        (records({**GOOD, "carrier": "ZZ"}), InvalidInputError, "carrier", 0),
        (records({**GOOD, "carrier": {}}), InvalidInputError, "carrier", 0),
        (b'{"records":[{"minute":1,"minute":2,"carrier":"AA","wind":1}]}', MalformedBodyError, "minute", None),
        (b'{"records":[{"minute":1,"carrier":"AA","wind":1}],"records":[]}', InvalidInputError, "records", None),
        (b'{"records":[],"records":[{"minute":1,"carrier":"B:6","wind":1}]}', MalformedBodyError, "records", None),
    ],
)
def test_bad_records_are_refused(body: bytes, error: type[RequestError], field: str, row: int | None) -> None:
    with pytest.raises(error) as caught:
        decode_predict(body, SCHEMA)
    assert (field, row) == (caught.value.field, caught.value.row)
    assert 400 <= caught.value.status < 500 and len(caught.value.detail) < 1000


@pytest.mark.parametrize("data", [[615, 1, 3.5, None], [[615, 1, 3.5, None]]])
def test_a_json_tensor_may_be_flat_or_nested(data: list[Any]) -> None:
    request = decode_infer(infer(data=data), None, SCHEMA)
    np.testing.assert_array_equal(np.array([[615, 1, 3.5, np.nan]], dtype=np.float32), request.matrix)
    assert (None, False) == (request.request_id, request.binary_output)


def test_a_binary_tensor_is_read_and_optional_columns_may_be_missing() -> None:
    rows = np.array([[615, 1, 3.5], [7, 0, np.nan]], dtype="<f4")
    body, length = binary(rows)
    expected = np.array([[615, 1, 3.5, np.nan], [7, 0, np.nan, np.nan]], dtype=np.float32)
    np.testing.assert_array_equal(expected, decode_infer(body, length, SCHEMA).matrix)


@pytest.mark.parametrize(
    ("extra", "binary_output"),
    [
        ({}, False),
        ({"parameters": {"binary_data_output": True}}, True),
        ({"outputs": [{"name": "scores"}]}, False),
        ({"outputs": [{"name": "scores", "parameters": {"binary_data": True}}]}, True),
        (
            {"outputs": [{"name": "scores", "parameters": {"binary_data": False}}], "parameters": {"binary_data_output": True}},
            False,
        ),
        ({"model_name": "kept by some clients", "parameters": {"timeout": 5, "priority": 1}}, False),
    ],
)
def test_the_caller_chooses_the_form_of_the_scores(extra: dict[str, Any], binary_output: bool) -> None:
    body = json.dumps({"id": "7", "inputs": [tensor()], **extra}).encode()
    request = decode_infer(body, None, SCHEMA)
    assert ("7", binary_output) == (request.request_id, request.binary_output)


def test_scores_are_answered_as_json() -> None:
    request = InferRequest(np.zeros((2, 4), dtype=np.float32), "7")
    answer = encode_infer(request, "m", "1.2.0", np.array([0.25, 0.5], dtype=np.float32))
    assert answer.json_bytes is None
    assert json.loads(answer.body) == {
        "model_name": "m",
        "model_version": "1.2.0",
        "id": "7",
        "outputs": [{"name": "scores", "datatype": "FP32", "shape": [2], "data": [0.25, 0.5]}],
    }


def test_scores_are_answered_as_bytes_behind_the_json() -> None:
    request = InferRequest(np.zeros((2, 4), dtype=np.float32), binary_output=True)
    answer = encode_infer(request, "m", "1.2.0", np.array([0.25, 0.5], dtype=np.float32))
    output = json.loads(answer.body[: answer.json_bytes])["outputs"][0]
    assert {"name": "scores", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}} == output
    assert [0.25, 0.5] == np.frombuffer(answer.body[answer.json_bytes :], dtype="<f4").tolist()


@pytest.mark.parametrize(
    ("body", "error", "field"),
    [
        (b"", MalformedBodyError, ""),
        (b"{}", InvalidInputError, "inputs"),
        (b'{"inputs":[]}', InvalidInputError, "features"),
        (b'{"inputs":[1]}', InvalidInputError, "inputs"),
        (b'{"inputs":[{}]}', InvalidInputError, "None"),
        (infer(name="rows"), InvalidInputError, "rows"),
        (json.dumps({"inputs": [tensor(), tensor()]}).encode(), InvalidInputError, "features"),
        (infer(datatype="FP64"), InvalidInputError, "features"),
        (infer(datatype="INT32"), InvalidInputError, "features"),
        (infer(datatype=None), InvalidInputError, "features"),
        (infer(shape=None), InvalidInputError, "features"),
        (infer(shape=[4]), InvalidInputError, "features"),
        (infer(shape=[1, 4, 1]), InvalidInputError, "features"),
        (infer(shape=[1, 5]), InvalidInputError, "features"),
        (infer(shape=[True, 4]), InvalidInputError, "features"),
        (infer(shape=[1.0, 4]), InvalidInputError, "features"),
        (infer(shape=[-1, 4]), InvalidInputError, "features"),
        (infer(shape=[0, 4], data=[]), InvalidInputError, "features"),
        (infer(shape=[2**62, 4]), BodyTooLargeError, "features"),
        (infer(shape=[10**30, 4]), InvalidInputError, "features"),
        (infer(shape=[2, 4]), InvalidInputError, "features"),
        (infer(data=[[615, 1], [3.5, None]]), InvalidInputError, "features"),
        (infer(data="615"), InvalidInputError, "features"),
        (infer(data=[615, "AA", 3.5, None]), InvalidInputError, "carrier"),
        (infer(data=[True, 1, 3.5, None]), InvalidInputError, "minute"),
        (infer(data=[615, 1, {}, None]), InvalidInputError, "wind"),
        (infer(data=[615, 1, 1e40, None]), InvalidInputError, "wind"),
        (infer(data=[615, None, 1, None]), InvalidInputError, "carrier"),
        (infer(data=[615, 3, 1, None]), InvalidInputError, "carrier"),
        (infer(data=[615, 0.5, 1, None]), InvalidInputError, "carrier"),
        (infer(parameters={"binary_data_size": 16}), InvalidInputError, "features"),
        (infer(parameters={"shared_memory_region": "r"}), InvalidInputError, "shared_memory_region"),
        (infer(parameters=[]), InvalidInputError, "parameters"),
        (b'{"inputs":[{"name":"features","datatype":"FP32","shape":[1,4]}]}', InvalidInputError, "features"),
        (json.dumps({"inputs": [tensor()], "outputs": [{"name": "logits"}]}).encode(), InvalidInputError, "logits"),
        (json.dumps({"inputs": [tensor()], "outputs": {}, "id": 7}).encode(), InvalidInputError, "id"),
        (json.dumps({"inputs": [tensor()], "outputs": "scores"}).encode(), InvalidInputError, "outputs"),
        (json.dumps({"inputs": [tensor()], "outputs": [{"name": "scores"}] * 2}).encode(), InvalidInputError, "scores"),
        (
            json.dumps({"inputs": [tensor()], "parameters": {"binary_data_output": 1}}).encode(),
            InvalidInputError,
            "binary_data_output",
        ),
        (infer()[:-1] + b',"inputs":[]}', InvalidInputError, "features"),
        (infer()[:-1] + b',"id":"a","id":"b"}', MalformedBodyError, "id"),
    ],
)
def test_bad_tensors_are_refused(body: bytes, error: type[RequestError], field: str) -> None:
    with pytest.raises(error) as caught:
        decode_infer(body, None, SCHEMA)
    assert field == caught.value.field
    assert 400 <= caught.value.status < 500 and len(caught.value.detail) < 1000


@pytest.mark.parametrize("length", ["", "-1", "+1", "1e2", "abc", "٣", "9999999", "1" * 5000])
def test_a_wrong_length_of_the_json_part_is_refused(length: str) -> None:
    body, _ = binary(np.ones((1, 4), dtype="<f4"))
    with pytest.raises(MalformedBodyError) as caught:
        decode_infer(body, length, SCHEMA)
    assert "Inference-Header-Content-Length" == caught.value.field


@pytest.mark.parametrize("size", [0, 12, 20, -16, 2**70])
def test_a_binary_size_that_does_not_suit_the_shape_is_refused(size: int) -> None:
    body, length = binary(np.ones((1, 4), dtype="<f4"), size=size)
    with pytest.raises(InvalidInputError, match="its shape \\[1, 4\\] needs 16"):
        decode_infer(body, length, SCHEMA)


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ([np.inf, 0, 0, 0], "minute"),
        ([np.nan, 0, 0, 0], "minute"),
        ([1, 0, -np.inf, np.inf], "wind"),
        ([1, -1, 0, 0], "carrier"),
    ],
)
def test_bad_numbers_in_a_binary_tensor_are_refused(row: list[float], field: str) -> None:
    body, length = binary(np.array([row], dtype="<f4"))
    with pytest.raises(InvalidInputError) as caught:
        decode_infer(body, length, SCHEMA)
    assert (field, 0) == (caught.value.field, caught.value.row)


def test_bytes_behind_a_json_tensor_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="4 bytes follow"):
        decode_infer(infer() + b"1234", str(len(infer())), SCHEMA)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*GOOD, "name", "shape", "data"]) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@quick
@given(st.binary(max_size=64) | json_values.map(lambda value: json.dumps(value).encode()))
def test_arbitrary_bodies_raise_nothing_but_request_errors(body: bytes) -> None:
    for decode in (lambda: decode_predict(body, SCHEMA), lambda: decode_infer(body, None, SCHEMA)):
        with pytest.raises(RequestError):
            decode()


@quick
@given(st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys([*GOOD, "more"], json_values)) | json_values, max_size=3))
def test_arbitrary_records_are_encoded_or_refused(rows: list[object]) -> None:
    try:
        matrix = decode_predict(records(*rows), SCHEMA)
    except RequestError:
        return
    assert (len(rows), 4) == matrix.shape and not np.isinf(matrix).any()


@quick
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "name": st.just("features") | json_values,
            "datatype": st.just("FP32") | json_values,
            "shape": st.just([1, 4]) | st.lists(st.integers(), max_size=3) | json_values,
            "data": st.lists(st.integers(0, 2) | json_values, min_size=4, max_size=4) | json_values,
            "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": st.integers() | json_values}) | json_values,
        },
    ),
    st.none() | st.text(max_size=3) | st.integers(0, 400).map(str),
    st.binary(max_size=32),
)
def test_arbitrary_tensors_are_read_or_refused(head: dict[str, Any], length: str | None, tail: bytes) -> None:
    try:
        request = decode_infer(json.dumps({"inputs": [head]}).encode() + tail, length, SCHEMA)
    except RequestError:
        return
    assert 4 == request.matrix.shape[1] and not np.isinf(request.matrix).any()


def test_the_answer_is_strict_json_for_every_finite_score() -> None:
    for value in (0.0, 1.0, np.finfo(np.float32).tiny, np.finfo(np.float32).max):
        assert np.float32(value) == np.float32(
            orjson.loads(encode_predict("m", "1.0.0", np.array([value], dtype=np.float32)))["scores"][0]
        )
