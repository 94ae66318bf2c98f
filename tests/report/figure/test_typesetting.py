"""Figures on the page: pictures pixel by pixel, readable text, and reproducible files."""

from __future__ import annotations

import io
import itertools
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from camcli import Model
from camcli.capture.windows import Window
from camcli.errors import CamcliError, CamcliWarning
from camcli.images.geometry import Centres, Crop, Pixels, Placement
from camcli.render.draw import overlay
from camcli.render.style import Style
from camcli.report.figure.maps import SheetOptions, make_sheet
from camcli.report.figure.sheet import Column, EmptyCell, MapCell, Sheet

pytest.importorskip("matplotlib")
from camcli.render.figure_files import SAVE_OPTIONS, check_font, matplotlib_settings
from camcli.report.figure.layout import PrintOptions, lay_out, letters
from camcli.report.figure.typesetting import Canvas, draw_sheet, typeset

COLUMN = 8.5 / 2.54
"""The width of a column of a paper in inches."""


def draw(sheet: Sheet, options: PrintOptions) -> Canvas:
    with matplotlib_settings(options.font):
        return draw_sheet(sheet, options)


def test_pictures_are_on_the_page_pixel_by_pixel(model: Model, pixels: Pixels) -> None:
    methods, targets = ("gradcam", "cam"), ("ant", "bee")
    sheet = make_sheet(
        {"photo.jpg": pixels}, [model], SheetOptions(methods=methods, targets=targets)
    )
    options = PrintOptions(width=4, dpi=150, style=Style())
    page = np.asarray(Image.open(io.BytesIO(typeset(sheet, ".png", options))).convert("RGB"))
    layout = lay_out(sheet, options)
    assert page.shape == (layout.height, 600, 3)
    width, height = layout.pictures[0]
    assert abs(width / height - 70 / 50) < 0.02
    photo = Image.fromarray(pixels).resize((width, height))
    grey = np.asarray(photo.convert("L").convert("RGB"))
    for row, column in itertools.product(range(2), range(3)):
        x, y = layout.place(row, column)
        expected = np.full((height, width, 3), 255) if row else np.asarray(photo)
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


def test_photos_have_rows_of_their_own_height(model: Model, pixels: Pixels) -> None:
    """They are drawn once for all targets."""
    photos = {"a.jpg": pixels, "b.jpg": np.ascontiguousarray(pixels.transpose(1, 0, 2))}
    options = SheetOptions(methods=("gradcam",), targets=("ant", "bee"))
    sheet = make_sheet(photos, [model], options)
    figure = PrintOptions(width=3, dpi=150, style=Style())
    page = np.asarray(Image.open(io.BytesIO(typeset(sheet, ".png", figure))).convert("RGB"))
    layout = lay_out(sheet, figure)
    assert [height > width for width, height in layout.pictures] == [False, False, True, True]
    for row, photo in ((0, photos["a.jpg"]), (2, photos["b.jpg"])):
        (x, y), (width, height) = layout.place(row, 0), layout.pictures[row]
        expected = np.asarray(Image.fromarray(photo).resize((width, height)))
        assert (page[y : y + height, x : x + width] == expected).all()
        _, next_y = layout.place(row + 1, 0)
        assert (page[y + height : next_y + height, x : x + width] == 255).all()


def test_columns_that_do_not_fit_continue_below(model: Model, pixels: Pixels) -> None:
    """The page has no overlapping pictures, and none outside."""
    options = SheetOptions(targets=("ant", "bee"), window=Window(12, 10))
    sheet = make_sheet({"photo.jpg": pixels}, [model], options)
    layout = lay_out(sheet, PrintOptions(width=COLUMN, dpi=100, style=Style()))
    assert [list(line) for line in layout.lines] == [[1, 2, 3], [4, 5, 6]]
    width, height = layout.pictures[0]
    boxes = [layout.place(row, column) for row in sheet.rows for column in range(7)]
    assert all(x + width <= layout.width and y + height <= layout.height for x, y in boxes)
    for (x, y), (other_x, other_y) in itertools.combinations(boxes, 2):
        assert abs(x - other_x) >= width or abs(y - other_y) >= height


def test_a_width_for_no_picture(model: Model, pixels: Pixels) -> None:
    sheet = make_sheet({"photo.jpg": pixels}, [model], SheetOptions(methods=("gradcam",)))
    with pytest.raises(
        CamcliError, match=r"side by side would be 0.\d+ in wide: expected at least"
    ):
        lay_out(sheet, PrintOptions(width=1, dpi=100, style=Style()))


@pytest.mark.parametrize(
    ("contents", "options"),
    [
        ({"targets": ("pred", "top2", "not:elk")}, {}),
        ({"targets": ("ant", "bee")}, {"shared_scale": True}),
        ({"targets": ("pred", "top2", "3")}, {"width": COLUMN, "letters": True}),
        ({"layers": ("trunk.1", None)}, {"width": COLUMN}),
        ({"methods": ("gradcam", "layercam"), "targets": ("3", "finer:3")}, {}),
        ({"methods": ("gradcam++softmax", "guided-backprop")}, {"width": 4}),
        ({"methods": ("gradcam",)}, {"width": 4, "font": "STIXGeneral", "font_size": 10}),
        ({"trim": True}, {"width": COLUMN, "font_size": 8, "letters": True}),
    ],
)
def test_text_is_readable(
    contents: dict[str, Any],
    options: dict[str, Any],
    model: Model,
    deep_head_model: Model,
    pixels: Pixels,
) -> None:
    """No text is too small, outside of the page, or over other text."""
    wanted = SheetOptions(**{"targets": ("elk",), "window": Window(12, 10), **contents})
    sheet = make_sheet({"photo.jpg": pixels}, [model, deep_head_model], wanted)
    printing = PrintOptions(**{"width": 7, "dpi": 100, "style": Style(), **options})
    figure = draw(sheet, printing).figure
    boxes = [text.get_window_extent() for text in figure.texts]
    assert min(text.get_fontsize() for text in figure.texts) >= printing.font_size - 1
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
    sheet = make_sheet({"photo.jpg": pixels}, [model, deep_head_model], options)
    texts = {text.get_text() for text in draw(sheet, PrintOptions(4, 100, Style())).figure.texts}
    first, other = (column.cells[0] for column in sheet.columns)
    assert isinstance(first, MapCell)
    assert isinstance(other, MapCell)
    assert {"Original", "Grad-CAM", "small", "deep"} <= texts
    assert {f"elk\n{first.percentage}", f"elk {other.percentage}"} <= texts


