"""A comparison figure on paper: PNG, JPEG, PDF or SVG, by matplotlib.

Everything is laid out in whole pixels of the resolution asked for, so that a picture's pixels are
the paper's and nothing is resampled twice. No dates or versions go into the files: the same sheet
gives the same bytes.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from PIL import Image

from camcli.errors import CamcliError, CamcliWarning
from camcli.images.geometry import Pixels
from camcli.methods.registry import METHODS
from camcli.render.draw import Style, draw_box, overlay
from camcli.report.figure.sheet import Gap, Map, Sheet

try:
    from matplotlib import style as styles
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties
    from matplotlib.image import BboxImage
    from matplotlib.textpath import text_to_path
    from matplotlib.transforms import Bbox, TransformedBbox
except ImportError:
    raise CamcliError(
        "camcli figure draws with matplotlib, which is not installed: pip install 'camcli[figure]'"
    ) from None

FORMATS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        ".png": {"metadata": {"Software": "camcli"}},
        ".jpg": {"pil_kwargs": {"quality": 92}},
        ".pdf": {"metadata": {"Creator": "camcli", "Producer": None, "CreationDate": None}},
        ".svg": {"metadata": {"Creator": "camcli", "Date": None}},
    }
)
"""The endings of a figure's name, and what each is saved with."""
NARROWEST = 0.6
"""The least width of a picture in inches: numbers and titles would run into each other."""

_SETTINGS = MappingProxyType(
    {
        "font.family": "DejaVu Sans",  # comes with matplotlib: the same text on every machine
        "text.parse_math": False,  # a class may have a dollar in its name
        "pdf.fonttype": 42,  # whole fonts, which publishers ask for
        "svg.hashsalt": "camcli",
        "image.composite_image": False,  # pictures apart, for who edits the file
    }
)
_SIZES = (7.5, 7.0, 6.5, 6.0)
"""Of titles, in points: the largest at which every word fits its column."""
_LABEL = 7.0
"""Of the rows' classes."""
_SMALL = 6.0
"""Of everything else. Below it print is hard to read."""
_LEADING = 1.25
_POINT = 1 / 72
_INK, _FAINT = "0.15", "0.45"


@dataclass(frozen=True)
class Layout:
    """Lengths in pixels: the page, a picture, and what stands around pictures.

    `models` and `titles` are the lines above, `label` is for the rows' classes on the left,
    `caption` above and `foot` below each row's pictures, `last` below the last row's.
    """

    dpi: int
    rows: int
    page: int
    label: int
    gap: int
    picture: tuple[int, int]
    models: int
    titles: int
    caption: int
    foot: int
    last: int

    @property
    def height(self) -> int:
        """Of the page."""
        row = self.caption + self.picture[1]
        return self.models + self.titles + self.rows * row + (self.rows - 1) * self.foot + self.last

    def place(self, row: int, column: int) -> tuple[int, int]:
        """The upper left corner of a picture; column 0 is the original's."""
        width, height = self.picture
        x = self.label + column * (width + self.gap)
        top = self.models + self.titles
        return x, top + self.caption + row * (self.caption + height + self.foot)


class Page:
    """A matplotlib figure in which places are pixels from the upper left corner."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        size = (layout.page / layout.dpi, layout.height / layout.dpi)
        self.figure = Figure(figsize=size, dpi=layout.dpi)

    def image(self, pixels: Pixels, x: float, y: float, width: float, height: float) -> None:
        """An image, pixel by pixel if it is of the size of its place."""
        page, tall = self.layout.page, self.layout.height
        box = Bbox.from_bounds(x / page, 1 - (y + height) / tall, width / page, height / tall)
        place = TransformedBbox(box, self.figure.transFigure)
        self.figure.add_artist(BboxImage(place, data=pixels, interpolation="nearest"))

    def text(self, text: str, x: float, y: float, **options: Any) -> None:
        """Text in a point; in the middle of it, unless the options say otherwise."""
        given = {"ha": "center", "va": "center", "color": _INK, "linespacing": 1.1, **options}
        self.figure.text(x / self.layout.page, 1 - y / self.layout.height, text, **given)


def typeset(
    sheet: Sheet, ending: str, style: Style, *, width: float, dpi: int, shared: bool = False
) -> bytes:
    """The file of a sheet, `width` inches wide. `shared`: a column's maps have one scale.

    Raises CamcliError where there are too many columns for the width.
    """
    with styles.context(["default", dict(_SETTINGS)]), _one_warning():
        titles = ["Original", *(METHODS[column.method].title for column in sheet.columns)]
        layout, size = _laid_out(sheet, titles, width, dpi, shared)
        page = Page(layout)
        _draw_head(page, sheet, titles, size)
        for row in range(layout.rows):
            _draw_row(page, sheet, row, style, shared)
        return _saved(page.figure, ending, dpi)


def _saved(figure: Figure, ending: str, dpi: int) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format=ending[1:], dpi=dpi, **FORMATS[ending])
    return buffer.getvalue()


@contextlib.contextmanager
def _one_warning() -> Iterator[None]:
    """What matplotlib says of every sign that its font has not, said once and for a user."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", "Glyph ")
        yield
    if caught:
        line = "the figure's font has no signs for some of the text: the file has boxes there"
        warnings.warn(line, CamcliWarning, stacklevel=2)


