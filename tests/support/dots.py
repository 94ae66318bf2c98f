"""Photos of a soft dot, and how far from it networks of means have their heat."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from torch import Tensor

from camcli.engine.explain import explain
from camcli.images.geometry import Crop, MapArray, Pixels
from camcli.images.preprocess import Preset
from camcli.models.model import Model
from camcli.render.draw import place_map
from camcli.runs.batches import read_image
from camcli.runs.options import InputOptions
from tests.support.linear_networks import Probe

Point = NDArray[np.float64]
"""x and y."""

SHAPES = [
    *((480, 640), (640, 480), (300, 300), (427, 640), (375, 500), (500, 333), (224, 224)),
    *((225, 299), (256, 256), (301, 263), (768, 1024), (1000, 700), (60, 40), (97, 61)),
    *((200, 600), (640, 200), (333, 1000), (449, 451)),
]
"""Heights and widths of photos."""
PRESET = Preset(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
_TURN = Image.Transpose
STORED = {
    **{1: None, 2: _TURN.FLIP_LEFT_RIGHT, 3: _TURN.ROTATE_180, 4: _TURN.FLIP_TOP_BOTTOM},
    **{5: _TURN.TRANSPOSE, 6: _TURN.ROTATE_90, 7: _TURN.TRANSVERSE, 8: _TURN.ROTATE_270},
}
"""How an upright photo is stored, by EXIF's orientation."""


def offsets(
    net: Probe, shape: tuple[int, int], fit: str, orientation: int, file: Path, seed: int
) -> tuple[Point, Point]:
    """Return how far the heat of a dot at a random place is from it, across and down, in cells.

    The map is first placed in equal parts, then by centres. `file` is written on the way.
    """
    save_dot(file, shape, np.zeros(2), np.ones(2), orientation)
    values, _, _, placed = _explained(net, file, fit)
    (x, y, dx, dy), count = placed.centres(values.shape)[:4], np.array(values.shape[::-1])
    step, margin = np.array([dx, dy]), 2.4  # cells; a part of a dot's heat beyond the edge is lost
    cell = margin + np.random.default_rng(seed).uniform(0, 1, 2) * (count - 1 - 2 * margin)
    dot = np.array([x, y]) + step * cell
    save_dot(file, shape, dot, 0.6 * step, orientation)
    values, pixels, *crops = _explained(net, file, fit)
    heats = [place_map(values, crop, pixels.shape[:2]) for crop in crops]
    parts, centres = [(centre_of(heat) - dot) / step for heat in heats]
    return parts, centres


def _explained(net: Probe, file: Path, fit: str) -> tuple[MapArray, Pixels, Crop, Crop]:
    """Return the map of a photo, its pixels, and its place in equal parts and by centres."""
    model = Model(net, preset=PRESET)
    picture, tensor, crop = read_image(file, model, InputOptions(fit=fit))
    shown = explain(model, tensor[None], "gradcam", score, net.path)
    placed = crop.placed(shown.centres, (tensor.shape[2], tensor.shape[1]))
    return shown.maps[0].numpy(), picture.pixels, crop, placed


def score(output: Tensor) -> Tensor:
    """Return the only output of a Probe as the score."""
    return output[:, 0]


def centre_of(heat: NDArray[np.floating]) -> Point:
    """Return the centre of gravity of a picture (H,W), x and y; pixel edges are whole numbers."""
    weights = [heat.sum(axis, dtype=np.float64) for axis in (0, 1)]
    return np.array([np.average(np.arange(len(w)) + 0.5, weights=w) for w in weights])


def save_dot(
    file: Path, shape: tuple[int, int], dot: Point, width: Point, orientation: int
) -> None:
    """Write a photo (H,W) of a white dot, stored as a camera in this orientation stores it."""
    (x, y), (u, v) = dot, width
    rows, columns = (np.arange(side) + 0.5 for side in shape)
    bell = np.exp(-(((rows - y) / v) ** 2) / 2)[:, None] * np.exp(-(((columns - x) / u) ** 2) / 2)
    image = Image.fromarray(np.rint(bell * 255).astype(np.uint8)).convert("RGB")
    if (stored := STORED[orientation]) is not None:
        image = image.transpose(stored)
    exif = image.getexif()
    exif[ExifTags.Base.Orientation] = orientation
    image.save(file, exif=exif)
