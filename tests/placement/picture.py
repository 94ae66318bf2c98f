"""The picture of docs/placement.md: a dot and a photo, with heat in equal parts and by centres."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

import camcli
from camcli.images.geometry import Pixels
from camcli.images.preprocess import preprocess
from camcli.models.model import Model
from camcli.render.draw import overlay
from camcli.render.panels import labelled_grid
from camcli.render.style import Style
from tests.support.dots import PRESET, save_dot, score
from tests.support.linear_networks import Probe

SIDE, DOT = 224, np.array([144.5, 80.5])
PHOTO = Path("sample_images/dog.jpg")


def draw_picture(file: Path) -> None:
    """Write the picture: above a dot in a ResNet-18 of means, below a photo in mini."""
    net = Probe("resnet18", sharp=True)
    with tempfile.TemporaryDirectory() as folder:
        dot = Path(folder) / "dot.png"
        save_dot(dot, (SIDE, SIDE), DOT, np.array([5, 5]), 1)
        pixels = np.asarray(Image.open(dot))
    rows = [
        _row("a dot", pixels, Model(net, preset=PRESET), _circled, target=score, layer=net.path),
        _row("a photo", _square(PHOTO), camcli.load("mini"), lambda drawn: drawn),
    ]
    Image.fromarray(np.vstack(rows)).save(file, quality=90)


def _row(
    title: str, pixels: Pixels, model: Model, mark: Callable[[Pixels], Pixels], **how: Any
) -> Pixels:
    tensor, crop = preprocess(pixels, model.preset, "squash")
    shown = camcli.explain(model, tensor[None], "gradcam", **how)
    size, values = (tensor.shape[2], tensor.shape[1]), shown.maps[0].numpy()
    drawn = [
        overlay(pixels, values, crop.placed(centres, size), Style(), signed=False)
        for centres in (None, shown.centres)
    ]
    titles = title, "heat in equal parts", "heat by centres"
    return labelled_grid(list(zip(titles, map(mark, (pixels, *drawn)), strict=True)))


def _circled(pixels: Pixels) -> Pixels:
    """Return a picture with a circle around the dot."""
    place = [round(float(side)) for side in DOT]
    return np.asarray(cv2.circle(pixels.copy(), place, 14, (255, 255, 255), 1, cv2.LINE_AA))


def _square(file: Path) -> Pixels:
    """Return the square in the middle of a photo."""
    photo = Image.open(file).convert("RGB")
    side = min(photo.size)
    x, y = ((length - side) // 2 for length in photo.size)
    return np.asarray(photo.crop((x, y, x + side, y + side)).resize((SIDE, SIDE)))
