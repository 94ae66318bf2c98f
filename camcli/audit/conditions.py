"""Conditions on an audit that fail a check, such as `accuracy<0.9` or `suspects>0`."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from camcli.audit.places import SHARES
from camcli.errors import CamcliError, unknown

_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = MappingProxyType(
    {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
)
MEASURES = ("accuracy", "top5", *SHARES, "inside", "suspects")
"""What a condition may be about: means over all images, from 0 to 1, and the number of suspects."""


@dataclass(frozen=True)
class Condition:
    """A measure, a comparison and a limit."""

    measure: str
    comparison: str
    limit: float

    def failure(self, record: Mapping[str, Any]) -> str | None:
        """Return a line that says that the condition holds for an audit's record, else None.

        Raises CamcliError if the measure is not known, or if the images were selected by it.
        """
        if record.get("only") and self.measure in ("accuracy", "top5"):
            raise CamcliError(
                f"--fail-if {self}: only images with {', '.join(record['only'])} were explained"
            )
        value = value_of(record, self.measure)
        if value is None:
            raise CamcliError(f"--fail-if {self}: the folder has no {self.measure}")
        holds = _COMPARISONS[self.comparison](value, self.limit)
        return f"{self.measure} is {value:.4g}: fails {self}" if holds else None

    def __str__(self) -> str:
        return f"{self.measure}{self.comparison}{self.limit:g}"


def parse_condition(text: str) -> Condition:
    """Return the condition in a text such as `border>0.4`. Raises CamcliError."""
    found = re.fullmatch(r"\s*([\w-]+)\s*(<=|>=|<|>)\s*(\S+)\s*", text)
    if not found:
        raise CamcliError(f"'{text}': expected a measure, < or >, and a number, as accuracy<0.9")
    measure, comparison, number = found.groups()
    if measure not in MEASURES:
        raise CamcliError(unknown("measure", measure, MEASURES))
    try:
        limit = float(number)
    except ValueError:
        limit = math.nan
    if not math.isfinite(limit):
        raise CamcliError(f"'{text}': expected a number after {comparison}, got {number}")
    return Condition(measure, comparison, limit)


def value_of(record: Mapping[str, Any], measure: str) -> float | None:
    """Return a measure of all images in an audit's record; None if it is not known."""
    if measure == "suspects":
        return float(len(record["suspects"]))
    overall = record["overall"]
    estimate = overall["shares"].get(measure) if measure not in overall else overall[measure]
    return None if estimate is None else float(estimate["mean"])
