"""Write the page of `camcli compare`: a table with both maps of each result side by side.

The results that disagree most come first. The page holds its pictures, as many as its size limit
allows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element

from camcli.images.store import AnyPath
from camcli.report.compare_pictures import Painter, Pictures, photo_of
from camcli.report.compare_rows import NUMBERS, result_row
from camcli.report.markup import element, page
from camcli.report.originals import MAX_SIDE, thumbnail_side
from camcli.report.page import style_of
from camcli.runs.manifest import Row
from camcli.runs.originals import Search
from camcli.snapshots import agreement_tables as tables
from camcli.snapshots.networks import Contrast

MEGABYTE = 1_000_000
LEAST_SIDE = 192
"""The shortest longer side of a picture, in pixels."""
_BYTES_PER_ROW = 14_000
"""The size of a result in the page with two pictures of LEAST_SIDE."""
_MARKUP = 1500
"""The size of a result in the page without its pictures."""
_HASH = 19
"""The characters of a hash that the page shows."""
_SHOW = (
    ("all", "all results"),
    ("differ", "other class predicted"),
    ("a", "only A right"),
    ("b", "only B right"),
    ("neither", "neither right"),
    ("explained", "other class explained"),
)
_SORT = (
    ("number", "disagreement"),
    ("correlation", "correlation, lowest first"),
    ("shift", "shift, largest first"),
    ("name", "image"),
)


@dataclass(frozen=True)
class Compared:
    """Everything that a page shows of two output folders, without its pictures.

    `runs` are the records of both runs, `record` is that of their agreement, `most` are the results
    to show, and `notes` are lines on what to read with care.
    """

    folders: tuple[AnyPath, AnyPath]
    runs: tuple[Row, Row]
    record: dict[str, Any]
    most: Sequence[Contrast]
    notes: Sequence[str] = ()

    def painter(self, images: Sequence[AnyPath], size: int) -> Painter:
        """Return what draws the pictures of a page of `size` MB.

        `images` are folders to search for photos first.
        """
        a, b = self.runs
        budget = size * MEGABYTE - _MARKUP * len(self.most)
        side = max(LEAST_SIDE, min(MAX_SIDE, thumbnail_side(2 * len(self.most), budget)))
        searches = self._search(0, images), self._search(1, images)
        return Painter(self.folders, searches, (style_of(a), style_of(b)), side)

    def _search(self, side: int, images: Sequence[AnyPath]) -> Search:
        """Return the search for the photos of A (0) or of B (1)."""
        photos = dict.fromkeys(photo_of(one.rows[side]) for one in self.most if one.rows)
        return Search.of(self.folders[side], self.runs[side], images).narrowed([*photos])


def most_results(size: int) -> int:
    """Return the number of results that a page of `size` MB can show."""
    return size * MEGABYTE // _BYTES_PER_ROW


def compare_page(
    compared: Compared, pictures: Iterator[Pictures], size: int
) -> tuple[bytes, list[str]]:
    """Return the page as HTML of at most about `size` MB, and notes on what it does not show.

    `pictures` are those of each result.
    """
    rows = list[Element]()
    without_photo, left = 0, size * MEGABYTE
    for number, (one, drawn) in enumerate(zip(compared.most, pictures, strict=False)):
        left -= _MARKUP + sum(len(made.data) * 4 // 3 for made in (drawn.a, drawn.b) if made)
        if rows and left < 0:
            break
        rows.append(result_row(number, one, drawn))
        without_photo += not drawn.over_photo
    notes = [*_page_notes(compared.record["results"]["both"], rows, without_photo)]
    title = " and ".join(map(_network, compared.runs, compared.folders))
    body = element(
        "body",
        element("header", element("h1", title), *_runs(compared), class_="title"),
        element(
            "main",
            *_summary(compared.record, [*compared.notes, *notes]),
            _controls(compared),
            _table(compared, rows),
        ),
    )
    return page(title, body, "page.css compare.css", "compare.js"), notes


def _page_notes(results: int, rows: Sequence[Element], without_photo: int) -> Iterator[str]:
    if len(rows) < results:
        yield (
            f"the page shows the {len(rows)} results that disagree most, of {results}: a larger "
            f"--size shows more"
        )
    if without_photo:
        yield (
            f"photos not found in --images or near the folders for {without_photo} of {len(rows)} "
            f"results: their maps are shown alone"
        )


def _network(run: Row, folder: AnyPath) -> str:
    return f"{run.get('model') or 'unknown network'} ({folder.name or folder})"


def _runs(compared: Compared) -> Iterator[Element]:
    """Yield a table of the settings that differ between both runs, and a line with the others."""
    a, b = (
        {name: _setting(name, value) for name, value in compared.record["runs"][key].items()}
        for key in "ab"
    )
    other = [name for name in a if name in ("model", "weights") or a[name] != b[name]]
    body = (
        element(
            "tr",
            element("th", name, scope="row"),
            element("td", a[name]),
            element("td", b[name]),
        )
        for name in other
    )
    table = element("table", _head(("", *_names(compared))), element("tbody", *body), class_="runs")
    yield element("div", table, class_="scroll", tabindex="0")
    same = (f"{name} {a[name]}" for name in a if name not in other and a[name] != "-")
    yield element("p", f"the same in both: {'; '.join(same)}", class_="muted")


def _setting(name: str, value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value or "-")
    return text[:_HASH] if name == "weights_hash" else text


def _names(compared: Compared) -> list[str]:
    """Return the names of both folders for the heads of tables."""
    return [f"{n}: {one.name or one}" for n, one in zip("AB", compared.folders, strict=True)]


def _head(names: Sequence[str]) -> Element:
    cells = (element("th", name, scope="col") for name in names)
    return element("thead", element("tr", *cells))


def _summary(record: dict[str, Any], notes: Sequence[str]) -> Iterator[Element]:
    """Yield the lines of the summary, the table of the methods, and the notes."""
    yield element("ul", *(element("li", line) for line in tables.summary_lines(record)))
    lines = (
        element("tr", *(element("td", cell) for cell in cells))
        for cells in tables.method_cells(record)
    )
    table = element("table", _head(tables.METHOD_HEADER), element("tbody", *lines))
    yield element("div", table, class_="scroll", tabindex="0")
    yield element("ul", *(element("li", note, class_="notice") for note in notes))
    yield element(
        "p",
        "Correlation and shift are of both maps on one grid over the part of the image that both "
        "networks saw. Each map is drawn up to its own maximum.",
        class_="muted",
    )


def _controls(compared: Compared) -> Element:
    known = compared.record["right"]
    shown = [one for one in _SHOW if known or one[0] not in ("a", "b", "neither")]
    return element(
        "form",
        _select("show", "show", shown),
        _select("sort", "sort by", _SORT),
        element("label", "search", element("input", type="search", id="search"), class_="wide"),
        element("p", element("output", id="count"), class_="count"),
        id="controls",
    )


def _select(name: str, label: str, options: Sequence[tuple[str, str]]) -> Element:
    choices = (element("option", text, value=value) for value, text in options)
    return element("label", label, element("select", *choices, id=name))


def _table(compared: Compared, rows: Sequence[Element]) -> Element:
    head = _head(("image", *_names(compared), *NUMBERS))
    return element("table", head, element("tbody", *rows, id="results"), class_="results")
