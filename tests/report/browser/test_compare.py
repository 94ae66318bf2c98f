"""The page of `camcli compare` in Chromium: filters, order, and layouts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.browser import Browser, click, evaluate, open_page, set_control
from tests.support.report import HOSTILE_NAME, ODD_NAME

SHOWN = "[...document.querySelectorAll('#results tr')].filter(r => !r.hidden)"
PAIRS = [("plain.jpg", "gradcam"), ("plain.jpg", "occlusion")]


def shown(browser: Browser) -> list[str]:
    names: list[str] = evaluate(browser, f"{SHOWN}.map(r => r.dataset.name)")
    return names


def count(browser: Browser) -> Any:
    return evaluate(browser, "document.getElementById('count').value")


def test_filters(browser: Browser, compare_url: str) -> None:
    open_page(browser, compare_url)
    assert (len(shown(browser)), count(browser)) == (8, "8 of 8 results")
    set_control(browser, "#show", "differ")
    assert (shown(browser), count(browser)) == (["plain.jpg"] * 2, "2 of 8 results")
    set_control(browser, "#show", "b")
    assert shown(browser) == []
    set_control(browser, "#show", "all")
    set_control(browser, "#search", "Occlusion  FOX")
    assert shown(browser) == ["plain.jpg"]
    set_control(browser, "#search", "")
    assert len(shown(browser)) == 8


def test_orders(browser: Browser, compare_url: str) -> None:
    open_page(browser, compare_url)
    first = shown(browser)
    set_control(browser, "#sort", "name")
    names = ["broken.jpg", ODD_NAME, HOSTILE_NAME, "plain.jpg"]
    assert shown(browser) == sorted(name for name in names for _ in range(2))
    for order in ("correlation", "shift"):
        set_control(browser, "#sort", order)
        assert shown(browser)[0] == "plain.jpg"
        missing = evaluate(browser, f"{SHOWN}.map(r => r.dataset.{order} === undefined)")
        assert missing == sorted(missing), "results without a measure come last"
    set_control(browser, "#sort", "number")
    assert shown(browser) == first


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_layouts(width: int, theme: str, browser: Browser, compare_url: str) -> None:
    """Both maps stand side by side, nothing is wider than the window, and nothing is blocked."""
    open_page(browser, compare_url, width, 900, theme)
    browser.execute_async_script(
        "const done = arguments[0]; const all = [...document.images];"
        "all.forEach(i => { i.loading = 'eager'; });"
        "Promise.all(all.map(i => i.decode())).then(() => done(1), done)"
    )
    boxes = evaluate(
        browser, "[...document.querySelectorAll('#results tr:first-child img')]"
        ".map(i => i.getBoundingClientRect().toJSON())"
    )  # fmt: skip
    left, right = boxes
    assert left["top"] == right["top"]
    assert left["right"] <= right["left"]
    assert min(left["width"], right["width"]) > 0.25 * width
    assert evaluate(browser, "document.documentElement.scrollWidth") <= width
    click(browser, "#show")
    colour = evaluate(browser, "getComputedStyle(document.body).backgroundColor")
    assert (colour == "rgb(21, 22, 26)") == (theme == "dark")
