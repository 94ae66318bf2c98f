"""The check of records: what is accepted, and the line for what is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from camcli.schema import MAX_DEPTH, Record, parse_json

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import given, settings  # noqa: E402 - after the check
from hypothesis import strategies as st  # noqa: E402

from tests.support.records import EXAMPLES, HOSTILE, damaged, names_of  # noqa: E402

every_record = pytest.mark.parametrize("name", EXAMPLES)


@every_record
def test_a_valid_record_is_kept_as_it_is(name: str) -> None:
    schema, example = EXAMPLES[name]
    assert schema.parse(json.dumps(example)) == example
    assert schema.parse(json.dumps(example).encode()) == example


@every_record
def test_the_examples_have_every_field(name: str) -> None:
    schema, example = EXAMPLES[name]
    for *path, field in names_of(schema):
        inner: Any = example
        for step in path:
            inner = inner[step]
        assert field in inner


@every_record
def test_optional_fields_may_be_null_or_absent(name: str) -> None:
    schema, example = EXAMPLES[name]
    required = {field: example[field] for field in schema.required}
    assert schema.parse(json.dumps(required)) == required
    assert schema.parse(json.dumps(required | dict.fromkeys(schema.optional.keys() - required)))


@every_record
@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(data=st.data())
def test_a_damaged_record_is_read_or_one_line(name: str, data: st.DataObject) -> None:
    text = data.draw(damaged(name))
    try:
        found = EXAMPLES[name][0].parse(text)
    except ValueError as error:
        message = str(error)
        assert message
        assert message.isprintable()
        assert len(message) < 400
    else:
        assert found == json.loads(text)
        json.dumps(found, allow_nan=False)


@every_record
@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_no_record_is_one_line(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|not JSON|nested") as refused:
        EXAMPLES[name][0].parse(text if text != "{}" else '{"architecture": 1, "model": 1}')
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop": [1, 2, 3]}, "crop is [1, 2, 3], expected a list of 4, each a whole number"),
        ({"cells": list(range(9))}, "cells is a list of 9, expected a list of 4"),
        ({"boxes": {"a": 1}}, "boxes is an object of 1, expected a list"),
        ({"status": "fine"}, 'status is "fine", expected one of error, empty, ok'),
        ({"score": 10**400}, "score is 1000"),
        ({"class_name": 7}, "class_name is 7, expected text"),
        ({"class_index": True}, "class_index is true, expected a whole number from 0"),
        ({"image": None}, "image is null, expected the name of a file"),
    ],
)
def test_the_line_names_field_value_and_kind(changes: dict[str, Any], message: str) -> None:
    schema, example = EXAMPLES["row"]
    with pytest.raises(ValueError, match="expected") as refused:
        schema.parse(json.dumps(example | changes))
    assert str(refused.value).startswith(message)


def test_fields_of_inner_records_are_named() -> None:
    schema, example = EXAMPLES["metrics"]
    text = json.dumps(example).replace('"mean": 0.5', '"mean": "high"')
    with pytest.raises(ValueError, match=r"metrics\.deletion\.rows\.gradcam\.mean is \"high\""):
        schema.parse(text)


def test_nesting_has_a_limit_that_the_width_of_a_list_does_not() -> None:
    assert len(parse_json(f"[{'[],' * 5000}[]]")) == 5001
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    with pytest.raises(ValueError, match="nested more than 32 deep"):
        parse_json("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))


def test_a_field_that_is_missing_is_named() -> None:
    schema: Record = EXAMPLES["shard"][0]
    with pytest.raises(ValueError, match=r"no shard\.count, expected a whole number from 1"):
        schema.parse('{"shard": {"number": 1}}')
