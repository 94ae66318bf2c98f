"""A result of two networks as a line of a table: both maps, both classes, and the measures."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from camcli.report.compare_pictures import Picture, Pictures
from camcli.report.markup import element, picture_url
from camcli.runs.manifest import Row
from camcli.snapshots import agreement_tables as tables
from camcli.snapshots import predictions
from camcli.snapshots.networks import Contrast
from camcli.snapshots.predictions import Label

NUMBERS = ("right", "correlation", "shift")
"""The columns after those of the image, A and B."""


def result_row(number: int, one: Contrast, drawn: Pictures) -> Element:
    """Return the line of a result. Its attributes are what the script filters and sorts by."""
    rows, row = one.rows, one.row
    assert rows is not None
    words = [row["image"], row["method"], row["target"], *(x.name for x in one.predicted if x)]
    return element(
        "tr",
        _image_cell(one, drawn),
        *(
            _side_cell(name, row, side, label, picture)
            for name, side, label, picture in zip(
                "AB", rows, one.predicted, (drawn.a, drawn.b), strict=True
            )
        ),
        *_number_cells(one),
        data_number=str(number),
        data_words=" ".join(filter(None, words)).lower(),
        data_name=row["image"],
        data_correlation=None if one.correlation is None else f"{one.correlation:.6f}",
        data_shift=None if one.shift is None else f"{one.shift:.6f}",
        data_show=" ".join(_kinds(one)),
    )


def _kinds(one: Contrast) -> Iterator[str]:
    """Yield the filters that show a result."""
    if one.same_class is False:
        yield "differ"
    if one.right in ("a", "b", "neither"):
        yield one.right
    if one.same_explained is False:
        yield "explained"


def _image_cell(one: Contrast, drawn: Pictures) -> Element:
    row = one.row
    true_name = tables.true_name(one)
    note = drawn.note or (None if drawn.over_photo else "photo not found")
    notes = tables.note_of(one), note
    return element(
        "th",
        element("bdi", row["image"]),
        element("span", f"{row['method']}, {row['target']}", class_="muted"),
        element("span", f"true class: {true_name}") if true_name else None,
        *(element("span", note, class_="notice") for note in notes if note),
        scope="row",
    )


def _side_cell(
    name: str, row: Row, side: Row, label: Label | None, picture: Picture | None
) -> Element:
    """Return the map of a network, with its class."""
    explained = predictions.explained(side)
    of = f" for {explained.text}" if explained else ""
    alt = f"{name}: {row['method']}{of}, {row['image']}"
    shown = (
        element(
            "img",
            src=picture_url(picture.data, "webp"),
            alt=alt,
            loading="lazy",
            width=str(picture.size[0]),
            height=str(picture.size[1]),
        )
        if picture
        else element("p", "no map to show", class_="no-picture")
    )
    verdict = {True: "right", False: "wrong", None: None}[side.get("correct")]
    return element(
        "td",
        shown,
        element(
            "p",
            element("b", f"{name} "),
            element("span", str(label) if label else "class unknown"),
            " ",
            element("span", verdict, class_=f"badge {verdict}") if verdict else None,
        ),
        element("p", f"explained: {explained}", class_="muted")
        if explained and predictions.same(label, explained) is False
        else None,
        class_="map-cell",
    )


def _number_cells(one: Contrast) -> Iterator[Element]:
    right = tables.right_text(one)
    numbers = tables.number(one.correlation, 3), tables.number(one.shift, 2)
    for name, text in zip(NUMBERS, (right, *numbers), strict=True):
        yield element("td", text, class_="number", data_name=name)
