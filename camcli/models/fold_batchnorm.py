"""Fold batch normalisations into the convolutions before them, for faster evaluation.

In evaluation mode a batch normalisation is one affine map per channel, which the convolution before
it can include (Jacob et al. 2018, arXiv:1712.05877, eq. 14). This saves one pass over each feature
map, and another one in the backward pass. Both are bound by memory bandwidth.
"""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Collection, Iterator

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from camcli.models.exclusive import exclusive
from camcli.models.graph import operations
from camcli.models.model import Model


class FoldedNorm(nn.Module):
    """The identity, in place of a folded batch normalisation."""

    def forward(self, x: Tensor) -> Tensor:
        """(N,C,h,w) -> (N,C,h,w)"""
        return x


def fold_batchnorm(model: Model, layers: Collection[str | None] = ()) -> Model:
    """Return a model whose batch normalisations are folded into its convolutions.

    The given model is not changed. The returned one shares all weights that are not folded, and is
    the given one if nothing can be folded. Scores and the outputs of all parts stay the same up to
    rounding, except that a folded convolution has the output of its normalisation. Therefore a
    convolution is not folded if the model's target layer or one of `layers` ends between it and
    its normalisation. Nor are modules that are used twice or are in training mode, or any in a
    network that torch.fx cannot trace.
    """
    with exclusive(model.module):
        return _folded(model, layers)


def _folded(model: Model, layers: Collection[str | None]) -> Model:
    kept = [layer for layer in (model.layer, *layers) if layer]
    if not any(type(part) is nn.BatchNorm2d for part in model.module.modules()):
        return model
    if (network := operations(model.module)) is None:
        return model
    pairs = [pair for pair in _pairs(model.module, network.graph) if not _separated(*pair, kept)]
    if not pairs:
        return model
    weights = itertools.chain(model.module.parameters(), model.module.buffers())
    folded = copy.deepcopy(model, {id(x): x for x in weights})
    for conv_path, norm_path in pairs:
        _fold(folded.module, conv_path, norm_path)
    return folded


@torch.no_grad()
def _fold(module: nn.Module, conv_path: str, norm_path: str) -> None:
    conv, norm = module.get_submodule(conv_path), module.get_submodule(norm_path)
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    of_norm = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *of_norm)
    module.set_submodule(norm_path, FoldedNorm())


def _pairs(module: nn.Module, graph: fx.Graph) -> Iterator[tuple[str, str]]:
    """Yield the paths of each convolution that only feeds a batch norm, and of the batch norm."""
    parts = dict(module.named_modules(remove_duplicate=False))
    runs = Counter(id(parts[str(node.target)]) for node in graph.nodes if node.op == "call_module")
    owners = Counter(id(x) for part in module.modules() for x in part.parameters(recurse=False))

    def foldable(part: nn.Module, kind: type[nn.Module]) -> bool:
        shared = any(owners[id(x)] > 1 for x in part.parameters(recurse=False))
        return type(part) is kind and runs[id(part)] == 1 and not part.training and not shared

    for node in graph.nodes:
        if node.op != "call_module":
            continue
        norm = parts[str(node.target)]
        if not foldable(norm, nn.BatchNorm2d) or norm.running_mean is None:
            continue
        source = node.all_input_nodes[0]
        if source.op != "call_module" or len(source.users) > 1:
            continue
        if foldable(parts[str(source.target)], nn.Conv2d):
            yield str(source.target), str(node.target)


def _separated(conv: str, norm: str, layers: Collection[str]) -> bool:
    """Return whether one of the layers contains the convolution but not its normalisation."""
    return any(
        f"{conv}.".startswith(f"{layer}.") and not f"{norm}.".startswith(f"{layer}.")
        for layer in layers
    )
