"""How the page looks: opacity, themes, and small screens."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from tests.support.browser import (
    Browser,
    card_names,
    evaluate,
    open_image,
    open_page,
    press,
    set_control,
)
from tests.support.report import HOSTILE_NAME, ODD_NAME


def test_opacity(page: Browser) -> None:
    opacity = "Number(getComputedStyle(document.querySelector('canvas.map')).opacity)"
    assert evaluate(page, opacity) == pytest.approx(0.5)
    set_control(page, ".opacity", 20)
    assert evaluate(page, opacity) == pytest.approx(0.2)
    press(page, "+", "+")
    assert evaluate(page, opacity) == pytest.approx(0.4)
    press(page, "0")
    assert evaluate(page, opacity) == 0
    press(page, "0")
    assert evaluate(page, opacity) == pytest.approx(0.4)
    sliders = "[...document.querySelectorAll('.opacity')].map(slider => slider.value)"
    assert evaluate(page, sliders) == ["40"] * 2


def test_light_and_dark(browser: Browser, report_url: str) -> None:
    brightness = {}
    for theme in ("light", "dark"):
        open_page(browser, report_url, theme=theme)
        screenshot = Image.open(BytesIO(browser.get_screenshot_as_png())).convert("L")
        brightness[theme] = np.asarray(screenshot, float).mean()
    assert brightness["light"] > 180
    assert brightness["dark"] < 90
    press(browser, "t")
    assert evaluate(browser, "document.documentElement.dataset.theme") == "light"


def test_nothing_is_wider_than_a_phone(browser: Browser, report_url: str) -> None:
    open_page(browser, report_url, width=360, height=740)
    assert len(card_names(browser)) == 4
    assert evaluate(browser, "document.documentElement.scrollWidth") <= 360
    open_image(browser, HOSTILE_NAME)
    assert evaluate(browser, "document.getElementById('viewer').scrollWidth") <= 360


def test_a_badge_marks_what_the_network_is_unsure_of(page: Browser) -> None:
    card = "document.querySelector(`[title='${arguments[0]}']`)"
    badges = f"[...{card}.querySelectorAll('.badge')].map(badge => badge.innerText)"
    assert evaluate(page, badges, ODD_NAME) == ["empty", "unsure", "+1"]
    assert evaluate(page, badges, "plain.jpg") == ["wrong: cat", "+1"]


def test_tables_and_notes(page: Browser) -> None:
    cells = "[...document.querySelectorAll('#evaluation td, #evaluation th')].map(c => c.innerText)"
    page.execute_script("document.querySelector('#evaluation details').open = true")
    assert {"deletion", "win %", "0.500 [0.250, 0.750]!", "-"} <= set(evaluate(page, cells))
    assert evaluate(page, "document.querySelector('#evaluation td.fails').innerText") == (
        "0.500 [0.250, 0.750]!"
    )
    legend = evaluate(page, "document.getElementById('evaluation').innerText")
    assert "! not better than a baseline (random or centre)" in legend
    text = evaluate(page, "document.getElementById('check').innerText")
    header = "method\talike\tchanged\tclass changed\tmissing\textra\tmedian correlation"
    assert text.splitlines()[:2] == ["Compared with the baseline: 1 changed", header]
    assert "tolerances: rtol 0.01, min-correlation 0.99. A ! marks what is beyond them." in text
    open_image(page, HOSTILE_NAME)
    text = evaluate(page, "document.getElementById('figures').innerText")
    assert "baseline: changed, off by 50.0%!" in text


def test_cards_lie_beside_the_scroll_bar(browser: Browser, many_images_url: str) -> None:
    """The gallery is laid out for its width with the scroll bar."""
    for width in (390, 700, 1200, 2560):
        open_page(browser, many_images_url, width=width)
        right = "[...document.querySelectorAll('.card')].map(c => c.getBoundingClientRect().right)"
        end = "document.getElementById('gallery').getBoundingClientRect().right"
        assert max(evaluate(browser, right)) <= evaluate(browser, end)


@pytest.mark.parametrize("width", [390, 800, 1280, 1920, 2560])
def test_maps_of_an_image_fill_the_screen(
    width: int, browser: Browser, many_images_url: str
) -> None:
    open_page(browser, f"{many_images_url}#image=007.jpg", width=width, height=900)
    boxes = "[...document.querySelectorAll('figure')].map(f => f.getBoundingClientRect().toJSON())"
    figures = evaluate(browser, boxes)
    assert len(figures) == 3
    area = evaluate(browser, "document.getElementById('viewer').clientWidth")
    assert min(figure["left"] for figure in figures) <= 20
    assert max(figure["right"] for figure in figures) >= area - 20
    assert min(figure["width"] for figure in figures) >= min(300, area - 40)
    beyond = "(one => one.scrollWidth - one.clientWidth)(document.getElementById('viewer'))"
    assert evaluate(browser, beyond) <= 0
    open_page(browser, f"{many_images_url}#image=007.jpg&map=gradcam&against=occlusion", width, 900)
    assert evaluate(browser, beyond) <= 0
