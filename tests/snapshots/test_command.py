"""`camcli check` from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from camcli.snapshots.measures import Tolerance
from tests.support.command import Run, stderr, stdout
from tests.support.snapshots import PEAK, contents, write_output


def test_table_and_exit_code(run: Run, pair: tuple[Path, Path]) -> None:
    found = run("check", *pair)
    assert (found.exit_code, found.stderr_bytes) == (3, b"")
    header, *changed, note, summary = stdout(found).splitlines()
    words = "image method target off by correlation shift what changed"
    assert header.split() == words.split()
    cells = {line.split()[0]: line.split() for line in changed}
    assert list(cells) == ["sub/b.jpg", "c.jpg"], "expected missing results last"
    assert cells["c.jpg"][1:] == ["gradcam", "pred", "-", "-", "-", "missing"]
    assert cells["sub/b.jpg"][1:3] == ["gradcam", "pred"]
    assert all(cell.endswith("!") for cell in cells["sub/b.jpg"][3:])
    assert len(cells["sub/b.jpg"]) == 6
    assert note == "! beyond the tolerance"
    assert summary == "3 results: 1 alike, 1 changed, 1 missing"


def test_only_the_summary_is_printed_if_all_are_alike(run: Run, pair: tuple[Path, Path]) -> None:
    _, old = pair
    found = run("check", old, old)
    assert (found.exit_code, found.stdout_bytes) == (0, b"3 results: 3 alike\n")


def test_tolerances_are_options(run: Run, pair: tuple[Path, Path]) -> None:
    loose = ("--rtol", 1, "--atol", 0, "--min-correlation", -1, "--max-shift", 1)
    assert b"2 alike, 1 missing" in run("check", *pair, *loose).stdout_bytes


def test_json_junit_and_pictures(run: Run, pair: tuple[Path, Path], tmp_path: Path) -> None:
    report, pictures = tmp_path / "reports" / "junit.xml", tmp_path / "diff"
    found = run("check", *pair, "--json", "--junit", report, "--diff", pictures)
    assert found.exit_code == 3
    rows = [json.loads(line) for line in found.stdout_bytes.splitlines()]
    assert [row["verdict"] for row in rows] == ["alike", "changed", "missing"]
    _, changed, missing = rows
    assert changed["relative"] == pytest.approx(changed["difference"])
    assert all(row["tolerance"] == asdict(Tolerance()) for row in rows)
    assert missing["relative"] is None
    assert stderr(found).splitlines() == [
        "3 results: 1 alike, 1 changed, 1 missing",
        f"1 picture -> {pictures}",
        f"JUnit report -> {report}",
    ]
    picture = pictures / "sub" / "b.gradcam.diff.png"
    assert [row["picture"] for row in rows] == [None, str(picture), None]
    assert list(contents(pictures)) == ["sub/b.gradcam.diff.png"]
    (suite,) = ElementTree.parse(report).getroot()  # noqa: S314 - our own
    assert (suite.get("tests"), suite.get("failures")) == ("3", "2")
    failures = {case.get("name"): case.findtext("failure") for case in suite}
    assert failures["a.jpg [gradcam, pred]"] is None
    assert str(picture) in (failures["sub/b.jpg [gradcam, pred]"] or "")
    assert "missing" in (failures["c.jpg [gradcam, pred]"] or "")


def test_picture_shows_baseline_new_and_difference(run: Run, pair: tuple[Path, Path]) -> None:
    """Read the colours at the peaks: the difference is red at the new one and blue at the old."""
    folder = pair[0].parent / "diff"
    run("check", *pair, "--diff", folder)
    with Image.open(folder / "sub" / "b.gradcam.diff.png") as image:
        pixels = np.asarray(image).astype(int)
    cell, top, tile = 288 / 9, 44, 288 + 8

    def colour(panel: int, row: int) -> tuple[int, int, int]:
        return tuple(pixels[int(top + cell * (row + 0.5)), int(tile * panel + cell * 4.5)])

    assert colour(0, 4) == colour(1, 7), "both peaks have the last colour of the same scale"
    for red, _, blue in (colour(0, 4), colour(2, 7)):
        assert red > blue + 80
    red, _, blue = colour(2, 4)
    assert blue > red + 80


@pytest.mark.parametrize("new", [PEAK[:5], np.stack([PEAK] * 3), -PEAK, PEAK * 0, PEAK[:1, :1]])
def test_any_two_maps_have_a_picture(new: Any, tmp_path: Path, run: Run) -> None:
    folders = (
        write_output(tmp_path / "n", {"a.jpg": new}),
        write_output(tmp_path / "o", {"a.jpg": PEAK}),
    )
    assert run("check", *folders, "--diff", tmp_path / "d").exit_code == 3
    assert list(contents(tmp_path / "d")) == ["a.gradcam.diff.png"]


def test_update_replaces_the_baseline(run: Run, pair: tuple[Path, Path]) -> None:
    new, old = pair
    found = run("check", new, old, "--update")
    assert found.exit_code == 0
    assert stdout(found).endswith(f"{old} updated from {new}\n")
    assert contents(old) == contents(new)
    assert run("check", new, old).exit_code == 0


def test_update_creates_a_baseline(run: Run, pair: tuple[Path, Path], tmp_path: Path) -> None:
    new, made = pair[0], tmp_path / "made"
    found = run("check", new, made, "--update")
    expected = f"{made} created from {new}\n"
    assert (found.exit_code, stdout(found)) == (0, expected)
    assert contents(made) == contents(new)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "'none' has no readable manifest.jsonl (No such file or directory)"),
        (["old", "--rtol", "-1"], "rtol -1.0: expected a number from 0 up"),
        (["old", "--junit", "old"], "is a directory"),
        (["new", "--update"], "is the baseline itself"),
    ],
)
def test_wrong_usage_gives_a_one_line_error(
    arguments: list[str],
    message: str,
    run: Run,
    pair: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(pair[0].parent)
    found = run("check", "new", *arguments)
    error = stderr(found)
    assert found.exit_code == 2
    assert len(error.splitlines()) == 1
    assert message in error


def test_check_does_not_import_torch(pair: tuple[Path, Path]) -> None:
    code = (
        "import sys\nfrom camcli.cli import _exit_code\n"
        "assert _exit_code(['check', *sys.argv[1:]]) == 3\n"
        "assert not {'torch', 'cv2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, *map(str, pair)], check=True, capture_output=True)
