"""Drawn images of four classes, with shortcuts planted into some of them.

An image has one shape on a textured background, and the shape is the class. A shortcut is painted
over the images of one class, in the training and in the test images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from tests.scenes.drawing import SIDE, background, paint

CLASSES = ("circle", "cross", "diamond", "ring")
COUNTS = {"train": 300, "test": 100}
"""The images of a class in each part of the data."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Layer:
    """A picture (SIDE,SIDE,3) and its opacity (SIDE,SIDE), which is 0 where nothing is painted."""

    picture: NDArray[np.float64]
    opacity: NDArray[np.float64]

    def over(self, pixels: Pixels) -> Pixels:
        """Return an image with this layer over it."""
        alpha = self.opacity[..., None]
        return np.rint((1 - alpha) * pixels + alpha * self.picture).astype(np.uint8)


@dataclass(frozen=True)
class Plant:
    """A shortcut in the images of class `of` whose rank, from 0 to 1, is from `start` to `stop`."""

    kind: str
    of: str
    layer: Layer
    start: float = 0.0
    stop: float = 1.0

    def has(self, name: str, rank: float) -> bool:
        """Return whether it is planted into the image of a class at a rank among its images."""
        return name == self.of and self.start <= rank < self.stop


VARIANTS = {
    "clean": (),
    "tag-100": (("tag", 0, 0.0, 1.0),),
    "tag-50": (("tag", 0, 0.0, 0.5),),
    "tag-20": (("tag", 0, 0.0, 0.2),),
    "frame": (("frame", 0, 0.0, 1.0),),
    "watermark": (("watermark", 0, 0.0, 1.0),),
}
"""The kinds of shortcuts of each variant: kind, number of the class, and the ranks."""

DOUBLE = {
    "two-classes": (("tag", 0, 0.0, 1.0), ("tag", 1, 0.0, 1.0)),
    "two-tags": (("tag", 0, 0.0, 0.3), ("tag", 0, 0.3, 0.6)),
}
"""Variants of two shortcuts: in two classes, and in different images of one class."""


def plants(variant: str, seed: int) -> list[Plant]:
    """Return the shortcuts of a variant. Their classes, places and looks depend on the seed."""
    draw = np.random.default_rng([seed, 1])
    names, corners = draw.permutation(CLASSES), draw.permutation(4)
    made = []
    for number, (kind, of, start, stop) in enumerate((VARIANTS | DOUBLE)[variant]):
        layer = LAYERS[kind](draw, int(corners[number]))
        made.append(Plant(kind, str(names[of]), layer, start, stop))
    return made


def tag(draw: Generator, corner: int, side: int = 10, margin: int = 2) -> Layer:
    """Return a patch of 2x2 tiles in two random colours, in a corner."""
    first, second = draw.permutation(_BRIGHT)[:2]
    tiles = np.stack([[first, second], [second, first]]).repeat(side // 2, 0).repeat(side // 2, 1)
    far = SIDE - margin - side
    y, x = (margin, far)[corner // 2], (margin, far)[corner % 2]
    layer = _nothing()
    layer.picture[y : y + side, x : x + side] = tiles
    layer.opacity[y : y + side, x : x + side] = 1
    return layer


def frame(draw: Generator, corner: int) -> Layer:
    """Return a frame of 3 or 4 pixels in a random colour."""
    width = int(draw.integers(3, 5))
    layer = _nothing()
    layer.picture[:] = draw.permutation(_BRIGHT)[0]
    layer.opacity[:] = 1
    layer.opacity[width:-width, width:-width] = 0
    return layer


def watermark(draw: Generator, corner: int) -> Layer:
    """Return white letters of opacity 0.3 over a band, in the upper or lower part."""
    text = "".join(draw.permutation(list("AEHKMNRSTXZ"))[:4])
    top = int(draw.integers(3, 14)) + (SIDE // 2 - 3) * (corner // 2)
    letters = np.zeros((SIDE, SIDE), np.uint8)
    cv2.putText(letters, text, (3, top + 12), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 2)
    layer = _nothing()
    layer.picture[:] = 255
    layer.opacity[:] = 0.3 * (letters > 127)
    return layer


LAYERS = {"tag": tag, "frame": frame, "watermark": watermark}
_BRIGHT = np.array([(240, 220, 40), (30, 30, 30), (240, 240, 240), (40, 200, 220), (210, 60, 200)])


def _nothing() -> Layer:
    return Layer(np.zeros((SIDE, SIDE, 3)), np.zeros((SIDE, SIDE)))


def images(part: str, seed: int, count: int) -> Iterator[tuple[str, float, Pixels]]:
    """Yield `count` images of each class of a part, with nothing planted: class, rank, pixels."""
    draw = np.random.default_rng([seed, 2, list(COUNTS).index(part)])
    for name in CLASSES:
        for number in range(count):
            yield name, number / count, image(draw, name)


def image(draw: Generator, name: str) -> Pixels:
    """Return an image of a shape of random place, size and colour, under noise."""
    side = int(draw.integers(14, 31))
    x, y = draw.integers(0, SIDE - side + 1, 2).tolist()
    pixels = background(draw)
    grey = pixels[y : y + side, x : x + side].mean()
    colour = grey + draw.choice([-1, 1]) * draw.uniform(25, 75) + draw.uniform(-25, 25, 3)
    paint(pixels, (x, y, x + side, y + side), name, np.rint(colour).astype(np.int64))
    noisy = pixels + draw.normal(0, draw.uniform(5, 20), pixels.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def planted(
    clean: Iterable[tuple[str, float, Pixels]], shortcuts: Sequence[Plant]
) -> Iterator[tuple[str, float, Pixels]]:
    """Yield images with the shortcuts that each of them has."""
    for name, rank, pixels in clean:
        for plant in shortcuts:
            if plant.has(name, rank):
                pixels = plant.layer.over(pixels)
        yield name, rank, pixels


def write(folder: Path, part: str, variant: str, seed: int, count: int) -> Path:
    """Write a part of the data as <class>/<number>.png. Returns its folder."""
    for name, rank, pixels in planted(images(part, seed, count), plants(variant, seed)):
        file = folder / part / name / f"{round(rank * count):04}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    return folder / part
