"""The contact sheet of a report."""

from __future__ import annotations

import json
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from camcli.report import sheet
from camcli.report.contents import Contents
from camcli.report.folder import OutputFolder, SavedResult, read_output_folder
from camcli.report.originals import Original
from tests.support.command import Run, stderr, stdout
from tests.support.report import HOSTILE_NAME, ODD_NAME


def pixels_of(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_images_down_and_methods_across(run: Run, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "sheets" / "sheet.png"
    found = run("report", folder, "--sheet", file)
    assert (found.exit_code, stderr(found)) == (0, "")
    assert stdout(found).splitlines()[1:] == [f"contact sheet -> {file}"]
    pixels = pixels_of(file)
    layout = sheet.Layout.of(3)
    assert pixels.shape[:2] == (layout.head + 4 * layout.row + 60, layout.width)
    for row in range(3):  # the photo, and both maps over it; the last image failed
        top = layout.head + row * layout.row + 30
        cells = [
            pixels[top : top + 100, left : left + 100]
            for left in range(60, 60 + 3 * (layout.side + 12), layout.side + 12)
        ]
        assert min(cell.std() for cell in cells) > 5
        for cell in cells[1:]:
            assert np.abs(cell - cells[0]).mean() > 5


def test_pages_of_a_pdf(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [folder / f"{name}.pdf" for name in "ab"]
    for file in files:
        assert run("report", folder, "--sheet", file, "--quiet").output_bytes == b""
    first, second = (file.read_bytes() for file in files)
    assert first.startswith(b"%PDF")
    assert first == second, "expected no date"
    monkeypatch.setattr(sheet.Layout, "rows", 1)
    run("report", folder, "--sheet", files[0])
    for file, pages in zip(files, (4, 1), strict=True):
        assert len(re.findall(rb"/Type /Page\b", file.read_bytes())) == pages


@pytest.mark.parametrize("name", ["sheet.jpg", "sheet", "sheet.pdf.txt"])
def test_other_formats_are_refused_before_anything_is_written(
    name: str, run: Run, folder: Path
) -> None:
    found = run("report", folder, "--sheet", folder / name)
    assert found.exit_code == 2
    (line,) = stderr(found).splitlines()
    assert "expected a name that ends in .png or .pdf" in line
    assert not (folder / "report.html").exists()


def test_originals_that_are_not_found(run: Run, folder: Path, tmp_path: Path) -> None:
    """Maps are drawn alone, and a map that is damaged is the overlay that was saved."""
    for photo in (folder.parent / "photos").rglob("*.jpg"):
        photo.unlink()
    (folder / "plain.gradcam.npy").write_bytes(b"damaged")
    (folder / "plain.occlusion.npy").unlink()
    (folder / "plain.occlusion.png").unlink()
    found = run("report", folder, "--sheet", tmp_path / "sheet.png")
    assert found.exit_code == 0
    layout, pixels = sheet.Layout.of(3), pixels_of(tmp_path / "sheet.png")
    top = layout.head + 30
    photo, gradcam, occlusion = (
        pixels[top : top + 100, left : left + 100]
        for left in range(60, 60 + 3 * (layout.side + 12), layout.side + 12)
    )
    assert (photo.std(), occlusion.std()) == pytest.approx((0, 0), abs=5), "expected grey"
    assert gradcam.std() > 5


def test_columns(folder: Path) -> None:
    results = [
        SavedResult("a.jpg", *one)
        for one in (
            ("gradcam", "pred", "ok", "x"),
            ("gradcam", "pred", "ok", "y"),
            ("cam", "pred", "ok", "x"),
            ("cam", "dog", "ok", "x"),
        )
    ]
    titles = [one.title for one in sheet.columns_of(results)]
    assert titles == ["gradcam · x", "gradcam · y", "cam · pred", "cam · dog"]
    found = sheet.columns_of(read_output_folder(folder).results)
    assert [(one.title, len(one.results)) for one in found] == [("gradcam", 4), ("occlusion", 4)]


@pytest.mark.parametrize("columns", [1, 2, 5, 12, 40])
def test_pictures_fit_the_page(columns: int) -> None:
    layout = sheet.Layout.of(columns)
    assert 130 <= layout.side <= 320
    assert 120 + columns * (layout.side + 12) - 12 <= layout.width
    assert layout.head + layout.rows * layout.row <= layout.width * 1754 // 1240


def test_a_sheet_that_is_full_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = [SavedResult(f"{i}.jpg", "cam", "pred", "error") for i in range(4)]
    originals = [Original(one.image) for one in results]
    report = Contents(OutputFolder(folder, results, {}), originals, folder / "x", 1)
    assert list(sheet.notes(report)) == []
    whole = sheet.sheet(report, Path("a.png"))
    monkeypatch.setattr(sheet, "MOST_ROWS", 3)
    line = "the sheet shows the first 3 of 4 images, the most that one holds"
    assert list(sheet.notes(report)) == [line]
    pages = whole, sheet.sheet(report, Path("a.png"))
    heights = [Image.open(BytesIO(png)).height for png in pages]
    assert heights[0] - heights[1] == sheet.Layout.of(2).row


@pytest.mark.parametrize(
    "name", [HOSTILE_NAME, ODD_NAME, "n" * 300 + ".jpg", "\udcff\n\x1b[31m\u4e2d.jpg"]
)
def test_any_name_can_be_written(name: str, run: Run, folder: Path) -> None:
    manifest = folder / "manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    named = (row | {"image": name, "class_name": name} for row in rows)
    manifest.write_text("".join(json.dumps(row) + "\n" for row in named))
    assert run("report", folder, "--sheet", folder / "sheet.png").exit_code == 0
