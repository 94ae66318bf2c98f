"""Example images of an audit: the heat over a thumbnail of each original, with a caption."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, zip_longest
from typing import Any
from xml.etree.ElementTree import Element

from camcli.errors import CamcliError
from camcli.images.store import AnyPath, RemotePath
from camcli.render.style import Style
from camcli.report.drawn import drawn_alone, drawn_over, map_of
from camcli.report.folder import SavedResult, files_in, saved_result
from camcli.report.markup import element, link, picture_url
from camcli.report.mean_maps import Grid, outline
from camcli.report.originals import (
    Original,
    input_digest,
    most_thumbnails,
    read_original,
    thumbnail_side,
    webp,
)
from camcli.report.page import BROWSER_FORMATS
from camcli.runs.ahead import threads_for
from camcli.runs.grids import crop_of
from camcli.runs.manifest import Row, read_run
from camcli.runs.originals import Search

LEAST_SIDE, MOST_SIDE = 128, 192
"""The range of the longer side of a picture, in pixels."""
MOST_PICTURES = 3000
"""The most pictures of a page. They take some ten seconds to read."""


@dataclass(frozen=True)
class Examples:
    """The rows of example images by name, and the pictures of those that the page has room for.

    `left_out` counts the images without a picture for lack of room.
    """

    rows: Mapping[str, Row]
    pictures: Mapping[str, Original]
    file: AnyPath
    left_out: int

    def shown(self, names: Sequence[str], region: Grid | None = None) -> Element | None:
        """Return the figures of images, and the names of those without a picture.

        `region` is outlined in the pictures.
        """
        if not names:
            return None
        figures = [self._figure(name, region) for name in names if name in self.pictures]
        others = [name for name in names if name not in self.pictures]
        more = [element("bdi", name) for name in others]
        text = "Without pictures here:" if figures else "Examples, without pictures here:"
        return element(
            "div",
            element("div", *figures, class_="examples") if figures else None,
            element("p", text, *_separated(more), class_="muted names") if more else None,
        )

    def _figure(self, name: str, region: Grid | None) -> Element:
        original, row = self.pictures[name], self.rows.get(name, {})
        label: Element = element("bdi", name)
        file = original.file
        if file and file.suffix.lower() in BROWSER_FORMATS and (href := link(file, self.file)):
            label = element("a", label, href=href)
        url = picture_url(original.thumbnail, "webp") if original.thumbnail else None
        image = element("img", src=url, alt=f"heat of {name}", loading="lazy")
        return element(
            "figure",
            element(
                "div",
                image if url else None,
                _outline(region, row, original) if url and region else None,
                class_="example-picture outlined",
            ),
            element("figcaption", label, *_answer(row), *_note(original.note)),
            class_="example",
        )


def read_examples(
    record: Mapping[str, Any],
    rows: Mapping[str, Row],
    folder: AnyPath,
    file: AnyPath,
    images: Sequence[AnyPath],
    size: int,
) -> Examples:
    """Read the pictures of the examples in a record, of at most `size` MB together.

    Suspects come first. Then every list gets its first picture before any gets its second. The
    pictures become smaller before any is left out. `rows`, `folder`, `file` and `images` are those
    of `audit_page`.
    """
    budget, (first, others) = size * 1_000_000, _lists(record)
    counts = Counter(chain.from_iterable((*first, *others)))
    limit = min(MOST_PICTURES, most_thumbnails(budget, LEAST_SIDE))
    names = [*_within(limit, counts, chain(_in_turn(first), _in_turn(others)))]
    side = min(MOST_SIDE, thumbnail_side(sum(counts[name] for name in names), budget))
    # The audit has read the maps of a store.
    exists = (lambda _: True) if isinstance(folder, RemotePath) else files_in(folder)
    results = [saved_result(folder, rows[name], exists) for name in names if name in rows]
    known = [(one.image, input_digest([one])) for one in results]
    search = Search.of(folder, read_run(folder)[0], images).narrowed(known)
    with ThreadPoolExecutor(max(os.cpu_count() or 1, threads_for([folder, *images]))) as executor:
        originals = executor.map(partial(_original, search, side), results)
    return Examples(rows, {one.name: one for one in originals}, file, len(counts) - len(names))


def example_names(record: Mapping[str, Any]) -> set[str]:
    """Return the names of the images whose rows the page needs."""
    return {name for lists in _lists(record) for names in lists for name in names}


def _lists(record: Mapping[str, Any]) -> tuple[list[list[str]], list[list[str]]]:
    """Return the lists of examples of suspects, and those of everything else."""
    found = (one["groups"]["groups"] for one in record["classes"] if one["groups"])
    others = chain(record["candidates"], record["confusions"], *found)
    return [one["examples"] for one in record["suspects"]], [one["examples"] for one in others]


def _in_turn(lists: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the first name of every list, then the second of every list, and so on."""
    return (name for names in zip_longest(*lists) for name in names if name is not None)


def _within(limit: int, counts: Counter[str], names: Iterator[str]) -> Iterator[str]:
    """Yield each name once until `limit` places are taken. A name takes a place wherever it is."""
    for name in dict.fromkeys(names):
        limit -= counts[name]
        if limit < 0:
            return
        yield name


def _original(search: Search, side: int, result: SavedResult) -> Original:
    """Return the original of a result with the heat over it, or the heat alone without a size."""
    read = partial(read_original, search, side, result.image, [result])
    try:
        values = map_of(result)
    except CamcliError as error:
        return _with_note(read(), f"no heat: {error}")
    found = read(lambda photo, size: drawn_over(result, values, photo, size, Style()))
    if found.thumbnail:
        return found
    heat = drawn_alone(result, values, side, Style())
    return _with_note(
        replace(found, size=None, thumbnail=webp(heat)), "heat alone: the original was not found"
    )


def _with_note(original: Original, note: str) -> Original:
    return replace(original, note="; ".join(filter(None, [note, original.note])))


def _outline(region: Grid, row: Row, original: Original) -> Element | None:
    """Return the outline of a region of the crop, over the picture of the original or the crop."""
    if (crop := crop_of(row)) is None:
        return None
    return outline(region, crop.seen, (0, 0, *original.size) if original.size else crop.box)


def _answer(row: Row) -> Iterator[Element]:
    """Yield the lines of a caption: the true class, and the network's with its confidence."""
    index, true = row.get("predicted_index"), row.get("true_name")
    named = row.get("predicted_name") or (None if index is None else f"class {index}")
    sure = row.get("confidence")
    confidence = "" if sure is None else f", {sure:.0%} sure"
    if row.get("correct"):
        yield element("span", "right: ", element("bdi", true or named), confidence, class_="right")
        return
    if named:
        kind = "wrong" if row.get("correct") is False else None
        yield element("span", "predicted: ", element("bdi", named), confidence, class_=kind)
    if true:
        yield element("span", "true: ", element("bdi", true))


def _note(note: str | None) -> Iterator[Element]:
    if note:
        yield element("span", note, class_="muted")


def _separated(names: Sequence[Element]) -> Iterator[Element | str]:
    for number, name in enumerate(names):
        yield " " if number == 0 else ", "
        yield name
