"""The axes of a layer's output: which parts of the image's height and width each one counts.

A network cuts, merges and permutes the axes of its maps: into tokens, into windows, or with the
channels last. `capture.axes` follows the axes through a forward pass. This module describes them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

SPATIAL = ("y", "x")
"""The kinds of an atom that counts rows or columns of the image."""


class Atom(NamedTuple):
    """A factor of an axis: `size` positions that are `stride` apart in what `kind` counts.

    The kinds are those of SPATIAL, with a `+` where the map is padded and a `~` where it is rolled;
    `c` for channels and all else that has no place in the image; and `?` where that is not known.
    """

    kind: str
    stride: int
    size: int


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


def places(kind: str, size: int) -> Axis:
    """Return the axis of a map that counts all its rows or columns."""
    return Axis(merged([Atom(kind, 1, size)]))


def merged(atoms: Iterable[Atom]) -> tuple[Atom, ...]:
    """Return atoms without those of size 1, and with neighbours merged that count on."""
    found: list[Atom] = []
    for atom in atoms:
        last = found[-1] if found else None
        if atom.size == 1:
            continue
        if last and last.kind == atom.kind and last.stride == atom.stride * atom.size:
            found[-1] = Atom(atom.kind, atom.stride, last.size * atom.size)
        else:
            found.append(atom)
    return tuple(found)


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
    if [a[::2] for a in one.atoms] == [a[::2] for a in other.atoms] and len(one.atoms) == 1:
        return min(one, other, key=lambda axis: axis.atoms[0].stride)
    size = math.prod(atom.size for atom in one.atoms) + one.before + one.after
    return unknown(size) if ranks[0] > 1 else channels(size)


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
    cut = None
    if not any(axis.before or axis.after for axis in axes):
        cut = _cut([atom for axis in axes for atom in axis.atoms], sizes)
    return [Axis(merged(part)) for part in cut] if cut else [unknown(size) for size in sizes]


def _cut(atoms: list[Atom], sizes: Sequence[int]) -> list[list[Atom]] | None:
    """Cut a sequence of atoms into parts of these sizes; None where a size does not fit."""
    found = []
    for size in sizes:
        part: list[Atom] = []
        while size > 1:
            atom = atoms.pop(0)
            if size % atom.size == 0:
                part.append(atom)
                size //= atom.size
            elif atom.size % size == 0:
                inner = atom.size // size
                part.append(Atom(atom.kind, atom.stride * inner, size))
                atoms.insert(0, Atom(atom.kind, atom.stride, inner))
                size = 1
            else:
                return None
        found.append(part)
    return found


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
    return Axis(merged([Atom(atom.kind.removesuffix("+"), atom.stride * step, count)]))


def resized(axis: Axis, old: int, new: int) -> Axis:
    """Return the axis of a map whose number of rows or columns has changed."""
    if not axis.kinds - {"c"}:
        return channels(new)
    kinds = {kind.removesuffix("+") for kind in axis.kinds}
    whole = len(axis.atoms) == 1 and kinds <= set(SPATIAL) and not axis.before + axis.after
    if whole and (old != new or "+" in axis.atoms[0].kind):
        return places(kinds.pop(), new)
    return axis if old == new else unknown(new)


def padded(axis: Axis, old: int, new: int) -> Axis:
    """Return an axis after padding. Cropping it back by negative padding restores it."""
    if not axis.kinds - {"c"}:
        return channels(new)
    if len(axis.atoms) > 1 or axis.before or axis.after or axis.kinds - set(SPATIAL) - {"y+", "x+"}:
        return unknown(new)
    (atom,) = axis.atoms
    back = new < old and atom.kind.endswith("+")
    kind = atom.kind.removesuffix("+") + ("" if back else "+")
    return Axis(merged([Atom(kind, atom.stride, new)]))


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
    return Axis(tuple(Atom(_toggled(kind), *rest) for kind, *rest in axis.atoms))
