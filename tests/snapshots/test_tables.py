"""Comparisons as text."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from camcli.snapshots import tables
from camcli.snapshots.compare import compare
from camcli.snapshots.measures import Tolerance
from tests.support.snapshots import PEAK, write_output


def test_any_file_name_can_be_shown(tmp_path: Path) -> None:
    name = "a\n\x1b[31m\udcff<&>\U0001f600.jpg"
    new = write_output(tmp_path / "new", {"b.jpg": PEAK * 2}, image=name)
    old = write_output(tmp_path / "old", {"b.jpg": PEAK}, image=name)
    found = compare(new, old, Tolerance())
    table = tables.difference_table(found)
    assert len(table.splitlines()) == 2, "expected the header and one line"
    assert "\x1b" not in table
    table.encode()
    report = tables.JUnitReport()
    report.add(*found)
    ElementTree.fromstring(report.contents())  # noqa: S314 - our own
