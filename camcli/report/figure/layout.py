"""Lay out a comparison figure in whole pixels.

A picture's pixels are then the page's pixels, and nothing is resampled twice. Functions on text
take lengths in inches and font sizes in points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from camcli.errors import CamcliError
from camcli.images.geometry import Size
from camcli.methods.registry import METHODS
from camcli.render.draw import Style
from camcli.report.figure.sheet import MapCell, Sheet

POINT = 1 / 72
"""A point in inches."""
LINE_SPACING = 1.25
MIN_WIDTH = 0.6
"""The smallest width of a picture, in inches. Below it, numbers and titles would overlap."""
LABEL_SIZE = 7.0
"""The font size of the rows' labels, in points."""
SMALL_SIZE = 6.0
"""The font size of all other text. Smaller print is hard to read."""
_TITLE_SIZES = (7.5, 7.0, 6.5, 6.0)
"""The font sizes of titles. The largest at which every word fits its column is used."""


@dataclass(frozen=True)
class PrintOptions:
    """How a figure is drawn: its width in inches, its resolution and the style of its maps.

    With `shared_scale`, all maps of a column have one colour scale, which is drawn once.
    """

    width: float
    dpi: int
    style: Style
    shared_scale: bool = False


@dataclass(frozen=True)
class SheetLayout:
    """The layout of a figure, in pixels except for `title_size`, which is in points.

    `models` and `titles` are the heights of the lines at the top, `label` is the width of the rows'
    labels on the left, `caption` the height above each picture, `below` the height between a
    picture and the next row, and `bottom` the height below the last row.
    """

    dpi: int
    rows: int
    columns: tuple[str, ...]
    title_size: float
    width: int
    label: int
    gap: int
    picture: Size
    models: int
    titles: int
    caption: int
    below: int
    bottom: int

    @property
    def height(self) -> int:
        """The height of the page."""
        rows = self.rows * (self.caption + self.picture[1]) + (self.rows - 1) * self.below
        return self.models + self.titles + rows + self.bottom

    def place(self, row: int, column: int) -> tuple[int, int]:
        """Return the upper left corner of a picture. Column 0 holds the original."""
        width, height = self.picture
        x = self.label + column * (width + self.gap)
        y = self.models + self.titles + self.caption
        return x, y + row * (self.caption + height + self.below)


def lay_out(sheet: Sheet, options: PrintOptions) -> SheetLayout:
    """Return the layout of a sheet. Raises CamcliError if its columns do not fit the width."""
    dpi, gap = options.dpi, round(0.05 * options.dpi)
    titles = ("Original", *(METHODS[column.method].title for column in sheet.columns))
    label, picture = _widths(sheet, len(titles), options)
    width = picture[0] / dpi
    size = next((s for s in _TITLE_SIZES if words_fit(titles, width, s)), _TITLE_SIZES[-1])
    lines = max(len(wrap(title, width, size)) for title in titles)
    scale = round((0.09 + line_height(SMALL_SIZE)) * dpi)  # a colour bar and its numbers
    several = len(sheet.models) > 1
    return SheetLayout(
        dpi=dpi,
        rows=len(sheet.columns[0].cells),
        columns=titles,
        title_size=size,
        width=round(options.width * dpi),
        label=label,
        gap=gap,
        picture=picture,
        models=round((0.04 + line_height(size)) * dpi) if several else 0,
        titles=round((0.06 + lines * line_height(size)) * dpi),
        caption=round((0.02 + line_height(SMALL_SIZE)) * dpi) if _has_captions(sheet) else 0,
        below=gap if options.shared_scale else scale + gap,
        bottom=scale,
    )


def label_lines(cell: MapCell, length: float) -> list[str]:
    """Return a row's class in at most two lines of `length` inches, and its probability if any."""
    first, *more = wrap(cell.label, length, LABEL_SIZE)
    lines = [first, " ".join(more)] if more else [first]
    lines = [shorten(line, length, LABEL_SIZE) for line in lines]
    return [*lines, cell.percentage] if cell.percentage else lines


def _widths(sheet: Sheet, columns: int, options: PrintOptions) -> tuple[int, Size]:
    """Return the width of the labels and the size of a picture."""
    dpi, aspect = options.dpi, sheet.pixels.shape[0] / sheet.pixels.shape[1]
    gaps = (columns - 1) * round(0.05 * dpi)

    def label_and_picture(lines: int) -> tuple[int, int]:
        label = round((0.09 + lines * line_height(LABEL_SIZE)) * dpi)
        return label, (round(options.width * dpi) - label - gaps) // columns

    # Labels run along the pictures' height, which depends on the labels' width: try two lines.
    _, guess = label_and_picture(2)
    label, width = label_and_picture(_longest_label(sheet, guess * aspect / dpi))
    if width < MIN_WIDTH * dpi:
        raise CamcliError(
            f"{columns} pictures side by side would be {width / dpi:.2f} in wide: give fewer "
            f"methods or models, or a --width of {columns * (MIN_WIDTH + 0.05) + 0.5:.1f} or more"
        )
    return label, (width, max(1, round(width * aspect)))


def _longest_label(sheet: Sheet, length: float) -> int:
    firsts = map(sheet.first_map, range(len(sheet.columns[0].cells)))
    return max((len(label_lines(cell, length)) for cell in firsts if cell), default=0)


def _has_captions(sheet: Sheet) -> bool:
    """Return whether there are maps of other models, which have classes of their own."""
    others = (column.cells for column in sheet.columns if column.model != sheet.models[0])
    return any(isinstance(cell, MapCell) for cells in others for cell in cells)


def line_height(size: float) -> float:
    """Return the height of a line of text."""
    return size * LINE_SPACING * POINT


def text_width(text: str, size: float) -> float:
    """Return the width of a line of text."""
    font = FontProperties(size=size)
    return float(text_to_path.get_text_width_height_descent(text, font, False)[0]) * POINT


def words_fit(texts: Sequence[str], width: float, size: float) -> bool:
    """Return whether every single word is at most `width` wide."""
    return all(text_width(word, size) <= width for text in texts for word in text.split())


def wrap(text: str, width: float, size: float) -> list[str]:
    """Return the lines of a text, each at most `width` wide unless it is one long word."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if line and text_width(longer, size) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines


def shorten(text: str, width: float, size: float, ending: str = "...") -> str:
    """Return a line of text that is at most `width` wide, with an ending if it was cut."""
    text = " ".join(text.split())
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + ending, size) > width:
        text = text[:-1]
    return text.rstrip() + ending
