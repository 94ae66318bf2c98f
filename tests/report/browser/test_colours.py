"""The pixels of the page are those of `camcli explain`: heat, ground, what was not seen, bars."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from camcli import cli
from camcli.images.decode import decode
from camcli.images.geometry import Crop
from camcli.render.draw import overlay
from camcli.render.names import BLENDS
from camcli.render.style import Style
from tests.support.browser import Browser, evaluate, open_image, open_page, set_control
from tests.support.files import manifest
from tests.support.report import CROP, MAP, RUN_RECORD, make_output_folder, write_manifest

SHOW_ALONE = """
const picture = document.querySelectorAll('#figures figure:has(.map) .picture')[arguments[0]];
document.getElementById('viewer').append(picture);
Object.assign(picture.style, {position: 'fixed', left: 0, top: 0, width: '90px', margin: 0,
  borderRadius: 0, zIndex: 9});
return Promise.all([...picture.querySelectorAll('img')].map((image) => image.decode())).then(
  () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1)))));
"""


def open_blend(browser: Browser, top: Path, blend: str, scale: float | None = None) -> Path:
    """Open a report of a run with a blend, and its first image. `scale` is in full colour."""
    folder = make_output_folder(top)
    write_manifest(folder, [row | {"top": scale} for row in manifest(folder)])
    style = Style(blend=blend)
    (folder / "run.json").write_text(
        json.dumps(RUN_RECORD | {"blend": blend, "alpha": style.opacity})
    )
    with pytest.raises(SystemExit):
        cli.main(["report", str(folder), "--quiet"])
    open_page(browser, (folder / "report.html").as_uri())
    open_image(browser, "plain.jpg")
    return top / "photos" / "plain.jpg"


def pixels_of_picture(browser: Browser, number: int) -> NDArray[np.float64]:
    """Return a picture as the screen shows it, at the size of the photo."""
    browser.execute_script(SHOW_ALONE, number)
    shot = Image.open(BytesIO(browser.get_screenshot_as_png())).convert("RGB")
    return np.asarray(shot, float)[:60, :90]


@pytest.mark.parametrize("blend", BLENDS)
@pytest.mark.parametrize(("number", "signed"), [(0, False), (1, True)])
def test_a_picture_has_the_pixels_of_the_overlay(
    number: int, signed: bool, blend: str, browser: Browser, tmp_path: Path
) -> None:
    photo = decode(open_blend(browser, tmp_path, blend))
    values = MAP - 40 if signed else MAP
    expected = overlay(photo, values, Crop(*CROP), Style(blend=blend), signed).astype(float)
    away = np.abs(pixels_of_picture(browser, number) - expected)
    inside = np.abs(np.arange(90)[:, None] - [*CROP[::2]]).min(1) > 2  # not the hairline
    assert away[:, inside].mean() < 2
    assert np.quantile(away[:, inside], 0.99) < 8


def test_a_picture_has_the_scale_of_its_row(browser: Browser, tmp_path: Path) -> None:
    photo = decode(open_blend(browser, tmp_path, "heat", scale=250))
    numbers = "document.querySelector('.colour-bar p').innerText"
    assert evaluate(browser, numbers).split() == ["0", "250"]
    expected = overlay(photo, MAP, Crop(*CROP), Style(), signed=False, top=250).astype(float)
    away = np.abs(pixels_of_picture(browser, 0) - expected)[:, CROP[0] + 2 : CROP[2] - 2]
    assert away.mean() < 2


def test_without_opacity_the_photo_is_shown_as_it_is(browser: Browser, tmp_path: Path) -> None:
    photo = decode(open_blend(browser, tmp_path, "heat"))
    set_control(browser, ".opacity", 0)
    assert np.abs(pixels_of_picture(browser, 0) - photo).mean() < 1


def test_bars_have_the_values_at_their_ends(browser: Browser, tmp_path: Path) -> None:
    open_blend(browser, tmp_path, "heat")
    numbers = "[...document.querySelectorAll('.colour-bar p')].map((line) => line.innerText)"
    found = [line.split() for line in evaluate(browser, numbers)]
    assert found == [["0", "100"], ["\N{MINUS SIGN}60", "0", "60"]]
