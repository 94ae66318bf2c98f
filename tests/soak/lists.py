"""Lists of many images: runs without a network, and the time to the first image of the command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import click

from tests.soak.command import environment, words_of
from tests.soak.records import LINKS
from tests.support.files import make_photo

PER_FOLDER = 10_000
"""The images in a folder."""


def measure(folder: Path, count: int, images: int) -> None:
    """Write hard links to few photos, and print the figures of runs of the first `images`."""
    photos, output = link_photos(folder / "photos", count), folder / "out"
    dry(photos, folder / "new", "new", images)
    shutil.rmtree(folder / "new")
    dry(photos, output, "rows", images)
    dry(photos, output, "kept", images)
    first_image(photos, output)
    shutil.rmtree(folder)


def link_photos(folder: Path, count: int, side: int = 64) -> Path:
    """Link `count` names to copies of one photo, in folders of PER_FOLDER. Return the folder."""
    photo = make_photo(folder / ".0.jpg", side, side)
    for number in range(count):
        name = folder / f"{number // PER_FOLDER:05}" / f"{number:08}.jpg"
        if number % PER_FOLDER == 0:
            name.parent.mkdir()
        if number and number % LINKS == 0:  # the file has all its links
            photo = Path(shutil.copyfile(photo, folder / f".{number}.jpg"))
        os.link(photo, name)
    return folder


def dry(photos: Path, output: Path, mode: str, images: int) -> None:
    """Run a job without its network, and print its figures. See `tests.soak.dry` for the modes."""
    words = [sys.executable, "-m", "tests.soak.dry", photos, output, mode, str(images)]
    printed = subprocess.run(words, env=environment(), stdout=subprocess.PIPE, check=True).stdout
    if mode == "rows":
        return
    listed, count, first, whole, used = json.loads(printed)
    click.echo(
        f"without a network, {mode}: {count} of {listed} images, "
        f"first image after {_seconds(*first)}, end after {_seconds(*whole)}, "
        f"memory {used:.0f} bytes for each image of the list"
    )


def first_image(photos: Path, output: Path) -> None:
    """Print the time to the first image of the command, which is then killed."""
    arguments = ("--skip-existing", "--save", "map", "--json", "--quiet", "--output", output)
    words, began = words_of("explain", photos, *arguments), time.monotonic()
    with subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"{")
        seconds = time.monotonic() - began
        process.kill()
        _, process.returncode, usage = os.wait4(process.pid, 0)
    taken = _seconds(seconds, usage.ru_utime + usage.ru_stime)
    peak = usage.ru_maxrss / 1e3
    click.echo(f"explain --skip-existing: first image after {taken}, peak {peak:.0f} MB")


def _seconds(whole: float, of_cpu: float) -> str:
    return f"{whole:.0f} s ({of_cpu:.0f} s of CPU)"
