"""Pages that are written as they are shown: texts are never markup, and never controls."""

from __future__ import annotations

import base64
import hashlib
from xml.etree.ElementTree import tostring

import pytest

from camcli.report.markup import element, page
from tests.support.report import HOSTILE_CLASS, HOSTILE_NAME, PageParser


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (HOSTILE_CLASS, HOSTILE_CLASS),
        (HOSTILE_NAME, HOSTILE_NAME),
        ('" onclick="window.hit=1', '" onclick="window.hit=1'),
        ("é 猫", "é 猫"),
        ("a\0b\x1b[31m\nc\x85", r"a\x00b\x1b[31m\nc\x85"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\udcff\ud800", r"\xff\ud800"),
    ],
)
def test_texts_and_attributes_are_text(text: str, shown: str) -> None:
    inner = element("p", element("b", text), text, title=text, data_name=text)
    found = PageParser(page(text, element("body", inner), "page.css", "audit.js").decode())
    assert found.text.count(shown) == 3
    assert found.texts["title"] == [shown]
    assert ("p", {"title": shown, "data-name": shown}) in found.elements
    assert [tag for tag, _ in found.elements].count("script") == 1


def test_elements_and_texts_in_order() -> None:
    made = element("p", "a", element("b", "c"), "d", None, "e", element("i"), class_="x", for_=None)
    assert tostring(made, "unicode", "html") == '<p class="x">a<b>c</b>de<i></i></p>'


def test_the_policy_allows_only_the_pages_own_script_and_style() -> None:
    found = PageParser(page("t", element("body"), "page.css audit.css", "audit.js").decode())
    policy = next(a["content"] for _, a in found.elements if "http-equiv" in a)
    for tag in ("script", "style"):
        (text,) = found.texts[tag]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in (policy or "")
