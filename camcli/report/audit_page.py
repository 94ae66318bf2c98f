"""The page of `camcli audit`: suspects first, then confusions, then every class.

It is written as it is shown; its script sorts and opens the classes. Read `mean_maps` and
`estimates` (small drawings), `examples` (pictures of images) and `class_table` first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element

from camcli.images.store import AnyPath
from camcli.report.class_table import CONFIDENCES, Record, class_table
from camcli.report.estimates import difference, percent, range_bar
from camcli.report.examples import Examples, read_examples
from camcli.report.markup import element, page
from camcli.report.mean_maps import legend, outlined_map
from camcli.runs.manifest import Row

STYLES, SCRIPT = "page.css audit.css", "audit.js"
SECTIONS = {
    "suspects": "Suspects",
    "confusions": "Confused classes",
    "table": "Classes",
    "reading": "How to read this page",
}
"""The names of the page's sections, and their headings."""
_FIRST = 6
"""The pairs of classes that are shown without a click, and the classes without a search."""


def audit_page(
    record: Mapping[str, Any],
    rows: Mapping[str, Row],
    folder: AnyPath,
    file: AnyPath,
    images: Sequence[AnyPath],
    size: int,
) -> bytes:
    """Return the page of an audit.

    `record` is the content of audit.json, and `rows` are the manifest rows of its example images by
    name. `folder` is the output folder with the maps, and `file` where the page will be written.
    `images` are folders to search for originals. `size` limits the pictures of examples, in MB. The
    mean maps come on top, with half a kB each.
    """
    examples = read_examples(record, rows, folder, file, images, size)
    links = {one["class"]: f"#class-{place}" for place, one in enumerate(record["classes"])}
    title = f"Audit of {record.get('model') or record['folder']}: {record['method']}"
    main = element(
        "main",
        *_suspects(record, examples, links),
        *_candidates(record, examples, links),
        *_confusions(record, examples, links),
        *_classes(record, examples),
        _reading(),
    )
    return page(title, element("body", _header(record, title, examples), main), STYLES, SCRIPT)


def _header(record: Record, title: str, examples: Examples) -> Element:
    overall, accuracy = record["overall"], record["overall"]["accuracy"]
    right = f", {accuracy['mean']:.1%} right" if accuracy else ""
    facts = [
        f"weights {record['weights']}" if record.get("weights") else "",
        f"target {record['target']}",
        f"layer {record['layer']}" if record["layer"] else "",
        *(f"{text} {percent(overall[name])}" for name, text in CONFIDENCES if overall[name]),
    ]
    notes = [*_left_out(record), *record["notes"]]
    if examples.left_out:
        notes.append(f"examples without a picture, for lack of room: {examples.left_out:,}")
    return element(
        "header",
        element("h1", title),
        element("p", element("strong", f"{_images(record['images'])}{right}"), class_="lead"),
        element("p", " · ".join(filter(None, facts)), class_="muted"),
        element("ul", *(element("li", note, class_="notice") for note in notes)) if notes else None,
        element("nav", *(element("a", text, href=f"#{name}") for name, text in SECTIONS.items())),
        element("noscript", "Sorting and opening classes need JavaScript."),
    )


def _left_out(record: Record) -> Iterator[str]:
    reasons = [f"{reason}: {count:,}" for reason, count in record["left_out"].items() if count]
    if reasons:
        yield f"results left out: {', '.join(reasons)}"


def _images(count: int) -> str:
    return f"{count:,} {'image' if count == 1 else 'images'}"


def _suspects(record: Record, examples: Examples, links: Mapping[str, str]) -> Iterator[Element]:
    found = record["suspects"]
    heading = f"Look at these first: {len(found)}" if found else "No suspects"
    yield element("h2", heading, id="suspects")
    if not found:
        yield element(
            "p",
            "No class stands out with heat at a fixed place or outside its objects. Maps do not "
            "show a shortcut that all classes share, or one that is elsewhere in every image.",
        )
    yield legend()
    yield from (_suspect(one, examples, links) for one in found)


def _candidates(record: Record, examples: Examples, links: Mapping[str, str]) -> Iterator[Element]:
    if found := record["candidates"]:
        yield element(
            "details",
            element("summary", f"Found in the maps, not confirmed: {len(found)}"),
            element("p", "Maps alone do not show that the network needs these places."),
            *(_suspect(one, examples, links) for one in found),
        )


