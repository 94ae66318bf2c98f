"""The batches of an epoch: which images it draws, and their augmented views as tensors."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from camcli.images.preprocess import Preset
from camcli.training.augment import random_views
from camcli.training.data import BoolArray, Dataset, Indices
from camcli.training.recipe import Recipe

_PREFETCH = 4


class Batch(NamedTuple):
    """Normalised images (N,3,S,S), labels (N,) and each label's candidate classes (N,K)."""

    images: Tensor
    labels: Tensor
    candidates: Tensor


def batch_indices(recipe: Recipe, sources: Sequence[Dataset], epoch: int) -> list[Indices]:
    """Return the indices of the images of each batch of an epoch. Drops an incomplete last batch.

    Indices count through the images of all sources, one source after another.
    """
    rng = np.random.default_rng([recipe.seed, epoch])
    order = draw_indices(sampling_groups(sources, recipe.balance), sum(map(len, sources)), rng)
    n = recipe.batch_size
    return [order[step * n : (step + 1) * n] for step in range(max(1, len(order) // n))]


def batches(
    recipe: Recipe,
    sources: Sequence[Dataset],
    epoch: int,
    indices: Sequence[Indices],
    device: torch.device,
) -> Iterator[Batch]:
    """Yield the batches of an epoch on `device`. A thread prepares the next ones meanwhile."""
    pixels = [image for source in sources for image in source.pixels]
    labels = np.concatenate([source.labels for source in sources])
    source_of = np.repeat(np.arange(len(sources)), [len(source) for source in sources])
    candidates, coarse = candidate_classes(sources)
    size = recipe.size_at(epoch)

    def make(step: int) -> tuple[Any, ...]:
        rng = np.random.default_rng([recipe.seed, epoch, step])
        chosen = indices[step]
        views, resolutions = random_views([pixels[i] for i in chosen], size, rng)
        return (
            views,
            labels[chosen],
            candidates[source_of[chosen]] | (resolutions <= coarse)[:, None],
        )

    mean, std = (
        torch.tensor(values, device=device).mul(255)[:, None, None]
        for values in (Preset.mean, Preset.std)
    )
    with ThreadPoolExecutor(1) as thread:
        ahead = deque(thread.submit(make, step) for step in range(min(_PREFETCH, len(indices))))
        for step in range(len(indices)):
            views, *rest = (
                torch.from_numpy(array).to(device) for array in ahead.popleft().result()
            )
            if step + _PREFETCH < len(indices):
                ahead.append(thread.submit(make, step + _PREFETCH))
            yield Batch(views.permute(0, 3, 1, 2).float().sub_(mean).div_(std), *rest)


def sampling_groups(
    sources: Sequence[Dataset], balance: float = 0.5
) -> list[tuple[Indices, float]]:
    """Return the groups to draw from, one for each class of each source, and the share of each.

    The share of a group of n images is proportional to n ** `balance`. With 1 every image is drawn
    equally often, with 0 every group. The square root mixes a few sharp photos with many small
    images without repeating the smallest group too often.
    """
    start, groups = 0, []
    for source in sources:
        for label in np.unique(source.labels):
            groups.append(start + np.flatnonzero(source.labels == label))
        start += len(source)
    weights = np.array([len(group) ** balance for group in groups])
    return list(zip(groups, (weights / weights.sum()).tolist(), strict=True))


def draw_indices(
    groups: Sequence[tuple[Indices, float]], count: int, rng: np.random.Generator
) -> Indices:
    """Return about `count` indices in random order, from each group in proportion to its share.

    Within a group, no index is drawn twice before each has been drawn once.
    """
    drawn = []
    for group, share in groups:
        wanted = int(share * count + rng.random())
        rounds = -(-wanted // len(group))
        shuffled = [rng.permutation(group) for _ in range(rounds)] or [group[:0]]
        drawn.append(np.concatenate(shuffled)[:wanted])
    return rng.permutation(np.concatenate(drawn))


def candidate_classes(sources: Sequence[Dataset]) -> tuple[BoolArray, int]:
    """Return the classes that each source's labels are contrasted with, and a resolution in pixels.

    The mask (sources, K) is true for the classes that a source has images of. The loss contrasts a
    label only with these, since a source of cats and dogs is no evidence about ships. Otherwise
    everything that distinguishes the source, such as its sharpness, would become evidence for cats
    and dogs. If another source has images of every class, a view of at most the returned resolution
    is as blurry as that source's images. It does not reveal its source, so its label is contrasted
    with all classes.
    """
    complete = [source.median_side for source in sources if source.has_class.all()]
    if not complete:
        return np.ones((len(sources), len(sources[0].classes)), np.bool_), 0
    return np.stack([source.has_class for source in sources]), round(1.25 * min(complete))
