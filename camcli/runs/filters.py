"""Filters of images by what the network takes them for, as users write them after --only."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from camcli.capture.activations import gives_probabilities
from camcli.capture.target_parser import folded, split_list
from camcli.errors import CamcliError, unknown
from camcli.models.model import Model
from camcli.runs.predictions import Prediction
from camcli.runs.truth import Truth

_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = MappingProxyType(
    {
        "<=": operator.le,
        ">=": operator.ge,
        "<": operator.lt,
        ">": operator.gt,
        "!=": operator.ne,
        "=": operator.eq,
    }
)
_PLAIN: Mapping[str, tuple[str, bool]] = MappingProxyType(
    {"wrong": ("correct", False), "right": ("correct", True), "unsure": ("unsure", True)}
)
"""The filters without a value, by the field of a Prediction and the value that it must have."""
_EXPECTED = (
    f"{', '.join(_PLAIN)}, confidence<P or >=P with P from 0 to 1, predicted=NAME or true=NAME"
)


@dataclass(frozen=True)
class Filter:
    """A condition on the `field` of a Prediction. `spec` is as the user wrote it.

    `needs_truth` means that it cannot be decided for an image without a true class.
    """

    spec: str
    field: str
    compare: str
    value: bool | float | str
    needs_truth: bool = False

    def __call__(self, found: Prediction) -> bool:
        """Return whether an image with this prediction is explained."""
        given = getattr(found, self.field)
        if isinstance(self.value, str):
            given = folded(given or "")
        return given is not None and _COMPARE[self.compare](given, self.value)


def read_filters(specs: Sequence[str], model: Model, truth: Truth | None) -> tuple[Filter, ...]:
    """Return the filters that a user gave, some as lists with commas. Raises CamcliError."""
    if specs and not gives_probabilities(model.activation):
        raise CamcliError(
            f"--only is for classes, and {model.name} gives values (--activation none)"
        )

    def is_filter(text: str) -> bool:
        try:
            _filter(text, model, truth)
        except CamcliError:
            return False
        return True

    every = [one for spec in specs for one in split_list(spec, is_filter)]
    found = tuple(_filter(spec, model, truth) for spec in every)
    for one in found:
        if one.field in ("correct", "true_name") and truth is None:
            raise CamcliError(f"--only '{one.spec}' needs the true classes: expected --truth")
    return found


def _filter(spec: str, model: Model, truth: Truth | None) -> Filter:
    if spec in _PLAIN:
        field, value = _PLAIN[spec]
        return Filter(spec, field, "=", value, needs_truth=field == "correct")
    parts = re.fullmatch(r"confidence *(<=|>=|<|>) *(\d*\.?\d+)", spec)
    if parts and (number := float(parts[2])) <= 1:
        return Filter(spec, "confidence", parts[1], number)
    if parts := re.fullmatch(r"predicted *(!?=) *(.+)", spec):
        name = _known(spec, parts[2], model.class_names)
        return Filter(spec, "predicted_name", parts[1], name)
    if parts := re.fullmatch(r"true *(!?=) *(.+)", spec):
        name = _true_name(spec, parts[2], model, truth)
        return Filter(spec, "true_name", parts[1], name)
    raise CamcliError(f"--only '{spec}': expected {_EXPECTED}")


def _true_name(spec: str, given: str, model: Model, truth: Truth | None) -> str:
    """Return the folded name in the rows of images with a label or a class of this name."""
    labels = truth.finder.labels if truth and truth.finder else {}
    if folded(given) in labels:
        return folded(labels[folded(given)].name)
    return _known(spec, given, [*labels, *(model.class_names or ())])


def _known(spec: str, given: str, names: Sequence[str] | None) -> str:
    """Return a name as it is compared. Raises CamcliError if it is not among `names`."""
    if not names:
        raise CamcliError(f"--only '{spec}': the model has no class names: expected --labels")
    if folded(given) not in map(folded, names):
        raise CamcliError(f"--only: {unknown('class', given, names)}")
    return folded(given)
