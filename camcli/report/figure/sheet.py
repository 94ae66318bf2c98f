"""The contents of a comparison figure: rows are images and targets, columns models and methods.

torch and OpenCV are imported only for types, so that the command line can show the defaults.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from camcli.images.geometry import Crop, MapArray, PixelBox, Pixels
from camcli.methods.registry import METHODS
from camcli.render.numbers import format_probability

FIRST_MODEL_METHODS = ("guided-backprop", "gradcam", "guided", "gradcam++", "cam", "occlusion")
"""The first model's default columns, after figure 1 of the Grad-CAM paper (arXiv:1610.02391)."""
OTHER_MODEL_METHODS = ("gradcam",)
"""The default columns of every other model."""
SCALE_SCOPES = ("image", "row", "figure")
"""The groups of maps that can share a colour scale. Methods have different units."""


@dataclass(frozen=True)
class MapCell:
    """A map and its place in the original. `top` is the value that is drawn in full colour.

    `layer` is the layer that the map was computed at; None for a method that uses none.
    """

    values: MapArray
    crop: Crop
    signed: bool
    top: float
    box: list[int] | None
    label: str
    probability: float | None
    layer: str | None = None

    @property
    def percentage(self) -> str:
        """The probability as text; empty if there is none."""
        return "" if self.probability is None else format_probability(self.probability)

    def moved(self, x: int, y: int) -> MapCell:
        """Return the cell after the original is moved by `x` and `y` pixels."""
        box = self.box and [side + by for side, by in zip(self.box, (x, y, x, y), strict=True)]
        return replace(self, crop=self.crop.moved(x, y), box=box)


@dataclass(frozen=True)
class EmptyCell:
    """A cell without a map, and the reason."""

    reason: str


SheetCell: TypeAlias = MapCell | EmptyCell


@dataclass(frozen=True)
class Column:
    """A model's method at one layer, and its cells from the first row down."""

    model: str
    method: str
    cells: tuple[SheetCell, ...]

    @property
    def layer(self) -> str | None:
        """The layer of the maps; None if there are none, or the method uses no layer."""
        return next((cell.layer for cell in self.cells if isinstance(cell, MapCell)), None)


@dataclass(frozen=True)
class Sheet:
    """The contents of a figure: the photos, and the columns beside them.

    Each photo has as many rows as every other one, one below the other.
    """

    photos: tuple[Pixels, ...]
    columns: tuple[Column, ...]

    @property
    def rows(self) -> range:
        """The numbers of the rows."""
        return range(len(self.columns[0].cells))

    def photo_number(self, row: int) -> int:
        """Return the number of the photo that a row belongs to."""
        return row * len(self.photos) // len(self.rows)

    def photo(self, row: int) -> Pixels:
        """Return the photo that a row belongs to."""
        return self.photos[self.photo_number(row)]

    def starts_photo(self, row: int) -> bool:
        """Return whether a row is the first one of its photo."""
        return row == 0 or self.photo_number(row) > self.photo_number(row - 1)

    @property
    def titles(self) -> list[str]:
        """The titles of the columns: the method, and the layer where a method has several."""
        of_method = Counter((column.model, column.method) for column in self.columns)
        return [
            f"{METHODS[one.method].title}\n{one.layer}"
            if one.layer and of_method[one.model, one.method] > 1
            else METHODS[one.method].title
            for one in self.columns
        ]

    @property
    def models(self) -> list[str]:
        """The model names. The rows are labelled with the first model's predictions."""
        return list(dict.fromkeys(column.model for column in self.columns))

    @property
    def empty_reasons(self) -> list[str]:
        """The distinct reasons for empty cells, with model and method."""
        return list(
            dict.fromkeys(
                f"{column.model}, {column.method}: {cell.reason}"
                for column in self.columns
                for cell in column.cells
                if isinstance(cell, EmptyCell)
            )
        )

    def first_map(self, row: int) -> MapCell | None:
        """Return the first map in a row, whose class and probability label the row."""
        cells = (column.cells[row] for column in self.columns)
        return next((cell for cell in cells if isinstance(cell, MapCell)), None)


def trim(sheet: Sheet) -> Sheet:
    """Return a sheet with the parts of its photos that a network saw."""
    boxes = [_seen_box(sheet, number) for number in range(len(sheet.photos))]
    photos = (
        photo[y0:y1, x0:x1] for photo, (x0, y0, x1, y1) in zip(sheet.photos, boxes, strict=True)
    )

    def cells(column: Column) -> Sequence[SheetCell]:
        corners = [boxes[sheet.photo_number(row)][:2] for row in sheet.rows]
        return [
            cell.moved(-x, -y) if isinstance(cell, MapCell) else cell
            for cell, (x, y) in zip(column.cells, corners, strict=True)
        ]

    columns = (replace(column, cells=tuple(cells(column))) for column in sheet.columns)
    return Sheet(tuple(photos), tuple(columns))


def _seen_box(sheet: Sheet, number: int) -> PixelBox:
    """Return the box around the crops of a photo's maps: the whole photo if it has no map."""
    rows = [row for row in sheet.rows if sheet.photo_number(row) == number]
    cells = [column.cells[row] for column in sheet.columns for row in rows]
    boxes = [cell.crop.box for cell in cells if isinstance(cell, MapCell)]
    height, width = sheet.photos[number].shape[:2]
    if not boxes:
        return 0, 0, width, height
    left, upper, right, lower = zip(*boxes, strict=True)
    return max(0, min(left)), max(0, min(upper)), min(width, max(right)), min(height, max(lower))
