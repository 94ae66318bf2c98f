"""The page of an audit: what it shows, from any record, and of any name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from camcli.report import examples
from camcli.report.audit_page import SECTIONS, audit_page
from camcli.report.markup import link
from tests.support.audit_record import fake_record, fake_rows
from tests.support.files import make_photo
from tests.support.report import HOSTILE_CLASS, HOSTILE_NAME, ODD_NAME, PageParser

CLASSES = ("cat", HOSTILE_CLASS, "a\x1b[31m\0\u202e\udcff\ud800")
Show = Callable[..., PageParser]


@pytest.fixture
def show(folder: Path, tmp_path: Path) -> Show:
    """Returns a function that reads the page of a made-up record."""

    def read(record: dict[str, Any] | None = None, size: int = 8, **more: Any) -> PageParser:
        rows = fake_rows(folder, CLASSES)
        record = fake_record(rows, CLASSES) | more if record is None else record
        page = audit_page(record, rows, folder, tmp_path / "out" / "audit.html", [], size)
        assert page == audit_page(record, rows, folder, tmp_path / "out" / "audit.html", [], size)
        return PageParser(page.decode())

    return read


@pytest.fixture
def record(folder: Path) -> dict[str, Any]:
    return fake_record(fake_rows(folder, CLASSES), CLASSES)


def examples_of(page: PageParser) -> list[dict[str, str | None]]:
    return [
        a for tag, a in page.elements if tag == "img" and (a["alt"] or "").startswith("heat of")
    ]


def test_names_are_text(show: Show) -> None:
    page = show()
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert not [tag for tag, found in page.elements if {"onerror", "style"} & set(found)]
    assert all(name in page.text for name in (HOSTILE_CLASS, HOSTILE_NAME, ODD_NAME))
    assert r"a\x1b[31m\x00\u202e\xff\ud800" in page.text
    assert re.sub(r"\n", "", page.text).isprintable()


def test_sections_in_order_and_their_links(show: Show) -> None:
    page = show()
    named = [found["id"] for _, found in page.elements if found.get("id") in SECTIONS]
    assert named == [*SECTIONS]
    links = {found.get("href") or "" for tag, found in page.elements if tag == "a"}
    ids = {found.get("id") for _, found in page.elements}
    targets = {link[1:] for link in links if link.startswith("#")}
    assert targets == {*SECTIONS, "class-0", "class-1", "class-2"}
    assert targets <= ids


def test_the_header(show: Show) -> None:
    page = show()
    assert page.texts["h1"] == ["Audit of squeezenet1_0: gradcam"]
    for text in ("120 images", "% right", "weights imagenet.pth", "without a true class: 3"):
        assert text in page.text


def test_a_suspect(show: Show, record: dict[str, Any]) -> None:
    page = show(record)
    first = record["suspects"][0]
    assert "Look at these first: 2" in page.text
    assert "group 1: top right corner" in page.text
    assert "confirmed by running the network" in page.text
    assert "not tested with the network" in page.text
    for test in first["tests"]:
        assert test["says"] in page.text
    assert "0.71, control 0.06, difference 0.65 [0.53, 0.76], 24 images" in page.text
    pictures = 1 + len(first["examples"])
    paths = [tag for tag, _ in page.elements].count("path")
    assert paths == 2 * pictures, "a line and its casing, on the mean map and on the examples"


def test_the_region_is_outlined_where_the_network_saw_it(show: Show, tmp_path: Path) -> None:
    def views(page: PageParser) -> set[str | None]:
        return {found["viewbox"] for tag, found in page.elements if "viewbox" in found}

    page = show()
    assert views(page) == {"0 0 20 20", "0 0 90 60"}
    moved = {found["transform"] for tag, found in page.elements if tag == "path"}
    assert moved == {"translate(0 0) scale(1 1)", "translate(15 0) scale(3 3)"}
    (tmp_path / "photos" / "plain.jpg").unlink()
    assert views(show()) == {"0 0 20 20", "15 0 60 60"}, "the heat alone is that of the crop"


def test_without_suspects(show: Show) -> None:
    page = show(suspects=[], candidates=[], confusions=[])
    assert "No suspects" in page.text
    assert "No class was taken for another one." in page.text
    assert "Found in the maps, not confirmed" not in page.text


def test_what_is_unknown_is_left_out_or_a_dash(show: Show, record: dict[str, Any]) -> None:
    del record["model"], record["weights"]
    nothing = dict.fromkeys(("accuracy", "top5", "confidence_right", "confidence_wrong", "groups"))
    for one in (record["overall"], *record["classes"]):
        one |= nothing | {"maps": {"right": None, "wrong": None}}
        one["shares"] = dict.fromkeys(one["shares"])
    record |= {"layer": None, "notes": [], "left_out": {}}
    for one in record["suspects"]:
        one |= {"tests": [one["tests"][0] | {"low": None, "high": None}], "examples": []}
    page = show(record)
    assert page.texts["h1"] == ["Audit of heat: gradcam"]
    assert page.text.count("Not divided into groups") == 3
    assert "difference 0.65, " in page.text


def test_columns_of_the_shares_in_the_record(show: Show, record: dict[str, Any]) -> None:
    def columns(page: PageParser) -> list[str | None]:
        return [found["title"] for tag, found in page.elements if tag == "th" and "title" in found]

    without = columns(show(record))
    for one in (record["overall"], *record["classes"]):
        one["shares"]["inside"] = {"mean": 0.3, "low": 0.2, "high": 0.4, "images": 40}
    assert columns(show(record)) == [*without, "Share of heat inside the annotated objects"]


def test_pictures_and_links_of_examples(show: Show, folder: Path, tmp_path: Path) -> None:
    page = show()
    pictures = examples_of(page)
    assert len(pictures) > 3
    assert all((one["src"] or "").startswith("data:image/webp;base64,") for one in pictures)
    links = {found.get("href") for tag, found in page.elements if tag == "a"}
    for name in (HOSTILE_NAME, ODD_NAME):
        assert link(tmp_path / "photos" / name, folder / "audit.html") in links
    assert "heat alone" not in page.text


def test_without_the_original_the_heat_is_alone(show: Show, tmp_path: Path) -> None:
    make_photo(tmp_path / "photos" / "plain.jpg", quality=20)
    page = show()
    assert "heat alone: the original was not found" in page.text
    assert "heat of plain.jpg" in [one["alt"] for one in examples_of(page)]


def test_a_crop_below_a_pixel_of_the_picture(folder: Path, tmp_path: Path) -> None:
    make_photo(tmp_path / "photos" / "plain.jpg", width=3000, height=8)
    rows = fake_rows(folder, CLASSES)
    rows["plain.jpg"]["crop"] = [2995, 0, 3000, 8]
    record, photos = fake_record(rows, CLASSES), [tmp_path / "photos"]
    page = PageParser(audit_page(record, rows, folder, tmp_path / "a.html", photos, 8).decode())
    assert "not the explained file" in page.text
    assert "heat of plain.jpg" in [one["alt"] for one in examples_of(page)]


def test_without_a_map_the_original_is_alone(show: Show, folder: Path) -> None:
    (folder / "plain.gradcam.npy").unlink()
    (folder / f"{HOSTILE_NAME.removesuffix('.jpg')}.gradcam.npy").write_bytes(b"damaged")
    page = show()
    assert "no heat: the map or its place is missing" in page.text
    assert "no heat: expected a .npy file" in page.text
    assert {"heat of plain.jpg", f"heat of {HOSTILE_NAME}"} <= {a["alt"] for a in examples_of(page)}


def test_a_full_page_shows_suspects_first(
    show: Show, record: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = record["suspects"][0]["examples"][0]
    lists = [one for kind in ("suspects", "candidates", "confusions") for one in record[kind]]
    lists += [one for of in record["classes"] if of["groups"] for one in of["groups"]["groups"]]
    places = sum(one["examples"].count(first) for one in lists)
    monkeypatch.setattr(examples, "MOST_PICTURES", places)
    page = show(record)
    assert [one["alt"] for one in examples_of(page)] == [f"heat of {first}"] * places
    assert "examples without a picture, for lack of room: 2" in page.text
    assert "ithout pictures here:" in page.text


def test_many_pictures_are_small_before_they_are_left_out(
    show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides = []
    read = examples.read_original

    def spy(search: Any, side: int, *more: Any) -> Any:
        sides.append(side)
        return read(search, side, *more)

    monkeypatch.setattr(examples, "read_original", spy)
    show()
    assert set(sides) == {examples.MOST_SIDE}
    monkeypatch.setattr(examples, "thumbnail_side", lambda images, budget: 150)
    show()
    assert set(sides) == {examples.MOST_SIDE, 150}


def test_a_thousand_classes(folder: Path, tmp_path: Path) -> None:
    classes = [f"class number {i}" for i in range(1000)]
    rows = fake_rows(folder, classes)
    page = audit_page(fake_record(rows, classes), rows, folder, tmp_path / "audit.html", [], 1)
    assert len(page) < 10_000_000
    found = PageParser(page.decode())
    assert sum((a.get("id") or "").startswith("class-") for _, a in found.elements) == 2 * 1000
    assert "94 more pairs" in found.text


def test_the_names_of_all_examples(record: dict[str, Any], folder: Path) -> None:
    assert examples.example_names(record) == set(fake_rows(folder, CLASSES))


def test_the_record_is_json(record: dict[str, Any]) -> None:
    assert json.loads(json.dumps(record)) == record


def test_elements_are_closed(show: Show, folder: Path, tmp_path: Path) -> None:
    """Every element ends where it should: a browser would mend it otherwise."""
    rows = fake_rows(folder, CLASSES)
    page = audit_page(fake_record(rows, CLASSES), rows, folder, tmp_path / "a.html", [], 8)

    class Balance(HTMLParser):
        open: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "link", "img", "input"):
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    parser = Balance()
    parser.feed(page.decode())
    assert parser.open == []
