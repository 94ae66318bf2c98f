"""The HTML page: file names and class names are text and never markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib.resources import files
from pathlib import Path

import pytest

from camcli.report.markup import link
from camcli.report.page import SCRIPTS, script_json
from tests.support.command import Run
from tests.support.report import read_page


def test_names_are_never_markup(run: Run, folder: Path) -> None:
    run("report", folder, "--title", "</title><script>window.hit=1</script> {{data}}")
    page = read_page(folder)
    assert [tag for tag, _ in page.elements].count("script") == 2
    assert not [tag for tag, attributes in page.elements if {"onerror", "style"} & set(attributes)]
    assert page.texts["title"] == page.texts["h1"] == [page.data["title"]]
    assert page.data["title"].startswith("</title>")
    assert "<" not in page.json_text


def test_the_policy_allows_only_the_pages_own_script(run: Run, folder: Path) -> None:
    run("report", folder)
    page = read_page(folder)
    policy = next(a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a)
    assert policy is not None
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "'self' file: data:"
    _, script = page.texts["script"]
    (style,) = page.texts["style"]
    for rule, text in (("script-src", script), ("style-src", style)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_script_sets_text_and_no_html(name: str) -> None:
    source = (files("camcli.report") / name).read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", source)
    assert not re.search(r"https?:", source)


@pytest.mark.parametrize(
    "name", ["</script>", "<!--<script>", "&lt;", "\u2028", "\udcff", "\0", "é"]
)
def test_json_is_safe_in_a_script_element(name: str) -> None:
    text = script_json({name: [name]})
    assert json.loads(text) == {name: [name]}
    assert text.isascii()
    assert not set("<>&") & set(text)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("a b.png", "a%20b.png"),
        ("a#b?c%41.png", "a%23b%3Fc%2541.png"),
        ("javascript:alert(1).png", "javascript%3Aalert%281%29.png"),
        ("\udcff.png", "%FF.png"),
        ('"><script>.png', "%22%3E%3Cscript%3E.png"),
        ("../up/é.png", "../up/%C3%A9.png"),
    ],
)
def test_links_are_percent_encoded(name: str, url: str, tmp_path: Path) -> None:
    assert link(tmp_path / name, tmp_path / "report.html") == url
