"""Tell ReLUs among the operations of a forward pass, also those written by hand.

A new way to write a ReLU is one function in RULES. ReLU6 counts as a ReLU: its derivative is zero
above 6.
"""

# ruff: noqa: A001, A002 - arguments have the names of torch's, since they may be given by name

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node


def is_relu(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Return whether a torch function of this name is a ReLU for these arguments, before it runs.

    `name` has no underscores at its ends.
    """
    try:
        return name in RULES and RULES[name](*args, **kwargs)
    except TypeError:  # arguments of another form of the function, such as `torch.max(x)`
        return False


def _relu(input: Tensor, inplace: bool = False) -> bool:
    return True


def _clamp(input: Tensor, min: Any = None, max: Any = None) -> bool:
    return _is_zero(min)


def _hardtanh(input: Tensor, min_val: Any = -1, max_val: Any = 1, inplace: bool = False) -> bool:
    return _is_zero(min_val)


def _threshold(input: Tensor, threshold: Any, value: Any, inplace: bool = False) -> bool:
    return _is_zero(threshold) and _is_zero(value)


def _maximum(input: Tensor, other: Any) -> bool:
    return isinstance(other, Tensor) and (_is_zero(input) or _is_zero(other))


def _where(condition: Tensor, input: Any, other: Any) -> bool:
    if condition.dtype != torch.bool:  # the method x.where(condition, other)
        condition, input = input, condition
    kept, zeroed = (input, other) if _is_zero(other) else (other, input)
    mask = condition if kept is input else ~condition
    return _is_zero(zeroed) and _is_mask(mask, kept)


def _product(input: Any, other: Any) -> bool:
    return _is_mask(other, input) or _is_mask(input, other)


def _masked_fill(input: Tensor, mask: Tensor, value: Any) -> bool:
    return _is_zero(value) and _is_mask(~mask, input)


def _assigned(input: Tensor, index: Any, value: Any) -> bool:
    is_mask = isinstance(index, Tensor) and index.dtype == torch.bool
    return is_mask and _is_zero(value) and _is_mask(~index, input)


RULES: Mapping[str, Callable[..., bool]] = MappingProxyType(
    {
        **dict.fromkeys(("relu", "relu6"), _relu),
        **dict.fromkeys(("clamp", "clip", "clamp_min"), _clamp),
        **dict.fromkeys(("maximum", "max", "fmax"), _maximum),
        **dict.fromkeys(("mul", "multiply", "rmul", "imul"), _product),
        "hardtanh": _hardtanh,
        "threshold": _threshold,
        "where": _where,
        "masked_fill": _masked_fill,
        "setitem": _assigned,
    }
)
"""Whether a torch function is a ReLU for its arguments, by the function's name."""


def _is_zero(x: Any) -> bool:
    if isinstance(x, Tensor):
        has_values = x.is_floating_point() and not x.is_meta
        return has_values and not x.requires_grad and not x.any()
    return isinstance(x, int | float) and x == 0


def _is_mask(mask: Any, x: Any) -> bool:
    """Return whether a mask is 1 where x is positive, or not negative, and else 0.

    A mask of numbers that are all 1 may have another purpose. Tensors on the meta device have no
    values, and are no masks.
    """
    if not (isinstance(mask, Tensor) and isinstance(x, Tensor)) or mask.is_meta:
        return False
    if mask.requires_grad or not x.requires_grad or mask.shape != x.shape:
        return False
    positive = x.detach() > 0
    kept = mask.bool()
    if mask.dtype != torch.bool and (kept.all() or not torch.equal(mask, kept.to(mask))):
        return False
    return torch.equal(kept, positive) or torch.equal(kept, x.detach() >= 0)


def relu_of_node(node: Node) -> bool | None:
    """Return whether a node of a graph, whose function was not seen, is a ReLU.

    Return None if it may be one that the node does not show.
    """
    kind, saved = node.name(), _saved(node)
    if kind == "ReluBackward0":
        return True
    if kind in LEAST:
        return _is_zero(saved(LEAST[kind]))
    if kind == "MaximumBackward0" and (_is_zero(saved("other")) or _is_zero(saved("self"))):
        return True
    other = saved("other")
    masked = isinstance(other, Tensor) and other.dtype == torch.bool
    hides = kind in HIDING or any(part in kind for part in OPAQUE)
    return None if hides or (kind == "MulBackward0" and masked) else False


LEAST: Mapping[str, str] = MappingProxyType(
    {
        "ClampBackward1": "min",
        "ClampMinBackward0": "min",
        "HardtanhBackward0": "min_val",
        "ThresholdBackward0": "threshold",
    }
)
"""Nodes that are ReLUs if the number that they saved under this name is zero."""

HIDING = frozenset({"WhereBackward0", "MaskedFillBackward0", "IndexPutBackward0"})
"""Nodes that may be ReLUs, depending on the values that they were given."""

OPAQUE = ("CheckpointFunction", "CompiledFunction", "DifferentiableGraph")
"""Parts of the names of nodes that stand for many operations."""


def _saved(node: Node) -> Callable[[str], Any]:
    return lambda name: getattr(node, f"_saved_{name}", None)
