"""The rules by which operations change the axes of tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, TypeAlias

from torch import Tensor

from camcli.capture.receptive_fields import Operation, window_centres
from camcli.models.atoms import Atom, averaged
from camcli.models.axes import (
    Axes,
    Axis,
    absorbed,
    chained,
    channels,
    joined,
    padded,
    reshaped,
    resized,
    rolled,
    sliced,
    unknown,
)


@dataclass(frozen=True)
class Step:
    """An operation that has run: its tensors `given` and its `results`."""

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    given: Sequence[Tensor]
    results: Sequence[Tensor]
    axes_of: Callable[[Tensor], Axes]

    @property
    def x(self) -> Tensor:
        """The first tensor given."""
        return self.given[0]

    @property
    def axes(self) -> Axes:
        """The axes of the first tensor given."""
        return self.axes_of(self.x)

    def argument(self, position: int, default: Any = None) -> Any:
        return self.args[position] if position < len(self.args) else default


Rule: TypeAlias = Callable[[Step], Sequence[Axes]]
"""From an operation to the axes of its results."""


def _elementwise(step: Step) -> list[Axes]:
    """Return the axes of an operation on each element; they are unknown if no shape fits."""
    return [_broadcast(step, result) for result in step.results]


def _broadcast(step: Step, result: Tensor) -> Axes:
    fitting = [x for x in step.given if _fits(x, result)]
    if not fitting:
        return _nowhere(result)
    found = tuple(map(channels, result.shape))
    for x in fitting:
        axes = (Axis(),) * (result.ndim - x.ndim) + step.axes_of(x)
        sizes = (1,) * (result.ndim - x.ndim) + tuple(x.shape)
        found = tuple(
            joined(one, axis) if size > 1 else one
            for one, axis, size in zip(found, axes, sizes, strict=True)
        )
    return found


def _fits(x: Tensor, result: Tensor) -> bool:
    """Return whether a tensor broadcasts to the shape of a result."""
    pairs = zip(reversed(x.shape), reversed(result.shape), strict=False)
    return x.ndim <= result.ndim and all(a in (1, b) for a, b in pairs)


def _nowhere(result: Tensor) -> Axes:
    return tuple(map(unknown, result.shape))


def _lost(step: Step) -> list[Axes]:
    return [_nowhere(result) for result in step.results]


def _view(step: Step) -> list[Axes]:
    return [reshaped(step.axes, step.x.shape, result.shape) for result in step.results]


def _restride(step: Step) -> list[Axes]:
    """Return the axes of a pooled map whose strides are set in place."""
    return [step.axes] if step.results[0] is step.x else _lost(step)


def _permute(step: Step) -> list[Axes]:
    return [tuple(step.axes[dim] for dim in step.args[1])]


def _transpose(step: Step) -> list[Axes]:
    axes, (one, other) = list(step.axes), (step.argument(1, 0), step.argument(2, -1))
    axes[one], axes[other] = axes[other], axes[one]
    return [tuple(axes)]


def _without_axis(step: Step) -> list[Axes]:
    """Return the axes after `select` and `unbind`."""
    dim = step.argument(1, 0) % step.x.ndim
    return [step.axes[:dim] + step.axes[dim + 1 :]] * len(step.results)


def _slice(step: Step) -> list[Axes]:
    dim, size = step.argument(1, 0), step.x.shape[step.argument(1, 0)]
    start, stop, _ = slice(step.argument(2), step.argument(3)).indices(size)
    return [_with(step.axes, dim, sliced(step.axes[dim], size, start, stop, step.argument(4, 1)))]


def _split(step: Step) -> list[Axes]:
    dim, start, found = step.argument(2, step.kwargs.get("dim", 0)), 0, []
    size = step.x.shape[dim]
    for result in step.results:
        stop = start + result.shape[dim]
        found.append(_with(step.axes, dim, sliced(step.axes[dim], size, start, stop)))
        start = stop
    return found


def _with(axes: Axes, dim: int, axis: Axis) -> Axes:
    dim %= len(axes)
    return (*axes[:dim], axis, *axes[dim + 1 :])


def _cat(step: Step) -> list[Axes]:
    parts = [x for x in step.given if x.ndim == step.results[0].ndim]  # old code adds empty ones
    dim = step.argument(1, step.kwargs.get("dim", 0))
    found = step.axes_of(parts[0])
    for part in parts[1:]:
        found = tuple(map(joined, found, step.axes_of(part)))
    along = [step.axes_of(part)[dim] for part in parts]
    mean = _mean_centres(found, [step.axes_of(part) for part in parts])
    return [_with(mean, dim, chained(along, [part.shape[dim] for part in parts]))]


def _mean_centres(axes: Axes, given: Sequence[Axes]) -> Axes:
    """Return axes with the mean centres of tensors that are joined along another axis.

    Swin Transformers join the four corners of patches, which lie half a cell apart.
    """
    found = []
    for axis, *same in zip(axes, *given, strict=True):
        atoms = [one.atoms for one in same if one.counts_places]
        equal = axis.counts_places and all(_counted(one) == _counted(axis.atoms) for one in atoms)
        mean = averaged(axis.atoms, atoms, equally=True) if equal else axis.atoms
        found.append(replace(axis, atoms=mean))
    return tuple(found)


def _counted(atoms: Sequence[Atom]) -> list[tuple[str, int, int]]:
    return [atom[:3] for atom in atoms]


def _stack(step: Step) -> list[Axes]:
    dim, result = step.argument(1, step.kwargs.get("dim", 0)), step.results[0]
    found = step.axes
    for x in step.given[1:]:
        found = tuple(map(joined, found, step.axes_of(x)))
    dim %= result.ndim
    return [(*found[:dim], channels(result.shape[dim]), *found[dim:])]


def _reduce(step: Step) -> list[Axes]:
    """Return the axes after a reduction over one axis, over several, or over all."""
    dims = step.argument(2 if "norm" in step.name else 1)
    if isinstance(dims, Tensor):  # the maximum of two tensors
        return _elementwise(step)
    if dims is None or isinstance(dims, bool) or dims == []:
        dims = range(step.x.ndim)
    gone = {dim % step.x.ndim for dim in ([dims] if isinstance(dims, int) else dims)}
    kept = tuple(Axis() if i in gone else axis for i, axis in enumerate(step.axes))
    for i in gone:
        kept = absorbed(kept, step.axes[i])
    left = tuple(axis for i, axis in enumerate(kept) if i not in gone)
    found = {x.ndim: axes for x, axes in ((step.x, kept),)} | {len(left): left}
    return [found.get(result.ndim, _nowhere(result)) for result in step.results]


def _matmul(step: Step) -> list[Axes]:
    """Return the rows of the first factor, and the columns of the second, of 2 or 3 axes."""
    one, other = map(step.axes_of, step.given[-2:])
    leading = tuple(map(joined, one[:-2], other[:-2]))
    return [absorbed((*leading, one[-2], other[-1]), one[-1])]


def _last_axis(step: Step) -> list[Axes]:
    """Return the axes after a linear map, attention or recurrence, which keep all but the last."""
    lead, kept = step.x.shape[:-1], absorbed(step.axes[:-1], step.axes[-1])
    return [
        (*kept, channels(result.shape[-1])) if result.shape[:-1] == lead else _nowhere(result)
        for result in step.results
    ]


def _windowed(step: Step) -> list[Axes]:
    """Return the axes after a convolution, pooling or resizing: a map of another size."""
    convolves = "conv" in step.name
    count = (
        step.given[1].ndim - 2 if convolves else int((re.findall(r"(\d)d", step.name) or [2])[0])
    )
    x, result, axes = step.x, step.results[0], step.axes
    if result.ndim != x.ndim:
        return _lost(step)
    lead = len(axes) - count
    operation = Operation(step.args, count, step.given[1].shape[2:] if convolves else ())
    if convolves:
        axes = absorbed(axes, axes[lead - 1])
    mapped = [
        resized(axes[d], old, new, window_centres(step.name, operation, d - lead, old, new))
        for d, old, new in zip(
            range(lead, x.ndim), x.shape[lead:], result.shape[lead:], strict=True
        )
    ]
    same = result.shape[lead - 1] == x.shape[lead - 1] and not convolves
    channel = axes[lead - 1] if same else channels(result.shape[lead - 1])
    found = (*axes[: lead - 1], channel, *mapped)
    return [found if r.shape == result.shape else _nowhere(r) for r in step.results]


def _pad(step: Step) -> list[Axes]:
    axes, result, pads = list(step.axes), step.results[0], step.args[1]
    for i in range(len(pads) // 2):
        dim = step.x.ndim - 1 - i
        if pads[2 * i] or pads[2 * i + 1]:
            axes[dim] = padded(axes[dim], step.x.shape[dim], result.shape[dim], pads[2 * i])
    return [tuple(axes)]


def _roll(step: Step) -> list[Axes]:
    """Mark the axes that are rolled. Rolling back restores them."""
    axes = list(step.axes)
    for dim in step.argument(2) or range(step.x.ndim):
        axes[dim] = rolled(axes[dim])
    return [tuple(axes)]


def _index(step: Step) -> list[Axes]:
    """Return the axes after indexing. A list of positions along one axis changes that axis."""
    lists = {i: x for i, x in enumerate(step.args[1]) if x is not None}
    if [x.ndim for x in lists.values()] != [1] or step.results[0].ndim != step.x.ndim:
        return _lost(step)
    return _listed(step, *lists)


def _index_select(step: Step) -> list[Axes]:
    return _listed(step, step.args[1])


def _listed(step: Step, dim: int) -> list[Axes]:
    result = step.results[0]
    only_channels = not step.axes[dim].kinds - {"c"}
    return [_with(step.axes, dim, (channels if only_channels else unknown)(result.shape[dim]))]


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        r"(unsafe_)?view|reshape(_alias)?|(un)?squeeze|(un)?flatten": _view,
        r"as_strided": _restride,
        r"permute": _permute,
        r"transpose|t": _transpose,
        r"select|unbind": _without_axis,
        r"slice": _slice,
        r"split|split_with_sizes|unsafe_split|chunk": _split,
        r"cat": _cat,
        r"stack": _stack,
        r"mean|sum|amax|amin|max|min|var|std|var_mean|std_mean|logsumexp|prod|argmax"
        r"|linalg_vector_norm|norm": _reduce,
        r"mm|addmm|bmm|baddbmm": _matmul,
        r"linear|scaled_dot_product.*|.*(rnn|lstm|gru).*": _last_axis,
        r".*convolution.*|.*deform_conv2d|.*pool\dd.*|.*upsample.*|pixel_(un)?shuffle"
        r"|(reflection|replication)_pad\dd|grid_sampler_2d": _windowed,
        r"constant_pad_nd": _pad,
        r"roll": _roll,
        r"index": _index,
        r"index_select": _index_select,
        r"flip|sort|gather|take|scatter.*|index_.*|im2col|unfold|.*fft.*": _lost,
    }
)
"""The rules of ATen's operations by patterns of their names. All others act on each element."""


def find_rule(name: str) -> Rule:
    """Return the rule of an operation of ATen, by its name without a trailing `_`."""
    return next((rule for known, rule in RULES.items() if re.fullmatch(known, name)), _elementwise)
