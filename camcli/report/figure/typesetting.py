"""Draw a comparison figure as PNG, JPEG, PDF or SVG with matplotlib.

The files hold no dates and no versions: the same sheet gives the same bytes.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import BboxImage
from matplotlib.transforms import Bbox, TransformedBbox
from PIL import Image

from camcli.errors import CamcliError, CamcliWarning
from camcli.images.geometry import Pixels
from camcli.render.draw import Style, draw_box, overlay
from camcli.render.numbers import format_number
from camcli.report.figure.layout import (
    LABEL_SIZE,
    SMALL_SIZE,
    PrintOptions,
    SheetLayout,
    label_lines,
    lay_out,
    line_height,
    shorten,
    text_width,
    wrap,
)
from camcli.report.figure.sheet import EmptyCell, MapCell, Sheet

SAVE_OPTIONS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        ".png": {"metadata": {"Software": "camcli"}},
        ".jpg": {"pil_kwargs": {"quality": 92}},
        ".pdf": {"metadata": {"Creator": "camcli", "Producer": None, "CreationDate": None}},
        ".svg": {"metadata": {"Creator": "camcli", "Date": None}},
    }
)
"""The endings of figure files, with their arguments for `Figure.savefig`."""
_SETTINGS = MappingProxyType(
    {
        "font.family": "DejaVu Sans",  # comes with matplotlib: the same text on every machine
        "text.parse_math": False,  # a class name may contain a dollar sign
        "pdf.fonttype": 42,  # whole fonts, which publishers ask for
        "svg.hashsalt": "camcli",
        "image.composite_image": False,  # separate pictures are easier to edit
    }
)
_TEXT_COLOUR, _FAINT_COLOUR = "0.15", "0.45"
_EMPTY = np.full((1, 1, 3), 240, np.uint8)
_LINE = np.full((1, 1, 3), 90, np.uint8)


class Canvas:
    """A matplotlib figure with positions in pixels from the upper left corner."""

    def __init__(self, layout: SheetLayout) -> None:
        self.layout = layout
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
    with matplotlib_settings(), _one_glyph_warning():
        canvas = draw_sheet(sheet, options)
        buffer = BytesIO()
        canvas.figure.savefig(buffer, format=ending[1:], dpi=options.dpi, **SAVE_OPTIONS[ending])
        return buffer.getvalue()


def matplotlib_settings() -> AbstractContextManager[None]:
    """Return a context in which matplotlib has camcli's settings, whatever the user's are."""
    return matplotlib.style.context(["default", dict(_SETTINGS)])


def draw_sheet(sheet: Sheet, options: PrintOptions) -> Canvas:
    """Draw a sheet on a new canvas. Call within `matplotlib_settings`."""
    canvas = Canvas(lay_out(sheet, options))
    _draw_titles(canvas, sheet)
    for row in range(canvas.layout.rows):
        _draw_row(canvas, sheet, row, options)
    return canvas


def check_ending(file: Path) -> str:
    """Return the ending of a figure's name in lower case. Raises CamcliError for an unknown one."""
    ending = file.suffix.lower().replace("jpeg", "jpg")
    if ending not in SAVE_OPTIONS:
        endings = ", ".join(SAVE_OPTIONS)
        raise CamcliError(f"figure '{file}': expected a name that ends in {endings}")
    return ending


@contextlib.contextmanager
def _one_glyph_warning() -> Iterator[None]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", "Glyph ")
        yield
    if caught:
        line = "the figure's font lacks characters of some names: the file shows boxes instead"
        warnings.warn(line, CamcliWarning, stacklevel=2)


def _draw_titles(canvas: Canvas, sheet: Sheet) -> None:
    layout, size = canvas.layout, canvas.layout.title_size
    width, baseline = layout.picture[0], 0.055 * layout.dpi
    for number, title in enumerate(layout.columns):
        text = "\n".join(wrap(title, width / layout.dpi, size))
        x, y = layout.place(0, number)[0] + width / 2, layout.models + layout.titles - baseline
        canvas.text(text, x, y, size, va="baseline")
    for model in sheet.models if layout.models else ():
        numbers = [n for n, column in enumerate(sheet.columns, 1) if column.model == model]
        x0, x1 = layout.place(0, numbers[0])[0], layout.place(0, numbers[-1])[0] + width
        text = shorten(model, (x1 - x0) / layout.dpi, size)
        canvas.text(text, (x0 + x1) / 2, layout.models - baseline, size, va="baseline")
        canvas.image(_LINE, x0, layout.models, x1 - x0, max(1, round(0.006 * layout.dpi)))


