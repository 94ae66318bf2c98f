"""Output folders of many rows, and `camcli check`, `compare`, `audit` and `report` of them."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from camcli.runs.outputs import OUTPUTS
from tests.soak.command import check, measured, print_figures

MAPS = 8
"""The different maps of a folder."""
LINKS = 30_000
"""The hard links to one file, below the limit of common file systems."""
PER_FOLDER = 1000
"""The images in a folder, as in a data set."""
CLASSES = 1000
"""The classes of the images."""


def write_output(
    folder: Path, rows: int, seed: int = 0, *, noise: float = 0, changed: int = 0
) -> Path:
    """Write an output folder as `camcli explain --save map` does, of `rows` images.

    Every row names a file of its own. The files are hard links to few different maps. `noise` is
    added to all maps as a share of their values, and every `changed`-th map has another pattern.
    """
    maps = _Maps(folder, seed, noise)
    with (folder / "manifest.jsonl").open("w") as manifest:
        for number in range(rows):
            row = example_row(number)
            maps.link(number, folder / row["map"], other=bool(changed) and number % changed == 0)
            manifest.write(json.dumps(row) + "\n")
    record = {"model": "mini", "weights": "DEFAULT", "layers": ["auto"], "seconds": 1.5}
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def measure(folder: Path, rows: int, seed: int) -> None:
    """Write folders, and print the figures of the commands on them. Raises AssertionError."""
    new, same, noisy = (folder / name for name in ("new", "same", "noisy"))
    write_output(new, rows, seed)
    write_output(same, rows, seed)
    write_output(noisy, rows, seed, noise=1e-4, changed=1000)
    for other, name, code in ((same, "equal maps", 0), (noisy, "other maps, 1 in 1000 changed", 3)):
        found = measured("check", new, other)
        print_figures("check", f"{rows} rows, {name}", found)
        check(found, other, (code,))
    with (new / "check.jsonl").open("wb") as stream:
        found = measured("check", new, noisy, "--json", "--junit", folder / "j.xml", stdout=stream)
    print_figures("check --json --junit", f"{rows} rows", found)
    check(found, new, (3,))
    for options in ((), ("--output", folder / "compared")):
        found = measured("compare", new, noisy, *options)
        name = " ".join(["compare", *map(str, options[:1])])
        print_figures(name, f"{rows} rows, 1 in 1000 changed", found)
        check(found, noisy, (0,))
    found = measured("audit", new)
    size = (new / "audit.html").stat().st_size / 1e6
    print_figures("audit", f"{rows} rows of {CLASSES} classes, page of {size:.0f} MB", found)
    check(found, new, (0,))
    found = measured("report", new)
    size = (new / "report.html").stat().st_size / 1e6
    print_figures("report", f"{rows} rows and as many of check.jsonl, page of {size:.0f} MB", found)
    check(found, new, (0,))
    shutil.rmtree(folder)


class _Maps:
    """Files of few different maps, which many names are linked to."""

    def __init__(self, folder: Path, seed: int, noise: float) -> None:
        self._folder, self._noise, self._links = folder, noise, LINKS
        rng = np.random.default_rng(seed)
        values = rng.random((2 * MAPS, 13, 13), np.float32)
        self._values = values * (1 + noise * rng.random(values.shape, np.float32))
        self._made = 0
        folder.mkdir(parents=True)

    def link(self, number: int, name: Path, *, other: bool) -> None:
        """Link a name to the map of a number, or to another one."""
        if number % PER_FOLDER == 0:
            name.parent.mkdir(parents=True, exist_ok=True)
        if number % (MAPS * LINKS) == 0:  # the files have all their links
            self._made += 1
            for index, values in enumerate(self._values):
                np.save(self._file(index), values)
        os.link(self._file(number % MAPS + MAPS * other), name)

    def _file(self, index: int) -> Path:
        return self._folder / f".map-{self._made}-{index}.npy"


def example_row(number: int) -> dict[str, Any]:
    """Return a row as explain writes it."""
    rng = random.Random(number)
    stem = f"{number // PER_FOLDER:05}/{number:08}"
    files = {kind.field: None for kind in OUTPUTS.values()} | {"map": f"{stem}.gradcam.npy"}
    index, wrong = rng.randrange(CLASSES), rng.random() < 0.2
    true = rng.randrange(CLASSES) if wrong else index
    truth = {"true_index": true, "true_name": f"class {true}", "correct": true == index}
    truth |= {"top5": True, "size": [1024, 768]}
    return {
        **{"image": f"{stem}.jpg", "method": "gradcam", "target": "pred", "class_index": index},
        **{"class_name": f"class {index}", "score": rng.random() * 30, "probability": rng.random()},
        **{"predicted_index": index, "predicted_name": f"class {index}", "confidence": 0.5},
        **truth,
        **{"unsure": False, "layer": "features", **files, "map_shape": [13, 13], "map_min": 0.0},
        **{"map_max": 97.25, "crop": [174, 48, 847, 720], "placement": "centres"},
        **{"cells": [226.721408, 100.5, 48.046921, 48.0], "box": None, "boxes": None},
        **{"status": "ok", "error": None, "digest": f"59cdf5a74533-{rng.getrandbits(64):016x}"},
    }