def check_ending(file: Path) -> str:
    """The ending of a figure's name, in small letters. Raises CamcliError for another."""
    ending = file.suffix.lower().replace("jpeg", "jpg")
    if ending not in FORMATS:
        raise CamcliError(f"figure '{file}': expected a name that ends in {', '.join(FORMATS)}")
    return ending


def _laid_out(
    sheet: Sheet, titles: Sequence[str], width: float, dpi: int, shared: bool
) -> tuple[Layout, float]:
    """The layout, and the size of the titles."""
    page, gap, count = round(width * dpi), round(0.05 * dpi), len(titles)
    aspect = sheet.pixels.shape[0] / sheet.pixels.shape[1]

    def widths(lines: int) -> tuple[int, int]:
        label = round((0.09 + lines * _LABEL * _LEADING * _POINT) * dpi)
        return label, (page - label - (count - 1) * gap) // count

    _, guess = widths(2)
    rows = len(sheet.columns[0].cells)
    firsts = filter(None, (_leading(sheet, row) for row in range(rows)))
    longest = (len(_label_lines(cell, guess * aspect / dpi)) for cell in firsts)
    label, wide = widths(max(longest, default=0))
    if wide < NARROWEST * dpi:
        raise CamcliError(
            f"{count} pictures of {wide / dpi:.2f} in side by side: give fewer methods or models, "
            f"or a --width of {count * (NARROWEST + 0.05) + 0.5:.1f} or more"
        )
    size = next((s for s in _SIZES if _fits(titles, wide / dpi, s)), _SIZES[-1])
    lines = max(len(_wrapped(title, wide / dpi, size)) for title in titles)
    line = _SMALL * _LEADING * _POINT
    scale = round((0.09 + line) * dpi)  # a colour bar, and its numbers
    several = len(sheet.models) > 1
    tall = max(1, round(wide * aspect))
    layout = Layout(
        dpi=dpi,
        rows=rows,
        page=page,
        label=label,
        gap=gap,
        picture=(wide, tall),
        models=round((0.04 + size * _LEADING * _POINT) * dpi) if several else 0,
        titles=round((0.06 + lines * size * _LEADING * _POINT) * dpi),
        caption=round((line + 0.02) * dpi) if _captions(sheet) else 0,
        foot=gap if shared else scale + gap,
        last=scale,
    )
    return layout, size


def _captions(sheet: Sheet) -> bool:
    """Whether there are maps of further models, whose class or probability is another one."""
    others = (column.cells for column in sheet.columns if column.model != sheet.models[0])
    return any(isinstance(cell, Map) for cells in others for cell in cells)


def _draw_head(page: Page, sheet: Sheet, titles: Sequence[str], size: float) -> None:
    """The columns' titles, and over those of several models the models' names."""
    layout = page.layout
    width, down = layout.picture[0], 0.055 * layout.dpi
    for number, title in enumerate(titles):
        text = "\n".join(_wrapped(title, width / layout.dpi, size))
        x = layout.place(0, number)[0] + width / 2
        page.text(text, x, layout.models + layout.titles - down, size=size, va="baseline")
    for model in sheet.models if layout.models else ():
        numbers = [n for n, column in enumerate(sheet.columns, 1) if column.model == model]
        x0, x1 = layout.place(0, numbers[0])[0], layout.place(0, numbers[-1])[0] + width
        text = _cut(model, (x1 - x0) / layout.dpi, size)
        page.text(text, (x0 + x1) / 2, layout.models - down, size=size, va="baseline")
        page.image(_LINE, x0, layout.models, x1 - x0, max(1, round(0.006 * layout.dpi)))


_LINE = np.full((1, 1, 3), 90, np.uint8)


def _draw_row(page: Page, sheet: Sheet, row: int, style: Style, shared: bool) -> None:
    layout = page.layout
    photo = np.asarray(Image.fromarray(sheet.pixels).resize(layout.picture))
    page.image(photo, *layout.place(row, 0), *layout.picture)
    if first := _leading(sheet, row):
        _label(page, row, first)
    for number, column in enumerate(sheet.columns, 1):
        cell, (x, y) = column.cells[row], layout.place(row, number)
        if isinstance(cell, Gap):
            _draw_gap(page, cell, x, y)
            continue
        page.image(_picture(sheet, photo, cell, style), x, y, *layout.picture)
        if column.model != sheet.models[0]:
            _draw_caption(page, cell, x, y)
        if not shared or row == layout.rows - 1:
            _draw_scale(page, cell, style, x, y + layout.picture[1])


