"""Which operations of a traced network are local: a place of their output sees few of the input's.

An operation is local in one of three ways. One that *slides*, a convolution or pooling, sees a
rectangle. One that is *pointwise* sees the same place of each of its maps. One that *rearranges*
keeps each place whole and moves it, at most, to another axis. What is none of these, or not surely,
is not local.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from camcli.capture.incremental.regions import Slide
from camcli.models.torchvision import ops

Values: TypeAlias = Mapping[fx.Node, Any]


@dataclass(frozen=True)
class Local:
    """What a local node gives: a map, or several of one form, with rows and columns as `axes`.

    A node that slides has its `slides`, along rows and columns, the value `fill` that it sees
    outside of the map, and `inside`: the operation on a map that needs no such margin. `weight` is
    the number of multiplications for one place. A node without axes gives numbers.
    """

    axes: tuple[int, int] | None
    slides: tuple[Slide, Slide] | None = None
    inside: nn.Module | None = None
    fill: float = 0.0
    weight: int = 0


_POINTWISE: frozenset[Any] = frozenset(
    {
        *(nn.CELU, nn.ELU, nn.GELU, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU),
        *(nn.LogSigmoid, nn.Mish, nn.ReLU, nn.ReLU6, nn.SELU, nn.SiLU, nn.Sigmoid, nn.Softplus),
        *(nn.Softsign, nn.Tanh, nn.Identity, nn.Dropout, nn.Dropout2d, nn.AlphaDropout),
        *(F.relu, F.relu6, F.gelu, F.silu, F.hardswish, F.hardsigmoid, F.leaky_relu, F.elu),
        *(torch.relu, torch.sigmoid, torch.tanh, torch.add, torch.sub, torch.mul, torch.div),
        *(operator.add, operator.sub, operator.mul, operator.truediv, operator.neg),
        *("add", "sub", "mul", "div", "relu", "sigmoid", "tanh", "clamp", "contiguous"),
    }
)
_UNTRAINED: frozenset[Any] = frozenset({F.dropout, ops.stochastic_depth})
"""Pointwise where the last argument, `training`, is False."""
_REARRANGING: frozenset[Any] = frozenset(
    {
        *(operator.getitem, torch.unsqueeze, torch.permute, torch.transpose, torch.chunk),
        *("unsqueeze", "permute", "transpose", "chunk", "split", "reshape"),
    }
)
_POOLINGS: dict[Any, type[nn.Module]] = {
    F.max_pool2d: nn.MaxPool2d,
    torch.max_pool2d: nn.MaxPool2d,
    F.avg_pool2d: nn.AvgPool2d,
}
_NUMBERS: frozenset[Any] = frozenset({operator.getitem, operator.floordiv, operator.mul})


def locality(node: fx.Node, root: nn.Module, values: Values, known: Mapping[fx.Node, Local]) -> Any:
    """How a node is local, a Local, or None where it is not.

    `values` are those of a run, `known` the nodes before it that are local. Parameters are neither
    of a place nor of an image, and can go into whatever is pointwise.
    """
    sources = [source for source in node.all_input_nodes if source.op != "get_attr"]
    if not sources or any(source not in known for source in sources):
        return None
    part = _module(node, root)
    what = type(part) if part is not None else node.target
    if what == "size" or (what is getattr and node.args[1] == "shape"):
        return Local(None)
    numbers = [source for source in sources if known[source].axes is None]
    if len(numbers) == len(sources):
        return Local(None) if what in _NUMBERS else None
    axes = known[sources[0]].axes
    if what in _REARRANGING and (not numbers or what == "reshape"):
        rearranged = axes and _axes_behind(node, values, sources[0], axes)
        return Local(rearranged) if rearranged else None
    of_one_form = all(_same_form(source, sources[0], values, known) for source in sources)
    if numbers or axes is None or not of_one_form or not isinstance(values[node], Tensor):
        return None
    if part is not None and axes == (2, 3) and (sliding := _sliding(part)):
        return sliding
    if _is_concatenation(node, values, axes) or _is_pointwise(node, what, part, values, axes):
        return Local(axes, weight=_weight(part))
    return None


def _module(node: fx.Node, root: nn.Module) -> nn.Module | None:
    """The module that a node runs, or for a function of pooling the one that does the same."""
    if node.op == "call_module":
        return root.get_submodule(str(node.target))
    pooling = _POOLINGS.get(node.target) if node.op == "call_function" else None
    if pooling is None or len(node.args) > 5:  # behind these, function and module differ
        return None
    return pooling(*node.args[1:], **node.kwargs)


def _same_form(
    source: fx.Node, first: fx.Node, values: Values, known: Mapping[fx.Node, Local]
) -> bool:
    """Whether two nodes give maps with rows and columns as the same axes, and as many of them."""
    one, other = values[source], values[first]
    if not isinstance(one, Tensor) or not isinstance(other, Tensor) or one.ndim != other.ndim:
        return False
    axes = known[first].axes
    return known[source].axes == axes is not None and all(
        one.shape[axis] == other.shape[axis] for axis in axes
    )


def _sliding(part: nn.Module) -> Local | None:
    """The locality of a convolution or a pooling, of torch's own kind."""
    fill = 0.0
    if type(part) is nn.Conv2d:
        if part.padding_mode != "zeros" or isinstance(part.padding, str):
            return None
        inside = _without_margin(part)
    elif type(part) is nn.MaxPool2d and not part.return_indices:
        inside, fill = _without_margin(part), -torch.inf
    elif type(part) is nn.AvgPool2d:
        counts_margin = part.count_include_pad or _pair(part.padding) == (0, 0)
        if part.ceil_mode or not counts_margin:  # divided by another number at the border
            return None
        inside = _without_margin(part)
    else:
        return None
    described = (part.kernel_size, part.stride, part.padding, getattr(part, "dilation", 1))
    rows, columns = zip(*map(_pair, described), strict=True)
    return Local((2, 3), (Slide(*rows), Slide(*columns)), inside, fill, _weight(part))


