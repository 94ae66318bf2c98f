"""Lay out a comparison figure in whole pixels.

A picture's pixels are then the page's pixels, and nothing is resampled twice. Functions on text
take lengths in inches and font sizes in points.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from camcli.errors import CamcliError
from camcli.images.geometry import Pixels, Size
from camcli.render.figure_files import FONT
from camcli.render.style import Style
from camcli.report.figure.lines import line_height, shorten, words_fit, wrap
from camcli.report.figure.sheet import MapCell, Sheet

_MIN_WIDTH = 0.085
"""The smallest width of a picture, in inches for each point of the font size. Below it, numbers and
titles would overlap."""
_GAP = 0.05
"""The gap between pictures in inches."""


@dataclass(frozen=True)
class PrintOptions:
    """How a figure is drawn: its width in inches, its resolution and the style of its maps.

    With `shared_scale`, all maps of a column have one colour scale, which is drawn once. With
    `letters`, pictures are marked (a), (b), and so on. The rows' labels have `font_size` points,
    and other text up to a point less.
    """

    width: float
    dpi: int
    style: Style
    shared_scale: bool = False
    letters: bool = False
    font: str = FONT
    font_size: float = 7.0

    @property
    def small(self) -> float:
        """The font size of numbers, captions and letters, in points."""
        return self.font_size - 1

    def pixels(self, inches: float) -> int:
        """Return a length in whole pixels."""
        return round(inches * self.dpi)


@dataclass(frozen=True)
class SheetLayout:
    """The layout of a figure, in pixels except for `title_size`, which is in points.

    Columns that do not fit side by side are in several lines of at most `per_line` columns. `label`
    is the width of the rows' labels, right of the photos. `pictures` has the size of the pictures
    of each row. `models_height` is the height of the models' names at the top of a line, and
    `titles_heights` and `captions` those of the titles and the captions of pictures of each line.
    `below` is the height between a picture and the next row, and `bottom` that below the last row.
    """

    options: PrintOptions
    titles: tuple[str, ...]
    per_line: int
    title_size: float
    label: int
    pictures: tuple[Size, ...]
    models_height: int
    titles_heights: tuple[int, ...]
    captions: tuple[int, ...]
    below: int
    bottom: int

    @property
    def dpi(self) -> int:
        """The pixels to an inch."""
        return self.options.dpi

    @property
    def gap(self) -> int:
        """The gap between pictures."""
        return self.options.pixels(_GAP)

    @property
    def width(self) -> int:
        """The width of the page."""
        return self.options.pixels(self.options.width)

    @property
    def lines(self) -> list[range]:
        """The numbers of the columns in each line. Column 0 holds the photos and is in no line."""
        return _lines(len(self.titles), self.per_line)

    @property
    def height(self) -> int:
        """The height of the page."""
        return self.line_end(len(self.lines) - 1)

    def line_end(self, line: int) -> int:
        """Return where a line ends with all its rows."""
        rows = sum(self.captions[line] + height for _, height in self.pictures)
        rows += (len(self.pictures) - 1) * self.below + self.bottom
        return self.titles_end(line) + rows

    def titles_end(self, line: int) -> int:
        """Return where the rows of a line begin, below the titles."""
        return self.titles_top(line) + self.titles_heights[line]

    def titles_top(self, line: int) -> int:
        """Return where the titles of a line begin, below the names of the models."""
        return self.models_height + (self.line_end(line - 1) + self.gap if line else 0)

    def place(self, row: int, column: int) -> tuple[int, int]:
        """Return the upper left corner of a picture. Column 0 holds the photos."""
        width = self.pictures[row][0] + self.gap
        line, number = divmod(max(0, column - 1), self.per_line)
        above = sum(height for _, height in self.pictures[:row]) + row * self.below
        y = self.titles_end(line) + (row + 1) * self.captions[line] + above
        return (self.label + (number + 1) * width if column else 0), y


def model_spans(sheet: Sheet, line: range) -> list[tuple[str, int, int]]:
    """Return the models of a line, each with the numbers of its first and last column there."""
    groups = itertools.groupby(line, lambda number: sheet.columns[number - 1].model)
    spans = ((model, [*numbers]) for model, numbers in groups)
    return [(model, numbers[0], numbers[-1]) for model, numbers in spans]


def _lines(columns: int, per_line: int) -> list[range]:
    firsts = range(1, columns, per_line)
    return [range(first, min(first + per_line, columns)) for first in firsts]


def lay_out(sheet: Sheet, options: PrintOptions) -> SheetLayout:
    """Return the layout of a sheet. Raises CamcliError if no picture fits the width."""
    titles = ("Original", *sheet.titles)
    per_line, label, width = _columns_that_fit(sheet, titles, options)
    lines, inches = _lines(len(titles), per_line), title_width(width, options)
    sizes = [options.font_size + step for step in (0.5, 0, -0.5, -1)]
    size = next((size for size in sizes if words_fit(titles, inches, size)), sizes[-1])
    counts = (max(len(wrap(titles[n], inches, size)) for n in line) for line in lines)
    caption = options.pixels(0.02 + line_height(options.small))
    scale = options.pixels(scale_height(options))
    return SheetLayout(
        options,
        titles,
        per_line,
        size,
        label,
        tuple(_picture(sheet.photo(row), width) for row in sheet.rows),
        models_height=_models_height(sheet, lines, inches, size, options),
        titles_heights=tuple(options.pixels(0.06 + n * line_height(size)) for n in counts),
        captions=tuple(caption if _has_captions(sheet, line) else 0 for line in lines),
        below=options.pixels(_GAP) + (0 if options.shared_scale else scale),
        bottom=scale,
    )


def _models_height(
    sheet: Sheet, lines: Sequence[range], width: float, size: float, options: PrintOptions
) -> int:
    """Return the height of the names of the models, above titles of a width: 0 of one model."""
    if len(sheet.models) == 1:
        return 0
    spans = (span for line in lines for span in model_spans(sheet, line))
    counts = (len(wrap(model, width * (last - first + 1), size)) for model, first, last in spans)
    return options.pixels(0.04 + max(counts) * line_height(size))


def scale_height(options: PrintOptions) -> float:
    """Return the height of a colour bar and its numbers, in inches."""
    return 0.09 + line_height(options.small)


def label_length(height: int, options: PrintOptions) -> float:
    """Return how long a row's label may be, in inches: the picture and its colour bar together."""
    return height / options.dpi + (0 if options.shared_scale else scale_height(options))


