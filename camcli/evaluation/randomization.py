"""Cascading randomization of a network's weights, from the logits down to the first layer.

Adebayo et al. 2018, arXiv:1810.03292. A map that stays the same, as that of Guided Backpropagation,
shows the edges of the image and not what the network has learnt.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from camcli.models.exclusive import exclusive


def parameter_groups(module: nn.Module, steps: int) -> list[list[nn.Parameter]]:
    """Split the parameters into at most `steps` groups of layers, the last layer first.

    The first group is the layer of the logits alone. Layers are the modules with parameters of
    their own, in the order of their definition, which in torchvision's networks is that of the
    forward pass.
    """
    layers = [list(part.parameters(recurse=False)) for part in module.modules()]
    layers = [layer for layer in reversed(layers) if layer]
    steps = min(steps, len(layers))
    ends = [1 + math.ceil(i * (len(layers) - 1) / max(1, steps - 1)) for i in range(steps)]
    starts = [0, *ends[:-1]]
    return [list(itertools.chain(*layers[a:b])) for a, b in zip(starts, ends, strict=True)]


@contextmanager
def cascading_randomization(module: nn.Module, steps: int, seed: int) -> Iterator[Iterator[int]]:
    """Yield an iterator of step numbers; each step randomizes one more group of parameters.

    Values are drawn from a normal distribution with the parameter's own standard deviation, so that
    activations keep their scale in networks without normalisation. The mean is zero for weights and
    the parameter's own for biases and scales. On leaving, the original tensors are restored, also
    after an exception. Other threads wait until then to use the network.
    """
    generator = torch.Generator().manual_seed(seed)

    def randomize() -> Iterator[int]:
        for step, group in enumerate(parameter_groups(module, steps)):
            for parameter in group:
                parameter.data = _redrawn(parameter.data, generator)
            yield step

    with exclusive(module):
        saved = [(parameter, parameter.data) for parameter in module.parameters()]
        try:
            yield randomize()
        finally:
            for parameter, values in saved:
                parameter.data = values


def _redrawn(values: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(values.shape, generator=generator).to(values)
    mean = values.mean() if values.ndim < 2 else 0
    # empty_like keeps the memory format.
    return torch.empty_like(values).copy_(noise * values.std(correction=0) + mean)
