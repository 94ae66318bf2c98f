"""Draw both maps of a result over a small picture of its photo."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from camcli.errors import CamcliError, ImageError
from camcli.images.decode import thumbnail
from camcli.images.geometry import Crop, MapArray, Pixels, Size
from camcli.images.store import AnyPath
from camcli.methods.registry import METHODS
from camcli.render.draw import heatmap, overlay
from camcli.render.style import Style
from camcli.report.originals import contains, webp
from camcli.runs.ahead import read_from
from camcli.runs.grids import crop_of
from camcli.runs.manifest import Row
from camcli.runs.originals import Search
from camcli.snapshots.map_reader import MapReader
from camcli.snapshots.networks import Contrast


@dataclass(frozen=True)
class Picture:
    """A WebP and its size."""

    data: bytes
    size: Size

    @classmethod
    def of(cls, pixels: Pixels) -> Picture:
        """Encode pixels (H,W,3)."""
        return cls(webp(pixels), (pixels.shape[1], pixels.shape[0]))


@dataclass(frozen=True)
class Pictures:
    """The pictures of the maps of A and of B; None where there is no map to draw.

    `over_photo` says whether the photo was found. `note` says what is wrong with it.
    """

    a: Picture | None = None
    b: Picture | None = None
    over_photo: bool = False
    note: str | None = None


@dataclass(frozen=True)
class Painter:
    """Draws the results of two output folders, with the searches for their photos.

    `side` is the longer side of a picture in pixels.
    """

    folders: tuple[AnyPath, AnyPath]
    searches: tuple[Search, Search]
    styles: tuple[Style, Style]
    side: int
    reader: MapReader = field(default_factory=MapReader)

    def draw_all(self, contrasts: Sequence[Contrast], workers: int) -> Iterator[Pictures]:
        """Yield the pictures of each result in order, drawn in threads."""
        drawn = read_from(self.folders, self.draw, contrasts, workers)
        yield from self.reader.until_stopped(drawn)

    def draw(self, one: Contrast) -> Pictures:
        """Draw the maps of a result that is in both folders."""
        rows = one.rows
        assert rows is not None
        photo, note = self._photo(rows)
        draw = partial(self._picture, photo)
        a, b = map(draw, self.folders, rows, self.styles)
        return Pictures(a, b, photo is not None, note)

    def _photo(self, rows: Sequence[Row]) -> tuple[tuple[Pixels, Size] | None, str | None]:
        """Return the photo, reduced, with its size; None if it was not found. And a note on it."""
        note = None
        for search, row in zip(self.searches, rows, strict=True):
            file, note = search.find(*photo_of(row))
            if file is None:
                continue
            try:
                picture, size = thumbnail(file, self.side, search.reading)
            except ImageError as error:
                return None, str(error)
            if all(contains(size, crop_of(row)) for row in rows):
                return (picture.pixels, size), note
            note = f"{file} has another size: not shown"
        return None, note

    def _picture(
        self, photo: tuple[Pixels, Size] | None, folder: AnyPath, row: Row, style: Style
    ) -> Picture | None:
        crop, values = crop_of(row), _values(self.reader, folder, row)
        if crop is None or values is None:
            return None
        method = METHODS.get(row["method"])
        signed = method.signed if method else bool((values < 0).any())
        if photo:
            pixels, size = photo
            place = _place(crop, size, pixels.shape[:2])
            return Picture.of(overlay(pixels, values, place, style, signed, row.get("top")))
        size = row.get("size") or (crop.x1, crop.y1)
        size = max(size[0], crop.x1), max(size[1], crop.y1)
        shape = _shape(size, self.side)
        place = _place(crop, size, shape)
        return Picture.of(heatmap(values, place, shape, style, signed, row.get("top")))


def photo_of(row: Row) -> tuple[str, str]:
    """Return the name of a row's photo, and the digest of its bytes, empty if unknown."""
    return row["image"], (row.get("digest") or "").partition("-")[2]


def _values(reader: MapReader, folder: AnyPath, row: Row) -> MapArray | None:
    """Return the map of a row to draw; None if there is none, or one for each word."""
    if row["status"] == "error" or row.get("words") or not row.get("map"):
        return None
    try:
        with np.errstate(over="ignore"):  # a float64 beyond float32 is infinite
            values = reader.read(folder / row["map"]).astype(np.float32)
    except CamcliError:  # the note of the result has the error
        return None
    return values if values.size and np.isfinite(values).all() else None


def _place(crop: Crop, size: Size, shape: tuple[int, ...]) -> Crop:
    """Return a crop of an image of `size` in the reduced image of `shape` (H,W)."""
    height, width = shape
    found = crop.resized(width / size[0], height / size[1])
    x0, y0 = min(found.x0, width - 1), min(found.y0, height - 1)
    return replace(found, x0=x0, y0=y0, x1=min(found.x1, width), y1=min(found.y1, height))


def _shape(size: Size, longest: int) -> tuple[int, int]:
    width, height = (max(1, round(side * longest / max(size))) for side in size)
    return height, width
