"""Scenes of two coloured shapes on a textured background, and questions about them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 70, 230)}
SHAPES = ("circle", "ring", "cross")
KINDS = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
SIDE, LARGEST = 64, 24
"""The side of a scene, and the largest side of a thing in it, in pixels."""


@dataclass(frozen=True)
class Thing:
    """A coloured shape, and the square x0, y0, x1, y1 that it fills."""

    shape: str
    colour: str
    box: tuple[int, int, int, int]

    @property
    def words(self) -> str:
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """The pixels (SIDE,SIDE,3) of a scene and its two things, the left or upper one first."""

    pixels: NDArray[np.uint8]
    things: tuple[Thing, Thing]

    @property
    def captions(self) -> tuple[str, str]:
        """Return the two correct captions, which differ in the order of the things."""
        first, second = (f"a {thing.words}" for thing in self.things)
        return f"{first} and {second}", f"{second} and {first}"

    @property
    def clear(self) -> bool:
        """Return whether the things differ in shape and colour: each question has one answer."""
        first, second = self.things
        return first.shape != second.shape and first.colour != second.colour


@dataclass(frozen=True)
class Question:
    """A question about a scene, its answer, and the index of the thing that it is about."""

    text: str
    answer: str
    about: int


def scenes(count: int, seed: int, *, clear: bool = False) -> list[Scene]:
    """Return random scenes, or only clear ones."""
    draw = np.random.default_rng(seed)
    drawn = (scene(draw) for _ in itertools.count())
    return [*itertools.islice((one for one in drawn if one.clear or not clear), count)]


def scene(draw: Generator) -> Scene:
    """Return a random scene with one thing beside or below the other.

    The things may have the same shape or the same colour. Neither predicts the other, so a network
    has to look at the thing that a question is about.
    """
    colours, shapes = zip(*(kind.split() for kind in draw.permutation(KINDS)[:2]), strict=True)
    sides = draw.integers(LARGEST - 6, LARGEST + 1, 2)
    beside = bool(draw.integers(2))
    along = np.sort(draw.integers(0, SIDE - LARGEST + 1, 2))
    while along[1] - along[0] < LARGEST + 2:
        along = np.sort(draw.integers(0, SIDE - LARGEST + 1, 2))
    across = draw.integers(0, SIDE - LARGEST + 1) + draw.integers(-6, 7, 2)
    across = across.clip(0, SIDE - LARGEST)
    corners = zip(along, across, strict=True) if beside else zip(across, along, strict=True)
    pixels = background(draw)
    things = []
    for (x, y), side, shape, colour in zip(corners, sides, shapes, colours, strict=True):
        box = (int(x), int(y), int(x + side), int(y + side))
        paint(pixels, box, shape, np.array(COLOURS[colour]) + draw.integers(-25, 26, 3))
        things.append(Thing(shape, colour, box))
    noisy = pixels + draw.normal(0, 6, pixels.shape)
    first, second = things
    return Scene(noisy.clip(0, 255).astype(np.uint8), (first, second))


def questions(seen: Scene) -> list[Question]:
    """Return the unambiguous questions: a thing's colour by its shape, its shape by its colour."""
    found = []
    for about, (thing, other) in enumerate((seen.things, seen.things[::-1])):
        if thing.shape != other.shape:
            found.append(Question(f"what colour is the {thing.shape}?", thing.colour, about))
        if thing.colour != other.colour:
            found.append(Question(f"which shape is {thing.colour}?", thing.shape, about))
    return found


def normalised(scenes: Sequence[Scene]) -> Tensor:
    """Return scenes as inputs (N,3,SIDE,SIDE) of a network, in the range -1 to 1."""
    pixels = torch.from_numpy(np.stack([one.pixels for one in scenes]))
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


def background(draw: Generator) -> NDArray[np.float64]:
    """Return a smooth random texture of grey tones."""
    coarse = draw.uniform(90, 170, (8, 8, 1)).repeat(3, 2) + draw.uniform(-12, 12, (8, 8, 3))
    return np.asarray(cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC), np.float64)


def paint(
    pixels: NDArray[np.float64],
    box: tuple[int, int, int, int],
    shape: str,
    colour: NDArray[np.int64],
) -> None:
    """Paint a shape into pixels (H,W,3) so that it fills the square `box`, in place."""
    x0, y0, x1, y1 = box
    y, x = np.mgrid[y0:y1, x0:x1]
    # u and v are in the range -1 to 1 inside the box.
    u, v = (2 * x + 1 - x0 - x1) / (x1 - x0), (2 * y + 1 - y0 - y1) / (y1 - y0)
    inside = {
        "circle": u**2 + v**2 <= 1,
        "ring": (u**2 + v**2 <= 1) & (u**2 + v**2 >= 0.45),
        "cross": np.minimum(abs(u), abs(v)) <= 0.3,
        "diamond": abs(u) + abs(v) <= 1,
    }[shape]
    pixels[y0:y1, x0:x1][inside] = colour
