"""Forms of class targets, written before a class as in `not:cat`. A new form is one function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from camcli.errors import TargetError

Form = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From scores (N,K) and classes (N,1) to indices (N,J) and factors (N,J) of WeightedClasses."""


def class_itself(scores: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the unchanged score of a class."""
    return classes, torch.ones_like(classes, dtype=scores.dtype)


def _opposite(scores: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """`-S`: its Grad-CAM is the counterfactual explanation (arXiv:1610.02391, sec. 3.3)."""
    return classes, -torch.ones_like(classes, dtype=scores.dtype)


def _finer(scores: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """`sum_i p_i (S - S_i) / sum_i p_i` over the three other classes with the closest scores.

    p are the classes' probabilities, which are held fixed (Finer-CAM, arXiv:2501.11309).
    """
    if scores.shape[1] < 2:
        raise TargetError("target 'finer' needs 2 classes; the model has 1")
    distance = (scores - scores.gather(1, classes)).abs().scatter(1, classes, torch.inf)
    near = distance.topk(min(3, scores.shape[1] - 1), largest=False).indices
    shares = scores.gather(1, near).softmax(1)  # p_i / sum_i p_i, also where all p_i underflow
    one = torch.ones_like(classes, dtype=scores.dtype)
    return torch.cat([classes, near], 1), torch.cat([one, -shares], 1)


FORMS: Mapping[str, Form] = MappingProxyType({"finer": _finer, "not": _opposite})
"""Prefixes of a class, with a colon: the contrast to similar classes, and the evidence against the
class."""
