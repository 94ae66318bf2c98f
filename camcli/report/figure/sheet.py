"""The contents of a comparison figure: a row for each target, a column for each model and method.

torch and OpenCV are imported only for types, so that the command line can show the defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from camcli.images.geometry import Crop, MapArray, Pixels
from camcli.render.numbers import format_probability

FIRST_MODEL_METHODS = ("guided-backprop", "gradcam", "guided", "gradcam++", "cam", "occlusion")
"""The first model's default columns, after figure 1 of the Grad-CAM paper (arXiv:1610.02391)."""
OTHER_MODEL_METHODS = ("gradcam",)
"""The default columns of every other model."""
SCALE_SCOPES = ("image", "row", "figure")
"""The groups of maps that can share a colour scale. Methods have different units."""


@dataclass(frozen=True)
class MapCell:
    """A map and its place in the original. `top` is the value that is drawn in full colour."""

    values: MapArray
    crop: Crop
    signed: bool
    top: float
    box: list[int] | None
    label: str
    probability: float | None

    @property
    def percentage(self) -> str:
        """The probability as text; empty if there is none."""
        return "" if self.probability is None else format_probability(self.probability)


@dataclass(frozen=True)
class EmptyCell:
    """A cell without a map, and the reason."""

    reason: str


SheetCell: TypeAlias = MapCell | EmptyCell


@dataclass(frozen=True)
class Column:
    """A model's method, and its cells from the first target down."""

    model: str
    method: str
    cells: tuple[SheetCell, ...]


@dataclass(frozen=True)
class Sheet:
    """The contents of a figure: the original, and the columns beside it."""

    pixels: Pixels
    columns: tuple[Column, ...]

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
