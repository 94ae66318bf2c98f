"""Output folders that are unfinished, damaged, or not output folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from camcli.images.geometry import PIXELS
from camcli.report.folder import Limit, SavedResult, read_output_folder
from camcli.runs.outputs import OUTPUTS
from tests.support.command import Run, stderr, stdout
from tests.support.report import read_page, write_manifest

ROW = {"image": "a.jpg", "method": "m", "target": "t", "status": "ok"}
NO_ROW = "'{}' has no manifest.jsonl with a row in it: expected a folder that camcli explain wrote"


@pytest.mark.parametrize(
    ("manifest", "error"),
    [
        (None, NO_ROW),
        ("\n", NO_ROW),
        ('{"image": "a.j', "'{}/manifest.jsonl': none of its 1 lines is a row"),
        ("[" * 99_999, "'{}/manifest.jsonl': none of its 1 lines is a row"),
        (
            json.dumps(ROW | {"map": "../../x.npy"}),
            "'../../x.npy' would lie outside of its folder '{}'",
        ),
    ],
)
def test_a_folder_that_cannot_be_read(
    manifest: str | None, error: str, run: Run, tmp_path: Path
) -> None:
    if manifest is not None:
        (tmp_path / "manifest.jsonl").write_text(manifest)
    found = run("report", tmp_path)
    assert (found.exit_code, stdout(found)) == (2, "")
    assert stderr(found) == f"Error: {error.format(tmp_path)}\n"
    assert not (tmp_path / "report.html").exists()


def test_an_unfinished_run(run: Run, folder: Path) -> None:
    """Its rows are in a journal, and the last line may be incomplete."""
    lines = (folder / "manifest.jsonl").read_bytes()
    (folder / "manifest.jsonl").unlink()
    (folder / ".camcli-1.manifest.jsonl").write_bytes(lines[:-20])
    found = run("report", folder)
    assert found.exit_code == 0
    note = "unreadable lines in the manifest: 1 (is the run unfinished?)"
    assert stderr(found) == f"Warning: {note}\n"
    assert read_page(folder).data["notes"] == [note]
    assert "4 images, 7 results" in stdout(found)


@pytest.mark.parametrize(
    "invalid",
    [
        {"status": "fine"},
        {"image": ""},
        {"image": "a\0.jpg"},
        {"image": "\ud800.jpg"},
        {"image": "."},
        {"image": 3},
        {"method": None},
        {"probability": float("inf")},
        {"score": 10**400},
        {"boxes": [[1], 2]},
        {"class_index": "3"},
        {"map": {"a": 1}},
        {"unsure": "yes"},
        {"cells": [1, 2, 3]},
    ],
)
def test_invalid_rows_are_counted(invalid: dict[str, Any], folder: Path) -> None:
    write_manifest(folder, [ROW, ROW | invalid])
    found = read_output_folder(folder)
    assert [result.image for result in found.results] == ["a.jpg"]
    assert found.unread == 1


def test_values_that_say_nothing_are_left_out(run: Run, folder: Path) -> None:
    unknown = {"crop": [5, 5, 1, 1], "layer": "", "box": None, "map": "x" * 300}
    write_manifest(folder, [ROW | unknown])
    assert run("report", folder).exit_code == 0
    assert read_page(folder).results("a.jpg") == [
        {"method": "m", "target": "t", "status": "ok", "signed": False}
        | {"note": "x" * 300 + " is missing"}
    ]


@pytest.mark.parametrize("cells", [None, [1, 2, 0, 4]])
def test_cells_without_places_are_equal_parts(cells: object, folder: Path) -> None:
    write_manifest(folder, [ROW | {"crop": [0, 0, 4, 2], "cells": cells}])
    (result,) = read_output_folder(folder).results
    assert result.crop is not None
    assert result.crop.centres((2, 4)) == PIXELS


def test_the_last_row_of_a_result_is_kept(folder: Path) -> None:
    write_manifest(folder, [ROW | {"status": "error", "error": "no"}, ROW])
    assert [result.status for result in read_output_folder(folder).results] == ["ok"]


def test_missing_and_damaged_files(run: Run, folder: Path) -> None:
    (folder / "plain.gradcam.npy").unlink()
    (folder / "plain.occlusion.npy").write_bytes(b"no map")
    found = run("report", folder)
    assert found.exit_code == 0
    assert stderr(found) == "Warning: missing files that the manifest names: 1\n"
    gradcam, occlusion = read_page(folder).results("plain.jpg")
    assert gradcam["note"] == "plain.gradcam.npy is missing"
    assert occlusion["note"].startswith("map not readable (")
    assert "map" not in gradcam
    assert "map" not in occlusion


def test_every_output_kind_is_listed(folder: Path) -> None:
    write_manifest(folder, [ROW | {kind.field: f"{name}.out" for name, kind in OUTPUTS.items()}])
    for kind in OUTPUTS:
        (folder / f"{kind}.out").touch()
    (result,) = read_output_folder(folder).results
    assert result.files == {kind: folder / f"{kind}.out" for kind in OUTPUTS}


@pytest.mark.parametrize(
    ("kinds", "picture"),
    [
        (["map", "panel"], None),
        (["panel", "heatmap"], "heatmap"),
        (["heatmap", "boxes"], "boxes"),
        ([*OUTPUTS], "overlay"),
    ],
)
def test_the_picture_that_can_replace_an_original(
    kinds: list[str], picture: str | None, tmp_path: Path
) -> None:
    """A map is no picture, and a panel is wider than the original."""
    files = {kind: tmp_path / kind for kind in kinds}
    assert SavedResult("a.jpg", "m", "t", "ok", files=files).picture == picture


def test_results_beyond_the_limit_are_counted(folder: Path) -> None:
    rows = [ROW | {"image": f"{i}.jpg", "method": method} for i in range(4) for method in "mn"]
    rows[5]["status"] = "error"
    again = [ROW | {"image": "3.jpg", "method": "n", "status": "empty"}, rows[0]]
    write_manifest(folder, rows + again)
    found = read_output_folder(folder, Limit(images=2))
    assert [*found.images] == ["0.jpg", "1.jpg"]
    assert (found.hidden_images, found.hidden) == (2, {"ok": 2, "error": 1, "empty": 1})
    assert found.counts == {"ok": 6, "error": 1, "empty": 1}
    found = read_output_folder(folder, Limit(results=3))
    assert [(one.image, one.method) for one in found.results] == [
        *(("0.jpg", "m"), ("0.jpg", "n"), ("1.jpg", "m"))
    ]
    assert (found.hidden.total(), found.hidden_images) == (5, 2)


def test_a_full_page_says_what_it_does_not_show(run: Run, folder: Path) -> None:
    write_manifest(folder, [ROW | {"image": f"{i}.jpg"} for i in range(1000)])
    found = run("report", folder, "--size", 1)
    (note, *_) = stderr(found).splitlines()
    shown = len(read_page(folder).data["images"])
    assert 700 < shown < 1000
    hidden = 1000 - shown
    assert note.startswith(f"Warning: not shown: {hidden} results and {hidden} images (the page is")
    assert note.removeprefix("Warning: ") in read_page(folder).data["notes"]
    assert stdout(found).startswith("1000 images, 1000 results -> ")


def test_a_damaged_run_record_is_said(run: Run, folder: Path) -> None:
    (folder / "run.json").write_text('{"layers": 3}')
    found = run("report", folder)
    assert "Warning: unreadable run.json: layers is 3, expected a list" in stderr(found)
    assert read_page(folder).data["run"] == []
