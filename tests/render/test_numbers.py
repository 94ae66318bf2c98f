"""Numbers in pictures: short, without an exponent where there is a shorter way."""

from __future__ import annotations

import math

import pytest

from camcli.render.numbers import format_number, format_probability


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (-180.0, "-180"),
        (-183.4, "-180"),
        (0.031, "0.031"),
        (0.5, "0.5"),
        (2.0, "2"),
        (27.6, "28"),
        (0.99999, "1"),
        (9.96, "10"),
        (99.96, "100"),
        (0.00034, "0.00034"),
        (0.0001, "0.0001"),
        (0.00009999, "0.0001"),
        (0.0000123, "1.2e-5"),
        (1.2e-6, "1.2e-6"),
        (-2e-7, "-2e-7"),
        (123456.0, "120000"),
        (999999.0, "1e6"),
        (123456789.0, "1.2e8"),
        (math.inf, "inf"),
        (math.nan, "nan"),
    ],
)
def test_numbers_have_two_digits(value: float, text: str) -> None:
    assert format_number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(183.4, "183"), (0.03128, "0.0313"), (1.2345e-7, "1.23e-7"), (1.5, "1.5")]
)
def test_numbers_have_more_digits_on_request(value: float, text: str) -> None:
    assert format_number(value, 3) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "<0.1 %"),
        (0.0004, "<0.1 %"),
        (0.0006, "0.1 %"),
        (0.5, "50.0 %"),
        (0.9994, "99.9 %"),
        (0.9996, ">99.9 %"),
        (1.0, ">99.9 %"),
    ],
)
def test_no_probability_is_zero_or_one(share: float, text: str) -> None:
    assert format_probability(share) == text
