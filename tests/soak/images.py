"""Damaged image files of all formats through `camcli explain`."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from camcli.images.formats import FORMATS
from tests.soak.command import Finished, check, measured, print_figures
from tests.support.command import TINY
from tests.support.files import manifest

PER_RUN = 500
SIZES = ((40, 30), (33, 50), (8, 8))
SECONDS = 600
"""The time after which a run of PER_RUN files hangs."""


def measure(folder: Path, count: int, seed: int) -> None:
    """Explain `count` damaged files, in runs of PER_RUN. Raises AssertionError."""
    chance, whole = random.Random(seed), [*whole_files()]
    runs = []
    for start in range(0, count, PER_RUN):
        photos, output = folder / f"in{start}", folder / f"out{start}"
        photos.mkdir(parents=True)
        numbers = range(start, min(start + PER_RUN, count))
        names = [_write(photos, number, chance, whole) for number in numbers]
        arguments = ("explain", photos, *TINY, "--save", "map", "--output", output)
        found = measured(*arguments, seconds=SECONDS)
        check(found, f"seed {seed}, {photos}", (0, 1))
        explained = {row["image"]: row["status"] for row in manifest(output)}
        assert explained.keys() == set(names), f"seed {seed}, {photos}: not a row for every file"
        runs.append((found, sum(status != "error" for status in explained.values())))
    read = sum(ok for _, ok in runs)
    work = f"{count} damaged files, {read} of them explained"
    print_figures("explain", work, _together([found for found, _ in runs]))


def whole_files() -> Iterator[tuple[str, bytes]]:
    """Yield the ending and the bytes of small files of every format that Pillow writes."""
    Image.init()
    endings = {kind: end for end, kind in Image.registered_extensions().items()}
    for kind in sorted(set(FORMATS) & Image.SAVE.keys() & endings.keys()):
        for mode in ("RGB", "L", "1", "P", "RGBA", "I;16", "F"):
            for width, height in SIZES:
                pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3))
                picture = Image.fromarray(pixels.astype(np.uint8))
                stream = io.BytesIO()
                try:
                    picture.convert("L" if mode in ("I;16", "F") else mode).convert(mode).save(
                        stream, kind
                    )
                except (OSError, ValueError, KeyError):  # not a mode of this format
                    continue
                yield endings[kind], stream.getvalue()


def _write(folder: Path, number: int, chance: random.Random, whole: list[tuple[str, bytes]]) -> str:
    """Write a damaged file, and return its name."""
    ending, data = chance.choice(whole)
    name = f"{number:06}{ending}"
    (folder / name).write_bytes(_damaged(data, chance))
    return name


def _damaged(data: bytes, chance: random.Random) -> bytes:
    """Return bytes changed, cut out, repeated and cut off, most of them near the beginning."""
    found = bytearray(data)
    for _ in range(chance.randint(0, 5)):
        at = chance.randrange(min(len(found), chance.choice((30, 300, len(found)))) or 1)
        size = chance.choice((1, 1, 2, 4, 50))
        kind = chance.randrange(4)
        if kind == 0:
            found[at : at + size] = chance.randbytes(size)
        elif kind == 1:
            found[at : at + size] = chance.choice((b"\x00", b"\xff", b"\x7f")) * size
        elif kind == 2:
            del found[at : at + size]
        else:
            found[at:at] = found[at : at + size]
    return bytes(found[: chance.choice((len(found), len(found), chance.randint(0, len(found))))])


def _together(runs: list[Finished]) -> Finished:
    """Return the highest code and peak of several runs, and the sums of their times."""
    return Finished(
        max(one.code for one in runs),
        sum(one.seconds for one in runs),
        sum(one.cpu_seconds for one in runs),
        max(one.peak_mb for one in runs),
        "",
    )
