"""Activations: the meaning of the values that a classifier or a regression gives for an image.

A new meaning is one Activation, and a row of _ROWS that says when it applies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import torch
from torch import Tensor

from camcli.errors import TargetError

Along: TypeAlias = Callable[[Tensor], Tensor]
"""From values (...,K) to one number for each class, (...,C)."""


def _same(values: Tensor) -> Tensor:
    return values


@dataclass(frozen=True)
class Activation:
    """The meaning of K values.

    `scores` returns the explained score of each class and is linear, so that it also maps the rows
    of a linear head. `probabilities` returns the probability of each class; None if values are no
    classes. `alternatives` returns scores whose softmax are these probabilities; None if classes
    are not mutually exclusive. `no_ranking` and `no_finer` say why `pred` and `topK`, and `finer:`,
    do not apply.
    """

    meaning: str
    scores: Along = _same
    probabilities: Along | None = None
    alternatives: Along | None = None
    no_ranking: str | None = None
    no_finer: str | None = None

    def check(self, spec: str, *, ranked: bool, finer: bool) -> None:
        """Raise TargetError for a target that does not apply.

        `ranked` targets select a class by its rank. `finer` targets contrast it with others.
        """
        reason = (finer and self.no_finer) or (ranked and self.no_ranking)
        if reason:
            raise TargetError(f"target '{spec}' does not apply to {self.meaning}: {reason}")


SOFTMAX = Activation("classes", probabilities=lambda z: z.softmax(-1), alternatives=_same)
"""Mutually exclusive classes, one score for each."""

TWO_CLASSES = Activation(
    "two classes by one logit",
    scores=lambda z: torch.cat([-z, z], -1),
    probabilities=lambda z: torch.cat([-z, z], -1).sigmoid(),
    alternatives=lambda z: torch.cat([torch.zeros_like(z), z], -1),
    no_finer="the score of one class is already its contrast with the other",
)
"""The classes 0 and 1 of one logit z, whose probabilities are sigmoid(-z) and sigmoid(z).

The score of a class is the log-odds of its probability: `S^1 = z` and `S^0 = -z`. A network with
the two logits `[0, z]` and a softmax has the same probabilities. Its maps of class 1 are those of
`S^1`. Its class 0 has a constant score and hence empty maps; `S^0` is the contrast of its class 0
with its class 1, which is its target `finer:0`.
"""

LABELS = Activation(
    "independent labels (activation sigmoid)",
    probabilities=torch.sigmoid,
    no_finer="they do not exclude each other",
)
"""Classes with probabilities of their own, of which an image may have any number."""

VALUE = Activation(
    "a value (activation none)",
    no_ranking="expected score, +score or -score",
    no_finer="expected score, +score or -score",
)
"""One value, which has no probability."""

VALUES = Activation(
    "values (activation none)",
    no_ranking="expected the index or the name of one of them",
    no_finer="expected the index or the name of one of them",
)
"""Several values, which have no probabilities and do not compete."""

_ROWS: Mapping[tuple[str, bool], Activation] = MappingProxyType(
    {
        ("auto", True): SOFTMAX,
        ("softmax", True): SOFTMAX,
        ("sigmoid", False): TWO_CLASSES,
        ("sigmoid", True): LABELS,
        ("none", False): VALUE,
        ("none", True): VALUES,
    }
)
"""Activations by a name in `models.options.ACTIVATIONS`, and whether there are several values."""


def gives_probabilities(name: str) -> bool:
    """Return whether the activation of this name turns values into probabilities."""
    return any(row.probabilities for (known, _), row in _ROWS.items() if known == name)


def find_activation(name: str, count: int) -> Activation:
    """Return the activation of `count` values for an image. Raises TargetError if it is unknown."""
    found = _ROWS.get((name, count > 1))
    if found is None:
        raise TargetError(
            f"the network gives one value for each image (activation {name}): expected "
            f"--activation sigmoid for two classes by one logit, or none for a regression"
        )
    return found
