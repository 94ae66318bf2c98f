"""The results of an output folder whose images have true classes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from mmap import mmap
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from camcli.images.geometry import Floats
from camcli.images.regular import open_regular
from camcli.images.store import AnyPath
from camcli.runs.manifest import MANIFEST, Row
from camcli.speed import cached_property

Numbers: TypeAlias = NDArray[np.intp]
"""The numbers of some samples."""
Grids: TypeAlias = NDArray[np.float16]
"""A grid of the network's frame for each sample, (n,side,side)."""
_CHUNK = 4096


@dataclass(frozen=True)
class Samples:
    """The results of an output folder by one method, one sample for each image.

    - `key`: the method, the target and the layer.
    - `cell`: the side of a cell of the maps, in cells of the grid, at least 1.
    - `classes`: the names of the true classes. `indices` are the model's classes that each was seen
      to be. `labels` (n,) are numbers of true classes.
    - `names`: the names of the best classes, and `predicted` (n,) numbers of them.
    - `correct` (n,), `top5` (n,), and `confidence` (n,), the probability of the best class; NaN
      where it is not known.
    - `heat`: shares of the map's positive part. `heated` (n,) says whether there is one, and `peak`
      (n,) is the hottest cell, counted row by row.
    - `covered`: the share of each cell that lies in objects of the true class; None without
      annotations.
    - `shares`: a value for each sample (n,) by the names in `places.SHARES`, and `inside`, the
      share of the heat in objects of the true class.
    - `left_out`: the numbers of results and images that are not used, by reason.
    - `places`: the places of the rows in the manifest, in bytes.
    - `examples`: the rows of the images that `images` has named.
    - `copy`: the manifest of a folder on a store; None for a folder on this machine.
    """

    folder: AnyPath
    key: tuple[str, str, str]
    cell: int
    classes: Sequence[str]
    indices: Sequence[frozenset[int]]
    labels: Numbers
    names: Sequence[str]
    predicted: Numbers
    correct: NDArray[np.bool_]
    top5: Floats
    confidence: Floats
    heated: NDArray[np.bool_]
    heat: Grids
    peak: Numbers
    covered: Grids | None
    shares: dict[str, Floats]
    left_out: Counter[str]
    places: NDArray[np.int64] = field(repr=False)
    examples: dict[str, Row] = field(default_factory=dict, repr=False)
    copy: mmap | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def by_class(self) -> list[Numbers]:
        """The samples of each class."""
        order = np.argsort(self.labels, kind="stable")
        return np.split(order, np.searchsorted(self.labels[order], range(1, len(self.classes))))

    def rows(self, numbers: Sequence[int] | Numbers) -> Iterator[Row]:
        """Yield the manifest rows of some samples."""
        opened = nullcontext(self.copy) if self.copy else open_regular(self.folder / MANIFEST)
        with opened as stream:
            for number in numbers:
                stream.seek(int(self.places[number]))
                yield json.loads(stream.readline())

    def images(self, numbers: Sequence[int] | Numbers) -> list[str]:
        """Return the names of some samples' images, and keep their rows as `examples`."""
        found = {row["image"]: row for row in self.rows(numbers)}
        self.examples.update(found)
        return [*found]

    def mean_heat(self, numbers: Numbers) -> Floats | None:
        """Return the mean heat (side,side) of some samples, or None if none has heat."""
        used = np.sort(numbers[self.heated[numbers]])
        if not used.size:
            return None
        parts = (self.heat[used[at : at + _CHUNK]] for at in range(0, used.size, _CHUNK))
        return np.asarray(sum(part.sum(0, dtype=np.float64) for part in parts) / used.size)
