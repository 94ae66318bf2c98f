"""Printing: all images and no controls."""

from __future__ import annotations

import pytest

from tests.support.browser import (
    ENTER,
    RIGHT,
    VIEWER_IS_OPEN,
    Browser,
    card_names,
    evaluate,
    open_page,
    press,
    wait_for,
)


@pytest.fixture
def paper(browser: Browser, many_images_url: str) -> Browser:
    """A page of many images, as printers see it."""
    open_page(browser, many_images_url, theme="dark")
    return browser


def to_paper(browser: Browser) -> None:
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})


def from_paper(browser: Browser) -> None:
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    browser.execute_script("dispatchEvent(new Event('afterprint'))")


def visible(browser: Browser, selector: str) -> int:
    """Return how many elements of a selector are shown."""
    count: int = evaluate(
        browser,
        "[...document.querySelectorAll(arguments[0])].filter(one => one.checkVisibility()).length",
        selector,
    )
    return count


def test_all_cards_are_printed_and_no_controls(paper: Browser) -> None:
    assert len(card_names(paper)) < 100
    to_paper(paper)
    assert visible(paper, ".card") == 1000
    assert visible(paper, "button, input, select, label") == 0
    boxes = evaluate(
        paper,
        "[...document.querySelectorAll('.card')].map(c => c.getBoundingClientRect().toJSON())",
    )
    assert len({(box["left"], box["top"]) for box in boxes}) == 1000, "cards cover each other"
    background = evaluate(
        paper, "getComputedStyle(document.querySelector('.card')).backgroundColor"
    )
    assert background == "rgb(255, 255, 255)", "ink for a dark theme"
    from_paper(paper)
    assert len(card_names(paper)) < 100


def test_an_opened_image_is_printed_alone(paper: Browser) -> None:
    press(paper, RIGHT, ENTER)
    wait_for(paper, VIEWER_IS_OPEN)
    to_paper(paper)
    assert visible(paper, ".card") == 0
    assert visible(paper, "#figures figure") == 3
    assert visible(paper, "button, input, select, label") == 0
    from_paper(paper)


def test_a_pdf_has_all_images(paper: Browser) -> None:
    found = paper.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    assert len(found["data"]) > 100_000
    assert len(card_names(paper)) < 100
