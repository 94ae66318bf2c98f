"""The results of `camcli check` in a report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from camcli.report.changes import CHECK_FILE
from tests.support.command import Run, stderr
from tests.support.report import MAP, make_output_folder, read_page


@pytest.fixture
def check_file(run: Run, folder: Path, tmp_path: Path) -> Path:
    """The output of camcli check: one map differs from the baseline and one result is missing."""
    baseline = make_output_folder(tmp_path / "earlier")
    np.save(baseline / "plain.gradcam.npy", MAP[::-1])
    row = {"image": "gone<b>.jpg", "method": "gradcam", "target": "pred", "status": "error"}
    with (baseline / "manifest.jsonl").open("a") as stream:
        stream.write(json.dumps(row) + "\n")
    found = run("check", folder, baseline, "--json", "--diff", tmp_path / "changes")
    assert found.exit_code == 3
    file = tmp_path / "changes.jsonl"
    file.write_bytes(found.stdout_bytes)
    return file


def test_changes_of_results(run: Run, folder: Path, check_file: Path) -> None:
    assert run("report", folder, "--check", check_file).exit_code == 0
    page = read_page(folder)
    assert page.data["check"] == {
        "counts": {"alike": 7, "differs": 1, "missing": 1},
        "missing": ["gone<b>.jpg  gradcam  pred"],
    }
    changed, alike = (result["change"] for result in page.results("plain.jpg"))
    assert (changed["verdict"], alike["verdict"]) == ("differs", "alike")
    assert changed["picture"] == "../changes/plain.gradcam.diff.png"
    assert changed["measures"]["correlation"] < 0.5 < alike["measures"]["correlation"]


def test_the_check_file_in_the_folder_is_found(run: Run, folder: Path, check_file: Path) -> None:
    check_file.rename(folder / CHECK_FILE)
    run("report", folder)
    assert read_page(folder).data["check"]["counts"]["differs"] == 1


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", "line 1: not a row of camcli check --json (not JSON"),
        ('{"image": "a"}', "line 1: not a row of camcli check --json (no method, expected text)"),
        (
            '{"image":"a","method":"m","target":"t","verdict":"odd","reasons":[]}',
            'line 1: not a row of camcli check --json (verdict is "odd", expected one of alike, ',
        ),
        (None, "No such file or directory; expected the output of camcli check --json"),
    ],
)
def test_damaged_files(
    text: str | None, error: str, run: Run, folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "rows.jsonl"
    if text:
        file.write_text(text)
    found = run("report", folder, "--check", file)
    assert found.exit_code == 2
    (line,) = stderr(found).splitlines()
    assert error in line
