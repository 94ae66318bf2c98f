"""2x2 grids of images that the network predicts with confidence, for the grid pointing game."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from camcli.evaluation.scores import Result
from camcli.evaluation.study import MethodRunner
from camcli.render.enlarge import enlarge

WAITING_LIMIT = 16
"""How many images of a class wait for a grid at most."""


@dataclass(frozen=True)
class Tile:
    """An image (3,H,W) for a grid: its number in the run and its predicted class."""

    number: int
    image: Tensor
    label: int


class TilePool:
    """Images of one shape that wait for a grid. Four images of different classes make a grid.

    At most WAITING_LIMIT images of a class wait, so that a folder of one class does not fill the
    memory. Further ones are in no grid.
    """

    def __init__(self) -> None:
        self.waiting: dict[int, deque[Tile]] = {}

    def add(self, tiles: Iterable[Tile]) -> list[list[Tile]]:
        """Add images and remove the complete grids. The grids do not depend on the batches."""
        grids = []
        for tile in tiles:
            waiting = self.waiting.setdefault(tile.label, deque())
            if len(waiting) < WAITING_LIMIT:
                waiting.append(tile)
            if len(self.waiting) == 4:
                grids.append([queue.popleft() for queue in self.waiting.values()])
                self.waiting = {label: queue for label, queue in self.waiting.items() if queue}
        return grids


@dataclass(frozen=True)
class Grid:
    """Four images of a grid, and a result that counts once the grid is measured."""

    tiles: Sequence[Tile]
    waiting: Result | None = None

    @property
    def input(self) -> Tensor:
        """The first image, whose shape the others have."""
        return self.tiles[0].image


class GridQueue:
    """Images that wait for a grid, by their shape, and `complete` grids that are not measured."""

    def __init__(self) -> None:
        self.complete: list[Grid] = []
        self._pools: dict[torch.Size, TilePool] = defaultdict(TilePool)

    def add(self, tiles: Sequence[Tile], result: Result) -> bool:
        """Add a batch. Return whether it completes a grid, which its `result` then waits for."""
        grids = self._pools[tiles[0].image.shape].add(tiles) if tiles else []
        if grids:
            *others, last = grids
            self.complete += [*map(Grid, others), Grid(last, result)]
        return bool(grids)

    def take(self) -> list[Grid]:
        """Remove the complete grids, and return them."""
        taken, self.complete = self.complete, []
        return taken


def compose(grids: Sequence[Sequence[Tile]], image_size: str) -> Tensor:
    """Join the four images (3,H,W) of each grid, two above and two below.

    Returns (G,3,2H,2W) for the image size `full`, (G,3,H,W) for `half`.
    """
    tiles = torch.stack([torch.stack([tile.image for tile in grid]) for grid in grids])
    if image_size == "half":
        halved = avg_pool2d(tiles.flatten(0, 1), 2)
        tiles = halved.view(*tiles.shape[:2], *halved.shape[1:])
    above, below = (torch.cat(pair.unbind(1), dim=3) for pair in (tiles[:, :2], tiles[:, 2:]))
    return torch.cat([above, below], dim=2)


@dataclass(frozen=True)
class GridEvidence:
    """The evidence of one method's maps of grids. The fields are named as in METRIC_EVIDENCE."""

    grid_map: Tensor
    grid_cell: Tensor


def grid_evidence(runner: MethodRunner, grids: Sequence[Sequence[Tile]]) -> dict[str, GridEvidence]:
    """Explain grids for the first image of each, then for the second, ...; evidence by row."""
    images = compose(grids, runner.protocol.grid_image_size)
    cells = list(zip(*grids, strict=True))
    targets = [torch.tensor([tile.label for tile in cell]) for cell in cells]
    explanations = runner.explain(images, runner.methods, targets)
    maps = [
        runner.maps(explanations[i :: len(cells)], [tile.number for tile in cell])
        for i, cell in enumerate(cells)
    ]
    shape = images.shape[2], images.shape[3]
    positions = torch.arange(len(cells), device=images.device).repeat_interleave(len(grids))
    centres = {one.method: one.centres for one in explanations}
    return {
        row: GridEvidence(
            torch.cat([enlarge(of_cell[row], shape, centres.get(row)) for of_cell in maps]),
            positions,
        )
        for row in maps[0]
    }
