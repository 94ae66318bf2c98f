"""Means with their intervals: as text, and as a small bar."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias
from xml.etree.ElementTree import Element

from camcli.report.markup import element

Estimate: TypeAlias = Mapping[str, Any]
"""A mean with `low` and `high`, the ends of its interval, and the number of `images`."""
NONE = "–"  # noqa: RUF001 - a dash where no number is


def percent(estimate: Estimate | None) -> str:
    """Return a share and its interval in percent: `84% [80, 88]`."""
    if estimate is None:
        return NONE
    low, high = estimate["low"], estimate["high"]
    if low is None or high is None:
        return f"{estimate['mean']:.0%}"
    # Intervals of few images may extend beyond the range of shares.
    ends = (f"{100 * min(1, max(0, end)):.0f}" for end in (low, high))
    return f"{estimate['mean']:.0%} [{', '.join(ends)}]"


def decimal(estimate: Estimate | None) -> str:
    """Return a mean and its interval with two decimals: `0.84 [0.80, 0.88]`."""
    if estimate is None:
        return NONE
    low, high = estimate["low"], estimate["high"]
    interval = "" if low is None or high is None else f" [{low:.2f}, {high:.2f}]"
    return f"{estimate['mean']:.2f}{interval}"


def number(value: float | None) -> str:
    """Return a number with three digits."""
    return NONE if value is None else f"{value:.3g}"


def difference(test: Mapping[str, Any]) -> str:
    """Return the difference of a test's value from its control, and its interval."""
    whole = {name: test[name] for name in ("low", "high")}
    return decimal({"mean": test["value"] - test["control"], **whole})


def range_bar(test: Mapping[str, Any]) -> Element:
    """Return a bar with a test's value as a dot, its control as a stroke, and an interval.

    `low` and `high` are the ends of the interval of the difference. They are drawn from the control
    on, so that the line crosses the stroke where the difference may be none. The bar is for the eye
    only: the numbers stand beside it.
    """
    value, control = float(test["value"]), float(test["control"])
    ends = [control + test[end] for end in ("low", "high") if test[end] is not None]
    start = min(0.0, value, control, *ends)
    length = (max(1.0, value, control, *ends) - start) or 1

    def place(one: float) -> str:
        return f"{4 + 92 * (one - start) / length:.1f}%"

    def line(kind: str, x1: float, x2: float, y1: str, y2: str) -> Element:
        return element("line", class_=kind, x1=place(x1), x2=place(x2), y1=y1, y2=y2)

    return element(
        "svg",
        line("axis", start, start + length, "50%", "50%"),
        line("interval", min(ends), max(ends), "50%", "50%") if len(ends) == 2 else None,
        line("control", control, control, "10%", "90%"),
        element("circle", cx=place(value), cy="50%", r="4", class_="value"),
        class_="range",
        aria_hidden="true",
    )
