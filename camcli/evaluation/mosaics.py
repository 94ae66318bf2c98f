"""2x2 grids of images that a network is sure of, for the grid pointing game."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d


@dataclass(frozen=True)
class Tile:
    """One image (3,H,W) for a grid: its number in the run and its class."""

    number: int
    image: Tensor
    label: int


class Pool:
    """Images that wait for a grid. Four of different classes make one.

    At most `limit` of a class wait, so that a folder of one class does not fill the memory; those
    beyond it are in no grid.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.waiting: dict[int, deque[Tile]] = defaultdict(deque)

    def add(self, tiles: Sequence[Tile]) -> None:
        """Put images in."""
        for tile in tiles:
            if len(self.waiting[tile.label]) < self.limit:
                self.waiting[tile.label].append(tile)

    def take(self) -> list[list[Tile]]:
        """All grids that can be made, each of four images; classes with most images first."""
        made: list[list[Tile]] = []
        while True:
            ready = sorted(self.waiting.values(), key=len, reverse=True)[:4]
            if len(ready) < 4 or not ready[3]:
                return made
            made.append([queue.popleft() for queue in ready])


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
