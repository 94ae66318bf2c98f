"""Cascading randomisation: a network that forgets layer by layer, from the logits down.

Adebayo et al. 2018, arXiv:1810.03292. A map that stays the same shows edges of the image and not
what the network learnt, as Guided Backpropagation's does.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def stages(module: nn.Module, count: int) -> list[list[nn.Parameter]]:
    """The parameters that each of at most `count` stages makes random, besides those before it.

    The first is the last layer, that of the logits; the last stage ends with the first layer.
    Layers are the modules with parameters of their own in the order of their definition, which in
    torchvision's networks is that of the forward pass.
    """
    layers = [list(part.parameters(recurse=False)) for part in module.modules()]
    layers = [layer for layer in reversed(layers) if layer]
    count = min(count, len(layers))
    ends = [1 + math.ceil(i * (len(layers) - 1) / max(1, count - 1)) for i in range(count)]
    starts = [0, *ends[:-1]]
    return [list(itertools.chain(*layers[a:b])) for a, b in zip(starts, ends, strict=True)]


@contextmanager
def forgetting(module: nn.Module, count: int, seed: int) -> Iterator[Iterator[int]]:
    """Each next number that is taken makes one more stage random; all is put back on leaving.

    Values are drawn from a normal distribution with the parameter's own deviation, so that signals
    keep their size in networks without normalisation; around zero for weights, around their own
    mean for biases and scales. Put back are the very tensors, after an exception too.
    """
    saved = [(parameter, parameter.data) for parameter in module.parameters()]
    generator = torch.Generator().manual_seed(seed)

    def forget() -> Iterator[int]:
        for number, stage in enumerate(stages(module, count)):
            for parameter in stage:
                parameter.data = _redrawn(parameter.data, generator)
            yield number

    try:
        yield forget()
    finally:
        for parameter, values in saved:
            parameter.data = values


def _redrawn(values: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(values.shape, generator=generator).to(values)
    mean = values.mean() if values.ndim < 2 else 0
    # Into an empty one: in the same memory format.
    return torch.empty_like(values).copy_(noise * values.std(correction=0) + mean)
