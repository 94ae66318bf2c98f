"""Comparisons as a text table, as JSON rows and as a JUnit report."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from camcli.errors import printable
from camcli.snapshots.compare import Comparison
from camcli.snapshots.measures import Measures

VERDICTS = ("alike", "differs", "missing", "extra")
_HEADER = ("image", "method", "target", "off by", "correlation", "shift", "what differs")
_ALIGNMENT = "<<<>>><"


def difference_table(comparisons: Iterable[Comparison]) -> str:
    """Return a header and a line for each comparison that is not alike; empty if all are alike."""
    return "".join(f"{line}\n" for line in difference_lines(comparisons, printable))


def difference_lines(comparisons: Iterable[Comparison], show: Callable[[str], str]) -> list[str]:
    """Return the lines of the table, in which `show` gives the images' names."""
    lines = [_cells(one, show) for one in comparisons if one.reasons]
    return aligned(_HEADER, lines, _ALIGNMENT)


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
    words = {"alike": "alike", "differs": "changed", "missing": "missing", "extra": "extra"}
    parts = [f"{verdicts[v]} {words[v]}" for v in VERDICTS if verdicts[v] or v == "alike"]
    noun = "result" if verdicts.total() == 1 else "results"
    return f"{verdicts.total()} {noun}: {', '.join(parts)}"


def json_row(one: Comparison, picture: Path | None = None) -> dict[str, Any]:
    """Return a comparison as a JSON object. All rows have the same fields in the same order."""
    return {
        **{name: getattr(one, name) for name in ("image", "method", "target", "layer", "verdict")},
        "reasons": list(one.reasons),
        **{name: getattr(one.measures, name, None) for name in Measures.__dataclass_fields__},
        "new": str(one.new) if one.new else None,
        "baseline": str(one.baseline) if one.baseline else None,
        "picture": str(picture) if picture else None,
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
    return (*names, *_numbers(one.measures), printable(", ".join(one.reasons)))


def _numbers(found: Measures | None) -> tuple[str, str, str]:
    if found is None:
        return "-", "-", "-"
    return (
        f"{found.difference:.2g}" if found.relative is None else f"{found.relative:.2%}",
        "-" if found.correlation is None else f"{found.correlation:.4f}",
        "-" if found.shift is None else f"{found.shift:.2f}",
    )


def _escape_xml(text: str) -> str:
    bad = r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
    return re.sub(bad, lambda match: match[0].encode("unicode_escape").decode(), text)
