"""Draw a comparison figure as PNG, JPEG, PDF or SVG with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import BboxImage
from matplotlib.transforms import Bbox, TransformedBbox
from PIL import Image

from camcli.errors import CamcliError
from camcli.images.geometry import Pixels, Size
from camcli.render.draw import draw_box, overlay
from camcli.render.figure_files import SAVE_OPTIONS, figure_file, matplotlib_settings
from camcli.render.numbers import format_number
from camcli.render.style import Style
from camcli.report.figure.layout import (
    PrintOptions,
    SheetLayout,
    label_length,
    label_lines,
    lay_out,
    letters,
    model_spans,
    title_width,
)
from camcli.report.figure.lines import POINT, line_height, shorten, text_width, wrap
from camcli.report.figure.sheet import EmptyCell, MapCell, Sheet

_TEXT_COLOUR, _FAINT_COLOUR = "0.15", "0.45"
_EMPTY = np.full((1, 1, 3), 240, np.uint8)
_LINE = np.full((1, 1, 3), 90, np.uint8)


class Canvas:
    """A matplotlib figure with positions in pixels from the upper left corner."""

    def __init__(self, layout: SheetLayout) -> None:
        self.layout, self.small = layout, layout.options.small
        size = (layout.width / layout.dpi, layout.height / layout.dpi)
        self.figure = Figure(figsize=size, dpi=layout.dpi)

    def image(self, pixels: Pixels, x: float, y: float, width: float, height: float) -> None:
        """Draw an image, without resampling if it has this size."""
        across, down = self.layout.width, self.layout.height
        box = Bbox.from_bounds(x / across, 1 - (y + height) / down, width / across, height / down)
        place = TransformedBbox(box, self.figure.transFigure)
        self.figure.add_artist(BboxImage(place, data=pixels, interpolation="nearest"))

    def text(self, text: str, x: float, y: float, size: float, **options: Any) -> None:
        """Draw text, centred on a point unless the options say otherwise."""
        options = {"ha": "center", "va": "center", "color": _TEXT_COLOUR, **options}
        place = (x / self.layout.width, 1 - y / self.layout.height)
        self.figure.text(*place, text, size=size, linespacing=1.1, **options)


def typeset(sheet: Sheet, ending: str, options: PrintOptions) -> bytes:
    """Return the file of a sheet. Raises CamcliError if its columns do not fit the width."""
    with matplotlib_settings(options.font):
        return figure_file(draw_sheet(sheet, options).figure, ending, options.dpi)


def draw_sheet(sheet: Sheet, options: PrintOptions) -> Canvas:
    """Draw a sheet on a new canvas. Call within `matplotlib_settings`."""
    canvas, marks = Canvas(lay_out(sheet, options)), letters()
    for line, columns in enumerate(canvas.layout.lines):
        _draw_titles(canvas, sheet, line, columns)
        for row in sheet.rows:
            shown = [0, *columns] if line == 0 and sheet.starts_photo(row) else columns
            _draw_row(canvas, sheet, row, shown)
            for column in shown if options.letters else ():
                _draw_letter(canvas, next(marks), *canvas.layout.place(row, column))
    return canvas


def check_ending(file: Path) -> str:
    """Return the ending of a figure's name in lower case. Raises CamcliError for an unknown one."""
    ending = file.suffix.lower().replace("jpeg", "jpg")
    if ending not in SAVE_OPTIONS:
        endings = ", ".join(SAVE_OPTIONS)
        raise CamcliError(f"figure '{file}': expected a name that ends in {endings}")
    return ending


def _draw_titles(canvas: Canvas, sheet: Sheet, line: int, columns: range) -> None:
    layout, size = canvas.layout, canvas.layout.title_size
    width, top, baseline = layout.pictures[0][0], layout.titles_top(line), 0.055 * layout.dpi
    for number in columns if line else [0, *columns]:
        lines = wrap(layout.titles[number], title_width(width, layout.options), size)
        x, y = layout.place(0, number)[0] + width / 2, layout.titles_end(line) - baseline
        canvas.text("\n".join(lines), x, y, size, va="baseline")
    for model, first, last in model_spans(sheet, columns) if layout.models_height else ():
        x0, x1 = layout.place(0, first)[0], layout.place(0, last)[0] + width
        room = title_width(width, layout.options) * (last - first + 1)
        text = "\n".join(shorten(part, room, size) for part in wrap(model, room, size))
        canvas.text(text, (x0 + x1) / 2, top - baseline, size, va="baseline")
        canvas.image(_LINE, x0, top, x1 - x0, max(1, round(0.006 * layout.dpi)))