def test_the_labels_of_rows_are_beside_maps_of_the_first_model(
    model: Model, deep_head_model: Model, pixels: Pixels
) -> None:
    """A line with other models alone has their classes above the maps, and no label."""
    options = SheetOptions(methods=("gradcam",), targets=("elk",))
    sheet = make_sheet({"photo.jpg": pixels}, [model, deep_head_model], options)
    figure = draw(sheet, PrintOptions(1.8, 100, Style())).figure
    labels = [text.get_text() for text in figure.texts if text.get_rotation()]
    assert len(lay_out(sheet, PrintOptions(1.8, 100, Style())).lines) == 2
    assert len(labels) == 1


def test_letters_are_in_reading_order(model: Model, pixels: Pixels) -> None:
    options = SheetOptions(targets=("ant", "bee"), window=Window(12, 10))
    sheet = make_sheet({"photo.jpg": pixels}, [model], options)
    printing = PrintOptions(COLUMN, 100, Style(), letters=True)
    layout, figure = lay_out(sheet, printing), draw(sheet, printing).figure
    marked = {t.get_text(): t.get_position() for t in figure.texts if t.get_text()[0] == "("}
    places = [(0, 0), *((0, c) for c in (1, 2, 3)), *((1, c) for c in (1, 2, 3))]
    places += [(row, column) for row in (0, 1) for column in (4, 5, 6)]
    assert [*marked] == [f"({letter})" for letter in "abcdefghijklm"]
    for (x, y), place in zip(marked.values(), places, strict=True):
        left, top = layout.place(*place)
        assert 0 < x * layout.width - left < 5
        assert 0 < (1 - y) * layout.height - top < 5


def test_letters_after_z() -> None:
    assert [*itertools.islice(letters(), 25, 28)] == ["z", "aa", "ab"]


def test_the_font_is_that_of_all_text(model: Model, pixels: Pixels) -> None:
    sheet = make_sheet({"photo.jpg": pixels}, [model], SheetOptions(methods=("gradcam",)))
    name = check_font("stixgeneral")
    assert name == "STIXGeneral"
    file = typeset(sheet, ".pdf", PrintOptions(3, 100, Style(), font=name))
    assert set(re.findall(rb"/BaseFont /(?:[A-Z]{6}\+)?(\w+)", file)) == {b"STIXGeneral"}
    with pytest.raises(CamcliError, match="unknown font 'DejaVu San': did you mean 'DejaVu Sans'"):
        check_font("DejaVu San")


def test_the_names_of_models_are_whole(model: Model, pixels: Pixels) -> None:
    """A long one is in several lines above its columns, as far as its parts fit."""
    models = [replace(model, name=name) for name in ("short", "convolutional_network_v3_small")]
    sheet = make_sheet({"photo.jpg": pixels}, models, SheetOptions(methods=("gradcam",)))
    printing = PrintOptions(3, 100, Style(), font_size=10)
    canvas = draw(sheet, printing)
    texts = [text for text in canvas.figure.texts if "convolutional" in text.get_text()]
    assert [text.get_text() for text in texts] == ["convolutional_\nnetwork_v3_\nsmall"]
    assert texts[0].get_window_extent().y1 <= canvas.figure.bbox.y1 + 1


def test_an_empty_cell_shows_its_reason(pixels: Pixels) -> None:
    cell = EmptyCell("cam needs a global pool: the head is deep")
    sheet = Sheet((pixels,), (Column("small", "cam", (cell,)),))
    figure = draw(sheet, PrintOptions(4, 100, Style())).figure
    assert "cam needs a global pool" in [text.get_text() for text in figure.texts]


def test_a_map_of_zeros(pixels: Pixels) -> None:
    """It has no scale. A dollar sign in a class is no formula."""
    values, whole = np.zeros((4, 4), np.float32), Crop(0, 0, 70, 50)
    label = "a $5 bill$"
    cell = MapCell(values, whole, signed=False, top=0.0, box=None, label=label, probability=0.5)
    sheet = Sheet((pixels,), (Column("small", "gradcam", (cell,)),))
    figure = draw(sheet, PrintOptions(3, 100, Style())).figure
    assert {"zero everywhere", f"{label}\n50.0 %"} <= {text.get_text() for text in figure.texts}


@pytest.mark.parametrize("ending", [*SAVE_OPTIONS])
def test_files_are_reproducible_and_have_no_dates(
    ending: str, model: Model, pixels: Pixels
) -> None:
    sheet = make_sheet({"photo.jpg": pixels}, [model], SheetOptions(methods=("gradcam", "guided")))
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
    sheet = make_sheet(
        {"photo.jpg": pixels}, [foreign], SheetOptions(methods=("gradcam",), targets=("0",))
    )
    with pytest.warns(CamcliWarning, match="font lacks characters"):
        typeset(sheet, ".png", PrintOptions(width=3, dpi=100, style=Style()))
