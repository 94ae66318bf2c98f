"""The classes of an audit as a table to sort, each with the groups of its images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias
from xml.etree.ElementTree import Element

from camcli.report.estimates import NONE, decimal, number, percent
from camcli.report.examples import Examples
from camcli.report.markup import element
from camcli.report.mean_maps import mean_map

Record: TypeAlias = Mapping[str, Any]
SHARES = ("border", "corners", "centre", "entropy", "inside")
"""The columns of where the heat lies."""
_HELP = {
    "class": "The true class",
    "images": "Images of this class with a map",
    "accuracy": "Share of images whose best class is the true one",
    "border": "Share of heat in the outer tenth of each side",
    "corners": "Share of heat in the four corners",
    "centre": "Share of heat in the centre",
    "entropy": "How far the heat is spread: the higher, the wider",
    "inside": "Share of heat inside the annotated objects",
}


def class_table(record: Record, examples: Examples) -> Element:
    """Return the table of classes, the overall row first."""
    classes: Sequence[Record] = record["classes"]
    shares = [share for share in SHARES if share in record["overall"]["shares"]]
    sorted_by = ("class", "images", "accuracy", *shares)
    header = element(
        "tr",
        *(element("th", element("button", name, type="button"), scope="col", title=_HELP[name])
          for name in sorted_by),
        *(element("th", text, scope="col") for text in ("heat if right", "heat if wrong")),
    )  # fmt: skip
    bodies = [_body(one, f"class-{place}", shares, examples) for place, one in enumerate(classes)]
    overall = element(
        "tbody",
        _row(record["overall"], "overall", shares),
        _even_row(record["areas"], shares),
        class_="overall",
    )
    return element(
        "div",
        element("table", element("thead", header), overall, *bodies, id="classes"),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label="Table of classes",
    )


def _body(one: Record, name: str, shares: Sequence[str], examples: Examples) -> Element:
    """Return the two rows of a class: its numbers, and what its button shows."""
    inner = element("div", *_details(one, examples), class_="class-details")
    cell = element("td", inner, colspan=str(5 + len(shares)))
    details = element("tr", cell, id=f"{name}-details", hidden="")
    return element("tbody", _row(one, name, shares), details, id=name)


def _row(one: Record, name: str, shares: Sequence[str]) -> Element:
    """Return the row of a class, or of all classes. Cells hold the value by which they sort."""
    estimates = [one["accuracy"], *(one["shares"][share] for share in shares)]
    label: Element = element("span", "all classes")
    if one["class"] is not None:
        label = element(
            "button",
            element("bdi", one["class"]),
            type="button",
            aria_expanded="false",
            aria_controls=f"{name}-details",
            class_="expand",
        )
    return element(
        "tr",
        element("th", label, scope="row"),
        element("td", f"{one['images']:,}", data_value=str(one["images"])),
        *(
            _estimate(estimate, in_percent=share != "entropy")
            for share, estimate in zip(("accuracy", *shares), estimates, strict=True)
        ),
        *(element("td", map_of(one, kind)) for kind in ("right", "wrong")),
    )


def _even_row(areas: Mapping[str, float], shares: Sequence[str]) -> Element:
    """Return the row of heat that is spread evenly, to compare with."""
    known = {name: f"{share:.0%}" for name, share in areas.items()} | {"entropy": "1.00"}
    cells = ("", "", *(known.get(share, "") for share in shares), "", "")
    label = element("th", "heat spread evenly", scope="row")
    return element("tr", label, *(element("td", cell) for cell in cells), class_="muted")


def _estimate(estimate: Record | None, *, in_percent: bool) -> Element:
    """Return a cell: the mean, and the interval below it."""
    mean = estimate["mean"] if estimate else None
    text = percent(estimate) if in_percent else decimal(estimate)
    first, _, interval = text.partition(" ")
    value = None if mean is None else f"{mean:.6g}"
    return element("td", first, element("small", interval) if interval else None, data_value=value)


def map_of(one: Record, kind: str) -> Element:
    """Return the mean map of the images that are `right` or `wrong`."""
    images = one["correct"] if kind == "right" else one["images"] - one["correct"]
    grid = one["maps"][kind]
    return mean_map(grid, images) if grid else element("span", NONE, class_="muted")


def _details(one: Record, examples: Examples) -> Iterator[Element]:
    """Yield what is known of a class beside its row: its confidence and its groups."""
    facts = [f"{one['correct']:,} of {one['images']:,} right"]
    facts += [f"{text} {percent(one[name])}" for name, text in CONFIDENCES if one[name] is not None]
    yield element("p", " · ".join(facts))
    groups = one["groups"]
    if not groups:
        yield element("p", "Not divided into groups: too few maps.", class_="muted")
        return
    yield element("p", _grouped(groups), class_="muted")
    yield element("div", *(_group(group, examples) for group in groups["groups"]), class_="groups")


CONFIDENCES = (
    ("top5", "among the five best"),
    ("confidence_right", "confidence when right"),
    ("confidence_wrong", "confidence when wrong"),
)


def _grouped(groups: Record) -> str:
    """Return in words how a class was divided."""
    count = groups["count"]
    text = f"{groups['maps']:,} maps in {count} {'group' if count == 1 else 'groups'}"
    if groups["stability"] is not None:
        text += f", stability {groups['stability']:.2f}"
    if groups["eigenvalues"]:
        text += f". Eigenvalues: {', '.join(map(number, groups['eigenvalues'][:8]))}"
    return text


def _group(group: Record, examples: Examples) -> Element:
    parts = [
        f"{group['images']:,} images ({group['share']:.0%})",
        f"accuracy {percent(group['accuracy'])}",
    ]
    if group["separation"] is not None:
        parts.append(f"separation {number(group['separation'])}")
    return element(
        "article",
        mean_map(group["map"], group["images"]),
        element(
            "div",
            element("h3", f"Group {group['group']}"),
            element("p", " · ".join(parts)),
            examples.shown(group["examples"]),
        ),
        class_="finding",
    )