def _draw_row(canvas: Canvas, sheet: Sheet, row: int, columns: Sequence[int]) -> None:
    layout, options = canvas.layout, canvas.layout.options
    size = layout.pictures[row]
    photo = np.asarray(Image.fromarray(sheet.photo(row)).resize(size))
    start = max(1, columns[0])
    if sheet.columns[start - 1].model == sheet.models[0] and (first := sheet.first_map(row)):
        _draw_label(canvas, first, *layout.place(row, start), size[1])
    for number in columns:
        x, y = layout.place(row, number)
        if number == 0:
            canvas.image(photo, x, y, *size)
            continue
        cell = sheet.columns[number - 1].cells[row]
        if isinstance(cell, EmptyCell):
            _draw_empty(canvas, cell, x, y, size)
            continue
        canvas.image(_map_picture(sheet.photo(row), photo, cell, options.style), x, y, *size)
        if sheet.columns[number - 1].model != sheet.models[0]:
            _draw_caption(canvas, cell, x, y)
        if not options.shared_scale or row == sheet.rows[-1]:
            _draw_scale(canvas, cell, x, y + size[1])


def _draw_label(canvas: Canvas, cell: MapCell, x: int, y: int, height: int) -> None:
    """Draw the class of a row and its probability left of its first map, turned by 90 degrees."""
    layout, options = canvas.layout, canvas.layout.options
    lines = label_lines(cell, label_length(height, options), options.font_size)
    longest = max(text_width(line, options.font_size) for line in lines)
    place = x - layout.label / 2 - 0.02 * layout.dpi, y + max(height, longest * layout.dpi) / 2
    canvas.text("\n".join(lines), *place, options.font_size, rotation=90)


def _draw_letter(canvas: Canvas, letter: str, x: int, y: int) -> None:
    """Mark a picture in its upper left corner, on white."""
    pad = 0.02 * canvas.layout.dpi
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.02 / POINT}
    size = canvas.small
    canvas.text(f"({letter})", x + pad, y + pad, size, ha="left", va="top", bbox=box)


def _draw_caption(canvas: Canvas, cell: MapCell, x: float, y: float) -> None:
    dpi, width = canvas.layout.dpi, canvas.layout.pictures[0][0]
    probability = f" {cell.percentage}".rstrip()
    available = width / dpi - text_width(f"x{probability}", canvas.small)
    text = shorten(cell.label, available, canvas.small) + probability
    canvas.text(text, x + width / 2, y - 0.04 * dpi, canvas.small, va="baseline")


def _map_picture(original: Pixels, photo: Pixels, cell: MapCell, style: Style) -> Pixels:
    """Return a map over the grey photo, in the photo's size on the page."""
    x, y = photo.shape[1] / original.shape[1], photo.shape[0] / original.shape[0]
    grey = np.asarray(Image.fromarray(photo).convert("L").convert("RGB"))
    drawn = overlay(grey, cell.values, cell.crop.resized(x, y), style, cell.signed, cell.top)
    if cell.box:
        x0, y0, x1, y1 = cell.box
        draw_box(drawn, (round(x0 * x), round(y0 * y), round(x1 * x), round(y1 * y)))
    return drawn


def _draw_empty(canvas: Canvas, cell: EmptyCell, x: float, y: float, size: Size) -> None:
    (width, height), dpi, small = size, canvas.layout.dpi, canvas.small
    canvas.image(_EMPTY, x, y, width, height)
    max_lines = max(1, int(height / dpi / line_height(small)) - 1)
    reason, available = cell.reason.partition(": ")[0], width / dpi - 0.06
    lines = wrap(reason, available, small)
    if len(lines) > max_lines:
        last = shorten(" ".join(lines[max_lines - 1 :]), available, small)
        lines = [*lines[: max_lines - 1], last]
    centre = (x + width / 2, y + height / 2)
    canvas.text("\n".join(lines), *centre, small, color=_FAINT_COLOUR)


def _draw_scale(canvas: Canvas, cell: MapCell, x: float, y: float) -> None:
    """Draw a bar of a map's colours and the values at its ends."""
    options, width = canvas.layout.options, canvas.layout.pictures[0][0]
    if not cell.top:
        place = (x + width / 2, y + 0.05 * options.dpi)
        canvas.text("zero everywhere", *place, canvas.small, color=_FAINT_COLOUR, va="top")
        return
    grey = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    colours = grey if cell.values.ndim == 3 else options.style.table(cell.signed)
    canvas.image(colours[None], x, y + 0.03 * options.dpi, width, max(2, round(0.05 * options.dpi)))
    _draw_numbers(canvas, format_number(cell.top), cell.signed, x, y + 0.095 * options.dpi)


def _draw_numbers(canvas: Canvas, high: str, signed: bool, x: float, top: float) -> None:
    """Write the values at the ends of a bar of colours, and between them 0 if there is room."""
    width, high = canvas.layout.pictures[0][0], high.replace("-", "\N{MINUS SIGN}")
    low = f"\N{MINUS SIGN}{high}" if signed else "0"
    room = width / canvas.layout.dpi - text_width(f"{low} {high}", canvas.small)
    if room < 0:
        canvas.text(f"±{high}" if signed else high, x + width / 2, top, canvas.small, va="top")
        return
    canvas.text(low, x, top, canvas.small, ha="left", va="top")
    canvas.text(high, x + width, top, canvas.small, ha="right", va="top")
    if signed and room > text_width(" 0", canvas.small):
        canvas.text("0", x + width / 2, top, canvas.small, va="top")