def _suspect(one: Record, examples: Examples, links: Mapping[str, str]) -> Element:
    """Return a suspect: its class and place, why, the tests and examples."""
    group = "" if one["group"] is None else f", group {one['group']}"
    badge, kind = _CONFIRMED[one["confirmed"]]
    facts = f" {_images(one['images'])} · {', '.join(one['reasons'])}"
    return element(
        "article",
        outlined_map(one["map"], one["images"], one["region"]),
        element(
            "div",
            element("h3", _link(one["class"], links), f"{group}: {one['place']}"),
            element("p", element("span", badge, class_=f"badge {kind}"), facts),
            *map(_test, one["tests"]),
            examples.shown(one["examples"], one["region"]),
        ),
        class_="finding",
    )


_CONFIRMED: Mapping[bool | None, tuple[str, str]] = {
    True: ("confirmed by running the network", "error"),
    False: ("not confirmed by running the network", "muted"),
    None: ("not tested with the network", "unsure"),
}


def _test(test: Record) -> Element:
    """Return a test in words, with its numbers and a small bar."""
    numbers = (
        f"{test['value']:.2f}, control {test['control']:.2f}, difference {difference(test)}, "
        f"{_images(test['images'])}"
    )
    return element(
        "div",
        element(
            "p", element("strong", f"{_PASSED[test['passed']]} {test['name']}: "), test["says"]
        ),
        element("div", range_bar(test), element("span", numbers, class_="muted"), class_="numbers"),
        class_="test passed" if test["passed"] else "test",
    )


_PASSED = {True: "✓", False: "✗"}


def _link(name: str, links: Mapping[str, str]) -> Element:
    label = element("bdi", name)
    return element("a", label, href=links[name]) if name in links else label


def _confusions(record: Record, examples: Examples, links: Mapping[str, str]) -> Iterator[Element]:
    pairs = [_pair(one, examples, links) for one in record["confusions"]]
    yield element("h2", SECTIONS["confusions"], id="confusions")
    if not pairs:
        yield element("p", "No class was taken for another one.")
    yield element("div", *pairs[:_FIRST], class_="pairs")
    if more := pairs[_FIRST:]:
        yield element(
            "details",
            element("summary", f"{len(more):,} more pairs"),
            element("div", *more, class_="pairs"),
        )


def _pair(one: Record, examples: Examples, links: Mapping[str, str]) -> Element:
    sure = one["confidence"]
    facts = [f"{_images(one['images'])}, {one['share']:.0%} of the true class"]
    facts += [] if sure is None else [f"mean confidence {sure:.0%}"]
    return element(
        "article",
        element("h3", _link(one["true"], links), " taken for ", _link(one["predicted"], links)),
        element("p", ", ".join(facts), class_="muted"),
        examples.shown(one["examples"]),
        class_="pair",
    )


def _classes(record: Record, examples: Examples) -> Iterator[Element]:
    yield element("h2", f"{SECTIONS['table']}: {len(record['classes']):,}", id="table")
    yield element(
        "p",
        element(
            "label",
            "name ",
            element("input", id="filter", type="search", placeholder="part of a class's name"),
        ),
        " ",
        element("output", id="count", class_="muted"),
        hidden=None if len(record["classes"]) > _FIRST else "",
    )
    yield class_table(record, examples)


def _reading() -> Element:
    texts = (
        "Every map is placed on the part of the image that the network received, and its heat is "
        "divided by its sum. A mean map is the mean over images. All mean maps have the same "
        "colours. The heat over an example is scaled to its own maximum. White outlines are the "
        "places of suspects.",
        "Border, corners and centre are shares of heat: in the outer tenth along each side, in the "
        "four corners of a quarter of the side each, and in the middle half. The entropy is 1 for "
        "heat that is spread evenly, and 0 for heat in one place.",
        "Numbers in brackets are 95 % intervals over images.",
        "A group holds images of one class whose maps are alike. Its separation is the distance "
        "from the class's other images, in standard deviations. The stability is 1 if every seed "
        "gives the same groups, and 0 if they agree as by chance.",
        "A test compares a share of images with that of a control, where no shortcut is expected. "
        "✓ speaks for a shortcut, and ✗ does not. In the bar, from 0 to 1, the dot is the share "
        "and the stroke the control. The line is the interval of the difference. If it crosses the "
        "stroke, there may be no difference.",
    )
    return element(
        "section",
        element("h2", SECTIONS["reading"]),
        *(element("p", text) for text in texts),
        id="reading",
    )
