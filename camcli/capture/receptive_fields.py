"""The centres of the windows that convolutions, poolings and resizings see.

Araujo, Norris & Sim 2019, "Computing receptive fields of convolutional neural networks", Distill,
doi:10.23915/distill.00021: a window of k positions, s apart, on a map that is padded with p
positions has its centre `(k - 1)/2 - p` positions after the first one, and the next one s further.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from camcli.models.atoms import Line


class Operation(NamedTuple):
    """An operation on the last `dims` dimensions of a map, with the arguments it was given.

    `kernel` (dims) is the shape of a convolution's kernel; it is empty for other operations.
    """

    args: Sequence[Any]
    dims: int
    kernel: Sequence[int] = ()

    def of(self, position: int, dim: int, default: Any) -> Any:
        """Return an argument's value for a dimension: one may be given for all of them."""
        given = self.args[position] if position < len(self.args) else None
        if given is None or given == []:
            return default
        if not isinstance(given, list | tuple):
            return given
        return given[dim] if len(given) > 1 else given[0]


Centres: TypeAlias = Callable[[Line, Operation, int, int, int], Line | None]
"""From the centres of positions along a dimension to those of windows, given the old and the new
number of positions; None if they do not lie on a line."""


def _window(line: Line, kernel: int, stride: int, padding: int, dilation: int = 1) -> Line:
    return line.windowed(dilation * (kernel - 1) / 2 - padding, stride)


def _convolution(line: Line, op: Operation, dim: int, _old: int, _new: int) -> Line:
    kernel, (stride, padding, dilation) = op.kernel[dim], (op.of(i, dim, 1) for i in (3, 4, 5))
    if not op.of(6, dim, False):
        return _window(line, kernel, stride, padding, dilation)
    shift = padding - dilation * (kernel - 1) / 2
    return line.windowed(shift / stride, 1 / stride)


def _deformable(line: Line, op: Operation, dim: int, _old: int, _new: int) -> Line:
    stride, padding, dilation = (op.args[i + dim] for i in (5, 7, 9))
    return _window(line, op.kernel[dim], stride, padding, dilation)


def _max_pool(line: Line, op: Operation, dim: int, _old: int, _new: int) -> Line:
    kernel = op.of(1, dim, 1)
    padding, dilation = op.of(3, dim, 0), op.of(4, dim, 1)
    return _window(line, kernel, op.of(2, dim, kernel), padding, dilation)


def _mean_pool(line: Line, op: Operation, dim: int, _old: int, _new: int) -> Line:
    kernel = op.of(1, dim, 1)
    return _window(line, kernel, op.of(2, dim, kernel), op.of(3, dim, 0))


def _equal_parts(line: Line, _op: Operation, _dim: int, old: int, new: int) -> Line:
    """Return the centres of equal parts of the map, as adaptive pooling makes them."""
    return line.windowed((old / new - 1) / 2, old / new, fixed=False)


def _resizing(line: Line, op: Operation, dim: int, old: int, new: int) -> Line:
    """Return the centres after linear or cubic interpolation, which may align the corners."""
    if op.of(2, dim, False) is not True:
        return _equal_parts(line, op, dim, old, new)
    return line.windowed(0, (old - 1) / max(1, new - 1), fixed=False)


def _unshuffle(line: Line, _op: Operation, _dim: int, old: int, new: int) -> Line:
    return line.windowed((old / new - 1) / 2, old / new)


def _edge_padding(line: Line, op: Operation, dim: int, _old: int, _new: int) -> Line:
    return line.windowed(-op.args[1][2 * (op.dims - 1 - dim)], 1, fixed=False)


_RULES: Mapping[str, Centres] = MappingProxyType(
    {
        r"convolution(_overrideable)?": _convolution,
        r"deform_conv2d": _deformable,
        r"max_pool\dd(_with_indices)?": _max_pool,
        r"avg_pool\dd": _mean_pool,
        r"adaptive_(avg|max)_pool\dd|upsample_nearest.*": _equal_parts,
        r"upsample_(linear|bilinear|bicubic|trilinear).*": _resizing,
        r"pixel_(un)?shuffle": _unshuffle,
        r"(reflection|replication)_pad\dd": _edge_padding,
    }
)
"""The rules of ATen's operations by patterns of their names. No other has known centres."""


def window_centres(
    name: str, op: Operation, dim: int, old: int, new: int
) -> Callable[[Line], Line | None]:
    """Return what converts the centres of positions to those of an operation's windows.

    `old` and `new` are the numbers of positions along the dimension `dim` of the map.
    """
    rule = next((rule for known, rule in _RULES.items() if re.fullmatch(known, name)), None)
    return lambda line: rule(line, op, dim, old, new) if rule else None
