"""Images that are explained already, and `camcli explain --skip-existing` of their folder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.soak.command import check, measured, print_figures
from tests.soak.records import LINKS, PER_FOLDER
from tests.support.files import make_photo, manifest


def measure(folder: Path, rows: int) -> None:
    """Write images and their results, and print the figures of a run that keeps them all.

    All images are hard links to a few copies of one photo, and their maps of one map. Raises
    AssertionError if a row or a file has changed.
    """
    photos, out = folder / "photos", folder / "out"
    arguments = ("--save", "map", "--quiet", "--output")
    make_photo(folder / "one" / "0.jpg", 64, 64)
    check(measured("explain", folder / "one", *arguments, out), out, (0,))
    (row,) = manifest(out)
    with (out / "manifest.jsonl").open("w") as stream:
        stream.writelines(_lines(row, photos, out, rows))
    before = (out / "manifest.jsonl").read_bytes()
    found = measured("explain", photos, "--skip-existing", *arguments, out)
    print_figures("explain --skip-existing", f"{rows} images that are explained already", found)
    check(found, out, (0,))
    assert (out / "manifest.jsonl").read_bytes() == before, "no row has changed"
    shutil.rmtree(folder)


def _lines(row: dict[str, Any], photos: Path, out: Path, count: int) -> Iterator[str]:
    """Link the files of `count` images, and yield their rows, which are those of one image."""
    photo, result = photos.parent / "one" / "0.jpg", out / row["map"]
    for number in range(count):
        stem = f"{number // PER_FOLDER:05}/{number:08}"
        if number % PER_FOLDER == 0:
            for parent in (photos, out):
                (parent / stem).parent.mkdir(parents=True, exist_ok=True)
        if number % LINKS == 0:  # the files have all their links
            photo, result = _copy(photo), _copy(result)
        os.link(photo, photos / f"{stem}.jpg")
        os.link(result, out / f"{stem}.gradcam.npy")
        yield json.dumps(row | {"image": f"{stem}.jpg", "map": f"{stem}.gradcam.npy"}) + "\n"


def _copy(file: Path) -> Path:
    """Return a copy of a file under a hidden name in its folder."""
    copy = file.with_name(f".{file.name}x")
    shutil.copyfile(file, copy)
    return copy
