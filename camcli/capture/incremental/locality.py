"""Find the local operations of a traced network, whose output depends on few input positions.

There are three kinds. A *sliding* operation, a convolution or pooling, depends on a rectangle. A
*pointwise* operation depends on the same position of each of its maps. A *rearranging* operation
keeps the values of a position together and moves rows or columns to another axis at most. Every
other operation, also one that might be none of these, counts as not local.
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
    """The output of a local node: a map, or several of one shape, with rows and columns as `axes`.

    A sliding node has `slides` along rows and columns, the value `fill` of its padding, and
    `unpadded`, the same operation without padding. `weight` is the number of multiplications for
    one position. A node without axes returns numbers.
    """

    axes: tuple[int, int] | None
    slides: tuple[Slide, Slide] | None = None
    unpadded: nn.Module | None = None
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
"""Functions that are pointwise if their last argument, `training`, is False."""
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
_ON_NUMBERS: frozenset[Any] = frozenset({operator.getitem, operator.floordiv, operator.mul})


def locality(node: fx.Node, root: nn.Module, values: Values, known: Mapping[fx.Node, Local]) -> Any:
    """Return how a node is local, as a Local, or None if it is not.

    `values` are the nodes' values in one run, and `known` the local nodes before this one.
    Parameters belong to no position and no image, so pointwise operations may use them.
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
        return Local(None) if what in _ON_NUMBERS else None
    axes = known[sources[0]].axes
    if what in _REARRANGING and (not numbers or what == "reshape"):
        rearranged = axes and _rearranged_axes(node, values, sources[0], axes)
        return Local(rearranged) if rearranged else None
    of_one_shape = all(_same_shape(source, sources[0], values, known) for source in sources)
    if numbers or axes is None or not of_one_shape or not isinstance(values[node], Tensor):
        return None
    if part is not None and axes == (2, 3) and (sliding := _sliding(part)):
        return sliding
    if _is_concatenation(node, values, axes) or _is_pointwise(node, what, part, values, axes):
        return Local(axes, weight=_weight(part))
    return None


def _module(node: fx.Node, root: nn.Module) -> nn.Module | None:
    """Return the module that a node runs, or a module equal to a pooling function."""
    if node.op == "call_module":
        return root.get_submodule(str(node.target))
    pooling = _POOLINGS.get(node.target) if node.op == "call_function" else None
    if pooling is None or len(node.args) > 5:  # the later arguments of function and module differ
        return None
    return pooling(*node.args[1:], **node.kwargs)


def _same_shape(
    source: fx.Node, first: fx.Node, values: Values, known: Mapping[fx.Node, Local]
) -> bool:
    """Return whether two nodes' maps have the same rows and columns, as the same axes."""
    one, other = values[source], values[first]
    if not isinstance(one, Tensor) or not isinstance(other, Tensor) or one.ndim != other.ndim:
        return False
    axes = known[first].axes
    return known[source].axes == axes is not None and all(
        one.shape[axis] == other.shape[axis] for axis in axes
    )


def _sliding(part: nn.Module) -> Local | None:
    """Return the locality of a convolution or a pooling of torch itself."""
    fill = 0.0
    if type(part) is nn.Conv2d:
        if part.padding_mode != "zeros" or isinstance(part.padding, str):
            return None
        unpadded = _unpadded(part)
    elif type(part) is nn.MaxPool2d and not part.return_indices:
        unpadded, fill = _unpadded(part), -torch.inf
    elif type(part) is nn.AvgPool2d:
        counts_padding = part.count_include_pad or _as_pair(part.padding) == (0, 0)
        if part.ceil_mode or not counts_padding:  # divides by another number at the border
            return None
        unpadded = _unpadded(part)
    else:
        return None
    described = (part.kernel_size, part.stride, part.padding, getattr(part, "dilation", 1))
    rows, columns = zip(*map(_as_pair, described), strict=True)
    return Local((2, 3), (Slide(*rows), Slide(*columns)), unpadded, fill, _weight(part))


def _unpadded(part: nn.Module) -> nn.Module:
    """Return the operation with the same weights and without padding."""
    unpadded = copy.copy(part)
    vars(unpadded).update(padding=(0, 0), ceil_mode=False)
    return unpadded


def _is_concatenation(node: fx.Node, values: Values, axes: tuple[int, int]) -> bool:
    """Return whether a node concatenates maps along another axis than rows and columns."""
    if node.target not in (torch.cat, torch.concat):
        return False
    dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
    return isinstance(dim, int) and dim % values[node].ndim not in (0, *axes)


def _is_pointwise(
    node: fx.Node, what: Any, part: nn.Module | None, values: Values, axes: tuple[int, int]
) -> bool:
    """Return whether an output position depends only on the same position and on parameters."""
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


def _rearranged_axes(
    node: fx.Node, values: Values, source: fx.Node, axes: tuple[int, int]
) -> tuple[int, int] | None:
    """Return the axes of rows and columns after a rearrangement of a map of numbered positions.

    Return None if the values of a position are separated or out of order.
    """
    if not isinstance(given := values[source], Tensor):  # chunks, of which one is taken
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


def _as_pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