def _draw_row(canvas: Canvas, sheet: Sheet, row: int, options: PrintOptions) -> None:
    layout = canvas.layout
    photo = np.asarray(Image.fromarray(sheet.pixels).resize(layout.picture))
    canvas.image(photo, *layout.place(row, 0), *layout.picture)
    if first := sheet.first_map(row):
        _draw_label(canvas, row, first)
    for number, column in enumerate(sheet.columns, 1):
        cell, (x, y) = column.cells[row], layout.place(row, number)
        if isinstance(cell, EmptyCell):
            _draw_empty(canvas, cell, x, y)
            continue
        canvas.image(_map_picture(sheet, photo, cell, options.style), x, y, *layout.picture)
        if column.model != sheet.models[0]:
            _draw_caption(canvas, cell, x, y)
        if not options.shared_scale or row == layout.rows - 1:
            _draw_scale(canvas, cell, options.style, x, y + layout.picture[1])


def _draw_label(canvas: Canvas, row: int, cell: MapCell) -> None:
    """Draw the class of a row and its probability on the left, turned by 90 degrees."""
    layout = canvas.layout
    x, y = layout.label / 2 - 0.02 * layout.dpi, layout.place(row, 0)[1] + layout.picture[1] / 2
    text = "\n".join(label_lines(cell, layout.picture[1] / layout.dpi))
    canvas.text(text, x, y, LABEL_SIZE, rotation=90)


def _draw_caption(canvas: Canvas, cell: MapCell, x: float, y: float) -> None:
    width, dpi = canvas.layout.picture[0], canvas.layout.dpi
    probability = f" {cell.percentage}".rstrip()
    available = width / dpi - text_width(f"x{probability}", SMALL_SIZE)
    text = shorten(cell.label, available, SMALL_SIZE) + probability
    canvas.text(text, x + width / 2, y - 0.04 * dpi, SMALL_SIZE, va="baseline")


def _map_picture(sheet: Sheet, photo: Pixels, cell: MapCell, style: Style) -> Pixels:
    """Return a map over the grey photo, in the photo's size on the page."""
    x, y = photo.shape[1] / sheet.pixels.shape[1], photo.shape[0] / sheet.pixels.shape[0]
    grey = np.asarray(Image.fromarray(photo).convert("L").convert("RGB"))
    drawn = overlay(grey, cell.values, cell.crop.resized(x, y), style, cell.signed, cell.top)
    if cell.box:
        x0, y0, x1, y1 = cell.box
        draw_box(drawn, (round(x0 * x), round(y0 * y), round(x1 * x), round(y1 * y)))
    return drawn


def _draw_empty(canvas: Canvas, cell: EmptyCell, x: float, y: float) -> None:
    (width, height), dpi = canvas.layout.picture, canvas.layout.dpi
    canvas.image(_EMPTY, x, y, width, height)
    max_lines = max(1, int(height / dpi / line_height(SMALL_SIZE)) - 1)
    reason, available = cell.reason.partition(": ")[0], width / dpi - 0.06
    lines = wrap(reason, available, SMALL_SIZE)
    if len(lines) > max_lines:
        last = shorten(" ".join(lines[max_lines - 1 :]), available, SMALL_SIZE)
        lines = [*lines[: max_lines - 1], last]
    centre = (x + width / 2, y + height / 2)
    canvas.text("\n".join(lines), *centre, SMALL_SIZE, color=_FAINT_COLOUR)


def _draw_scale(canvas: Canvas, cell: MapCell, style: Style, x: float, y: float) -> None:
    """Draw a bar of a map's colours and the values at its ends."""
    width, dpi = canvas.layout.picture[0], canvas.layout.dpi
    if not cell.top:
        place = (x + width / 2, y + 0.05 * dpi)
        canvas.text("zero everywhere", *place, SMALL_SIZE, color=_FAINT_COLOUR, va="top")
        return
    grey = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    colours = grey if cell.values.ndim == 3 else style.table(cell.signed)
    canvas.image(colours[None], x, y + 0.03 * dpi, width, max(2, round(0.05 * dpi)))
    _draw_numbers(canvas, format_number(cell.top), cell.signed, x, y + 0.095 * dpi)


def _draw_numbers(canvas: Canvas, high: str, signed: bool, x: float, top: float) -> None:
    """Write the values at the ends of a bar of colours, and between them 0 if there is room."""
    width, low = canvas.layout.picture[0], f"\N{MINUS SIGN}{high}" if signed else "0"
    high = high.replace("-", "\N{MINUS SIGN}")
    room = width / canvas.layout.dpi - text_width(f"{low} {high}", SMALL_SIZE)
    if room < 0:
        canvas.text(f"±{high}" if signed else high, x + width / 2, top, SMALL_SIZE, va="top")
        return
    canvas.text(low, x, top, SMALL_SIZE, ha="left", va="top")
    canvas.text(high, x + width, top, SMALL_SIZE, ha="right", va="top")
    if signed and room > text_width(" 0", SMALL_SIZE):
        canvas.text("0", x + width / 2, top, SMALL_SIZE, va="top")
