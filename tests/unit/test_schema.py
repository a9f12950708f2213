"""One schema, one encoding: what it makes of values, what it refuses, and which changes break a caller."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotcold.domain.errors import InvalidInputError, SchemaError
from hotcold.domain.field import Field
from hotcold.domain.schema import Schema, breaking_changes

SCHEMA = Schema(
    (
        Field("distance", "float32", "mile"),
        Field("seats", "int32"),
        Field("carrier", "category", categories=("AA", "UA")),
        Field("gust", "float32", "mph", nullable=True),
        Field("class", "category", categories=("eco", "first"), nullable=True),
        Field("altitude", "float32", "foot", nullable=True, required=False),
    )
)
RECORD = {"distance": 1089.5, "seats": 180, "carrier": "UA", "gust": None, "class": "first", "altitude": 3.0}
NAN = math.nan


def refusal(record: object) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        SCHEMA.encode_records([RECORD, record])
    return caught.value


def test_a_record_becomes_a_row_in_schema_order() -> None:
    """A missing value is NaN, a category is its index."""
    matrix = SCHEMA.encode_records([RECORD, RECORD | {"carrier": "AA", "gust": 21.5, "class": None}])
    assert np.float32 == matrix.dtype
    np.testing.assert_array_equal([[1089.5, 180, 1, NAN, 1, 3], [1089.5, 180, 0, 21.5, NAN, 3]], matrix)


def test_an_optional_feature_may_be_left_out() -> None:
    record = {name: value for name, value in RECORD.items() if name != "altitude"}
    assert math.isnan(SCHEMA.encode_records([record])[0, 5])


def test_no_records_make_an_empty_matrix() -> None:
    assert (0, 6) == SCHEMA.encode_records([]).shape


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"distance": None}, "distance", "is null; a number is needed"),
        ({"distance": "12"}, "distance", "is the string '12'; a number is needed"),
        ({"distance": True}, "distance", "is a boolean"),
        ({"distance": [1]}, "distance", "is an array"),
        ({"distance": NAN}, "distance", "is null or NaN"),
        ({"distance": math.inf}, "distance", "is infinite"),
        ({"distance": -math.inf}, "distance", "is infinite"),
        ({"distance": 1e40}, "distance", "is infinite or beyond float32"),
        ({"distance": 10**400}, "distance", "is infinite or beyond float32"),
        ({"gust": math.inf}, "gust", "is infinite"),
        ({"gust": "strong"}, "gust", "a number or null is needed"),
        ({"seats": 1.5}, "seats", "is not a whole number"),
        ({"seats": 2**24}, "seats", "is not a whole number in the range"),
        ({"seats": 2**24 + 1}, "seats", "is not a whole number in the range"),
        ({"seats": -(2**24)}, "seats", "is not a whole number in the range"),
        ({"carrier": "XX"}, "carrier", "is the string 'XX'; allowed are AA, UA"),
        ({"carrier": None}, "carrier", "is null; allowed are AA, UA"),
        ({"carrier": 1}, "carrier", "is the number '1'"),
        ({"carrier": True}, "carrier", "is a boolean"),
        ({"carrier": ["AA"]}, "carrier", "is an array"),
        ({"carrier": {}}, "carrier", "is an object"),
        ({"carrier": NAN}, "carrier", "is the number 'nan'"),
        ({"class": "second"}, "class", "allowed are eco, first or null"),
        ({"colour": "red"}, "colour", "has the unknown feature 'colour'"),
    ],
)
def test_a_wrong_value_is_refused_with_field_and_row(change: dict[str, object], field: str, message: str) -> None:
    error = refusal(RECORD | change)
    assert (field, 1) == (error.field, error.row)
    assert message in error.detail


def test_a_missing_feature_is_refused_by_name() -> None:
    error = refusal({name: value for name, value in RECORD.items() if name != "carrier"})
    assert ("carrier", 1) == (error.field, error.row)
    assert "lacks the feature 'carrier'" in error.detail


@pytest.mark.parametrize(("record", "kind"), [(None, "null"), ([], "an array"), ("x", "the string"), (3, "the number")])
def test_a_record_that_is_no_object_is_refused(record: object, kind: str) -> None:
    error = refusal(record)
    assert 1 == error.row
    assert f"record 1 is {kind}; an object is needed" == error.detail


def test_a_long_value_is_not_repeated_in_full() -> None:
    assert len(refusal(RECORD | {"carrier": "x" * 10_000}).detail) < 200
    assert len(refusal(RECORD | {"y" * 10_000: 1}).detail) < 300


def test_the_row_at_fault_is_named_behind_rows_that_are_null() -> None:
    columns = {name: [value, value] for name, value in RECORD.items()} | {"class": [NAN, "second"]}
    with pytest.raises(InvalidInputError) as caught:
        SCHEMA.encode_columns(columns, 2)
    assert 1 == caught.value.row


VALUES = st.fixed_dictionaries(
    {
        "distance": st.floats(-1e30, 1e30),
        "seats": st.integers(-(2**24) + 1, 2**24 - 1),
        "carrier": st.sampled_from(["AA", "UA"]),
        "gust": st.none() | st.floats(-1e30, 1e30),
        "class": st.none() | st.sampled_from(["eco", "first"]),
        "altitude": st.none() | st.floats(-1e30, 1e30),
    }
)


@given(st.lists(VALUES, min_size=1, max_size=20))
def test_records_columns_and_arrays_give_the_same_matrix(records: list[dict[str, Any]]) -> None:
    """Serving encodes records, batch and training encode columns; the model must not see a difference."""
    columns = {name: [record[name] for record in records] for name in SCHEMA.names}
    arrays = {
        "distance": np.array(columns["distance"], dtype=np.float64),
        "seats": np.array(columns["seats"], dtype=np.int32),
        "carrier": np.array(columns["carrier"], dtype=object),
        "gust": np.array([NAN if v is None else v for v in columns["gust"]], dtype=np.float64),
        "class": np.array(columns["class"], dtype=object),
        "altitude": np.array(columns["altitude"], dtype=object),
    }
    from_records = SCHEMA.encode_records(records)
    np.testing.assert_array_equal(from_records, SCHEMA.encode_columns(columns, len(records)))
    np.testing.assert_array_equal(from_records, SCHEMA.encode_columns(arrays, len(records)))
    np.testing.assert_array_equal(from_records, SCHEMA.check_matrix(from_records.astype(np.float64)))


@pytest.mark.parametrize(
    ("columns", "field", "message"),
    [
        ({"a": [1.0, 2.0]}, "b", "the column 'b' is missing"),
        ({"a": [1.0], "b": [1.0]}, "a", "has 1 values; needed are 2"),
        ({"a": [1.0, 2.0], "b": [1.0, 2.0, 3.0]}, "b", "has 3 values; needed are 2"),
        ({"a": np.array([True, False]), "b": [1.0, 2.0]}, "a", "is a boolean"),
        ({"a": np.array(["2013", "2014"], dtype="datetime64[D]"), "b": [1.0, 2.0]}, "a", "not a JSON value"),
    ],
)
def test_columns_that_do_not_fit_are_refused(columns: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message) as caught:
        Schema((Field("a"), Field("b"))).encode_columns(columns, 2)
    assert field == caught.value.field


ROW = [1089.5, 180, 1, NAN, 1, 3]


def test_a_tensor_may_leave_out_trailing_optional_features() -> None:
    matrix = SCHEMA.check_matrix(np.array([ROW[:5]]))
    np.testing.assert_array_equal([[*ROW[:5], NAN]], matrix)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.array(ROW), r"has shape \[6\]; needed is \[rows, 5 to 6\]"),
        (np.array([ROW[:4]]), r"has shape \[1, 4\]"),
        (np.array([[*ROW, 0]]), r"has shape \[1, 7\]"),
        (np.zeros((1, 1, 6)), r"has shape \[1, 1, 6\]"),
        (np.array([[1e40, *ROW[1:]]]), "'distance' is infinite or beyond float32"),
        (np.array([[math.inf, -math.inf, *ROW[2:]]]), "'distance' is infinite"),
        (np.array([[NAN, *ROW[1:]]]), "'distance' is null or NaN"),
        (np.array([ROW, [*ROW[:2], 2.0, *ROW[3:]]]), "row 1, feature 'carrier' is not a whole number in the range"),
        (np.array([[*ROW[:2], -1.0, *ROW[3:]]]), "'carrier' is not a whole number in the range"),
        (np.array([[*ROW[:2], 0.5, *ROW[3:]]]), "'carrier' is not a whole number"),
        (np.array([[*ROW[:4], 2.0, 3.0]]), "'class' is not a whole number in the range"),
    ],
)
def test_a_tensor_that_breaks_the_schema_is_refused(matrix: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        SCHEMA.check_matrix(matrix)


def test_a_schema_survives_json() -> None:
    assert SCHEMA == Schema.from_json(SCHEMA.to_json())
    assert SCHEMA.fingerprint == Schema.from_json(SCHEMA.to_json()).fingerprint


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        None,
        {"fields": 5},
        {"fields": []},
        {"fields": ["a"]},
        {"fields": [{"name": "a"}]},
        {"fields": [{"categories": []}]},
        {"fields": [{"name": "a", "categories": [], "colour": "red"}]},
    ],
)
def test_what_is_not_a_schema_is_refused(document: Any) -> None:
    with pytest.raises(SchemaError):
        Schema.from_json(document)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ([], "at least one field"),
        ([{"name": "a"}, {"name": "a"}], "listed twice"),
        ([{"name": "a", "nullable": True, "required": False}, {"name": "b"}], "comes before a required one"),
        ([{"name": "a", "required": False}], "has to be nullable"),
        ([{"name": ""}], "field ''"),
        ([{"name": "a", "dtype": "text"}], "dtype 'text'"),
        ([{"name": "a", "dtype": "category"}], "exactly the category fields"),
        ([{"name": "a", "categories": ("x",)}], "exactly the category fields"),
        ([{"name": "a", "dtype": "category", "categories": ("x", "x")}], "a category twice"),
    ],
)
def test_a_schema_that_contradicts_itself_is_refused(fields: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        Schema(tuple(Field(**values) for values in fields))


def changed(name: str, **values: Any) -> Schema:
    return Schema(tuple(replace(field, **values) if field.name == name else field for field in SCHEMA.fields))


def without(name: str) -> Schema:
    return Schema(tuple(field for field in SCHEMA.fields if field.name != name))


OPTIONAL = Field("extra", nullable=True, required=False)


@pytest.mark.parametrize(
    ("new", "breaks"),
    [
        (SCHEMA, ()),
        (Schema((*SCHEMA.fields, OPTIONAL)), ()),
        (changed("carrier", categories=("AA", "UA", "DL")), ()),
        (changed("distance", nullable=True), ()),
        (without("altitude"), ("altitude was removed",)),
        (changed("distance", unit="km"), ("distance was float32 [mile] and is float32 [km]",)),
        (changed("distance", dtype="int32"), ("distance was float32 [mile] and is int32 [mile]",)),
        (changed("carrier", categories=("UA", "AA")), ("carrier lost or reordered categories",)),
        (changed("carrier", categories=("AA",)), ("carrier lost or reordered categories",)),
        (changed("gust", nullable=False), ("gust no longer allows null",)),
        (changed("altitude", required=True), ("altitude is now required",)),
        (Schema((Field("extra"), *SCHEMA.fields)),
         (*(f"{n} was moved to another position" for n in SCHEMA.names), "extra is new and required")),
        (Schema((*SCHEMA.fields[1::-1], *SCHEMA.fields[2:])),
         ("distance was moved to another position", "seats was moved to another position")),
    ],
)  # fmt: skip
def test_what_breaks_a_caller(new: Schema, breaks: tuple[str, ...]) -> None:
    assert breaks == breaking_changes(SCHEMA, new)


@given(st.lists(VALUES, min_size=1, max_size=5))
def test_a_compatible_schema_takes_every_request_of_the_old_one(records: list[dict[str, Any]]) -> None:
    grown = Schema((*changed("carrier", categories=("AA", "UA", "DL")).fields, OPTIONAL))
    old = SCHEMA.encode_records(records)
    np.testing.assert_array_equal(old, grown.encode_records(records)[:, :6])
    np.testing.assert_array_equal(old, grown.check_matrix(old)[:, :6])