def title_width(width: int, options: PrintOptions) -> float:
    """Return how wide the title of a picture may be: it may stick out into the gaps a little."""
    return width / options.dpi + 0.6 * _GAP


def label_lines(cell: MapCell, length: float, size: float) -> list[str]:
    """Return a row's class in at most two lines of `length` inches, and its probability if any."""
    first, *more = wrap(cell.label, length, size)
    lines = [first, " ".join(more)] if more else [first]
    lines = [shorten(line, length, size) for line in lines]
    return [*lines, cell.percentage] if cell.percentage else lines


def letters() -> Iterator[str]:
    """Yield a, b, ..., z, aa, ab, and so on."""
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    for length in itertools.count(1):
        yield from map("".join, itertools.product(alphabet, repeat=length))


def _columns_that_fit(
    sheet: Sheet, titles: Sequence[str], options: PrintOptions
) -> tuple[int, int, int]:
    """Return how many columns are in a line, and the widths of the labels and of a picture.

    These are as many as fit, and the lines have about as many columns each.
    """
    columns = len(titles) - 1
    for lines in range(1, columns + 1):
        per_line = -(-columns // lines)
        label, width = _widths(sheet, per_line, options)
        inches = width / options.dpi
        if inches >= _MIN_WIDTH * options.font_size and (
            per_line == 1 or words_fit(titles, title_width(width, options), options.small)
        ):
            return per_line, label, width
    raise CamcliError(
        f"a photo and a map of it side by side would be {inches:.2f} in wide: expected at least "
        f"{_MIN_WIDTH * options.font_size:.2f}; give a larger --width or a smaller --font-size"
    )


def _widths(sheet: Sheet, per_line: int, options: PrintOptions) -> tuple[int, int]:
    """Return the widths of the labels and of a picture."""

    def label_and_picture(lines: int) -> tuple[int, int]:
        label = options.pixels(0.09 + lines * line_height(options.font_size))
        room = options.pixels(options.width) - label - per_line * options.pixels(_GAP)
        return label, room // (per_line + 1)

    # Labels run along the pictures' height, which depends on the labels' width: try two lines.
    _, guess = label_and_picture(2)
    return label_and_picture(_longest_label(sheet, max(1, guess), options))


def _longest_label(sheet: Sheet, width: int, options: PrintOptions) -> int:
    """Return the most lines of a row's label, beside pictures of a width."""
    firsts = ((sheet.first_map(row), _picture(sheet.photo(row), width)) for row in sheet.rows)
    return max(
        (
            len(label_lines(cell, label_length(height, options), options.font_size))
            for cell, (_, height) in firsts
            if cell
        ),
        default=0,
    )


def _picture(pixels: Pixels, width: int) -> Size:
    return width, max(1, round(width * pixels.shape[0] / pixels.shape[1]))


def _has_captions(sheet: Sheet, line: range) -> bool:
    """Return whether a line has maps of other models, which have classes of their own."""
    columns = (sheet.columns[number - 1] for number in line)
    others = (column.cells for column in columns if column.model != sheet.models[0])
    return any(isinstance(cell, MapCell) for cells in others for cell in cells)
