"""Forward passes beside the watched one: of covered images, and without parts of a layer.

Each gives scores for all T targets of a pass from one set of forwards, without gradients.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from camcli.capture.hooks import scaled
from camcli.capture.incremental.run import Reruns, plan_of

if TYPE_CHECKING:
    from camcli.capture.evidence import Site
    from camcli.capture.forward import Pass

_COPIES = 2**25
"""How many numbers the copies of a layer's output may hold that are run at once."""


@torch.no_grad()
def occluded(run: Pass) -> Tensor:
    """Scores with the window at each of its positions (T,N,r,c)."""
    rows, columns = run.covering
    image = run.image.detach()
    grey = image.new_tensor(run.watch.grey)[:, None, None]

    def covered(which: Tensor, row: Tensor, column: Tensor) -> Tensor:
        hidden = rows[row, None, :, None] * columns[column, None, None, :]
        return image[which] * (1 - hidden) + grey * hidden

    shape = run.size, len(rows), len(columns)
    queue = _queue(run, shape)
    if (plan := plan_of(run, covered)) is None:
        return _scores(run, queue, covered, run.output_of).view(-1, *shape)
    scores = []
    for own, of_one in zip(torch.split(image, 1), queue.chunk(run.size), strict=True):
        around = Reruns(plan, own)  # one image's maps at a time
        scores.append(_scores(run, of_one, covered, around))
    return torch.cat(scores, dim=1).view(-1, *shape)


@torch.no_grad()
def masked(run: Pass, site: Site) -> Tensor:
    """Scores of the images seen through each channel, scaled to 0..1 at their size (T,N,C).

    A channel that is the same everywhere highlights nothing and lets nothing through.
    """
    image, acts = run.image.detach(), site.acts
    lowest = acts.amin((2, 3), keepdim=True)

    def seen_through(which: Tensor, channel: Tensor) -> Tensor:
        # From zero up before it is upsampled: or rounding would give a flat channel contrast.
        rise = acts[which, channel, None] - lowest[which, channel, None]
        mask = interpolate(rise, image.shape[2:], mode="bilinear", align_corners=False)
        low, high = mask.amin((2, 3), keepdim=True), mask.amax((2, 3), keepdim=True)
        return image[which] * ((mask - low) / (high - low).where(high > low, 1))

    shape = run.size, acts.shape[1]
    return _scores(run, _queue(run, shape), seen_through, run.output_of).view(-1, *shape)


@torch.no_grad()
def ablated(run: Pass, site: Site) -> Tensor:
    """Scores with each channel of the layer zeroed in turn (T,N,C).

    `vmap` runs what comes before the layer once for many channels, since nothing there depends on
    the channel, and what comes after it for all of them at once. A network that vmap cannot take
    (one that looks at its values, say) runs as a whole for each channel.
    """
    every = torch.arange(run.size, device=site.acts.device)

    def scores(factors: Tensor) -> Tensor:
        with scaled(run.watch.module, site.tap.path, factors, site.tap.layout):
            output = run.watch.module(*copied(run.inputs))
        return torch.stack([aim.scores_of(output, every) for aim in run.aims])

    factors = 1 - torch.eye(site.acts.shape[1], dtype=site.acts.dtype, device=site.acts.device)
    at_once = max(1, _COPIES // site.acts.numel())
    try:
        with warnings.catch_warnings():  # vmap runs what it has no rule for one by one, and says so
            warnings.filterwarnings("ignore", "There is a performance drop")
            found: Tensor = torch.vmap(scores, out_dims=-1, chunk_size=at_once)(factors)
    except RuntimeError:
        found = torch.stack([scores(row) for row in factors], dim=-1)
    return found


def _queue(run: Pass, shape: tuple[int, ...]) -> Tensor:
    """Every image `which` with every place of the rest of `shape` (N,...), as rows (Q,...)."""
    return torch.cartesian_prod(*(torch.arange(n, device=run.image.device) for n in shape))


def _scores(
    run: Pass, queue: Tensor, changed: Callable[..., Tensor], output_of: Callable[..., Any]
) -> Tensor:
    """Scores (T,Q) of the images that `changed` makes of each row of the queue (Q,...).

    They are made and run in batches, so that only some of them exist at once. `output_of` is the
    network's output for them, given the row's columns as well.
    """
    scores = []
    for chunk in torch.split(queue, max(run.watch.window.batch_size, run.size)):
        which, *places = chunk.unbind(1)
        output = output_of(changed(which, *places), which, *places)
        scores.append(torch.stack([aim.scores_of(output, which) for aim in run.aims]))
    return torch.cat(scores, dim=1)


def copied(inputs: Iterable[Any]) -> tuple[Any, ...]:
    """The arguments for one run of a model, which may work on them in place."""
    return tuple(x.clone() if isinstance(x, Tensor) else x for x in inputs)
