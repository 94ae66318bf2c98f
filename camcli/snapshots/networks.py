"""Compare the results of two networks for the same images: their classes and their maps.

Layers, inputs and crops differ between networks. Both maps are therefore put on one grid over the
part of the image that both networks saw.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from camcli.errors import CamcliError
from camcli.images.geometry import Box, Crop, Floats
from camcli.images.store import AnyPath
from camcli.runs.ahead import read_from
from camcli.runs.grids import crop_of, on_grid
from camcli.runs.manifest import Row
from camcli.runs.maps import FloatMap
from camcli.snapshots import predictions
from camcli.snapshots.map_reader import MapReader
from camcli.snapshots.measures import measure
from camcli.snapshots.pairs import Pair, pairs, read_index
from camcli.snapshots.predictions import Label


@dataclass(frozen=True, slots=True)
class Contrast:
    """A result of network A and that of network B, with the rows of both; None where it is missing.

    `correlation` is Pearson's, None if either map is flat. `shift` is the distance from the hottest
    point of B to the nearest one of A, as a share of the longer side of the part that both saw.
    `note` says why maps were not compared. `several` says whether other results have the same
    image, method and target.
    """

    a: Row | None
    b: Row | None
    correlation: float | None = None
    shift: float | None = None
    note: str | None = None
    several: bool = False

    @property
    def row(self) -> Row:
        """The row of A, or that of B if A has none."""
        row = self.a or self.b
        assert row is not None
        return row

    @property
    def rows(self) -> tuple[Row, Row] | None:
        """The rows of both; None if one is missing."""
        return (self.a, self.b) if self.a and self.b else None

    @property
    def predicted(self) -> tuple[Label | None, Label | None]:
        """The best classes of A and of B."""
        a, b = (row and predictions.predicted(row) for row in (self.a, self.b))
        return a or None, b or None

    @property
    def same_class(self) -> bool | None:
        """Whether the best classes are the same; None if one is not known."""
        return predictions.same(*self.predicted)

    @property
    def same_explained(self) -> bool | None:
        """Whether both maps explain the same class; None if one has no class."""
        return predictions.same(*map(predictions.explained, self.rows)) if self.rows else None

    @property
    def right(self) -> str | None:
        """The networks that are right: `both`, `a`, `b` or `neither`; None if it is not known."""
        return predictions.right(*self.rows) if self.rows else None

    @property
    def rank(self) -> tuple[int, bool, float]:
        """A key that sorts the strongest disagreement first.

        Other classes with one of them right come first, then other classes, and each by its
        correlation, the lowest first.
        """
        one_is_right = self.right in ("a", "b")
        group = (0 if one_is_right else 1) if self.same_class is False else 2
        return group, self.correlation is None, self.correlation or 0.0


def contrasts(a: AnyPath, b: AnyPath) -> Iterator[Contrast]:
    """Read the manifests of two output folders, and then yield the results of both.

    They are those of A in their order, then those that only B has. Raises CamcliError if either is
    not an output folder, or if no result is in both.
    """
    ours, theirs = read_index(a), read_index(b)
    if not np.isin(ours.results, theirs.results).any():
        raise CamcliError(
            f"no result of '{a}' is in '{b}': expected two output folders of the same images, with "
            f"a method and a target that both have"
        )
    reader = MapReader()
    found = read_from((a, b), partial(_contrast, (a, b), reader), pairs(theirs, ours))
    return reader.until_stopped(found)


def _contrast(folders: tuple[AnyPath, AnyPath], reader: MapReader, pair: Pair) -> Contrast:
    one = Contrast(pair.baseline, pair.new, several=pair.several)
    if not one.rows:
        return one
    try:
        correlation, shift = _measured(folders, reader, one.rows)
    except CamcliError as error:
        return replace(one, note=str(error))
    return replace(one, correlation=correlation, shift=shift)


def _measured(
    folders: Sequence[AnyPath], reader: MapReader, rows: tuple[Row, Row]
) -> tuple[float | None, float | None]:
    """Return the correlation and the shift of two results. Raises CamcliError with the reason."""
    failed = [name for name, row in zip("AB", rows, strict=True) if row["status"] == "error"]
    if failed:
        raise CamcliError(f"failed in {' and '.join(failed)}")
    if any(row.get("words") for row in rows):
        raise CamcliError("maps of words")
    if any(_differs(*rows, field) for field in ("size", "frame")):
        raise CamcliError("images of other sizes or frames")
    maps = [_read(reader, *one) for one in zip("AB", folders, rows, strict=True)]
    crops = [_crop(*one) for one in zip("AB", rows, strict=True)]
    box = common_box(*crops)
    x0, y0, x1, y1 = box
    with np.errstate(all="ignore"):  # values of a damaged map may be too large
        a, b = (_grid(*one, box) for one in zip("AB", maps, crops, strict=True))
        found = measure(b, a, cell=(y1 - y0, x1 - x0))
    # Without a shift, one of the maps is flat.
    return (None if found.shift is None else found.correlation), found.shift


def common_box(a: Crop, b: Crop) -> Box:
    """Return the part of the image that both saw, in original pixels. Raises CamcliError."""
    x0, y0 = max(a.x0, b.x0), max(a.y0, b.y0)
    x1, y1 = min(a.x1, b.x1), min(a.y1, b.y1)
    if x0 >= x1 or y0 >= y1:
        raise CamcliError("no part of the image that both saw")
    return x0, y0, x1, y1


def _differs(a: Row, b: Row, field: str) -> bool:
    return None not in (a.get(field), b.get(field)) and a[field] != b[field]


def _crop(name: str, row: Row) -> Crop:
    crop = crop_of(row)
    if crop is None:
        raise CamcliError(f"no crop in the row of {name}")
    return crop


def _read(reader: MapReader, name: str, folder: AnyPath, row: Row) -> FloatMap:
    if not row.get("map"):
        raise CamcliError(f"no map saved in {name}")
    try:
        values = reader.read(folder / row["map"])
    except CamcliError as error:
        raise CamcliError(f"map of {name} not readable ({error})") from None
    if not values.size:
        raise CamcliError(f"map of {name} not readable (it is empty)")
    return values


def _grid(name: str, values: FloatMap, crop: Crop, box: Box) -> Floats:
    """Return a map on the grid, divided by its largest absolute value. Raises CamcliError."""
    grid = on_grid(values, crop, box)
    if not np.isfinite(grid).all():
        raise CamcliError(f"map of {name} has cells that are not finite")
    return grid / (np.abs(grid).max() or 1)
