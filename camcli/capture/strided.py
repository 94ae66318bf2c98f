"""The gradient at an image through a strided convolution, as most networks begin.

oneDNN computes it slowly for an image of three channels. It is also a convolution of stride 1,
whose channels are the pixels of a block as large as the stride (Shi et al. 2016, arXiv:1609.05158,
sec. 2.2, the sub-pixel convolution).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from camcli import speed
from camcli.capture.guided import nodes_of
from camcli.capture.hooks import gradient

_IMAGE = "the input image"


def gradient_at_image(score: Tensor, image: Tensor) -> Tensor:
    """Return the gradient of each image's score (N,) at the image batch (N,C,H,W).

    Raises ModelError as `gradient` does. A hook that the network itself puts on the node of its
    first convolution does not run.
    """
    fast = speed.strided_gradients(image.device.type)
    begins = strided_convolution(score, image) if fast else None
    if begins is None:
        return gradient(score, image, _IMAGE)
    output: Any = GradientEdge(begins, 0)  # to torch as good as the tensor
    above = gradient(score, output, _IMAGE)
    return at_input(above, begins._saved_weight, begins._saved_stride, begins._saved_padding, image)


def strided_convolution(score: Tensor, image: Tensor) -> Any:
    """Return the node of the strided convolution through which an image alone reaches a score.

    Return None if there is no such convolution, or if it is dilated or grouped.
    """
    graph = list(nodes_of(score))
    source = get_gradient_edge(image).node
    readers = _readers(graph, source)
    while len(readers) == 1 and readers[0].name() == "CloneBackward0":
        source, readers = readers[0], _readers(graph, readers[0])
    return readers[0] if len(readers) == 1 and _is_strided(readers[0], source) else None


def at_input(
    above: Tensor, weight: Tensor, stride: tuple[int, ...], padding: tuple[int, ...], x: Tensor
) -> Tensor:
    """Return the gradient at the input `x` (N,C,H,W) of a convolution.

    `above` is the gradient at its output (N,K,h,w), and `weight` its kernels (K,C,r,s).
    """
    (down, across), (height, width) = stride, x.shape[2:]
    channels, rows, columns = weight.shape[1:]
    r, s = math.ceil(rows / down), math.ceil(columns / across)  # taps of a pixel of a block
    filled = F.pad(weight, (0, s * across - columns, 0, r * down - rows))
    taps = filled.view(-1, channels, r, down, s, across).flip(2, 4).permute(3, 5, 1, 0, 2, 4)
    blocks = F.conv2d(above, taps.reshape(-1, len(weight), r, s), padding=(r - 1, s - 1))
    parts = blocks.view(-1, down, across, channels, *blocks.shape[2:]).permute(0, 3, 4, 1, 5, 2)
    found = parts.flatten(4, 5).flatten(2, 3)  # begins in the padding, and may end inside
    top, left = padding
    below, right = height + top - found.shape[2], width + left - found.shape[3]
    return F.pad(found, (-left, right, -top, below))


def _readers(graph: Iterable[Node], source: Node) -> list[Node]:
    """Return the nodes that pass a gradient to a node, once for each time they do."""
    return [node for node in graph for below, _ in node.next_functions if below is source]


def _is_strided(node: Any, source: Node) -> bool:
    """Return whether a node is a strided convolution of images whose input is `source`."""
    return (
        node.name() == "ConvolutionBackward0"
        and node.next_functions[0][0] is source
        and len(node._saved_stride) == 2
        and max(node._saved_stride) > 1
        and set(node._saved_dilation) == {1}
        and node._saved_groups == 1
        and not node._saved_transposed
    )
