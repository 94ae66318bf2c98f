"""The backward rule of LibraGrad: products of a signal and a factor that depends on it.

Mehri, Soleymani Baghshah & Pilehvar 2025, arXiv:2411.16760, sec. 3.4-3.5. The factor is a constant
in the backward pass: the weights of attention, the denominator of a normalisation, the gate of a
GELU or SiLU. A product of two signals gives half of its gradient to each. The network is then
linear in the signal, so that the sum of the activations of any layer times their gradients is the
score, less the part of the biases behind the layer.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from camcli.capture.attention import AttentionMode
from camcli.capture.guided import nodes_of
from camcli.capture.rectifiers import OPAQUE
from camcli.errors import CamcliWarning

GATED = MappingProxyType(
    {"gelu": 0.5, "silu": 0.5, "mish": 0.6, "hardswish": 0.5, "square": 0.0, "pow": 0.0}
)
"""Functions that are their input times a gate, and the gate at zero."""

_GATES = frozenset({"sigmoid", "hardsigmoid", "tanh", "erf", "rsqrt", "reciprocal", "rtruediv"})
"""Functions whose results are factors, if they multiply a signal."""
_SCALINGS = frozenset({"add", "radd", "sub", "rsub", "mul", "multiply", "rmul", "div", "truediv"})
"""Functions of a factor and a number that give a factor."""
_SHAPINGS = frozenset({"view", "reshape", "expand", "expand_as", "unsqueeze", "flatten", "to"})
_PRODUCTS = frozenset({"mul", "multiply", "rmul", "imul"})
_QUOTIENTS = frozenset({"div", "divide", "truediv", "itruediv"})
_NONLINEAR = (
    *("Gelu", "Silu", "Mish", "Hardswish", "Elu", "Glu", "LogSigmoid", "Softplus", "Sigmoid"),
    *("Tanh", "Erf", "Exp", "Log", "Pow", "Sqrt", "Rsqrt", "Reciprocal", "Softmax", "LogSoftmax"),
    *("NativeLayerNorm", "NativeGroupNorm", "FusedRmsNorm", "LinalgVectorNorm", "Norm", "Std"),
)
"""Operations that are not linear, by the names of their nodes in a graph."""
_BILINEAR = ("Mul", "Div", "Bmm", "Mm")
"""Operations that are linear if only one of their operands is a signal."""


class Balanced(TorchFunctionMode):
    """A mode with the rule for normalisations, gates, products and quotients of signals.

    Signals are tensors with a graph. Attention has a mode of its own.
    """

    def __init__(self) -> None:
        super().__init__()
        self._factors: dict[int, Tensor] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        signals = [x for x in tree_leaves((args, kwargs)) if _is_signal(x)]
        if not signals:
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "").strip("_")
        if name in GATED and not (_is_in_place(func) or _is_reciprocal(name, args)):
            return _gated(func, GATED[name], *args, **kwargs)
        if name in _NORMS:
            return _NORMS[name](*args, **kwargs)
        if name in _QUOTIENTS and len(args) == 2 and _is_signal(args[1]):
            args = args[0], args[1].detach()
        if name in _PRODUCTS and len(signals) == 2 and args[0] is not None:
            return self._product(func, *args)
        result = func(*args, **kwargs)
        self._note("reciprocal" if _is_reciprocal(name, args) else name, signals, result)
        return result

    def _product(self, func: Any, one: Tensor, other: Tensor) -> Any:
        """Return a product of two signals, or of a signal and a factor that depends on signals."""
        if self._factors.pop(id(one), None) is not None:
            return func(one.detach(), other)
        if self._factors.pop(id(other), None) is not None:
            return func(one, other.detach())
        if _is_in_place(func):  # the halves cannot be told apart
            return func(one, other)
        return one * other.detach() / 2 + one.detach() * other / 2

    def _note(self, name: str, signals: list[Tensor], result: Any) -> None:
        """Note a result that is a factor."""
        scaled = len(signals) == 1 and name in _SCALINGS | _SHAPINGS
        if name in _GATES or (scaled and self._factors.pop(id(signals[0]), None) is not None):
            self._factors[id(result)] = result


def check_balanced(output: Any) -> None:
    """Warn of operations behind an output that are neither linear nor have a rule."""
    found: Counter[str] = Counter()
    for node in nodes_of(output):
        name = node.name().rpartition("::")[2].partition("Backward")[0]
        live = sum(source is not None for source, _ in node.next_functions)
        is_fused = name.startswith("ScaledDotProduct") or any(part in name for part in OPAQUE)
        if name in _NONLINEAR or is_fused or (name in _BILINEAR and live > 1):
            found[name] += 1
    if found:
        named = ", ".join(f"{count} {name}" for name, count in sorted(found.items()))
        warnings.warn(
            f"the backward rule 'libra' has no rule for parts of this network ({named}): "
            f"activations times gradients may not sum to the score",
            CamcliWarning,
            stacklevel=2,
        )


@contextmanager
def balanced() -> Iterator[None]:
    """Apply the rule to the part of a pass inside that has a graph."""
    with Balanced(), AttentionMode(Tensor.detach, only_signals=True):
        yield


def _is_signal(x: Any) -> bool:
    return isinstance(x, Tensor) and x.requires_grad


def _is_in_place(func: Any) -> bool:
    return func.__name__.endswith("_") and not func.__name__.endswith("__")


def _is_reciprocal(name: str, args: Sequence[Any]) -> bool:
    """Return whether a function is a power with a negative exponent, as of a normalisation."""
    return name == "pow" and len(args) > 1 and not isinstance(args[1], Tensor) and args[1] < 0


def _gated(func: Any, at_zero: float, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: A002 - torch's name
    """Return a function's value, as its input times a constant gate."""
    with torch.no_grad():
        gate: Tensor = (func(input.clone(), *args, **kwargs) / input).where(input != 0, at_zero)
    return input * gate


def _layer_norm(
    x: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    axes = tuple(range(-len(normalized_shape), 0))
    centred = x - x.mean(axes, keepdim=True)
    return _affine(centred / _deviation(centred, axes, eps), weight, bias)


def _rms_norm(
    x: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    axes = tuple(range(-len(normalized_shape), 0))
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    return _affine(x / _deviation(x, axes, eps), weight, None)


def _group_norm(
    x: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    grouped = x.reshape(len(x), num_groups, -1)
    shape = (-1, *[1] * (x.ndim - 2))
    each = (None if one is None else one.view(shape) for one in (weight, bias))
    return _affine(_layer_norm(grouped, grouped.shape[2:], eps=eps).view_as(x), *each)


def _normalize(
    x: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: None = None
) -> Tensor:
    length: Tensor = x.detach().norm(p, dim, keepdim=True)
    return x / length.clamp_min(eps)


def _deviation(centred: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    return (centred.detach().square().mean(axes, keepdim=True) + eps).sqrt()


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    scaled = x if weight is None else x * weight
    return scaled if bias is None else scaled + bias


_NORMS: Mapping[str, Callable[..., Tensor]] = MappingProxyType(
    {
        "layer_norm": _layer_norm,
        "rms_norm": _rms_norm,
        "group_norm": _group_norm,
        "normalize": _normalize,
    }
)
"""Normalisations with the denominator as a constant, by the names of torch's functions."""
