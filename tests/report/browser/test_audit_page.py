"""The page of an audit in a browser: keys, order, search, themes, small screens, and safety."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.audit_record import AUDITED_CLASSES as CLASSES
from tests.support.audit_record import write_audit_page
from tests.support.browser import (
    ENTER,
    Browser,
    click,
    evaluate,
    open_page,
    press,
    set_control,
    wait_for_frame,
)

NAMES = "[...document.querySelectorAll('#classes .expand')].map(b => b.textContent)"
SHOWN = "[...document.querySelectorAll('#classes .expand')].filter(b => b.offsetParent).length"


@pytest.fixture
def audit(browser: Browser, audit_url: str) -> Browser:
    return open_page(browser, audit_url)


def sort_by(browser: Browser, column: str) -> None:
    browser.execute_script(
        "[...document.querySelectorAll('#classes thead button')]"
        ".find(b => b.textContent === arguments[0]).click()", column,
    )  # fmt: skip


def test_nothing_is_requested_or_reported_and_no_name_runs(audit: Browser, audit_url: str) -> None:
    for number in range(len(CLASSES)):
        click(audit, f"#class-{number} .expand")
    audit.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    for picture in evaluate(audit, "[...document.images]"):
        audit.execute_async_script(
            "arguments[0].loading = 'eager'; arguments[0].decode().then(arguments[1])", picture
        )
    for entry in audit.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            url = message["params"]["request"]["url"]
            assert url.startswith(("data:", "about:")) or url == audit_url, url
    assert evaluate(audit, "window.hit") is None
    assert evaluate(audit, "document.querySelectorAll('script').length") == 1


def test_a_class_opens_by_keyboard(audit: Browser) -> None:
    details = "!document.getElementById('class-1-details').hidden"
    expanded = "document.querySelector('#class-1 .expand').ariaExpanded"
    audit.execute_script("document.querySelector('#class-1 .expand').focus()")
    for is_open in (True, False):
        press(audit, ENTER)
        assert evaluate(audit, details) is is_open
        assert evaluate(audit, expanded) == str(is_open).lower()


def test_a_suspects_link_opens_its_class(audit: Browser) -> None:
    click(audit, "article h3 a")
    wait_for_frame(audit)
    assert evaluate(audit, "document.getElementById('class-0-details').hidden") is False
    assert evaluate(audit, "document.activeElement.textContent") == CLASSES[0]
    top = evaluate(audit, "document.getElementById('class-0').getBoundingClientRect().top")
    assert 0 <= top < 800


def test_classes_are_sorted_with_the_unknown_last(audit: Browser) -> None:
    assert evaluate(audit, NAMES) == [*CLASSES]
    value = (
        "[...document.querySelectorAll('#classes tbody[id] > tr:first-child > td:nth-child(3)')]"
    )
    for direction, sign in (("ascending", 1), ("descending", -1)):
        sort_by(audit, "accuracy")
        order = evaluate(audit, f"{value}.map(td => td.dataset.value ?? null)")
        assert order[-1] is None
        numbers = [sign * float(one) for one in order[:-1]]
        assert numbers == sorted(numbers)
        sorted_by = "document.querySelector('#classes th[aria-sort]')"
        assert evaluate(audit, f"[{sorted_by}.innerText, {sorted_by}.ariaSort]")[1] == direction
    sort_by(audit, "class")
    names = evaluate(audit, NAMES)
    assert names.index("class 9") < names.index("class 10")
    first = "document.querySelector('#classes tbody').innerText"
    assert evaluate(audit, first).startswith("all classes"), "it stays on top"


def test_search_by_name(audit: Browser) -> None:
    set_control(audit, "#filter", "CLASS ")
    assert evaluate(audit, SHOWN) == 2
    assert evaluate(audit, "document.getElementById('count').value") == f"2 of {len(CLASSES)}"
    set_control(audit, "#filter", "")
    assert evaluate(audit, SHOWN) == len(CLASSES)


def test_nothing_is_wider_than_a_phone(browser: Browser, audit_url: str) -> None:
    open_page(browser, audit_url, width=360, height=740)
    click(browser, "#class-0 .expand")
    assert evaluate(browser, "document.documentElement.scrollWidth") <= 360
    widths = "document.querySelector('#class-0 .class-details').getBoundingClientRect().width"
    assert evaluate(browser, widths) <= 360


def test_light_and_dark(browser: Browser, audit_url: str) -> None:
    brightness = {}
    for theme in ("light", "dark"):
        open_page(browser, audit_url, theme=theme)
        screenshot = Image.open(BytesIO(browser.get_screenshot_as_png())).convert("L")
        brightness[theme] = np.asarray(screenshot, float).mean()
    assert brightness["light"] > 150
    assert brightness["dark"] < 90


def test_text_has_contrast(browser: Browser, audit_url: str) -> None:
    """WCAG 2.1, level AA: 4.5 for texts."""
    for theme in ("light", "dark"):
        open_page(browser, audit_url, theme=theme)
        click(browser, "#class-0 .expand")
        found = browser.execute_script(CONTRASTS)
        assert len(found) > 50
        assert not [one for one in found if one[0] < 4.5]


CONTRASTS = """
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = colour.map((c) => linear(c / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  const behind = (node) => {
    const colour = parse(getComputedStyle(node).backgroundColor);
    const isClear = colour.length === 4 && colour[3] === 0;
    return isClear && node.parentElement ? behind(node.parentElement) : colour;
  };
  return [...document.querySelectorAll("body *")]
    .filter((node) => [...node.childNodes].some((one) => one.nodeType === 3 && one.data.trim()))
    .filter((node) => node.checkVisibility() && node.tagName !== "SCRIPT")
    .map((node) => {
      const [one, other] = [light(parse(getComputedStyle(node).color)), light(behind(node))];
      return [Math.max(one, other) / Math.min(one, other), node.outerHTML.slice(0, 80)];
    });
"""


def test_a_thousand_classes(browser: Browser, tmp_path: Path) -> None:
    names = [f"class {i}" for i in range(1000)]
    open_page(browser, write_audit_page(tmp_path, names))
    sort_by(browser, "border")
    assert evaluate(browser, NAMES)[-1] == names[0], "the largest share"
    set_control(browser, "#filter", "class 77")
    assert evaluate(browser, SHOWN) == 11
    browser.execute_script("location.hash = '#class-5'")
    wait_for_frame(browser)
    assert evaluate(browser, "document.activeElement.textContent") == names[5]
