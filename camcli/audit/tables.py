"""The record of an audit as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from camcli.audit.classes import Record
from camcli.audit.places import SHARES
from camcli.errors import printable

CONFUSIONS, CLASSES = 10, 30
"""The most confusions and classes in the text. The page and the record have all."""


def audit_lines(record: Record) -> Iterator[str]:
    """Yield the lines of the text: all images, suspects, confusions and classes."""
    yield _heading(record)
    yield from (f"note: {note}" for note in record["notes"])
    yield from (f"left out: {count} ({why})" for why, count in record["left_out"].items())
    yield ""
    yield from _suspect_lines(record)
    if record["confusions"]:
        yield ""
        yield from _confusion_lines(record["confusions"])
    yield ""
    yield from _class_lines(record)


def _heading(record: Record) -> str:
    parts = record.get("model"), record["method"], record["target"], record["layer"]
    counts = f"{record['images']} images of {len(record['classes'])} classes"
    named = printable(", ".join(filter(None, parts)))
    return f"{named}: {counts}, accuracy {_interval(record['overall']['accuracy'])}"


def _suspect_lines(record: Record) -> Iterator[str]:
    suspects, candidates = record["suspects"], record["candidates"]
    tested = any(one["confirmed"] is not None for one in (*suspects, *candidates))
    how = "" if tested or not suspects else " (found in the maps, not tested: --model tests them)"
    yield f"suspects: {len(suspects)}{how}" if suspects else "no suspects"
    for one in suspects:
        yield from _suspect(one)
    if candidates:
        yield f"found in the maps, but not confirmed by the network: {len(candidates)}"
        for one in candidates:
            yield from _suspect(one)


def _suspect(one: Record) -> Iterator[str]:
    group = f" group {one['group']}" if one["group"] else ""
    reasons = f": {', '.join(one['reasons'])}" if one["reasons"] else ""
    yield f"  {printable(one['class'])}{group}, {one['place']}{reasons}"
    for test in one["tests"]:
        yield f"    {'!' if test['passed'] else ' '} {printable(test['says'])}"


def _confusion_lines(confusions: Sequence[Record]) -> Iterator[str]:
    header = ("true class", "taken for", "images", "share", "confidence")
    lines = [
        (
            *(printable(one["true"]), printable(one["predicted"]), str(one["images"])),
            *(f"{one['share']:.0%}", _percent(one["confidence"])),
        )
        for one in confusions[:CONFUSIONS]
    ]
    yield from _aligned(header, lines, "<<>>>")
    if more := len(confusions) - len(lines):
        yield f"and {more} more pairs"


def _class_lines(record: Record) -> Iterator[str]:
    shares = [name for name in (*SHARES, "inside") if name in record["overall"]["shares"]]
    header = ("class", "images", "accuracy", "sure when wrong", *shares, "groups", "stable")
    classes = record["classes"]
    shown = [record["overall"], *classes[:CLASSES]]
    yield from _aligned(header, [_class_cells(one, shares) for one in shown], "<" + ">" * 20)
    areas = ", ".join(f"{name} {area:.2f}" for name, area in record["areas"].items())
    yield f"even heat has {areas}, entropy 1"
    if (more := len(classes) - CLASSES) > 0:
        yield f"and {more} more classes, of higher accuracy"


def _class_cells(one: Record, shares: Sequence[str]) -> tuple[str, ...]:
    groups = one["groups"] or {"count": "-", "stability": None}
    stable = "-" if groups["stability"] is None else f"{groups['stability']:.2f}"
    return (
        printable(one["class"]) if one["class"] is not None else "all",
        str(one["images"]),
        _interval(one["accuracy"]),
        _percent((one["confidence_wrong"] or {}).get("mean")),
        *(_number(one["shares"][name]) for name in shares),
        str(groups["count"]),
        stable,
    )


def _aligned(
    header: Sequence[str], lines: Sequence[Sequence[str]], alignment: str
) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    template = "  ".join(
        f"{{:{a}{w}}}" for a, w in zip(alignment[: len(widths)], widths, strict=True)
    )
    yield from (template.format(*cells).rstrip() for cells in (header, *lines))


def _interval(estimate: dict[str, Any]) -> str:
    text = f"{estimate['mean']:.1%}"
    if estimate["low"] is None:
        return text
    low, high = max(0.0, estimate["low"]), min(1.0, estimate["high"])
    return f"{text} ({100 * low:.0f}-{100 * high:.0f})"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _number(estimate: dict[str, Any] | None) -> str:
    return "-" if estimate is None else f"{estimate['mean']:.2f}"
