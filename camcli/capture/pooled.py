"""The gradient of a few classes through a class map and its pooling, as SqueezeNet ends.

Such a head is a 1x1 convolution to K channels, a ReLU or none, and the mean over the map. A score
that reads few classes has a gradient of zero in all other channels. Autograd computes them all,
and multiplies them by the whole weight. Here only the channels that count are computed, by the same
equations and from the values that the graph has saved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

_FEW = 8
"""The shortcut is for scores that read at most one of so many classes."""


@dataclass(frozen=True)
class PooledMap:
    """The nodes of a class map in a graph: the mean over it, its ReLU, and its convolution."""

    mean: Any
    relu: Any
    convolution: Any


def pooled_map(score: Tensor, of: Tensor) -> PooledMap | None:
    """Return the class map of `of` through whose pooling all of a score's gradient flows.

    Return None if there is no such map.

    A tensor hook that the network itself puts on its class map cannot be seen, and does not run.
    """
    mean = score.grad_fn
    while mean is not None and not _is_mean_over_map(mean):
        mean = _only_source(mean)
    below = mean and _only_source(mean)
    relu = below if below and below.name() == "ReluBackward0" else None
    convolution = _only_source(relu) if relu else below
    if convolution is None or not _is_pointwise(convolution):
        return None
    source: Any = convolution.next_functions[0][0]
    while source.name() == "CloneBackward0":
        source = _only_source(source)
    if source is not of.grad_fn and getattr(source, "variable", None) is not of:
        return None  # autograd goes on from a given gradient, but imports sympy for that
    return PooledMap(mean, relu, convolution)


def pooled_gradient(score: Tensor, of: Tensor) -> Tensor | None:
    """Return the gradient of each image's score (N,) at `of` (N,...), in its shape.

    Return None where the score reads many classes, or `of` is not the input of such a head: that is
    left to autograd.
    """
    if (found := pooled_map(score, of)) is None:
        return None
    (slopes,) = torch.autograd.grad(score.sum(), GradientEdge(found.mean, 0), retain_graph=True)
    slopes = slopes.flatten(1)  # (N,K)
    most = int(slopes.count_nonzero(1).max())
    if most * _FEW > slopes.shape[1]:
        return None
    return _at_input(found, slopes, slopes.abs().topk(most).indices)


def _at_input(found: PooledMap, slopes: Tensor, which: Tensor) -> Tensor:
    """Return the gradient at the convolution's input (N,C,h,w), from classes `which` (N,m) alone.

    `slopes` (N,K) is the gradient at the means.
    """
    height, width = found.convolution._saved_input.shape[2:]
    cells = which[:, :, None, None].expand(-1, -1, height, width)
    shares: Tensor = slopes.gather(1, which) / (height * width)
    gradient = shares[:, :, None, None].expand_as(cells)
    if found.relu:
        gradient = gradient.masked_fill(found.relu._saved_result.gather(1, cells) <= 0, 0)
    weights: Tensor = found.convolution._saved_weight.flatten(1)[which]  # (N,m,C)
    flat = gradient.flatten(2)
    if found.convolution._saved_input.is_contiguous(memory_format=torch.channels_last):
        at_input = (flat.mT @ weights).mT
    else:
        at_input = weights.mT @ flat
    return at_input.view(len(flat), -1, height, width)


def _only_source(node: Any) -> Any:
    """Return the one node that a node passes its gradient to; None if there are several."""
    sources = [source for source, _ in node.next_functions if source is not None]
    return sources[0] if len(sources) == 1 else None


def _is_mean_over_map(node: Any) -> bool:
    """Return whether a node is the mean over the last two of four dimensions.

    `_saved_self_sym_sizes` would tell their number, but reading it imports sympy, for a second.
    """
    dims = {dim % 4 for dim in node._saved_dim} if node.name() == "MeanBackward1" else {}
    return dims == {2, 3}  # torch gives -1 as 2**64 - 1


def _is_pointwise(node: Any) -> bool:
    """Return whether a node is a convolution that maps the channels of each cell, without more."""
    return (
        node.name() == "ConvolutionBackward0"
        and tuple(node._saved_weight.shape[2:]) == (1, 1)
        and node._saved_input.ndim == 4
        and set(node._saved_stride) == {1}
        and set(node._saved_padding) == {0}
        and node._saved_groups == 1
        and not node._saved_transposed
        and node.next_functions[0][0] is not None
    )
