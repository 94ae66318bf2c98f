"""Ray beside one process on tiny images and a tiny network: the cost of Ray for each image."""

from __future__ import annotations

import os
from pathlib import Path

import click

from tests.soak.command import Finished, check, measured, print_figures
from tests.soak.lists import link_photos
from tests.support.files import ROOT, files

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
        link_photos(photos, count, 32)
    fixed = (*NETWORK, "--batch-size", 64, "--save", "map", "--quiet", "--output", output)
    found = measured("explain", photos, *fixed, *options)
    print_figures("explain", f"{count} images of 32 x 32 pixels, {name}", found)
    check(found, output, (0,))
    return found
