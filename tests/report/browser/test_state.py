"""The state of the page in its address: filters, order, the opened image and the theme."""

from __future__ import annotations

import pytest

from tests.support.browser import (
    DOWN,
    ENTER,
    ESCAPE,
    FOCUSED_CARD,
    NAME_IN_VIEWER,
    RIGHT,
    VIEWER_IS_OPEN,
    Browser,
    card_names,
    click,
    evaluate,
    open_page,
    press,
    set_control,
    wait_for,
)
from tests.support.report import HOSTILE_CLASS, HOSTILE_NAME, ODD_NAME


def address(browser: Browser) -> dict[str, str]:
    """Return the values in the address, after the last change was written."""
    browser.execute_async_script("setTimeout(arguments[0], 200)")  # longer than the page waits
    found: dict[str, str] = evaluate(
        browser, "Object.fromEntries(new URLSearchParams(location.hash.slice(1)))"
    )
    return found


def test_everything_is_in_the_address(page: Browser) -> None:
    set_control(page, "#text", "jpg")
    set_control(page, "#order", "confidence")
    set_control(page, "#min-confidence", 10)
    set_control(page, "#method", "occlusion")
    click(page, "#reversed")
    press(page, "t", DOWN, ENTER)
    expected = {
        **{"text": "jpg", "order": "confidence", "minConfidence": "10", "method": "occlusion"},
        **{"reversed": "true", "theme": "dark", "image": "plain.jpg"},
    }
    assert address(page) == expected
    page.refresh()
    assert address(page) == expected
    assert evaluate(page, NAME_IN_VIEWER) == "plain.jpg"
    assert evaluate(page, "document.documentElement.dataset.theme") == "dark"
    assert card_names(page) == ["plain.jpg", HOSTILE_NAME, ODD_NAME]
    for control, value in (("text", "jpg"), ("order", "confidence"), ("method", "occlusion")):
        assert evaluate(page, "document.getElementById(arguments[0]).value", control) == value
    press(page, ESCAPE)
    wait_for(page, f"!{VIEWER_IS_OPEN}")
    click(page, "#clear")
    assert address(page) == {"theme": "dark"}
    assert len(card_names(page)) == 4


def test_a_page_without_changes_has_a_plain_address(page: Browser, report_url: str) -> None:
    press(page, "t", "t")
    set_control(page, "#text", "a")
    set_control(page, "#text", "")
    assert address(page) == {"theme": "light"}


@pytest.mark.parametrize("name", [HOSTILE_NAME, ODD_NAME])
def test_names_may_contain_anything(name: str, page: Browser) -> None:
    press(page, "/", name, ESCAPE, RIGHT, ENTER)
    wait_for(page, VIEWER_IS_OPEN)
    page.refresh()
    assert evaluate(page, NAME_IN_VIEWER) == name


def test_an_address_with_odd_values(browser: Browser, report_url: str) -> None:
    """Values that no control offers are left out."""
    open_page(
        browser,
        f"{report_url}#order=nothing&method=none&minConfidence=x&reversed=1&image=x&constructor=1",
    )
    assert address(browser) == {}
    assert len(card_names(browser)) == 4


def test_back_and_forward_open_and_close_images(page: Browser, report_url: str) -> None:
    """They leave the filters and the theme as they are."""
    press(page, RIGHT, ENTER)
    wait_for(page, VIEWER_IS_OPEN)
    press(page, RIGHT, "t")
    assert address(page) == {"theme": "dark", "image": ODD_NAME}
    page.back()
    wait_for(page, f"!{VIEWER_IS_OPEN}")
    assert evaluate(page, FOCUSED_CARD) == ODD_NAME
    assert address(page) == {"theme": "dark"}
    set_control(page, "#class", HOSTILE_CLASS)
    page.forward()
    wait_for(page, VIEWER_IS_OPEN)
    assert evaluate(page, NAME_IN_VIEWER) == ODD_NAME
    assert address(page) == {"theme": "dark", "class": HOSTILE_CLASS, "image": ODD_NAME}
    press(page, ESCAPE)
    wait_for(page, f"!{VIEWER_IS_OPEN}")
    assert evaluate(page, "location.href.split('#')[0]") == report_url


def test_an_entered_address_is_followed(page: Browser) -> None:
    page.execute_script("location.hash = 'image=plain.jpg&order=name'")
    wait_for(page, VIEWER_IS_OPEN)
    assert evaluate(page, "document.getElementById('order').value") == "name"
    press(page, ESCAPE)
    wait_for(page, f"!{VIEWER_IS_OPEN}")
    assert address(page) == {"order": "name"}
