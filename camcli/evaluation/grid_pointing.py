"""2x2 grids of images that a network is sure of, for the grid pointing game."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

LIMIT = 16
"""Images of a class that wait for a grid."""


@dataclass(frozen=True)
class Tile:
    """One image (3,H,W) for a grid: its number in the run and its class."""

    number: int
    image: Tensor
    label: int


class Pool:
    """Images of one shape that wait for a grid. Four of different classes make one.

    At most `LIMIT` of a class wait, so that a folder of one class does not fill the memory; those
    beyond it are in no grid.
    """

    def __init__(self) -> None:
        self.waiting: dict[int, deque[Tile]] = {}

    def add(self, tiles: Iterable[Tile]) -> list[list[Tile]]:
        """Put images in, and take out the grids that they make, whatever batches they come in."""
        made = []
        for tile in tiles:
            waiting = self.waiting.setdefault(tile.label, deque())
            if len(waiting) < LIMIT:
                waiting.append(tile)
            if len(self.waiting) == 4:
                made.append([queue.popleft() for queue in self.waiting.values()])
                self.waiting = {label: queue for label, queue in self.waiting.items() if queue}
        return made


def mosaic(grids: Sequence[Sequence[Tile]], cells: str) -> Tensor:
    """Grids of four images (3,H,W) as images (G,3,2H,2W), or (G,3,H,W) for `half`.

    The first two are above, the others below.
    """
    tiles = torch.stack([torch.stack([tile.image for tile in grid]) for grid in grids])
    if cells == "half":
        halved = avg_pool2d(tiles.flatten(0, 1), 2)
        tiles = halved.view(*tiles.shape[:2], *halved.shape[1:])
    above, below = (torch.cat(pair.unbind(1), dim=3) for pair in (tiles[:, :2], tiles[:, 2:]))
    return torch.cat([above, below], dim=2)
