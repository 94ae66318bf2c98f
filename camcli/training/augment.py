"""Random views of training images that do not reveal how sharp an image is.

Enlarged small images are blurry and photos are sharp. Where the two have different classes, a
network would take sharpness as evidence. The views therefore make sharpness uninformative: photos
are reduced and enlarged again, fine detail is amplified, weakened or removed, and the fine detail
of sharp images is added to others. OpenCV computes all of it on bytes and leaves the other threads
free. All randomness comes from one NumPy generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from camcli.images.geometry import Pixels

Views: TypeAlias = NDArray[np.uint8]
"""RGB images of one size, (N,S,S,3), 0 to 255."""
Resolutions: TypeAlias = NDArray[np.int64]
"""The effective resolution of each view (N,): its shorter side in pixels before enlarging."""

_INTERPOLATIONS = (cv2.INTER_LINEAR, cv2.INTER_LINEAR, cv2.INTER_CUBIC)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def random_views(
    images: Sequence[Pixels], size: int, rng: np.random.Generator
) -> tuple[Views, Resolutions]:
    """Return one random view (size,size,3) of each image, and the effective resolutions."""
    made = [_view(pixels, size, rng) for pixels in images]
    views = np.stack([view for view, _ in made])
    resolutions = np.array([resolution for _, resolution in made])
    _change_detail(views, rng)
    for view in views:
        _change_colour(view, rng)
        _erase(view, rng)
    return views, resolutions


def _view(pixels: Pixels, size: int, rng: np.random.Generator) -> tuple[Pixels, int]:
    """Return a random part of an image (h,w,3), mirrored half of the time, and its resolution."""
    part: Any = _crop(_pad(pixels, rng), rng)
    if rng.random() < 0.5:
        part = part[:, ::-1]
    # Half of the sharp images are reduced to the size of small ones. All others are reduced to the
    # view's size at most, since the next resize would cause aliasing.
    limit = int(np.exp(rng.uniform(np.log(24), np.log(40)))) if rng.random() < 0.5 else size
    limit = min(limit, size)
    if min(part.shape[:2]) > limit:
        part = cv2.resize(part, (limit, limit), interpolation=cv2.INTER_AREA)
    interpolation = _INTERPOLATIONS[rng.integers(len(_INTERPOLATIONS))]
    resolution = min(part.shape[:2])
    view = cv2.resize(part, (size, size), interpolation=interpolation)
    return np.asarray(view, np.uint8), resolution


def _pad(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Add reflected borders of up to a quarter to one image in seven, to make objects smaller."""
    if rng.random() >= 0.15:
        return pixels
    height, width = pixels.shape[:2]
    top, bottom, left, right = rng.uniform(0, 0.25, 4) * (height, height, width, width)
    border = int(top), int(bottom), int(left), int(right)
    return np.asarray(cv2.copyMakeBorder(pixels, *border, cv2.BORDER_REFLECT_101), np.uint8)


def _crop(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Return a random rectangle of 50 to 100 % of the largest square, of ratio 4:5 to 5:4."""
    height, width = pixels.shape[:2]
    side = min(height, width) * np.sqrt(rng.uniform(0.5, 1.0))
    stretch = np.exp(rng.uniform(np.log(4 / 5), np.log(5 / 4)) / 2)
    h, w = (max(1, round(n)) for n in (min(height, side / stretch), min(width, side * stretch)))
    y, x = rng.integers(height - h + 1), rng.integers(width - w + 1)
    return pixels[y : y + h, x : x + w]


def _change_detail(views: Views, rng: np.random.Generator) -> None:
    """Amplify, weaken or remove the fine detail of some views, and add that of others to some.

    The added detail comes from the sharpest eighth of the batch, so that sharpness does not reveal
    the class. Works in place.
    """
    n = len(views)
    steps = np.abs(np.diff(views[:, ::4, :, 1].astype(np.int16), axis=2)).mean((1, 2))
    sharpest = np.argsort(-steps, kind="stable")[: max(1, n // 8)]
    details = [_detail(views[i], rng) for i in sharpest]
    for i in np.flatnonzero(rng.random(n) < 0.2):
        _add(views[i], _detail(views[i], rng), rng.uniform(-1, 1))
    for i in np.flatnonzero(rng.random(n) < 0.25):
        _add(views[i], details[rng.integers(len(details))], rng.uniform(0.3, 1))


def _detail(image: Pixels, rng: np.random.Generator) -> NDArray[np.int16]:
    """Return what an image (S,S,3) loses when reduced to a half to a quarter, signed."""
    size = len(image)
    small = max(1, int(size / rng.uniform(2, 4)))
    reduced = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
    blurred = cv2.resize(reduced, (size, size), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.subtract(image, blurred, dtype=cv2.CV_16S), np.int16)


def _add(image: Pixels, detail: NDArray[np.int16], strength: float) -> None:
    image[...] = cv2.addWeighted(image, 1.0, detail, strength, 0, dtype=cv2.CV_8U)


def _change_colour(image: Pixels, rng: np.random.Generator) -> None:
    """Change brightness, contrast and saturation by up to a quarter; one image in twenty is grey.

    Saturation is relative to the pixel's grey, contrast to the image's mean grey. Together they
    are one affine map of the colours. Works in place.
    """
    brightness, contrast, saturation = rng.uniform(0.75, 1.25, 3)
    saturation *= rng.random() >= 0.05
    grey = np.tile(_LUMA, (3, 1))
    mean = float(image[::4, ::4].mean((0, 1)) @ _LUMA)
    matrix = contrast * (saturation * (np.eye(3) - grey) + grey)
    offset = np.full((3, 1), (brightness - contrast) * mean)
    image[...] = cv2.transform(image, np.hstack([matrix, offset]))


def _erase(image: Pixels, rng: np.random.Generator) -> None:
    """Draw a grey rectangle of 0.2 to 0.4 of each side on one image in twenty, in place."""
    if rng.random() >= 0.05:
        return
    size = len(image)
    h, w = (int(size * rng.uniform(0.2, 0.4)) for _ in range(2))
    y, x = rng.integers(size - h + 1), rng.integers(size - w + 1)
    image[y : y + h, x : x + w] = rng.integers(76, 153)
