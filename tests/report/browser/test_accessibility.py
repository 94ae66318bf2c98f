"""Roles, names and contrast in all views, checked by axe."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest

from tests.support.browser import (
    ENTER,
    RIGHT,
    VIEWER_IS_OPEN,
    Browser,
    evaluate,
    open_image,
    open_page,
    press,
    set_control,
    wait_for,
)

pytest.importorskip("axe_core_python", reason="needs camcli[browser]")


def show_gallery(page: Browser) -> None:
    page.execute_script("for (const one of document.querySelectorAll('details')) one.open = true")


def show_image(page: Browser) -> None:
    press(page, RIGHT, ENTER, RIGHT, RIGHT)
    wait_for(page, VIEWER_IS_OPEN)


def show_map(page: Browser) -> None:
    show_image(page)
    press(page, "m", "m", ENTER)


def show_two_maps(page: Browser) -> None:
    show_map(page)
    press(page, "f")
    assert evaluate(page, "document.querySelector('#screen .second') !== null")


def show_help(page: Browser) -> None:
    press(page, "?")


def show_triage(page: Browser) -> None:
    show_gallery(page)
    set_control(page, "#order", "off by")


def show_other_side(page: Browser) -> None:
    open_image(page, "plain.jpg")
    press(page, "b")
    assert evaluate(page, f"{SIDE} === 'right'")


def show_baseline(page: Browser) -> None:
    show_other_side(page)
    press(page, "b")
    assert evaluate(page, f"{SIDE} === 'left'")


def show_classes(page: Browser) -> None:
    show_gallery(page)
    page.execute_script("document.querySelectorAll('#classes .expand').forEach(b => b.click())")
    assert evaluate(page, "document.getElementById('class-0-details').hidden") is False


def show_differences(page: Browser) -> None:
    show_gallery(page)
    set_control(page, "#show", "differ")


SIDE = "document.getElementById('stage').dataset.shown"
VIEWS = {
    "report_url": (show_gallery, show_image, show_map, show_two_maps, show_help),
    "checked_url": (show_triage, show_other_side, show_baseline),
    "audit_url": (show_gallery, show_classes),
    "compare_url": (show_gallery, show_differences),
}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("url", "show"), [(url, show) for url in VIEWS for show in VIEWS[url]])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing(
    url: str,
    show: Callable[[Browser], None],
    theme: str,
    width: int,
    browser: Browser,
    request: pytest.FixtureRequest,
) -> None:
    open_page(browser, request.getfixturevalue(url), width=width, theme=theme)
    show(browser)
    browser.execute_script((files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8"))
    violations: list[Any] = browser.execute_async_script(
        "axe.run().then(found => arguments[0](found.violations))"
    )
    assert [
        (one["id"], [(node["html"][:200], node["failureSummary"]) for node in one["nodes"]])
        for one in violations
    ] == []
