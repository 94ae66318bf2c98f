"""Nothing is requested over the network, and names cannot run scripts."""

from __future__ import annotations

import json

from tests.support.browser import (
    ESCAPE,
    NAME_IN_VIEWER,
    VIEWER_IS_OPEN,
    Browser,
    card_names,
    evaluate,
    open_image,
    pictures_load,
    press,
    wait_for,
)
from tests.support.report import HOSTILE_CLASS, HOSTILE_NAME, ODD_NAME


def test_only_files_of_the_folder_are_requested(page: Browser, report_url: str) -> None:
    assert card_names(page) == ["broken.jpg", ODD_NAME, HOSTILE_NAME, "plain.jpg"]
    assert pictures_load(page)
    open_image(page, HOSTILE_NAME)
    assert pictures_load(page)
    folder = report_url.removesuffix("out/report.html")
    for entry in page.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            url = message["params"]["request"]["url"]
            assert url.startswith((folder, "data:", "about:")), url


def test_names_and_classes_with_markup_are_shown_as_text(page: Browser) -> None:
    open_image(page, HOSTILE_NAME)
    assert evaluate(page, NAME_IN_VIEWER) == HOSTILE_NAME
    assert evaluate(page, "document.querySelector('#figures a').getAttribute('href')") == (
        "../photos/%3Cimg%20src%3Dx%20onerror%3Dwindow.hit%3D1%3E.jpg"
    )
    press(page, ESCAPE)
    wait_for(page, f"!{VIEWER_IS_OPEN}")
    open_image(page, "plain.jpg")
    assert HOSTILE_CLASS in evaluate(page, "document.getElementById('figures').textContent")
    assert evaluate(page, "document.querySelectorAll('script').length") == 2
    assert evaluate(page, "document.querySelectorAll('[onerror]').length") == 0
    assert evaluate(page, "window.hit") is None


def test_the_policy_blocks_injected_markup(page: Browser) -> None:
    refused = page.execute_async_script(
        "const done = arguments[0], refused = [];"
        "document.addEventListener('securitypolicyviolation', event => {"
        "  refused.push(event.effectiveDirective); if (refused.length === 4) done(refused.sort());"
        "});"
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hit=1\">'"
        "  + '<img src=\"http://127.0.0.1:9/x.png\"><style>body{display:none}</style>');"
        "fetch('http://127.0.0.1:9/').catch(() => 0);"
    )
    assert refused == ["connect-src", "img-src", "script-src-attr", "style-src-elem"]
    assert page.get_log("browser"), "Chromium reports the violations, and a picture that it misses"
    assert evaluate(page, "window.hit") is None
