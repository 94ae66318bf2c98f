"""Comparisons as a text table, as JSON rows and as a JUnit report."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from camcli.errors import printable
from camcli.snapshots.compare import Comparison
from camcli.snapshots.measures import EXCEEDED, Measures, Tolerance

VERDICTS = ("alike", "changed", "missing", "extra")
_HEADER = ("image", "method", "target", "off by", "correlation", "shift", "what changed")
_ALIGNMENT = "<<<>>><"
_NAMES = (0, 1, 2, 6)
"""The columns whose texts are shortened to fit a terminal."""
_SHORTEST = 6
"""The characters that a shortened column keeps at least."""
_NOTE = "! beyond the tolerance"


def difference_table(comparisons: Iterable[Comparison]) -> str:
    """Return a header and a line for each comparison that is not alike; empty if all are alike."""
    return "".join(f"{line}\n" for line in difference_lines(comparisons, printable))


def difference_lines(
    comparisons: Iterable[Comparison], show: Callable[[str], str], width: int | None = None
) -> list[str]:
    """Return the lines of the table, in which `show` gives the images' names.

    Changes of the class come first, and larger differences before smaller ones. Names are shortened
    where a line has more than `width` characters.
    """
    found = sorted(
        ((_rank(one), _cells(one, show)) for one in comparisons if one.reasons),
        key=lambda ranked: ranked[0],
    )
    lines = [cells for _, cells in found]
    notes = [_NOTE] if any("!" in cell for cells in lines for cell in cells[3:6]) else []
    return aligned(_HEADER, fitted(_HEADER, lines, _NAMES, width), _ALIGNMENT) + notes


def _rank(one: Comparison) -> tuple[int, float]:
    """Return the place of a comparison: class changes, changed maps, missing and extra results.

    Within them, the largest difference is first, and one without a measure before it.
    """
    kind = -1 if one.class_changed else VERDICTS.index(one.verdict)
    relative = one.measures.relative if one.measures else None
    return kind, -math.inf if relative is None else -relative


def fitted(
    header: Sequence[str], lines: Sequence[Sequence[str]], names: Sequence[int], width: int | None
) -> Sequence[Sequence[str]]:
    """Return the lines of a table with the longest texts in the columns `names` shortened.

    The lines then have at most `width` characters, if that is possible. The first column keeps
    twice as many as the others.
    """
    if not (width and lines):
        return lines
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    least = [max(_SHORTEST, len(name)) for name in header]
    for _ in range(sum(widths) + 2 * (len(widths) - 1) - width):
        longest = max(names, key=lambda i: (widths[i] - least[i]) / (1 if i else 2))
        widths[longest] -= widths[longest] > least[longest]
    return [[_shortened(*cell) for cell in zip(line, widths, strict=True)] for line in lines]


def _shortened(text: str, width: int) -> str:
    """Return a text of at most `width` characters, with dots in the middle if it is longer."""
    if len(text) <= width:
        return text
    kept = width - 3
    return f"{text[: kept - kept // 2]}...{text[len(text) - kept // 2 :]}"


def aligned(header: Sequence[str], lines: Sequence[Sequence[str]], sides: str) -> list[str]:
    """Return a header and lines as a table; none if there are no lines.

    `sides` has `<` or `>` for each column.
    """
    if not lines:
        return []
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    template = "  ".join(f"{{:{a}{w}}}" for a, w in zip(sides, widths, strict=True))
    return [template.format(*cells).rstrip() for cells in (header, *lines)]


def summary(verdicts: Counter[str]) -> str:
    """Return the number of comparisons with each verdict, in one line."""
    parts = [f"{verdicts[v]} {v}" for v in VERDICTS if verdicts[v] or v == "alike"]
    noun = "result" if verdicts.total() == 1 else "results"
    return f"{verdicts.total()} {noun}: {', '.join(parts)}"


def json_row(
    one: Comparison, picture: Path | None = None, tolerance: Tolerance | None = None
) -> dict[str, Any]:
    """Return a comparison as a JSON object. All rows have the same fields in the same order.

    `tolerance` is what the comparison was made with.
    """
    return {
        **{name: getattr(one, name) for name in ("image", "method", "target", "layer", "verdict")},
        "reasons": list(one.reasons),
        **{name: getattr(one.measures, name, None) for name in Measures.__dataclass_fields__},
        "new": str(one.new) if one.new else None,
        "baseline": str(one.baseline) if one.baseline else None,
        "picture": str(picture) if picture else None,
        "tolerance": asdict(tolerance) if tolerance else None,
    }


class JUnitReport:
    """A JUnit report: a test case for each comparison, which fails unless it is alike."""

    def __init__(self) -> None:
        self._cases, self._tests, self._failures = bytearray(), 0, 0

    def add(self, one: Comparison, picture: Path | None = None) -> None:
        """Add a comparison, and the path of its picture."""
        name = _escape_xml(f"{one.image} [{one.method}, {one.target}]")
        case = Element("testcase", classname="camcli.check", name=name)
        if one.reasons:
            failure = SubElement(case, "failure", message=_escape_xml(", ".join(one.reasons)))
            failure.text = _escape_xml(difference_table([one]))
            if picture:
                failure.text += _escape_xml(f"picture: {picture}\n")
        self._cases += tostring(case, encoding="utf-8")
        self._tests += 1
        self._failures += bool(one.reasons)

    def contents(self) -> bytes:
        """Return the report as a file of XML."""
        counts = f'tests="{self._tests}" failures="{self._failures}"'
        start = f'<testsuites {counts}><testsuite name="camcli" {counts}>'
        head = f"<?xml version='1.0' encoding='utf-8'?>\n{start}".encode()
        return b"".join((head, self._cases, b"</testsuite></testsuites>\n"))


def _cells(one: Comparison, show: Callable[[str], str]) -> tuple[str, ...]:
    """Return a line of the table. The layer is shown if several results differ only by it."""
    method = f"{one.method} {one.layer}" if one.several else one.method
    names = show(one.image), printable(method), printable(one.target)
    others = [reason for reason in one.reasons if reason not in EXCEEDED]
    return (*names, *_numbers(one), printable(", ".join(others)))


def _numbers(one: Comparison) -> tuple[str, ...]:
    """Return the measures as texts, each with `!` if it is beyond the tolerance."""
    found = one.measures
    if found is None:
        return "-", "-", "-"
    texts = (
        f"{found.difference:.2g}" if found.relative is None else f"{found.relative:.2%}",
        "-" if found.correlation is None else f"{found.correlation:.4f}",
        "-" if found.shift is None else f"{found.shift:.2f}",
    )
    marks = ["!" if reason in one.reasons else " " for reason in EXCEEDED]
    return tuple(text + mark for text, mark in zip(texts, marks, strict=True))


def _escape_xml(text: str) -> str:
    bad = r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
    return re.sub(bad, lambda match: match[0].encode("unicode_escape").decode(), text)
