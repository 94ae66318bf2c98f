"""Additional forward passes: on changed images, and on changed maps of a layer.

Each function runs the network once for all targets and returns scores without a graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from camcli.capture.forward import Pass
from camcli.capture.hooks import Tap, cloned, scaled
from camcli.capture.incremental.run import PatchRunner, find_plan
from camcli.errors import ignored_warnings
from camcli.models.precision import at_least_float32

Scorer: TypeAlias = Callable[[Any, Tensor], Tensor]
"""From an output for images `which` (Q,) of the batch to the scores (T,Q) of T targets."""

_COPIES = 2**25
"""The most elements in the copies of a layer's output that run at once."""


@torch.no_grad()
def occluded(run: Pass, score: Scorer, *, of_classes: bool) -> Tensor:
    """Return the scores with the window at each of its positions, (T,N,r,c).

    `of_classes` says that the scores are weighted sums of class scores; such windows can run on
    patches (see `incremental`).
    """
    rows, columns = run.coverage
    image = run.image.detach()
    grey = image.new_tensor(run.watch.grey)[:, None, None]

    def covered(which: Tensor, row: Tensor, column: Tensor) -> Tensor:
        hidden = rows[row, None, :, None] * columns[column, None, None, :]
        return image[which] * (1 - hidden) + grey * hidden

    shape = run.size, len(rows), len(columns)
    queue = _queue(run, shape)
    plan = find_plan(run, covered) if of_classes else None
    if plan is None:
        return _score_changed(run, score, queue, covered, run.output_of).view(-1, *shape)
    scores = []
    for own, of_one in zip(torch.split(image, 1), queue.chunk(run.size), strict=True):
        patches = PatchRunner(plan, own)  # keeps the maps of one image at a time
        scores.append(_score_changed(run, score, of_one, covered, patches))
    return torch.cat(scores, dim=1).view(-1, *shape)


@torch.no_grad()
def masked(run: Pass, tap: Tap, score: Scorer) -> Tensor:
    """Return the scores of the images multiplied by each channel, (T,N,C).

    Each channel is upsampled to the image and scaled to 0..1. A constant channel becomes 0. An
    image's channels with the same mask share a forward pass. Such are those that are constant, and
    those that are active in the same one cell.
    """
    image, acts = run.image.detach(), tap.detached
    # Scale before upsampling: rounding would give a constant channel some contrast.
    units = acts - acts.amin((2, 3), keepdim=True)
    high = units.amax((2, 3), keepdim=True)
    units /= high.where(high > 0, 1)

    def multiplied(which: Tensor, channel: Tensor) -> Tensor:
        mask = interpolate(
            units[which, channel, None], image.shape[2:], mode="bilinear", align_corners=False
        )
        mask -= mask.amin((2, 3), keepdim=True)
        high = mask.amax((2, 3), keepdim=True)
        return image[which].mul_(mask.div_(high.where(high > 0, 1)))

    distinct, numbers = [*zip(*map(_distinct_rows, units.flatten(2)), strict=True)]
    queue = torch.cat([pad(rows[:, None], (1, 0), value=n) for n, rows in enumerate(distinct)])
    found = _score_changed(run, score, queue, multiplied, run.output_of)
    run.watch.window.passed(units[:, :, 0, 0].numel() - len(queue))
    parts = torch.split(found, [len(rows) for rows in distinct], dim=1)
    return torch.stack([part[:, each] for part, each in zip(parts, numbers, strict=True)], 1)


def _distinct_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first row of each kind among equal rows (C,P), and the kind of each row (C,)."""
    kinds = torch.unique(at_least_float32(rows).cpu(), dim=0, return_inverse=True)[1]
    order, counts = kinds.argsort(stable=True), kinds.bincount()
    return order[counts.cumsum(0) - counts].to(rows.device), kinds.to(rows.device)


@torch.no_grad()
def ablated(run: Pass, tap: Tap, score: Scorer) -> Tensor:
    """Return the scores with each channel of the layer set to zero in turn, (T,N,C).

    `vmap` runs the part before the layer once, since nothing there depends on the channel, and the
    part after it for many channels at once. A network that vmap cannot run, such as one that
    branches on values, runs as a whole for each channel.
    """
    acts = tap.detached
    every = torch.arange(run.size, device=acts.device)

    def scores(factors: Tensor) -> Tensor:
        with scaled(run.watch.module, tap.path, factors, tap.layout):
            return score(run.run(*cloned(run.inputs)), every)

    factors = 1 - torch.eye(acts.shape[1], dtype=acts.dtype, device=acts.device)
    at_once = max(1, _COPIES // acts.numel())
    try:
        with ignored_warnings("There is a performance drop"):  # of operations that vmap loops over
            found: Tensor = torch.vmap(scores, out_dims=-1, chunk_size=at_once)(factors)
    except RuntimeError:
        found = torch.stack([scores(row) for row in factors], dim=-1)
    return found


def _queue(run: Pass, shape: tuple[int, ...]) -> Tensor:
    """Return every index into an array of `shape` (N,...), as rows (Q,...)."""
    return torch.cartesian_prod(*(torch.arange(n, device=run.image.device) for n in shape))


def _score_changed(
    run: Pass,
    score: Scorer,
    queue: Tensor,
    changed: Callable[..., Tensor],
    output_of: Callable[..., Any],
) -> Tensor:
    """Return scores (T,Q) of the images that `changed` makes of the rows of `queue` (Q,...).

    The images are made and run in batches, so that only a few exist at once. `output_of` gives the
    network's output for the images and the rows' columns.
    """
    scores = []
    for chunk in torch.split(queue, max(run.watch.window.batch_size, run.size)):
        which, *places = chunk.unbind(1)
        output = output_of(changed(which, *places), which, *places)
        scores.append(score(output, which))
        run.watch.window.passed(len(chunk))
    return torch.cat(scores, dim=1)
