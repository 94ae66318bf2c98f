"""Pipes and devices in place of files are refused at once, and C libraries print nothing."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from camcli.images import select
from tests.support.command import Run, problems, refused, stderr, stdout
from tests.support.files import make_photo, manifest
from tests.support.report import read_page

NET = ("--model", "tests.support.networks:GapNet", "--device", "cpu")

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pipes and devices are files on POSIX")


@pytest.fixture(params=["pipe", "device"])
def special(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A named pipe without a writer, or a link to an endless device; both end in .png."""
    (tmp_path / "in").mkdir()
    file = tmp_path / "in" / "b.png"
    if request.param == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to("/dev/zero")
    return file


def reason(file: Path) -> str:
    return f"a {'device' if file.is_symlink() else 'named pipe'}, not a regular file"


@pytest.mark.parametrize("command", ["explain", "evaluate"])
def test_an_image_that_is_no_regular_file_is_one_line(
    command: str, run: Run, special: Path, tmp_path: Path
) -> None:
    for name in ("a.jpg", "c.jpg"):
        make_photo(tmp_path / "in" / name)
    found = run(command, tmp_path / "in", *NET, "--output", tmp_path / "out", "--quiet")
    assert found.exit_code == 1
    assert problems(found) == [f"Error: {special}: {reason(special)}"]


def test_an_earlier_image_that_became_a_pipe_is_one_line(run: Run, tmp_path: Path) -> None:
    photos = [make_photo(tmp_path / "in" / name) for name in ("a.jpg", "b.jpg")]
    command = ("explain", tmp_path / "in", *NET, "--output", tmp_path / "out", "--skip-existing")
    assert run(*command).exit_code == 0
    photos[0].unlink()
    os.mkfifo(photos[0])
    assert run(*command).exit_code == 1
    assert [row["status"] for row in manifest(tmp_path / "out")] == ["error", "ok"]
    assert run("report", tmp_path / "out", "--images", tmp_path / "in").exit_code == 0


def test_the_image_of_a_figure(run: Run, special: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="camcli figure needs matplotlib")
    found = run("figure", special, *NET, "--output", tmp_path / "figure.png")
    assert f"{special}: {reason(special)}" in refused(found)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--labels", "labels '{}': {}"),
        ("--preprocess", "preprocessing '{}': {}"),
        ("--weights", "weights '{}': no such file"),
    ],
)
def test_files_of_a_network(
    option: str, message: str, run: Run, special: Path, photo: Path, tmp_path: Path
) -> None:
    found = run("explain", photo, *NET, option, special, "--output", tmp_path / "out")
    assert message.format(special, reason(special)) in refused(found)


@pytest.mark.parametrize("option", ["--boxes", "--class-map"])
def test_files_of_an_evaluation(option: str, run: Run, special: Path, photo: Path) -> None:
    given = {"--boxes": "csv:tests/none.csv", "--class-map": special} | {option: special}
    boxes = f"csv:{given['--boxes']}" if option == "--boxes" else given["--boxes"]
    arguments = ["--boxes", boxes, "--class-map", given["--class-map"]]
    if option == "--class-map":
        (table := photo.with_suffix(".csv")).write_text("image,class,x0,y0,x1,y1\n")
        arguments[1] = f"csv:{table}"
    found = run("evaluate", photo, *NET, *arguments)
    assert f"{special}: {reason(special)}" in refused(found)


def test_training_leaves_out_what_is_no_file(run: Run, special: Path, tmp_path: Path) -> None:
    found = run("train", tmp_path, "--output", tmp_path / "out", "--device", "cpu")
    assert "no images in" in refused(found)


def test_a_list_may_come_from_a_pipe(tmp_path: Path) -> None:
    """Process substitution, as in `--from-file <(find ...)`, is a pipe."""
    photo = make_photo(tmp_path / "a.jpg")
    command = [sys.executable, "-m", "camcli", "explain", "--dry-run", "--from-file"]
    ours, theirs = os.pipe()
    os.write(theirs, f"{photo}\n".encode())
    os.close(theirs)
    found = subprocess.run(
        [*command, f"/dev/fd/{ours}"], pass_fds=[ours], capture_output=True, check=True
    )
    os.close(ours)
    assert found.stdout.startswith(os.fsencode(f"{photo} -> "))


@pytest.mark.parametrize("given", ["/dev/zero", "-"])
def test_a_list_without_an_end_is_refused(
    given: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(select, "MAX_LIST", 3_000_000)
    with open("/dev/zero", "rb") as endless:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=endless))
        message = refused(run("explain", "--from-file", given))
    assert message == f"--from-file '{given}': larger than 3 MB"


def test_endless_standard_input_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("camcli.images.decode.MAX_INPUT", 3_000_000)
    with open("/dev/zero", "rb") as endless:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=endless))
        found = run("explain", "-", *NET, "--output", tmp_path / "out", "--quiet")
    assert problems(found) == ["Error: standard input: larger than 3 MB"]


