"""The results of `camcli check` in a report."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from camcli.report.changes import CHECK_FILE, read_changes
from camcli.report.contents import ReportOptions, _has_baseline, collect
from camcli.snapshots.measures import Tolerance
from camcli.snapshots.tables import VERDICTS
from tests.support.command import Run, stderr
from tests.support.report import MAP, make_output_folder, read_page


@pytest.fixture
def check_file(run: Run, folder: Path, tmp_path: Path) -> Path:
    """The output of camcli check: one map has changed and one result is missing."""
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
    check = page.data["check"]
    assert check["counts"] == {"alike": 7, "changed": 1, "missing": 1}
    assert check["missing"] == ["gone<b>.jpg  gradcam  pred"]
    assert check["tolerances"] == [asdict(Tolerance())]
    changed, alike = (result["change"] for result in page.results("plain.jpg"))
    assert (changed["verdict"], alike["verdict"]) == ("changed", "alike")
    assert changed["picture"] == "../changes/plain.gradcam.diff.png"
    assert changed["measures"]["correlation"] < 0.5 < alike["measures"]["correlation"]


def test_changes_of_methods(run: Run, folder: Path, check_file: Path) -> None:
    run("report", folder, "--check", check_file)
    gradcam, occlusion = read_page(folder).data["check"]["methods"]
    found = {name: gradcam[name] for name in ("method", *VERDICTS, "class changed")}
    assert [*found.values()] == ["gradcam", 3, 1, 1, 0, 0]
    assert occlusion == {
        **{"method": "occlusion", "alike": 4, "changed": 0, "missing": 0, "extra": 0},
        **{"class changed": 0, "correlation": 1},
    }


def test_the_map_of_the_baseline_is_in_the_page(run: Run, folder: Path, check_file: Path) -> None:
    run("report", folder, "--check", check_file)
    changed, alike = read_page(folder).results("plain.jpg")
    assert "before" not in alike
    before, new = (
        np.frombuffer(base64.b64decode(one["map"]["values"]), "<f4").reshape(one["map"]["shape"])
        for one in (changed["before"], changed)
    )
    assert np.array_equal(before, new[::-1])
    assert changed["before"]["cells"] == changed["cells"]


def test_the_maps_of_baselines_share_the_size(run: Run, folder: Path, check_file: Path) -> None:
    options = ReportOptions(check=check_file)
    contents = collect(folder, folder / "report.html", options, lambda originals, _: originals)
    assert sum(_has_baseline(one, contents.changes) for one in contents.folder.results) == 1


def test_a_baseline_of_another_crop_is_not_drawn(folder: Path, check_file: Path) -> None:
    reason = "crop [0, 0, 9, 9] -> [1, 1, 8, 8]"
    text = check_file.read_text().replace('["values', f'["{reason}", "values')
    check_file.write_text(text)
    changes = read_changes(check_file, {"plain.jpg"})
    (changed,) = (one for one in changes.by_image["plain.jpg"] if one.verdict == "changed")
    assert changed.reasons[0] == reason
    assert changed.baseline is None


def test_files_of_earlier_versions(folder: Path, check_file: Path) -> None:
    """`changed` was called `differs`, and there were no tolerances."""
    rows = [json.loads(line) for line in check_file.read_text().splitlines()]
    for row in rows:
        del row["tolerance"]
        row["verdict"] = row["verdict"].replace("changed", "differs")
    check_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = read_changes(check_file, {"plain.jpg"})
    assert changes.counts == {"alike": 7, "changed": 1, "missing": 1}
    assert changes.tolerances == []


def test_the_check_file_in_the_folder_is_found(run: Run, folder: Path, check_file: Path) -> None:
    check_file.rename(folder / CHECK_FILE)
    run("report", folder)
    assert read_page(folder).data["check"]["counts"]["changed"] == 1


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
