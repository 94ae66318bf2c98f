"""`camcli figure`: what it writes, and its errors."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.support.command import Run, stderr, stdout
from tests.support.files import make_photo


def test_a_figure_of_two_models(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    photo, file = make_photo(tmp_path / "photo.jpg"), tmp_path / "sub" / "fig.png"
    for name, first in (("one", "cat"), ("other", "cow")):
        (tmp_path / f"{name}.txt").write_text("\n".join([first, *map(str, range(999))]))
    found = run(
        *("figure", photo, "--target", "cat", "--target", "top2"),
        *("--model", "mini", "--labels", tmp_path / "one.txt", "--weights", "DEFAULT"),
        *("--model", "mobilenet_v3_small", "--labels", tmp_path / "other.txt"),
        *("--weights", "none"),
        *("--window", 60, "--stride", 60, "--dpi", 50, "--scale", "figure", "-o", file),
    )
    assert found.exit_code == 0, stderr(found)
    assert stdout(found) == f"{file}\n"
    untrained, note = stderr(found).splitlines()
    assert untrained.startswith("Note: mobilenet_v3_small with weights none (random")
    assert note.startswith("Note: mobilenet_v3_small, gradcam: unknown target 'cat': did you mean")
    with Image.open(file) as image:
        assert image.width == 350
    assert [path.name for path in file.parent.iterdir()] == ["fig.png"]


def test_a_figure_of_two_images_and_two_layers(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    photos = [make_photo(tmp_path / f"{name}.jpg") for name in "ab"]
    file = tmp_path / "fig.svg"
    found = run(
        *("figure", *photos, "--method", "gradcam", "--layer", "auto", "--layer", "features.7"),
        *("--trim", "--letters", "--font-size", 6, "--width", 3.35, "--dpi", 50, "-o", file),
    )
    assert (found.exit_code, stderr(found)) == (0, "")
    assert file.read_bytes().count(b"<image") == 2 * 3 + 2 * 2, "pictures and colour bars"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["-o", "fig.bmp"],
            "figure 'fig.bmp': expected a name that ends in .png, .jpg, .pdf, .svg",
        ),
        (
            ["--width", "1"],
            "a photo and a map of it side by side would be 0.31 in wide: expected at least 0.60",
        ),
        (["--method", "gradcamm"], "unknown method 'gradcamm': did you mean 'gradcam'"),
        (["--target", "tabi"], "unknown target 'tabi': did you mean 'tabby'"),
        (["--scale", "page"], "unknown scale 'page': did you mean 'image'"),
        (["--colormap", "jett"], "unknown colormap 'jett'"),
        (
            ["--model", "mini"] * 3 + ["--weights", "none"] * 2,
            "--weights is given 2 times for 3 models: expected once",
        ),
        (["--labels", "none.txt"], "labels 'none.txt': No such file"),
        (["-o", "photo.jpg"], "'photo.jpg' is an input and would be overwritten by --output"),
        (["-", "-"], "standard input is given as several images: expected '-' once"),
        (["--font", "Comic Sanz"], "unknown font 'Comic Sanz'"),
        (["--font-size", "40"], "Invalid value for '--font-size'"),
        (["--layer", "layer9"], "mini: unknown layer 'layer9'"),
        (["-o", "/proc/none/fig.png"], "cannot write to '/proc/none': "),
        (["--model", "mobilenet_v3_small", "--weights", "none", "--method", "cam"], "cam needs"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str],
    message: str,
    run: Run,
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    found = run("figure", photo.name, "--window", 100, *arguments)
    assert (found.exit_code, stdout(found)) == (2, "")
    *notes, line = stderr(found).splitlines()
    assert all(note.endswith("is untrained.") for note in notes)
    assert line.startswith("Error: ")
    assert message in line
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def test_without_matplotlib(run: Run, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    found = run("figure", photo)
    assert found.exit_code == 2
    assert stderr(found) == (
        "Error: camcli figure needs matplotlib, which is not installed: "
        "pip install 'camcli[figure]'\n"
    )
