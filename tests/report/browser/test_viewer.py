"""The dialog of one image: its values, its maps and its address."""

from __future__ import annotations

import base64
import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from camcli import cli
from camcli.images.geometry import Centres, Crop, Placement
from camcli.render import draw
from camcli.render.style import Style
from tests.support.browser import (
    END,
    ENTER,
    ESCAPE,
    FOCUSED_CARD,
    NAME_IN_VIEWER,
    RIGHT,
    VIEWER_IS_OPEN,
    Browser,
    evaluate,
    open_image,
    open_page,
    pictures_load,
    press,
    wait_for,
)
from tests.support.files import manifest
from tests.support.report import MAP, make_output_folder, write_manifest


def test_values_under_the_pointer(page: Browser) -> None:
    open_image(page, "plain.jpg")
    values = "[...document.querySelectorAll('figure .value')].map(v => v.textContent)"
    ranges = ["0 to 100, 5 x 7 cells", "-40 to 60, 5 x 7 cells"]
    assert evaluate(page, values) == ranges

    def move_pointer(column: float, row: float) -> None:
        """Move the pointer over the crop, to a place in cells."""
        page.execute_script(
            "const crop = document.querySelector('#figures .crop');"
            "const box = crop.getBoundingClientRect();"
            "crop.dispatchEvent(new PointerEvent('pointermove', {"
            "  bubbles: true, clientX: box.left + box.width * arguments[0] / 7,"
            "  clientY: box.top + box.height * arguments[1] / 5 }))", column, row,
        )  # fmt: skip

    for row, column in ((0, 0), (3, 5), (4, 6)):
        move_pointer(column + 0.8, row + 0.8)
        x, y = 15 + int(60 * (column + 0.8) / 7), int(60 * (row + 0.8) / 5)
        place = f"in row {row}, column {column} (pixel {x}, {y})"
        value = int(MAP[row, column])
        assert evaluate(page, values) == [f"{value} {place}", f"{value - 40} {place}"]
    move_pointer(-0.5, 1)
    assert evaluate(page, values) == ["outside the network's input"] * 2
    page.execute_script(
        "document.querySelector('figure:nth-child(2) .frame')"
        ".dispatchEvent(new PointerEvent('pointerleave'))"
    )
    assert evaluate(page, values) == ranges


def canvas_of(page: Browser, number: int) -> NDArray[np.float64]:
    """Return the pixels of a map (H,W,4)."""
    url = evaluate(
        page, "document.querySelectorAll('#figures canvas')[arguments[0]].toDataURL()", number
    )
    return np.asarray(Image.open(BytesIO(base64.b64decode(url.partition(",")[2]))), float)


@pytest.mark.parametrize(("number", "is_signed"), [(0, False), (1, True)])
def test_maps_have_the_colours_of_overlays(number: int, is_signed: bool, page: Browser) -> None:
    """A canvas has the colours of camcli.render, and for signed maps its opacity."""
    open_image(page, "plain.jpg")
    drawn = canvas_of(page, number)
    height, width = drawn.shape[:2]
    white, whole = np.full((height, width, 3), 255, np.uint8), Crop(0, 0, width, height)
    values = MAP - 40 if is_signed else MAP
    expected = draw.overlay(white, values, whole, Style(alpha=1 / 1.6, blend="even"), is_signed)
    opacity = drawn[..., 3:] / 255 if is_signed else 1 / 1.6
    shown = 255 + (drawn[..., :3] - 255) * opacity
    assert np.abs(shown - expected).max() < 5


def test_an_image_has_an_address(browser: Browser, report_url: str) -> None:
    open_page(browser, f"{report_url}#image=plain.jpg")
    assert evaluate(browser, NAME_IN_VIEWER) == "plain.jpg"
    open_page(browser, f"{report_url}#image=none.jpg")
    assert not evaluate(browser, VIEWER_IS_OPEN)