def _without_margin(part: nn.Module) -> nn.Module:
    """The same operation, on the same weights, for a map that has its margin already."""
    inside = copy.copy(part)
    vars(inside).update(padding=(0, 0), ceil_mode=False)
    return inside


def _is_concatenation(node: fx.Node, values: Values, axes: tuple[int, int]) -> bool:
    """Whether maps are put behind one another, along another axis than rows and columns."""
    if node.target not in (torch.cat, torch.concat):
        return False
    dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
    return isinstance(dim, int) and dim % values[node].ndim not in (0, *axes)


def _is_pointwise(
    node: fx.Node, what: Any, part: nn.Module | None, values: Values, axes: tuple[int, int]
) -> bool:
    """Whether a node's output at a place comes from its maps at that place, and parameters."""
    last = values[node].ndim - 1
    if isinstance(part, nn.BatchNorm2d):
        return type(part) is nn.BatchNorm2d and 1 not in axes and part.running_mean is not None
    if type(part) in (nn.Linear, nn.LayerNorm) or what is F.layer_norm:
        over: Any = getattr(part, "normalized_shape", node.args[1] if part is None else (1,))
        return len(over) == 1 and last not in axes
    if what in _UNTRAINED:
        return node.kwargs.get("training", node.args[-1]) is False
    parameters = [values[given].shape for given in node.all_input_nodes if given.op == "get_attr"]
    return what in _POINTWISE and all(
        len(shape) <= last - axis or shape[axis - last - 1] == 1
        for shape in parameters
        for axis in (0, *axes)
    )


def _axes_behind(
    node: fx.Node, values: Values, source: fx.Node, axes: tuple[int, int]
) -> tuple[int, int] | None:
    """Where rows and columns are behind a rearrangement, by doing it to a map of numbered places.

    None where some place is not whole, or is not where its number says.
    """
    if not isinstance(given := values[source], Tensor):  # one of several maps
        return axes if isinstance(values[node], Tensor) else None
    height, width = (given.shape[axis] for axis in axes)
    numbers = torch.arange(height * width).view(height, width)

    def laid_out(shape: tuple[int, ...], at: tuple[int, int]) -> Tensor:
        form = [shape[axis] if axis in at else 1 for axis in range(len(shape))]
        ordered = numbers if at[0] < at[1] else numbers.mT
        return ordered.reshape(form).expand(shape)

    def value(other: fx.Node) -> Any:
        return laid_out(tuple(given.shape), axes) if other is source else values[other]

    args, kwargs = fx.map_arg((node.args, node.kwargs), value)
    run = getattr(Tensor, node.target) if isinstance(node.target, str) else node.target
    found = run(*args, **kwargs)
    pieces = found if isinstance(found, tuple | list) else (found,)
    for at in permutations(range(1, pieces[0].ndim), 2):
        if all(
            piece.ndim == pieces[0].ndim
            and (piece.shape[0], piece.shape[at[0]], piece.shape[at[1]]) == (1, height, width)
            and torch.equal(piece, laid_out(tuple(piece.shape), at))
            for piece in pieces
        ):
            return at[0], at[1]
    return None


def _weight(part: nn.Module | None) -> int:
    weight = getattr(part, "weight", None)
    return weight.numel() if isinstance(weight, Tensor) else 0


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
