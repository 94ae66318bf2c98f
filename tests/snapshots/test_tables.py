"""Comparisons as text."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from camcli.snapshots import tables
from camcli.snapshots.compare import Comparison, compare
from camcli.snapshots.measures import Measures, Tolerance
from tests.support.snapshots import PEAK, write_output


def test_any_file_name_can_be_shown(tmp_path: Path) -> None:
    name = "a\n\x1b[31m\udcff<&>\U0001f600.jpg"
    new = write_output(tmp_path / "new", {"b.jpg": PEAK * 2}, image=name)
    old = write_output(tmp_path / "old", {"b.jpg": PEAK}, image=name)
    found = compare(new, old, Tolerance())
    table = tables.difference_table(found)
    assert len(table.splitlines()) == 3, "expected the header, one line and the note"
    assert "\x1b" not in table
    table.encode()
    report = tables.JUnitReport()
    report.add(*found)
    ElementTree.fromstring(report.contents())  # noqa: S314 - our own


def _change(image: str, *reasons: str, relative: float | None = None) -> Comparison:
    measures = None if relative is None else Measures(relative, relative, 0.5, 0.1)
    verdict = reasons[0] if reasons[0] in tables.VERDICTS else "changed"
    return Comparison(image, "guided-backprop", "pred", None, verdict, reasons, measures)


def test_class_changes_are_first_and_large_differences_before_small_ones() -> None:
    found = [
        _change("missing.jpg", "missing"),
        _change("small.jpg", "values", relative=0.1),
        _change("large.jpg", "values", relative=3),
        _change("shape.jpg", "shape 7x7 -> 8x8"),
        _change("class.jpg", "class cat -> dog", relative=0),
    ]
    lines = tables.difference_table(found).splitlines()[1:-1]
    expected = ["class.jpg", "shape.jpg", "large.jpg", "small.jpg", "missing.jpg"]
    assert [line.split()[0] for line in lines] == expected
    assert lines[2].split()[3:] == ["300.00%!", "0.5000", "0.10"]


@pytest.mark.parametrize("width", [80, 120, None])
def test_names_are_shortened_in_the_middle_to_fit_a_terminal(width: int | None) -> None:
    name = "photos of the summer/" + 60 * "n" + ".jpg"
    found = [_change(name, "class German shepherd -> Old English sheepdog", "values", relative=0.1)]
    _, line, note = tables.difference_lines(found, str, width)
    assert (name in line) == (width is None)
    if width:
        assert len(line) <= width
        assert line.startswith("photo")
        assert ".jpg  " in line
    assert "10.00%!" in line
    assert note == "! beyond the tolerance"


@pytest.mark.parametrize("width", [1, 20])
def test_a_terminal_too_narrow_for_the_numbers(width: int) -> None:
    _, line, _ = tables.difference_lines([_change("a" * 50, "values", relative=0.1)], str, width)
    assert "10.00%!" in line
