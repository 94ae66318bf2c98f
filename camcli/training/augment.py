"""Random views of training images: cheap on few cores, and blind to how sharp an image is.

Small images have to be enlarged and are blurry, photos are sharp. A network that is given both
takes sharpness itself for evidence wherever the two hold different classes, so sharpness is made
uninformative: photos are reduced and enlarged again, fine detail is turned up, down and off, and
the fine detail of sharp images is laid over others. All is done on bytes by OpenCV, which leaves
the other threads alone, and everything is drawn from one NumPy generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from camcli.images.geometry import Pixels

Batch: TypeAlias = NDArray[np.uint8]
"""Images of one size, (N,S,S,3), 0 to 255."""
Fineness: TypeAlias = NDArray[np.int64]
"""How many pixels of detail each view of a batch holds along its shorter side, (N,)."""

_ENLARGING = (cv2.INTER_LINEAR, cv2.INTER_LINEAR, cv2.INTER_CUBIC)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def views(images: Sequence[Pixels], size: int, rng: np.random.Generator) -> tuple[Batch, Fineness]:
    """One random view of each image, (N,size,size,3), and how fine each is."""
    made = [_view(pixels, size, rng) for pixels in images]
    batch, fineness = np.stack([view for view, _ in made]), np.array([fine for _, fine in made])
    _detail(batch, rng)
    for image in batch:
        _colour(image, rng)
        _erase(image, rng)
    return batch, fineness


def _view(pixels: Pixels, size: int, rng: np.random.Generator) -> tuple[Pixels, int]:
    """A random part of an image (h,w,3), mirrored half of the time, as (size,size,3)."""
    part: Any = _part(_widened(pixels, rng), rng)
    if rng.random() < 0.5:
        part = part[:, ::-1]
    # Half of what is sharp is brought down to where small images are; nothing is left so large
    # that the next step would alias.
    finest = int(np.exp(rng.uniform(np.log(24), np.log(40)))) if rng.random() < 0.5 else size
    finest = min(finest, size)
    if min(part.shape[:2]) > finest:
        part = cv2.resize(part, (finest, finest), interpolation=cv2.INTER_AREA)
    how = _ENLARGING[rng.integers(len(_ENLARGING))]
    fineness = min(part.shape[:2])
    return np.asarray(cv2.resize(part, (size, size), interpolation=how), np.uint8), fineness


def _widened(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """One image in seven with reflected borders of up to a quarter, so that objects get smaller."""
    if rng.random() >= 0.15:
        return pixels
    height, width = pixels.shape[:2]
    top, bottom, left, right = rng.uniform(0, 0.25, 4) * (height, height, width, width)
    border = int(top), int(bottom), int(left), int(right)
    return np.asarray(cv2.copyMakeBorder(pixels, *border, cv2.BORDER_REFLECT_101), np.uint8)


def _part(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """A random rectangle: 50 to 100 % of the largest square, 4:5 to 5:4, within the image."""
    height, width = pixels.shape[:2]
    side = min(height, width) * np.sqrt(rng.uniform(0.5, 1.0))
    stretch = np.exp(rng.uniform(np.log(4 / 5), np.log(5 / 4)) / 2)
    h, w = (max(1, round(n)) for n in (min(height, side / stretch), min(width, side * stretch)))
    y, x = rng.integers(height - h + 1), rng.integers(width - w + 1)
    return pixels[y : y + h, x : x + w]


def _detail(batch: Batch, rng: np.random.Generator) -> None:
    """Turn the fine detail of some images up, down or off, and lay that of others over some.

    The lent detail comes from the sharpest eighth of the batch, so that "sharp" says nothing
    of the class. Changes the batch.
    """
    n = len(batch)
    steps = np.abs(np.diff(batch[:, ::4, :, 1].astype(np.int16), axis=2)).mean((1, 2))
    sharpest = np.argsort(-steps, kind="stable")[: max(1, n // 8)]
    lent = [_fine(batch[i], rng) for i in sharpest]
    for i in np.flatnonzero(rng.random(n) < 0.2):
        _add(batch[i], _fine(batch[i], rng), rng.uniform(-1, 1))
    for i in np.flatnonzero(rng.random(n) < 0.25):
        _add(batch[i], lent[rng.integers(len(lent))], rng.uniform(0.3, 1))


def _fine(image: Pixels, rng: np.random.Generator) -> NDArray[np.int16]:
    """What an image (S,S,3) loses when reduced to between a half and a quarter, signed."""
    size = len(image)
    small = max(1, int(size / rng.uniform(2, 4)))
    reduced = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
    coarse = cv2.resize(reduced, (size, size), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.subtract(image, coarse, dtype=cv2.CV_16S), np.int16)


def _add(image: Pixels, fine: NDArray[np.int16], strength: float) -> None:
    """Add detail to an image in place, within 0 to 255."""
    image[...] = cv2.addWeighted(image, 1.0, fine, strength, 0, dtype=cv2.CV_8U)


def _colour(image: Pixels, rng: np.random.Generator) -> None:
    """Change brightness, contrast and saturation by up to a quarter; one in twenty is grey.

    Saturation is about the pixel's grey and contrast about the image's: together one affine map
    of the colours. In place.
    """
    bright, contrast, vivid = rng.uniform(0.75, 1.25, 3)
    vivid *= rng.random() >= 0.05
    grey = np.tile(_LUMA, (3, 1))
    mean = float(image[::4, ::4].mean((0, 1)) @ _LUMA)
    matrix = contrast * (vivid * (np.eye(3) - grey) + grey)
    offset = np.full((3, 1), (bright - contrast) * mean)
    image[...] = cv2.transform(image, np.hstack([matrix, offset]))


def _erase(image: Pixels, rng: np.random.Generator) -> None:
    """Put a grey rectangle, a fifth to two fifths of each side, on one image in twenty."""
    if rng.random() >= 0.05:
        return
    size = len(image)
    h, w = (int(size * rng.uniform(0.2, 0.4)) for _ in range(2))
    y, x = rng.integers(size - h + 1), rng.integers(size - w + 1)
    image[y : y + h, x : x + w] = rng.integers(76, 153)
