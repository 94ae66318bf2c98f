"""`camcli report`: the page that it writes, and what it prints."""

from __future__ import annotations

import base64
import subprocess
import sys
import webbrowser
from pathlib import Path

import numpy as np
import pytest

from tests.support.command import Run, stderr, stdout
from tests.support.report import HOSTILE_CLASS, HOSTILE_NAME, MAP, ODD_NAME, PageParser, read_page


def test_summary_line(run: Run, folder: Path) -> None:
    found = run("report", folder)
    assert found.exit_code == 0
    line = f"4 images, 8 results -> {folder}/report.html (2 failed, 2 with an empty map)\n"
    assert (stdout(found), stderr(found)) == (line, "")


def test_the_page_holds_images_results_and_maps(run: Run, folder: Path) -> None:
    run("report", folder)
    page = read_page(folder)
    names = [image["name"] for image in page.data["images"]]
    assert names == ["plain.jpg", HOSTILE_NAME, ODD_NAME, "broken.jpg"]
    assert page.image("plain.jpg")["size"] == [90, 60]
    assert page.image("plain.jpg")["original"] == "../photos/plain.jpg"
    gradcam, occlusion = page.results("plain.jpg")
    assert gradcam["class"] == HOSTILE_CLASS
    assert gradcam["probability"] == 0.9
    assert gradcam["files"] == {"overlay": "plain.gradcam.png", "map": "plain.gradcam.npy"}
    assert gradcam["picture"] == "overlay"
    assert [one.get("unsure") for one in page.results(ODD_NAME)] == [True, True]
    assert (gradcam["true"], page.results(ODD_NAME)[0].get("true")) == ("cat", None)
    values = np.frombuffer(base64.b64decode(gradcam["map"]["values"]), "<f4")
    assert np.array_equal(values.reshape(gradcam["map"]["shape"]), MAP)
    assert (gradcam["signed"], occlusion["signed"]) == (False, True)
    assert occlusion["map"]["min"] == -40


def test_the_same_folder_gives_the_same_bytes(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = []
    for workers, directory, given in ((1, folder, "."), (3, folder.parent, "out")):
        monkeypatch.chdir(directory)
        assert run("report", given, "--workers", workers, "--quiet").output_bytes == b""
        pages.append((folder / "report.html").read_bytes())
    assert pages[0] == pages[1]
    assert str(folder).encode() not in pages[0]


def test_output_and_title(run: Run, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "pages" / "cats.html"
    assert run("report", folder, "--output", file, "--title", "Cats").exit_code == 0
    page = PageParser(file.read_text())
    assert page.data["title"] == "Cats"
    assert page.image("plain.jpg")["original"] == "../photos/plain.jpg"
    gradcam, _ = page.results("plain.jpg")
    assert gradcam["files"]["map"] == "../out/plain.gradcam.npy"


def test_a_page_that_cannot_be_written(run: Run, folder: Path) -> None:
    (folder / "file").touch()
    found = run("report", folder, "--output", folder / "file" / "page.html")
    assert found.exit_code == 1
    assert stderr(found).startswith(f"Error: cannot write '{folder}/file/page.html'")


def test_open_shows_the_page_in_a_browser(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: bool(opened.append(address)))
    found = run("report", folder, "--open")
    assert opened == [(folder / "report.html").as_uri()]
    assert stderr(found) == "Warning: no browser found to show the page\n"


def test_torch_is_not_imported() -> None:
    code = (
        "import camcli.report.contents, camcli.report.page, camcli.report.page, sys; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
