"""A contact sheet of an output folder: images down, methods across, as a PNG or a PDF to send.

It shows the same as the page: the maps over the small pictures of their images, in the colours of
the run, with names and classes. A PDF has pages of A4's shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import islice

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from camcli.errors import CamcliError, ImageError, printable
from camcli.images.decode import thumbnail
from camcli.images.geometry import Pixels, Size
from camcli.images.opencv import cv2
from camcli.images.store import AnyPath
from camcli.report.contents import Contents
from camcli.report.drawn import drawn_alone, drawn_over, map_of
from camcli.report.folder import SavedResult
from camcli.report.originals import Original
from camcli.report.page import default_title, style_of

ENDINGS = (".png", ".pdf")
MOST_ROWS = 350
"""The most images of a sheet: 50 pages of a PDF, and a PNG that programs still open."""
_DPI = 150
_PAGE = (1240, 1754)
"""A4 at 150 dots per inch."""
_MARGIN, _GAP, _LINE, _TITLE = 60, 12, 20, 34
_SMALLEST, _LARGEST = 130, 320
"""The range of a picture's side."""
_GREY, _EMPTY = (96, 96, 96), (236, 237, 240)


@dataclass(frozen=True)
class Column:
    """The results of one column: a method, a target and a layer."""

    title: str
    results: dict[str, SavedResult]


