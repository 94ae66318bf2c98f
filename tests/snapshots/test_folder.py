"""Errors for output folders that cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from camcli.errors import CamcliError
from camcli.snapshots.compare import compare
from camcli.snapshots.measures import Tolerance
from tests.support.snapshots import PEAK, write_output


def row_with_map(name: str) -> str:
    row = {"image": "a", "method": "b", "target": "c", "status": "ok", "map": name}
    return json.dumps(row)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "has no readable manifest.jsonl"),
        ("", "is empty: nothing to compare"),
        ("{", "line 1: not JSON"),
        ("[1]", "line 1: expected a row with image, method"),
        ('{"image": 1, "method": "", "target": "", "status": ""}', "line 1: image is 1, expected"),
        (row_with_map("../x.npy"), "outside of its folder"),
        (row_with_map("/etc/passwd"), "outside of its folder"),
        (row_with_map("a/../../x.npy"), "outside of its folder"),
        (row_with_map("link/x.npy"), "outside of its folder"),
    ],
)
def test_invalid_manifest_is_an_error_on_either_side(
    text: str | None, message: str, tmp_path: Path
) -> None:
    good, bad = write_output(tmp_path / "good", {"a.jpg": PEAK}), tmp_path / "bad"
    bad.mkdir()
    (bad / "link").symlink_to(tmp_path)
    if text is not None:
        (bad / "manifest.jsonl").write_text(text)
    for folders in ((good, bad), (bad, good)):
        with pytest.raises(CamcliError, match=message):
            compare(*folders, Tolerance())


def test_baseline_without_maps_is_an_error(tmp_path: Path) -> None:
    baseline = write_output(tmp_path / "old", {"a.jpg": PEAK}, map=None)
    with pytest.raises(CamcliError, match="has no maps to compare: make it with --save map"):
        compare(write_output(tmp_path / "new", {"a.jpg": PEAK}), baseline, Tolerance())
