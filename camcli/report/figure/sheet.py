"""What a comparison figure shows: a row for each target, a column for each method of a model.

torch and OpenCV are imported only for types, so that the command line can name the defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from camcli.images.geometry import Crop, MapArray, Pixels

DEFAULT = ("guided-backprop", "gradcam", "guided", "gradcam++", "cam", "occlusion")
"""The first model's columns, after figure 1 of the Grad-CAM paper (arXiv:1610.02391)."""
BESIDE = ("gradcam",)
"""The columns of every further model."""
SCALES = ("image", "row", "figure")
"""Over what maps of one method share a scale. Those of two methods have no unit in common."""


@dataclass(frozen=True)
class Map:
    """One map in its place in the original, with the value in full colour."""

    values: MapArray
    crop: Crop
    signed: bool
    top: float
    box: list[int] | None
    label: str
    probability: float


@dataclass(frozen=True)
class Gap:
    """A place without a map, and the reason."""

    reason: str


Cell: TypeAlias = Map | Gap


@dataclass(frozen=True)
class Column:
    """A method of a model, and its cells from the first target down."""

    model: str
    method: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Sheet:
    """An original, and the columns beside it."""

    pixels: Pixels
    columns: tuple[Column, ...]

    @property
    def models(self) -> list[str]:
        """Each once, the first being the one that rows are named by."""
        return list(dict.fromkeys(column.model for column in self.columns))

    @property
    def gaps(self) -> list[str]:
        """Why there are places without a map, each reason once."""
        return list(
            dict.fromkeys(
                f"{column.model}, {column.method}: {cell.reason}"
                for column in self.columns
                for cell in column.cells
                if isinstance(cell, Gap)
            )
        )
