"""Comparisons as text: a table for people, rows for programs, JUnit for CI."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from camcli.snapshots.compare import Comparison, Measures

VERDICTS = ("alike", "differs", "missing", "extra")
_HEADER = ("image", "method", "target", "off by", "correlation", "shift", "what differs")
_NUMBERS = slice(3, 6)


def table(found: Sequence[Comparison]) -> str:
    """A line for each comparison that is not alike, with a header; empty where all are."""
    counts = Counter(one.where for one in found)
    lines = [_cells(one, counts[one.where] > 1) for one in found if one.reasons]
    if not lines:
        return ""
    widths = [max(map(len, column)) for column in zip(_HEADER, *lines, strict=True)]
    return "".join(_aligned(cells, widths) + "\n" for cells in (_HEADER, *lines))


def summary(found: Sequence[Comparison]) -> str:
    """How many of each verdict, in one line."""
    counts = Counter(one.verdict for one in found)
    words = {"alike": "alike", "differs": "changed", "missing": "missing", "extra": "extra"}
    told = [f"{counts[v]} {words[v]}" for v in VERDICTS if counts[v] or v == "alike"]
    return f"{len(found)} {'result' if len(found) == 1 else 'results'}: {', '.join(told)}"


def row(one: Comparison, picture: Path | None = None) -> dict[str, Any]:
    """A comparison as a JSON row: the same fields in the same order."""
    unknown = dict.fromkeys(Measures.__dataclass_fields__)
    return {
        **{name: getattr(one, name) for name in ("image", "method", "target", "layer", "verdict")},
        "reasons": list(one.reasons),
        **(asdict(one.measures) if one.measures else unknown),
        "new": str(one.new) if one.new else None,
        "baseline": str(one.baseline) if one.baseline else None,
        "picture": str(picture) if picture else None,
    }


def junit(found: Sequence[Comparison], pictures: Mapping[Comparison, Path]) -> bytes:
    """A JUnit report: a test case for each comparison, a failure for each that is not alike."""
    failures = str(sum(bool(one.reasons) for one in found))
    suite = Element("testsuite", name="camcli", tests=str(len(found)), failures=failures)
    for one in found:
        name = _xml(f"{one.image} [{one.method}, {one.target}]")
        case = SubElement(suite, "testcase", classname="camcli.check", name=name)
        if one.reasons:
            failure = SubElement(case, "failure", message=_xml(", ".join(one.reasons)))
            failure.text = _xml(table([one]))
            if one in pictures:
                failure.text += _xml(f"picture: {pictures[one]}\n")
    root = Element("testsuites", tests=str(len(found)), failures=failures)
    root.append(suite)
    return bytes(tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def printable(name: str) -> str:
    """A file name on one line: control characters and undecodable bytes as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def _cells(one: Comparison, layered: bool) -> tuple[str, ...]:
    """The table's cells; the layer goes with the method where that alone tells results apart."""
    seen = one.measures
    numbers = (
        ("-", "-", "-")
        if seen is None
        else (
            f"{seen.difference:.2g}" if seen.relative is None else f"{seen.relative:.2%}",
            "-" if seen.correlation is None else f"{seen.correlation:.4f}",
            "-" if seen.shift is None else f"{seen.shift:.2f}",
        )
    )
    method = f"{one.method} {one.layer}" if layered else one.method
    where = (one.image, method, one.target)
    return (*map(printable, where), *numbers, printable(", ".join(one.reasons)))


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    right = range(*_NUMBERS.indices(len(widths)))
    parts = [
        cell.rjust(width) if i in right else cell.ljust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(parts).rstrip()


def _xml(text: str) -> str:
    """Text that XML can hold: what it cannot as escapes."""
    bad = r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
    return re.sub(bad, lambda found: found[0].encode("unicode_escape").decode(), text)
