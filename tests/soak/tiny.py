"""Ray beside one process on tiny images and a tiny network: the cost of Ray for each image."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import click

from tests.soak.command import Finished, check, measured, print_figures
from tests.soak.records import LINKS, PER_FOLDER
from tests.support.files import ROOT, files, make_photo

NETWORK = ("--model", "tests.support.networks:GapNet", "--resize", "32x32", "--device", "cpu")
EXECUTORS = {"local": (), "ray": ("--executor", "ray", "--num-actors", "1")}


def measure(folder: Path, count: int) -> None:
    """Explain `count` images, and a tenth of them, by both executors, with one thread each.

    Print the figures, and Ray's share per image, without its start. Raises AssertionError.
    """
    os.environ["PYTHONPATH"] = str(ROOT)  # where the actors find the network
    slopes = {}
    for name, options in EXECUTORS.items():
        few, many = (_run(folder, name, options, images) for images in (count // 10, count))
        slopes[name] = 1e3 * (many.seconds - few.seconds) / (count - count // 10)
    assert files(folder / f"ray{count}") == files(folder / f"local{count}")
    share = slopes["ray"] - slopes["local"]
    words = ", ".join(f"{name} {slope:.2f} ms" for name, slope in slopes.items())
    click.echo(f"explain: each of {count} images: {words}, so {share:.2f} ms for Ray; equal bytes")


def _run(folder: Path, name: str, options: tuple[str, ...], count: int) -> Finished:
    """Explain images, and print the figures of the command, which has Ray's processes beside it."""
    photos, output = folder / f"in{count}", folder / f"{name}{count}"
    if not photos.exists():
        _link_images(photos, count)
    fixed = (*NETWORK, "--batch-size", 64, "--save", "map", "--quiet", "--output", output)
    found = measured("explain", photos, *fixed, *options)
    print_figures("explain", f"{count} images of 32 x 32 pixels, {name}", found)
    check(found, output, (0,))
    return found


def _link_images(folder: Path, count: int) -> None:
    """Link a few copies of one image under many names."""
    image = make_photo(folder / ".0.jpg", 32, 32)
    for number in range(count):
        name = folder / f"{number // PER_FOLDER:05}" / f"{number:08}.jpg"
        if number % PER_FOLDER == 0:
            name.parent.mkdir()
        if number % LINKS == LINKS - 1:  # the file has nearly all its links
            image = Path(shutil.copyfile(image, image.with_name(f".{number}.jpg")))
        os.link(image, name)
