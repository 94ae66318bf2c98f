"""The formats that are read: a decision for each format of Pillow, and one place to open files."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest
from PIL import Image

from camcli.errors import ImageError
from camcli.images import formats
from camcli.images.decode import decode
from camcli.images.find import find
from tests.support.command import TINY, Run, problems
from tests.support.files import ROOT, make_photo, manifest

PREFIXES = {
    "BUFR": b"BUFR",
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "FITS": b"SIMPLE  =                    T",
    "GRIB": b"GRIB\0\0\0\1",
    "HDF5": b"\x89HDF\r\n\x1a\n",
    "MPEG": b"\0\0\1\xb3\0\1\1",
    "WMF": b"\xd7\xcd\xc6\x9a\0\0",
}
"""The first bytes of files of refused formats."""


def own_readers() -> set[str]:
    """Return the formats that Pillow itself opens, without those of other packages."""
    Image.init()
    return {
        name for name, (reader, _) in Image.OPEN.items() if reader.__module__.startswith("PIL.")
    }


def test_every_format_of_pillow_is_read_or_refused() -> None:
    decided = {*formats.FORMATS, *formats.REFUSED}
    assert not set(formats.FORMATS) & set(formats.REFUSED)
    assert not own_readers() - decided, (
        "formats that this Pillow opens: add each to FORMATS, if the file alone holds the pixels "
        "and Pillow starts no program for it, and otherwise to REFUSED with the reason"
    )


def test_folders_are_searched_for_the_formats_that_are_read(tmp_path: Path) -> None:
    for suffix in Image.registered_extensions():
        (tmp_path / f"a{suffix}").touch()
    found = {source.name.suffix for source in find([str(tmp_path)])}
    assert found == formats.suffixes()
    assert {".jpg", ".png", ".tif", ".mpo", ".webp"} <= found
    assert not {".eps", ".ps", ".pdf", ".wmf", ".mpg", ".fits", ".h5"} & found


@pytest.mark.parametrize("name", PREFIXES)
def test_a_refused_format_is_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PREFIXES[name] + bytes(100))
    held = formats.REFUSED[name]
    with pytest.raises(ImageError, match=f"a.png: {name} is not read: it holds {held}, not an im"):
        decode(tmp_path / "a.png")


def test_postscript_is_never_run(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of PostScript may loop for ever, and Ghostscript may fail on it."""
    program, started = tmp_path / "bin" / "gs", tmp_path / "started"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {started}\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # search for it again
    make_photo(tmp_path / "in" / "b.jpg")
    page = tmp_path / "in" / "a.png"
    page.write_bytes(PREFIXES["EPS"] + b"%%EndComments\n{} loop\n")
    found = run("explain", tmp_path / "in", *TINY, "--output", tmp_path / "out", "--quiet")
    assert found.exit_code == 1
    assert not started.exists()
    assert problems(found) == [
        f"Error: {page}: EPS is not read: it holds a program in PostScript, not an image"
    ]
    assert [row["status"] for row in manifest(tmp_path / "out")] == ["error", "ok"]


def test_image_files_are_opened_in_one_place() -> None:
    """Elsewhere a format could be read that is refused, or a pipe be waited for."""

    def opens(file: Path) -> bool:
        calls = (
            node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)
        )
        return any(ast.unparse(call.func) in ("Image.open", "cv2.imread") for call in calls)

    files = sorted(file.name for file in (ROOT / "camcli").rglob("*.py") if opens(file))
    assert files == ["formats.py"]
    names = (file for file in (ROOT / "camcli").rglob("*.py") if "_extensions" in file.read_text())
    assert [file.name for file in names] == ["formats.py"]
