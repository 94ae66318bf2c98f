"""Batch normalisations merged into the convolutions before them: the same maps, sooner.

In evaluation a batch normalisation is one affine map of each channel, which the convolution that
feeds it can do by itself (Jacob et al. 2018, arXiv:1712.05877, eq. 14). A pass over every feature
map is saved, and another on the way back: memory's time, of which the guided pass is mostly made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from camcli.models.graph import operations


class Merged(nn.Module):
    """Stands where a normalisation was: what it would give comes in, and goes on."""

    def forward(self, x: Tensor) -> Tensor:
        """(N,C,h,w) -> (N,C,h,w)"""
        return x


@torch.no_grad()
def merge(module: nn.Module, layers: Collection[str] = ()) -> int:
    """Merge a network's batch normalisations, in place; how many were.

    Its scores, and what each of its parts gives, stay the same up to rounding, but for the merged
    convolutions, which give what the normalisation behind them did. So a convolution whose own
    output is that of one of the `layers` stays as it is, as does all that something else uses too,
    all in training mode, and a whole network whose operations fx cannot tell.
    """
    if not any(type(part) is nn.BatchNorm2d for part in module.modules()):
        return 0
    if (network := operations(module)) is None:
        return 0
    pairs = [pair for pair in _pairs(module, network.graph) if not _cut(*pair, layers)]
    for conv_path, norm_path in pairs:
        conv, norm = module.get_submodule(conv_path), module.get_submodule(norm_path)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        of_norm = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *of_norm)
        module.set_submodule(norm_path, Merged())
    return len(pairs)


def _pairs(module: nn.Module, graph: fx.Graph) -> Iterator[tuple[str, str]]:
    """Convolution and normalisation, by path, where the one feeds the other and nothing else."""
    parts = dict(module.named_modules(remove_duplicate=False))
    runs = Counter(id(parts[str(node.target)]) for node in graph.nodes if node.op == "call_module")
    owners = Counter(id(x) for part in module.modules() for x in part.parameters(recurse=False))

    def alone(part: nn.Module, kind: type[nn.Module]) -> bool:
        shared = any(owners[id(x)] > 1 for x in part.parameters(recurse=False))
        return type(part) is kind and runs[id(part)] == 1 and not part.training and not shared

    for node in graph.nodes:
        if node.op != "call_module" or not alone(norm := parts[str(node.target)], nn.BatchNorm2d):
            continue
        source = node.all_input_nodes[0]
        if source.op != "call_module" or len(source.users) > 1:
            continue
        if norm.running_mean is not None and alone(parts[str(source.target)], nn.Conv2d):
            yield str(source.target), str(node.target)


def _cut(conv: str, norm: str, layers: Collection[str]) -> bool:
    """Whether one of the layers ends between a convolution and its normalisation."""
    return any(
        f"{conv}.".startswith(f"{layer}.") and not f"{norm}.".startswith(f"{layer}.")
        for layer in layers
    )