@dataclass(frozen=True)
class Layout:
    """The size of a page, and the side of the squares that its pictures fill as far as they can."""

    columns: int
    side: int

    @classmethod
    def of(cls, columns: int) -> Layout:
        """Return the layout of pages with this number of pictures across, no narrower than A4."""
        side = (_PAGE[0] - 2 * _MARGIN - (columns - 1) * _GAP) // columns
        return cls(columns, max(_SMALLEST, min(_LARGEST, side)))

    @property
    def width(self) -> int:
        """The width of a page."""
        return max(_PAGE[0], 2 * _MARGIN + self.columns * (self.side + _GAP) - _GAP)

    @property
    def row(self) -> int:
        """The height of a row: the name, the picture of three quarters, the class and a gap."""
        return 2 * _LINE + self.side * 3 // 4 + _GAP

    @property
    def head(self) -> int:
        """The height of what stands above the rows."""
        return _MARGIN + _TITLE + 2 * _LINE

    @property
    def rows(self) -> int:
        """The rows of a page of A4's shape."""
        return max(1, (self.width * _PAGE[1] // _PAGE[0] - self.head - _MARGIN) // self.row)


def check_name(file: AnyPath) -> None:
    """Raise CamcliError for the name of a file that is neither a PNG nor a PDF."""
    if file.suffix.lower() not in ENDINGS:
        raise CamcliError(f"--sheet '{file}': expected a name that ends in {' or '.join(ENDINGS)}")


def sheet(report: Contents, file: AnyPath) -> bytes:
    """Return the contact sheet of the first MOST_ROWS images, in the format of the file's name."""
    columns = columns_of(report.folder.results)
    layout = Layout.of(1 + len(columns))
    shown = iter(report.originals[:MOST_ROWS])
    if file.suffix.lower() == ".png":
        return _png(_page(report, [*shown], columns, layout))
    parts = iter(lambda: [*islice(shown, layout.rows)], [])
    return _pdf([_page(report, part, columns, layout, layout.rows) for part in parts])


def columns_of(results: Sequence[SavedResult]) -> list[Column]:
    """Return a column for each method, target and layer, in the order of the results."""
    found: dict[tuple[str, str, str | None], Column] = {}
    targets = {(one.method, one.target) for one in results}
    layers = {(one.method, one.layer) for one in results}
    for one in results:
        parts = [one.method]
        if one.target != "pred" or sum(method == one.method for method, _ in targets) > 1:
            parts.append(one.target)
        several = sum(method == one.method for method, _ in layers) > 1
        if one.layer and several:
            parts.append(one.layer)
        key = (one.method, one.target, one.layer if several else None)
        found.setdefault(key, Column(" · ".join(parts), {})).results[one.image] = one
    return [*found.values()]


def _page(
    report: Contents,
    originals: Sequence[Original],
    columns: Sequence[Column],
    layout: Layout,
    rows: int = 0,
) -> Image.Image:
    """Draw rows of images below the titles. The page is as high as `rows`, or as its images."""
    height = layout.head + max(rows, len(originals)) * layout.row + _MARGIN
    page = Image.new("RGB", (layout.width, height), "white")
    writer = _Writer(ImageDraw.Draw(page))
    title = report.title or default_title(report.folder)
    writer.write((_MARGIN, _MARGIN), title, layout.width - 2 * _MARGIN, 20)
    lefts = [_MARGIN + i * (layout.side + _GAP) for i in range(layout.columns)]
    for left, text in zip(lefts, ["image", *(one.title for one in columns)], strict=True):
        writer.write((left, _MARGIN + _TITLE), text, layout.side, 14, _GREY)
    for number, original in enumerate(originals):
        top = layout.head + number * layout.row
        writer.write((_MARGIN, top), original.name, layout.width - 2 * _MARGIN)
        area = layout.side, layout.side * 3 // 4
        bottom = _paste(page, _photo(original), (_MARGIN, top + _LINE), area)
        for left, column in zip(lefts[1:], columns, strict=True):
            if result := column.results.get(original.name):
                drawn = _drawn(report, original, result, layout.side)
                bottom = _paste(page, drawn, (left, top + _LINE), area)
                writer.write((left, bottom + 2), _caption(result), layout.side, 12, _GREY)
    return page


@dataclass(frozen=True)
class _Writer:
    draw: ImageDraw.ImageDraw

    def write(
        self,
        at: tuple[int, int],
        text: str,
        width: int,
        size: int = 13,
        colour: tuple[int, int, int] = (0, 0, 0),
    ) -> None:
        """Write a line, shortened in the middle to a width in pixels."""
        font, shown = ImageFont.load_default(size), printable(text)
        kept = len(shown)
        while kept > 1 and self.draw.textlength(shown, font) > width:
            kept -= 1
            shown = f"{printable(text)[: (kept + 1) // 2]}...{printable(text)[-(kept // 2) :]}"
        self.draw.text(at, shown, colour, font)


def _caption(result: SavedResult) -> str:
    if result.status == "error":
        return "failed"
    share = None if result.probability is None else f"{result.probability:.1%}"
    parts = [" ".join(filter(None, [result.class_name, share])) or result.target]
    parts += ["unsure"] if result.unsure else []
    parts += ["wrong"] if result.correct is False else []
    parts += ["empty map"] if result.status == "empty" else []
    return ", ".join(parts)


def _photo(original: Original) -> Pixels | None:
    if original.thumbnail is None:
        return None
    found = cv2.imdecode(np.frombuffer(original.thumbnail, np.uint8), cv2.IMREAD_COLOR)
    return None if found is None else np.ascontiguousarray(found[..., ::-1], np.uint8)


def _drawn(report: Contents, original: Original, result: SavedResult, side: int) -> Pixels | None:
    """Return a result's map over its photo, or the picture that the run saved; None without both.

    The notes of the report count missing and damaged files.
    """
    if result.status == "error":
        return None
    try:
        return _overlaid(report, original, result, side)
    except CamcliError:
        return _saved(result, side)


def _overlaid(report: Contents, original: Original, result: SavedResult, side: int) -> Pixels:
    """Draw a map over the photo, or alone. Raises CamcliError if it cannot be read."""
    values, photo, style = map_of(result), _photo(original), style_of(report.folder.run)
    if photo is None or original.size is None:
        return drawn_alone(result, values, side, style)
    return drawn_over(result, values, photo, original.size, style)


def _saved(result: SavedResult, side: int) -> Pixels | None:
    """Return the picture that the run saved, if it exists."""
    if result.picture is None:
        return None
    try:
        return thumbnail(result.files[result.picture], side)[0].pixels
    except ImageError:
        return None


def _paste(page: Image.Image, pixels: Pixels | None, at: tuple[int, int], area: Size) -> int:
    """Paste a picture at its upper left, as large as the area allows. Return where it ends."""
    size = area
    if pixels is None:
        page.paste(_EMPTY, (*at, at[0] + area[0], at[1] + area[1]))
    else:
        height, width = pixels.shape[:2]
        scale = min(area[0] / width, area[1] / height)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        page.paste(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS), at)
    return at[1] + size[1]


def _png(page: Image.Image) -> bytes:
    buffer = BytesIO()
    page.save(buffer, "PNG", dpi=(_DPI, _DPI))
    return buffer.getvalue()


def _pdf(pages: Sequence[Image.Image]) -> bytes:
    """Return pages as a PDF. It has no date: the same folder gives the same bytes."""
    buffer, (first, *others) = BytesIO(), pages
    options = {"creationDate": None, "modDate": None, "producer": None}
    first.save(
        buffer, "PDF", save_all=True, append_images=others, resolution=_DPI, quality=90, **options
    )
    return buffer.getvalue()


def notes(report: Contents) -> Iterator[str]:
    """Yield what the sheet leaves out."""
    images = len(report.originals) + report.folder.hidden_images
    if images > MOST_ROWS:
        yield f"the sheet shows the first {MOST_ROWS} of {images} images, the most that one holds"
