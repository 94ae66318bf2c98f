"""Pack raw maps into the page as float32 in base64.

A page opened from a disk may not read the `.npy` files beside it, so it holds the values that it
draws and shows under the pointer. Maps of a layer are small: 14x14 cells take 1 kB. Large maps, as
of occlusion, share the rest of a budget and are reduced to means over rectangles of cells. Images
of gradients (3,H,W) are not packed: the page shows their overlays.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from camcli.errors import CamcliError
from camcli.images.store import AnyPath
from camcli.runs.maps import FloatMap, read_map

_BYTES_PER_CELL = 16 / 3
"""Four bytes in base64."""


@dataclass(frozen=True)
class PackedMap:
    """A map as the page holds it.

    `values` are in base64, row by row. `shape` (h,w) is the packed shape and `saved_shape` (h,w)
    the shape in the file. `min` and `max` are the finite range of the file.
    """

    values: str
    shape: tuple[int, int]
    saved_shape: tuple[int, int]
    min: float
    max: float


def cells_per_map(counts: Sequence[int], budget: int) -> int:
    """Return the largest number of cells per map for which all maps fit into `budget` bytes.

    `counts` holds each map's number of cells. Maps below the limit leave their share to the others.
    """
    left = int(budget / _BYTES_PER_CELL)
    for number, count in enumerate(ordered := sorted(counts)):
        share = left // (len(ordered) - number)
        if count > share:
            return max(1, share)
        left -= count
    return max(counts, default=1)


def pack_map(
    file: AnyPath, max_cells: int, read: Callable[[AnyPath], FloatMap] = read_map
) -> PackedMap | None:
    """Pack the map in a `.npy` file into at most `max_cells` cells. `read` reads the file.

    Returns None for an image of gradients (3,H,W). Raises CamcliError if the file holds no map. No
    pickled object is loaded.
    """
    try:
        with np.errstate(over="ignore"):  # a float64 beyond float32 is infinite
            values = read(file).astype(np.float32)
    except CamcliError as error:
        raise CamcliError(f"map not readable ({error})") from None
    if values.ndim == 3 and len(values) == 3:
        return None
    if values.ndim != 2 or not values.size:
        raise CamcliError(f"map not readable (shape {values.shape})")
    packed, finite = _reduce(values, max_cells), values[np.isfinite(values)]
    return PackedMap(
        values=base64.b64encode(np.ascontiguousarray(packed, "<f4").tobytes()).decode(),
        shape=(packed.shape[0], packed.shape[1]),
        saved_shape=(values.shape[0], values.shape[1]),
        min=float(finite.min()) if finite.size else 0.0,
        max=float(finite.max()) if finite.size else 0.0,
    )


def _reduce(values: NDArray[np.float32], max_cells: int) -> NDArray[np.float32]:
    """Return means over rectangles of cells, at most `max_cells` of them."""
    if values.size <= max_cells:
        return values
    scale = (max_cells / values.size) ** 0.5
    rows, columns = (max(1, min(max_cells, int(n * scale))) for n in values.shape)
    return np.asarray(cv2.resize(values, (columns, rows), interpolation=cv2.INTER_AREA), np.float32)
