"""The axes of a layer's output: which parts of the image's height and width each one counts.

A network cuts, merges and permutes the axes of its maps: into tokens, into windows, or with the
channels last. `capture.axes` follows the axes through a forward pass. This module describes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from camcli.models.atoms import SPATIAL, Atom, Line, added, averaged, cut, merged


@dataclass(frozen=True)
class Axis:
    """An axis as the product of its atoms, the outermost first.

    `before` and `after` are numbers of positions around them, such as a class token.
    """

    atoms: tuple[Atom, ...] = ()
    before: int = 0
    after: int = 0

    @property
    def kinds(self) -> set[str]:
        return {atom.kind for atom in self.atoms}

    @property
    def counts_places(self) -> bool:
        """Whether each position is a place in the image."""
        return bool(self.atoms) and not self.kinds & {"c", "?"}


Axes: TypeAlias = tuple[Axis, ...]


def channels(size: int) -> Axis:
    """Return an axis without a place in the image."""
    return Axis(merged([Atom("c", 0, size)]))


def unknown(size: int) -> Axis:
    """Return an axis whose places in the image are not known."""
    return Axis(merged([Atom("?", 0, size)]))


def places(kind: str, size: int, line: Line | None = None) -> Axis:
    """Return the axis of a map that counts all its rows or columns, whose centres are on a line."""
    return Axis(merged([Atom(kind, 1, size, line)]))


def joined(one: Axis, other: Axis) -> Axis:
    """Return the axis of a result whose operands have these axes, of one size.

    A place in the image is stronger than no place, as in a map plus a bias. It is also stronger
    than an unknown place: in a residual connection both operands have the same places.
    """
    ranks = _rank(one), _rank(other)
    if one == other or ranks[0] > ranks[1]:
        return one
    if ranks[0] < ranks[1]:
        return other
    if agreed := _agreed(one, other):
        return agreed
    size = math.prod(atom.size for atom in one.atoms) + one.before + one.after
    return unknown(size) if ranks[0] > 1 else channels(size)


def _agreed(one: Axis, other: Axis) -> Axis | None:
    """Return the axis of operands that count the same places; None if they do not.

    Where their centres differ by up to half a cell, the result has the mean.
    """
    if (one.before, one.after) != (other.before, other.after):
        return None
    strides = [[atom.stride for atom in axis.atoms] for axis in (one, other)]
    if _counted(one) != _counted(other) or (len(one.atoms) > 1 and strides[0] != strides[1]):
        return None
    first = min(one, other, key=lambda axis: axis.atoms[0].stride)  # the other one was sliced
    return replace(first, atoms=averaged(first.atoms, [one.atoms, other.atoms], equally=False))


def _counted(axis: Axis) -> list[tuple[str, int]]:
    return [(atom.kind, atom.size) for atom in axis.atoms]


def _rank(axis: Axis) -> int:
    """Return how much is known of an axis, from nothing to places in the image."""
    if not axis.atoms:
        return 0
    if "?" in axis.kinds:
        return 2
    return 1 if axis.kinds == {"c"} else 3


def reshaped(axes: Axes, old: Sequence[int], new: Sequence[int]) -> Axes:
    """Return the axes of a tensor of shape `old` after a view as `new`."""
    left = [(axis, size) for axis, size in zip(axes, old, strict=True) if size != 1]
    right = [size for size in new if size != 1]
    found: list[Axis] = []
    while left:
        group, sizes = [left.pop(0)], [right.pop(0)]
        while (given := math.prod(size for _, size in group)) != (wanted := math.prod(sizes)):
            if given < wanted:
                group.append(left.pop(0))
            else:
                sizes.append(right.pop(0))
        found += _regrouped([axis for axis, _ in group], sizes)
    remaining = iter(found)
    return tuple(Axis() if size == 1 else next(remaining) for size in new)


def _regrouped(axes: Sequence[Axis], sizes: Sequence[int]) -> list[Axis]:
    """Return the axes of these sizes that have the atoms of `axes`, in their order."""
    if len(axes) == len(sizes) == 1:
        return list(axes)
    parts = None
    if not any(axis.before or axis.after for axis in axes):
        parts = cut([atom for axis in axes for atom in axis.atoms], sizes)
    return [Axis(merged(part)) for part in parts] if parts else [unknown(size) for size in sizes]


def sliced(axis: Axis, size: int, start: int, stop: int, step: int = 1) -> Axis:
    """Return the axis of the positions from `start` to `stop` of an axis of `size` positions."""
    count = len(range(start, stop, step))
    if count == size:
        return axis
    inside = size - axis.before - axis.after
    first, last = axis.before, axis.before + inside
    if not axis.atoms or axis.kinds == {"c"} or stop <= first or start >= last:
        return channels(count)
    if step == 1 and start <= first and stop >= last:
        return Axis(axis.atoms, first - start, stop - last)
    if len(axis.atoms) > 1 or inside != size:
        return unknown(count)
    (atom,) = axis.atoms
    if step == 1 and not atom.kind.endswith("+"):  # a part of the map is not the whole image
        return unknown(count)
    line = atom.line and atom.line.windowed(start * atom.stride, 1)
    return Axis(merged([Atom(atom.kind.removesuffix("+"), atom.stride * step, count, line)]))


def resized(axis: Axis, old: int, new: int, centres: Callable[[Line], Line | None]) -> Axis:
    """Return the axis of a map after windows have moved over it.

    `centres` returns the centres of the windows, from those of the positions.
    """
    if not axis.kinds - {"c"}:
        return channels(new)
    kinds = {kind.removesuffix("+") for kind in axis.kinds}
    if len(axis.atoms) == 1 and kinds <= set(SPATIAL) and not axis.before + axis.after:
        (atom,) = axis.atoms
        line = atom.centres and centres(atom.centres)
        if old != new or "+" in atom.kind:
            return places(kinds.pop(), new, line)
        return replace(axis, atoms=(atom._replace(stride=1, line=line),))
    return axis if old == new else unknown(new)


def padded(axis: Axis, old: int, new: int, before: int) -> Axis:
    """Return an axis after padding, of which `before` positions precede the map.

    Cropping it back by negative padding restores it.
    """
    if not axis.kinds - {"c"}:
        return channels(new)
    if len(axis.atoms) > 1 or axis.before or axis.after or axis.kinds - set(SPATIAL) - {"y+", "x+"}:
        return unknown(new)
    (atom,) = axis.atoms
    back = new < old and atom.kind.endswith("+")
    kind = atom.kind.removesuffix("+") + ("" if back else "+")
    line = atom.line and atom.line.windowed(-before * atom.stride, 1, fixed=False)
    return Axis(merged([Atom(kind, atom.stride, new, line)]))


def _toggled(kind: str) -> str:
    if kind in ("c", "?"):
        return kind
    return kind.removesuffix("~") if kind.endswith("~") else f"{kind}~"


def chained(axes: Sequence[Axis], sizes: Sequence[int]) -> Axis:
    """Return the axis of tensors one after the other. One of them may count places."""
    located = [i for i, axis in enumerate(axes) if axis.kinds - {"c"}]
    if not located:
        return channels(sum(sizes))
    if len(located) > 1 or not axes[located[0]].counts_places:
        return unknown(sum(sizes))
    i = located[0]
    around = sum(sizes[:i]), sum(sizes[i + 1 :])
    return Axis(axes[i].atoms, axes[i].before + around[0], axes[i].after + around[1])


def rolled(axis: Axis) -> Axis:
    """Return an axis after a roll, which a roll back restores."""
    return Axis(tuple(atom._replace(kind=_toggled(atom.kind)) for atom in axis.atoms))


def absorbed(axes: Axes, lost: Axis) -> Axes:
    """Return axes after an axis is lost whose positions all contribute to each of their places.

    Where a map is cut into patches, the positions within a patch may be merged into channels. The
    centres of the patches then lie in their middle.
    """
    for atom in lost.atoms:
        axes = _centred(axes, atom)
    return axes


def _centred(axes: Axes, lost: Atom) -> Axes:
    """Return axes with the centres of one kind moved to the middle of a lost atom."""
    same = [
        (i, k)
        for i, axis in enumerate(axes)
        for k, a in enumerate(axis.atoms)
        if a.kind == lost.kind
    ]
    if lost.kind not in SPATIAL or not same:
        return axes
    i, k = min(same, key=lambda at: axes[at[0]].atoms[at[1]].stride)
    atom = axes[i].atoms[k]
    if atom.stride < lost.stride * lost.size:  # the positions of another tensor, as in attention
        return axes
    middle = lost.line and lost.line.windowed((lost.size - 1) / 2 * lost.stride, 1)
    atoms = [*axes[i].atoms]
    atoms[k] = atom._replace(line=added(middle, atom.line))
    return (*axes[:i], replace(axes[i], atoms=tuple(atoms)), *axes[i + 1 :])


def line_of(axes: Axes, kind: str) -> Line | None:
    """Return the centres of the rows (`y`) or columns (`x`) of a map; None if they are not known.

    Positions that are merged with channels are no rows or columns of their own.
    """
    merged_axes = [axis for axis in axes if not axis.counts_places]
    located = tuple(axis for axis in axes if axis.counts_places)
    for axis in merged_axes:
        located = absorbed(located, axis)
    own = sorted(
        (a for axis in located for a in axis.atoms if a.kind == kind), key=lambda a: a.stride
    )
    line: Line | None = None
    for atom in own:
        found = atom.centres
        if found is None:
            return None
        line = found if line is None else added(found, line)
    return line
