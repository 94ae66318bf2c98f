"""Conditions that fail an audit."""

from __future__ import annotations

from typing import Any

import pytest

from camcli.audit.conditions import MEASURES, parse_condition, value_of
from camcli.errors import CamcliError

RECORD: dict[str, Any] = {
    "suspects": [{}, {}],
    "overall": {
        "accuracy": {"mean": 0.9},
        "top5": None,
        "shares": {"border": {"mean": 0.5}, "corners": {"mean": 0.2}, "centre": {"mean": 0.1}},
    },
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("border>0.4", True),
        ("border > 0.6", False),
        ("accuracy<0.9", False),
        ("accuracy<=0.9", True),
        ("suspects>0", True),
        ("suspects>=3", False),
    ],
)
def test_a_condition_compares(text: str, holds: bool) -> None:
    found = parse_condition(text).failure(RECORD)
    assert bool(found) is holds


def test_a_failure_says_what_was_found() -> None:
    assert parse_condition("border>0.4").failure(RECORD) == "border is 0.5: fails border>0.4"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("border", "'border': expected a measure, < or >, and a number, as accuracy<0.9"),
        ("boarder>1", "unknown measure 'boarder'"),
        ("border>much", "expected a number after >, got much"),
        ("border>nan", "expected a number after >, got nan"),
        ("border>=", "expected a number after >, got ="),
    ],
)
def test_another_condition_is_one_line(text: str, message: str) -> None:
    with pytest.raises(CamcliError) as raised:
        parse_condition(text.replace("==", ">=="))
    assert message in str(raised.value)


@pytest.mark.parametrize("measure", ["top5", "inside"])
def test_an_unknown_value_is_one_line(measure: str) -> None:
    assert value_of(RECORD, measure) is None
    with pytest.raises(CamcliError, match=f"the folder has no {measure}"):
        parse_condition(f"{measure}<0.5").failure(RECORD)


def test_the_measures_are_those_of_the_record() -> None:
    shares = ("border", "corners", "centre", "entropy", "inside")
    assert ("accuracy", "top5", *shares, "suspects") == MEASURES


def test_the_accuracy_of_selected_images_decides_nothing() -> None:
    record = RECORD | {"only": ["wrong"]}
    with pytest.raises(CamcliError, match="only images with wrong were explained"):
        parse_condition("accuracy<0.95").failure(record)
    assert parse_condition("border>0.4").failure(record)