def _draw_caption(page: Page, cell: Map, x: float, y: float) -> None:
    """The class and its probability over a map."""
    width, dpi = page.layout.picture[0], page.layout.dpi
    share = f" {cell.probability:.1%}"
    text = _cut(cell.label, width / dpi - _measure(f"x{share}", _SMALL)) + share
    page.text(text, x + width / 2, y - 0.04 * dpi, size=_SMALL, va="baseline")


def _label(page: Page, row: int, cell: Map) -> None:
    """The class of a row and its probability, upwards on the left."""
    layout = page.layout
    x, y = layout.label / 2 - 0.02 * layout.dpi, layout.place(row, 0)[1] + layout.picture[1] / 2
    text = "\n".join(_label_lines(cell, layout.picture[1] / layout.dpi))
    page.text(text, x, y, size=_LABEL, rotation=90)


def _label_lines(cell: Map, length: float) -> list[str]:
    """The class in two lines at most, and its probability."""
    first, *more = _wrapped(cell.label, length, _LABEL)
    lines = [first, " ".join(more)] if more else [first]
    return [*(_cut(line, length, _LABEL) for line in lines), f"{cell.probability:.1%}"]


def _leading(sheet: Sheet, row: int) -> Map | None:
    """The map that a row's class is read from: the first one."""
    cells = (column.cells[row] for column in sheet.columns)
    return next((cell for cell in cells if isinstance(cell, Map)), None)


def _picture(sheet: Sheet, photo: Pixels, cell: Map, style: Style) -> Pixels:
    """A map over the photo, which is of the paper's size."""
    x, y = photo.shape[1] / sheet.pixels.shape[1], photo.shape[0] / sheet.pixels.shape[0]
    grey = np.asarray(Image.fromarray(photo).convert("L").convert("RGB"))
    drawn = overlay(grey, cell.values, cell.crop.resized(x, y), style, cell.signed, cell.top)
    if cell.box:
        x0, y0, x1, y1 = cell.box
        draw_box(drawn, (round(x0 * x), round(y0 * y), round(x1 * x), round(y1 * y)))
    return drawn


def _draw_gap(page: Page, gap: Gap, x: float, y: float) -> None:
    """An empty place, with as much of the reason as there is room for."""
    (width, height), dpi = page.layout.picture, page.layout.dpi
    blank = np.full((height, width, 3), 240, np.uint8)
    page.image(blank, x, y, width, height)
    room = max(1, int(height / dpi / (_SMALL * _LEADING * _POINT)) - 1)
    reason, wide = gap.reason.partition(": ")[0], width / dpi - 0.06
    lines = _wrapped(reason, wide, _SMALL)
    lines = [*lines[: room - 1], _cut(" ".join(lines[room - 1 :]), wide)]
    at = (x + width / 2, y + height / 2)
    page.text("\n".join(lines), *at, size=_SMALL, color=_FAINT)


def _draw_scale(page: Page, cell: Map, style: Style, x: float, y: float) -> None:
    """A map's colours, and the values at their ends."""
    width, dpi = page.layout.picture[0], page.layout.dpi
    if not cell.top:
        at = (x + width / 2, y + 0.05 * dpi)
        page.text("zero everywhere", *at, size=_SMALL, color=_FAINT, va="top")
        return
    grey = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    colours = grey if cell.values.ndim == 3 else style.table(cell.signed)
    page.image(colours[None], x, y + 0.03 * dpi, width, max(2, round(0.05 * dpi)))
    high = _number(cell.top)
    low = f"\N{MINUS SIGN}{high}" if cell.signed else "0"
    top = y + 0.095 * dpi
    page.text(low, x, top, size=_SMALL, ha="left", va="top")
    page.text(high, x + width, top, size=_SMALL, ha="right", va="top")
    if cell.signed and _measure(f"{low}  0  {low}", _SMALL) < width / dpi:
        page.text("0", x + width / 2, top, size=_SMALL, va="top")


def _number(value: float) -> str:
    """Two digits of a positive number, briefly."""
    if 1e-3 <= value < 1e4:
        return f"{value:.2g}"
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits}e{int(power)}".replace("-", "\N{MINUS SIGN}")


def _measure(text: str, size: float) -> float:
    """How wide a line is, in inches."""
    font = FontProperties(size=size)
    return float(text_to_path.get_text_width_height_descent(text, font, False)[0]) * _POINT


def _fits(titles: Sequence[str], width: float, size: float) -> bool:
    return all(_measure(word, size) <= width for title in titles for word in title.split())


def _wrapped(text: str, width: float, size: float) -> list[str]:
    """Lines of a text, each at most so wide in inches unless it is one long word."""
    lines: list[str] = []
    for part in text.split("\n"):
        line = ""
        for word in part.split():
            longer = f"{line} {word}".strip()
            if line and _measure(longer, size) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines


def _cut(text: str, width: float, size: float = _SMALL, mark: str = "...") -> str:
    """A line that is at most so wide, with a mark where something is left out."""
    text = " ".join(text.split())
    if _measure(text, size) <= width:
        return text
    while text and _measure(text + mark, size) > width:
        text = text[:-1]
    return text.rstrip() + mark