def damaged(kind: str, **save: object) -> bytes:
    """Return a file of noise with bytes overwritten in its middle."""
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, kind, **save)
    data = bytearray(stream.getvalue())
    middle = len(data) // 2
    data[middle : middle + 2000] = b"\xff\xd9" * 1000
    return bytes(data)


def test_libraries_print_nothing(tmp_path: Path) -> None:
    """libtiff prints a line on standard error for each damaged strip, below Python."""
    (folder := tmp_path / "in").mkdir()
    for scheme in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"):
        (folder / f"{scheme}.tif").write_bytes(damaged("TIFF", compression=scheme))
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "JPEG2000"):
        (folder / f"{kind}.png").write_bytes(damaged(kind))
    command = ("explain", folder, *NET, "--output", tmp_path / "out", "--quiet")
    found = subprocess.run(
        [sys.executable, "-m", "camcli", *map(str, command)], capture_output=True, text=True
    )
    rows = manifest(tmp_path / "out")
    errors = [f"Error: {row['error']}" for row in rows if row["error"]]
    assert len(errors) >= 2
    assert found.stderr.splitlines() == errors


def test_the_frame_and_the_levels_are_in_the_row_and_on_standard_error(
    run: Run, tmp_path: Path
) -> None:
    (folder := tmp_path / "in").mkdir()
    pages = [Image.new("L", (60, 60), grey) for grey in (10, 200)]
    pages[0].save(folder / "a.tif", save_all=True, append_images=pages[1:])
    values = np.linspace(100, 4000, 3600).reshape(60, 60).astype(np.uint16)
    for name in ("b.png", "c.png"):
        Image.fromarray(values).save(folder / name)
    make_photo(folder / "d.jpg")
    out = ("--output", tmp_path / "out")
    found = run("explain", folder, *NET, *out)
    assert found.exit_code == 0
    assert [(row["frame"], row["levels"]) for row in manifest(tmp_path / "out")] == [
        (1, None),
        (None, [100, 4000]),
        (None, [100, 4000]),
        (None, None),
    ]
    first, second = sorted(one for one in problems(found) if one.startswith("Warning: "))
    assert "--window-level C,W" in first
    assert "--frame N" in second

    other = run("explain", folder / "b.png", *NET, *out, "--window-level", "1000,600")
    assert "window-level unset, here [1000.0, 600.0]" in refused(other)
    other = run(
        "explain", folder / "b.png", *NET, *out, "--window-level", "1000,600", "--overwrite"
    )
    assert other.exit_code == 0
    assert "Warning" not in stderr(other)
    (row,) = manifest(tmp_path / "out")
    assert row["levels"] == [700, 1300]
    other = run("explain", folder, *NET, *out, "--frame", 2, "--overwrite")
    assert other.exit_code == 1
    errors = [row["error"] for row in manifest(tmp_path / "out")]
    assert errors[0] is None
    assert all(error.endswith("it has one frame, and no --frame 2") for error in errors[1:])


def test_a_window_level_is_a_centre_and_a_width(run: Run, photo: Path) -> None:
    for given in ("40", "40,0", "40,-5", "1,2,3"):
        assert f"'{given}': expected a centre and a width above 0, as 40,400" in refused(
            run("explain", photo, *NET, "--window-level", given)
        )
    assert "x,y" in refused(run("explain", photo, *NET, "--window-level", "x,y"))


def test_a_report_shows_the_frame_and_the_levels_of_the_run(run: Run, tmp_path: Path) -> None:
    (folder := tmp_path / "in").mkdir()
    pages = [Image.new("RGB", (60, 60), (grey,) * 3) for grey in (10, 200)]
    pages[0].save(folder / "a.gif", save_all=True, append_images=pages[1:])
    out = tmp_path / "out"
    assert run("explain", folder, *NET, "--output", out, "--frame", 2).exit_code == 0
    found = run("report", out, "--images", folder)
    assert stdout(found).startswith("1 image, 1 result")
    assert stderr(found) == ""


def test_a_report_links_only_originals_that_a_browser_shows_as_they_were_explained(
    run: Run, tmp_path: Path
) -> None:
    (folder := tmp_path / "in").mkdir()
    Image.fromarray(np.arange(3600, dtype=np.uint16).reshape(60, 60)).save(folder / "deep.png")
    pages = [Image.new("RGB", (60, 60), (grey,) * 3) for grey in (10, 200)]
    pages[0].save(folder / "moving.gif", save_all=True, append_images=pages[1:])
    make_photo(folder / "photo.jpg")
    out = tmp_path / "out"
    assert run("explain", folder, *NET, "--output", out).exit_code == 0
    assert run("report", out).exit_code == 0
    images = read_page(out).data["images"]
    assert all("thumbnail" in image for image in images)
    linked = [image["name"] for image in images if "original" in image]
    assert linked == ["photo.jpg"]
