"""Compare the suspects of `camcli audit` with the shortcuts that were planted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.proof.data import Plant
from tests.proof.training import NET
from tests.scenes.drawing import SIDE
from tests.support.files import ROOT

CELL = 8
"""The side of a cell of the network's map, in pixels."""

Suspect = dict[str, Any]


class Verdict(NamedTuple):
    """What an audit found of the shortcuts of a network.

    `first` is whether the first suspect is one of them, in its class and place. `found` has for
    each shortcut whether any suspect is it. `others` is the number of suspects that are none.
    """

    first: bool
    found: tuple[bool, ...]
    others: int


def explain(images: Path, model: Path, heat: Path) -> Path:
    """Explain the test images with their true classes. Returns the output folder."""
    what = ("--truth", "folder", "--method", "gradcam", "--save", "map")
    how = ("--skip-existing", "--overwrite", "--quiet", "--output", heat)
    _camcli("explain", images, *_network(model), *what, *how)
    return heat


def audit(heat: Path, model: Path, images: Path) -> list[Suspect]:
    """Return the suspects of an output folder."""
    shown = _camcli("audit", heat, *_network(model), "--images", images, "--json")
    suspects: list[Suspect] = json.loads(shown)["suspects"]
    return suspects


def verdict(suspects: Sequence[Suspect], plants: Sequence[Plant]) -> Verdict:
    """Compare suspects, the first one first, with the shortcuts."""
    hits = [[matches(suspect, plant) for plant in plants] for suspect in suspects]
    return Verdict(
        first=any(hits[0]) if hits else False,
        found=tuple(any(hit[number] for hit in hits) for number in range(len(plants))),
        others=sum(not any(hit) for hit in hits),
    )


def matches(suspect: Suspect, plant: Plant) -> bool:
    """Return whether a suspect has the class and the place of a shortcut.

    Most of its region has to be near the shortcut, and clearly more than of a random region.
    """
    if suspect["class"] != plant.of or suspect["region"] is None:
        return False
    region = np.array(suspect["region"], bool)
    near = near_cells(plant, len(region))
    return bool(region.any()) and float(near[region].mean()) >= max(0.5, 1.5 * near.mean())


def near_cells(plant: Plant, count: int) -> NDArray[np.bool_]:
    """Return the cells (count,count) whose centres are in the box of a shortcut or near it.

    Near is within a cell of the network's map. Since the box of a frame is the whole image, near a
    frame is its pixels and those within half a cell: the outermost cells of the network's map.
    """
    mask = (plant.layer.opacity > 0).astype(np.uint8)
    grown = CELL
    if plant.kind == "frame":
        grown = CELL // 2
    else:
        x, y, width, height = cv2.boundingRect(mask)
        mask[y : y + height, x : x + width] = 1
    side = 2 * grown + 1
    wide = cv2.dilate(mask, np.ones((side, side), np.uint8))
    centres = ((np.arange(count) + 0.5) * SIDE / count).astype(int)
    return np.asarray(wide[np.ix_(centres, centres)] > 0)


def _network(model: Path) -> tuple[str | Path, ...]:
    return ("--model", NET, "--weights", model, "--device", "cpu")


def _camcli(*arguments: str | Path) -> str:
    """Run the command and return its standard output. Raises CalledProcessError."""
    command = [sys.executable, "-m", "camcli", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
