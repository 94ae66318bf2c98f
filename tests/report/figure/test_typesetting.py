"""Figures on the page: pictures pixel by pixel, readable text, and reproducible files."""

from __future__ import annotations

import io
import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from camcli import Model
from camcli.capture.windows import Window
from camcli.errors import CamcliWarning
from camcli.images.geometry import Centres, Crop, Pixels, Placement
from camcli.render.draw import Style, overlay
from camcli.report.figure.maps import SheetOptions, make_sheet
from camcli.report.figure.sheet import Column, EmptyCell, MapCell, Sheet

pytest.importorskip("matplotlib")
from camcli.report.figure.layout import SMALL_SIZE, PrintOptions, lay_out
from camcli.report.figure.typesetting import (
    SAVE_OPTIONS,
    Canvas,
    draw_sheet,
    matplotlib_settings,
    typeset,
)


def draw(sheet: Sheet, options: PrintOptions) -> Canvas:
    with matplotlib_settings():
        return draw_sheet(sheet, options)


def test_pictures_are_on_the_page_pixel_by_pixel(model: Model, pixels: Pixels) -> None:
    methods, targets = ("gradcam", "cam"), ("ant", "bee")
    sheet = make_sheet(pixels, [model], SheetOptions(methods=methods, targets=targets))
    options = PrintOptions(width=4, dpi=150, style=Style())
    page = np.asarray(Image.open(io.BytesIO(typeset(sheet, ".png", options))).convert("RGB"))
    layout = lay_out(sheet, options)
    assert page.shape == (layout.height, 600, 3)
    width, height = layout.picture
    assert abs(width / height - 70 / 50) < 0.02
    photo = Image.fromarray(pixels).resize((width, height))
    grey = np.asarray(photo.convert("L").convert("RGB"))
    for row, column in itertools.product(range(2), range(3)):
        x, y = layout.place(row, column)
        expected = np.asarray(photo)
        if column:
            cell = sheet.columns[column - 1].cells[row]
            assert isinstance(cell, MapCell)
            scales = width / 70, height / 50
            corners = (round(s * n) for s, n in zip(scales * 2, cell.crop.seen, strict=True))
            centres = (
                s * n for s, n in zip(scales * 2, cell.crop.centres((1, 1))[:4], strict=True)
            )
            crop = Placement(*corners, cells=Centres(*centres))
            expected = overlay(grey, cell.values, crop, Style(), cell.signed, cell.top)
        assert (page[y : y + height, x : x + width] == expected).all()
        assert (page[y : y + height, x + width : x + width + layout.gap] == 255).all()


@pytest.mark.parametrize(
    ("methods", "targets", "width", "shared_scale"),
    [
        ((), ("pred", "top2", "not:elk"), 7, False),
        ((), ("ant", "bee"), 7, True),
        (("gradcam", "layercam"), ("3", "finer:3"), 7, False),
        (("gradcam++softmax", "guided-backprop"), ("elk",), 4, False),
    ],
)
def test_text_is_readable(
    methods: tuple[str, ...],
    targets: tuple[str, ...],
    width: float,
    shared_scale: bool,
    model: Model,
    deep_head_model: Model,
    pixels: Pixels,
) -> None:
    """No text is smaller than 6 points, outside of the page, or over other text."""
    options = SheetOptions(methods=methods, targets=targets, window=Window(12, 10))
    sheet = make_sheet(pixels, [model, deep_head_model], options)
    figure = draw(sheet, PrintOptions(width, 100, Style(), shared_scale)).figure
    boxes = [text.get_window_extent() for text in figure.texts]
    assert min(text.get_fontsize() for text in figure.texts) >= SMALL_SIZE
    for text, box in zip(figure.texts, boxes, strict=True):
        assert min(box.x0, box.y0) >= -1, text
        assert box.x1 <= figure.bbox.x1 + 1, text
        assert box.y1 <= figure.bbox.y1 + 1, text
    for (a, one), (b, other) in itertools.combinations(enumerate(boxes), 2):
        across = min(one.x1, other.x1) - max(one.x0, other.x0)
        down = min(one.y1, other.y1) - max(one.y0, other.y0)
        assert across <= 0 or down <= 0, (figure.texts[a], figure.texts[b])


def test_titles_and_labels(model: Model, deep_head_model: Model, pixels: Pixels) -> None:
    options = SheetOptions(methods=("gradcam",), targets=("elk",))
    sheet = make_sheet(pixels, [model, deep_head_model], options)
    texts = {text.get_text() for text in draw(sheet, PrintOptions(4, 100, Style())).figure.texts}
    first, other = (column.cells[0] for column in sheet.columns)
    assert isinstance(first, MapCell)
    assert isinstance(other, MapCell)
    assert {"Original", "Grad-CAM", "small", "deep"} <= texts
    assert {f"elk\n{first.percentage}", f"elk {other.percentage}"} <= texts


def test_an_empty_cell_shows_its_reason(pixels: Pixels) -> None:
    cell = EmptyCell("cam needs a global pool: the head is deep")
    sheet = Sheet(pixels, (Column("small", "cam", (cell,)),))
    figure = draw(sheet, PrintOptions(4, 100, Style())).figure
    assert "cam needs a global pool" in [text.get_text() for text in figure.texts]


def test_a_map_of_zeros(pixels: Pixels) -> None:
    """It has no scale. A dollar sign in a class is no formula."""
    values, whole = np.zeros((4, 4), np.float32), Crop(0, 0, 70, 50)
    label = "a $5 bill$"
    cell = MapCell(values, whole, signed=False, top=0.0, box=None, label=label, probability=0.5)
    sheet = Sheet(pixels, (Column("small", "gradcam", (cell,)),))
    figure = draw(sheet, PrintOptions(3, 100, Style())).figure
    assert {"zero everywhere", f"{label}\n50.0 %"} <= {text.get_text() for text in figure.texts}


@pytest.mark.parametrize("ending", [*SAVE_OPTIONS])
def test_files_are_reproducible_and_have_no_dates(
    ending: str, model: Model, pixels: Pixels
) -> None:
    sheet = make_sheet(pixels, [model], SheetOptions(methods=("gradcam", "guided")))
    options = PrintOptions(width=3, dpi=100, style=Style())
    first, again = (typeset(sheet, ending, options) for _ in range(2))
    assert first == again
    magic = {".png": b"\x89PNG", ".jpg": b"\xff\xd8", ".pdf": b"%PDF", ".svg": b"<?xml"}
    assert first.startswith(magic[ending])
    assert not re.search(rb"CreationDate|ModDate|dc:date|Matplotlib v|20\d\d-\d\d-\d\d", first)
    if ending == ".pdf":
        assert b"/FontFile2" in first, "whole fonts"


def test_characters_that_the_font_lacks(model: Model, pixels: Pixels) -> None:
    assert model.class_names is not None
    foreign = replace(model, class_names=("猫", *model.class_names[1:]))
    sheet = make_sheet(pixels, [foreign], SheetOptions(methods=("gradcam",), targets=("0",)))
    with pytest.warns(CamcliWarning, match="font lacks characters"):
        typeset(sheet, ".png", PrintOptions(width=3, dpi=100, style=Style()))
