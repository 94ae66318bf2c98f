"""Atoms, the factors of which axes are made, and the lines on which their centres lie."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

SPATIAL = ("y", "x")
"""The kinds of an atom that counts rows or columns of the image."""


class Line(NamedTuple):
    """The centres of evenly spaced positions in the image: position i is at `start + i step`.

    They are in pixels, whose edges are at whole numbers. `fixed` tells that they are the same for
    images of all sizes (Araujo, Norris & Sim 2019, doi:10.23915/distill.00021). `spread` is how far
    they may be off, in pixels, where branches of a network look at different places.
    """

    start: float
    step: float
    fixed: bool = True
    spread: float = 0.0

    def windowed(self, shift: float, factor: float, fixed: bool = True) -> Line:
        """Return the centres of windows: the first is `shift` positions on, the next `factor`."""
        start = self.start + shift * self.step
        return Line(start, self.step * factor, self.fixed and fixed, self.spread)


class Atom(NamedTuple):
    """A factor of an axis: `size` positions that are `stride` apart in what `kind` counts.

    The kinds are those of SPATIAL, with a `+` where the map is padded and a `~` where it is rolled;
    `c` for channels and all else that has no place in the image; and `?` where that is not known.
    Index i is at `line.start + i stride line.step` in the image. The places of several atoms of one
    kind add up. `line` is None where that is not known.
    """

    kind: str
    stride: int
    size: int
    line: Line | None = None

    @property
    def centres(self) -> Line | None:
        """The centres of the atom's own positions."""
        return self.line and self.line.windowed(0, self.stride)


def merged(atoms: Iterable[Atom]) -> tuple[Atom, ...]:
    """Return atoms without those of size 1, and with neighbours merged that count on."""
    found: list[Atom] = []
    for atom in atoms:
        last = found[-1] if found else None
        if atom.size == 1:
            continue
        if last and last.kind == atom.kind and last.stride == atom.stride * atom.size:
            line = added(last.line, atom.line)
            found[-1] = Atom(atom.kind, atom.stride, last.size * atom.size, line)
        else:
            found.append(atom)
    return tuple(found)


def cut(atoms: list[Atom], sizes: Sequence[int]) -> list[list[Atom]] | None:
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
                line = atom.line and atom.line._replace(start=0)
                part.append(Atom(atom.kind, atom.stride * inner, size, atom.line))
                atoms.insert(0, Atom(atom.kind, atom.stride, inner, line))
                size = 1
            else:
                return None
        found.append(part)
    return found


def averaged(
    atoms: Sequence[Atom], given: Sequence[Sequence[Atom]], *, equally: bool
) -> tuple[Atom, ...]:
    """Return atoms with the mean centres of the same atoms of several axes.

    `equally` tells that all axes have the same weight; else the centres may be those of any. The
    centres are not known where one is more than a quarter of a cell from the mean.
    """
    return tuple(
        atom._replace(line=_mean_line(atom, [part[i] for part in given], equally))
        for i, atom in enumerate(atoms)
    )


def _mean_line(atom: Atom, same: Sequence[Atom], equally: bool) -> Line | None:
    lines = [line for one in same if (line := one.centres)]
    if len(lines) < len(same):
        return None
    start, step = (sum(line[i] for line in lines) / len(lines) for i in (0, 1))
    away = [
        max(abs(line.start - start), abs(line.start - start + atom.size * (line.step - step)))
        for line in lines
    ]
    if max(away) > step / 4:
        return None
    spread = max(line.spread + off * (not equally) for line, off in zip(lines, away, strict=True))
    return Line(start, step / atom.stride, all(line.fixed for line in lines), spread)


def added(one: Line | None, other: Line | None) -> Line | None:
    """Return the centres of an axis whose two factors have these lines, of the same step."""
    if one is None or other is None:
        return None
    spread = max(one.spread, other.spread)
    return Line(one.start + other.start, other.step, one.fixed and other.fixed, spread)