def test_closing_returns_to_the_last_image(browser: Browser, many_images_url: str) -> None:
    """The card of the last image has the focus and is on the screen, not that of the first."""
    open_page(browser, many_images_url)
    press(browser, RIGHT, ENTER)
    wait_for(browser, VIEWER_IS_OPEN)
    for number in range(1, 31):
        press(browser, RIGHT)
        wait_for(browser, f"{NAME_IN_VIEWER} === '{number:03}.jpg'")
    press(browser, ESCAPE)
    wait_for(browser, f"!{VIEWER_IS_OPEN}")
    assert evaluate(browser, FOCUSED_CARD) == "030.jpg"
    box = evaluate(browser, "document.activeElement.getBoundingClientRect().toJSON()")
    assert box["top"] >= 0
    assert box["bottom"] <= evaluate(browser, "innerHeight")


def test_closing_with_the_pointer_on_a_map(page: Browser) -> None:
    """The browser may still report movements over a map of the closed viewer."""
    press(page, END, ENTER)
    wait_for(page, VIEWER_IS_OPEN)
    page.execute_script(
        "addEventListener('error', event => (window.failure = event.message));"
        "window.picture = document.querySelector('#figures .crop').closest('.frame')"
    )
    press(page, ESCAPE)
    wait_for(page, f"!{VIEWER_IS_OPEN}")
    for kind in ("pointermove", "pointerdown", "pointerleave"):
        page.execute_script("picture.dispatchEvent(new PointerEvent(arguments[0]))", kind)
    assert evaluate(page, "window.failure") is None


def test_the_address_changes_if_the_browser_closes_the_dialog(page: Browser) -> None:
    open_image(page, "plain.jpg")
    page.execute_script("document.getElementById('viewer').close()")
    wait_for(page, "location.hash === ''")


def test_without_originals_the_saved_overlay_is_shown(browser: Browser, tmp_path: Path) -> None:
    """More opacity adds to the opacity that the saved overlay already has."""
    folder = make_output_folder(tmp_path)
    shutil.rmtree(tmp_path / "photos")
    with pytest.raises(SystemExit):
        cli.main(["report", str(folder), "--quiet"])
    open_page(browser, (folder / "report.html").as_uri())
    assert pictures_load(browser)
    open_image(browser, "plain.jpg")
    opacity = "Number(getComputedStyle(document.querySelector('#figures canvas')).opacity)"
    assert evaluate(browser, opacity) == 0
    press(browser, *"+++++")
    assert evaluate(browser, opacity) == 1
    assert evaluate(browser, "document.querySelector('#figures .background').naturalWidth") == 90


def test_cells_are_at_their_centres(browser: Browser, tmp_path: Path) -> None:
    """The canvas shows a map as its overlay does, and the pointer finds the nearest centre."""
    folder = make_output_folder(tmp_path)
    rows = manifest(folder)
    x0, y0, x1, y1 = rows[0]["crop"]
    cells = Centres(x0 + 1, y0 + 3, 8, 11)
    write_manifest(folder, [row | {"cells": cells[:4]} for row in rows])
    with pytest.raises(SystemExit):
        cli.main(["report", str(folder), "--quiet"])
    open_page(browser, (folder / "report.html").as_uri())
    open_image(browser, "plain.jpg")
    drawn = canvas_of(browser, 0)
    height, width = drawn.shape[:2]
    scale = width / (x1 - x0), height / (y1 - y0)
    seen = cells.scaled(*scale, -x0 * scale[0], -y0 * scale[1])
    white = np.full((height, width, 3), 255, np.uint8)
    whole = Placement(0, 0, width, height, cells=seen)
    expected = draw.overlay(white, MAP, whole, Style(alpha=1 / 1.6, blend="even"), signed=False)
    assert np.abs(255 + (drawn[..., :3] - 255) / 1.6 - expected).max() < 5
    browser.execute_script(
        "const crop = document.querySelector('#figures .crop');"
        "const box = crop.getBoundingClientRect();"
        "crop.dispatchEvent(new PointerEvent('pointermove', {"
        "  bubbles: true, clientX: box.left + box.width * 0.45, clientY: box.top + 1 }))"
    )
    column = round((0.45 * (x1 - x0) - 1) / 8)
    text = evaluate(browser, "document.querySelector('figure .value').textContent")
    assert f"in row 0, column {column} " in text
