"""Raw maps as the page holds them: float32 in base64, whole where there is room.

A page opened from a disk may not read the `.npy` files beside it, so the values that it draws and
shows under the pointer are in it. Layers' maps are small: 14x14 cells take 1 kB. The large ones, of
occlusion say, share what is left of a budget, and are reduced to means over rectangles of cells.
Images of gradients (3,H,W) stay out: of them the page shows the overlay.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from camcli.errors import CamcliError, one_line

_BYTES = 16 / 3
"""What a cell takes in the page: four bytes, in base64."""


@dataclass(frozen=True)
class Packed:
    """A map's values, row by row; `cells` is (h,w) as packed, and `shape` as the file has them."""

    values: str
    cells: tuple[int, int]
    shape: tuple[int, int]
    low: float
    high: float
    """The file's own range, of what is finite in it."""


def largest(cells: Sequence[int], budget: int) -> int:
    """The most cells of one map for which all maps fit in `budget` bytes: small ones leave more to
    the large."""
    left = int(budget / _BYTES)
    for number, count in enumerate(ordered := sorted(cells)):
        share = left // (len(ordered) - number)
        if count > share:
            return max(1, share)
        left -= count
    return max(cells, default=1)


def pack(file: Path, most: int) -> Packed | None:
    """A map of at most `most` cells; None for an image of gradients.

    Raises CamcliError where the file is no map; nothing in it is executed.
    """
    try:
        values = np.asarray(np.load(file, allow_pickle=False), np.float32)
    except (OSError, ValueError, EOFError, MemoryError, TypeError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise CamcliError(f"map not readable ({reason})") from None
    if values.ndim == 3 and len(values) == 3:
        return None
    if values.ndim != 2 or not values.size:
        raise CamcliError(f"map not readable (shape {values.shape})")
    height, width = values.shape
    small, finite = _reduced(values, most), values[np.isfinite(values)]
    return Packed(
        base64.b64encode(np.ascontiguousarray(small, "<f4").tobytes()).decode(),
        (small.shape[0], small.shape[1]),
        (height, width),
        float(finite.min()) if finite.size else 0.0,
        float(finite.max()) if finite.size else 0.0,
    )


def _reduced(values: NDArray[np.float32], most: int) -> NDArray[np.float32]:
    """Means over rectangles of cells, at most `most` of them."""
    height, width = values.shape
    if values.size <= most:
        return values
    scale = (most / values.size) ** 0.5
    rows, columns = (max(1, min(most, int(n * scale))) for n in (height, width))
    return np.asarray(cv2.resize(values, (columns, rows), interpolation=cv2.INTER_AREA), np.float32)
