"""Find the target layer and the CAM head of an unknown network."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node, get_gradient_edge
from torch.utils._pytree import tree_leaves

from camcli.capture.targets import logits
from camcli.capture.tracing import Call
from camcli.errors import CamcliWarning, ModelError, TargetError
from camcli.models.head import Head


def find_layer_and_head(calls: Sequence[Call], output: Any) -> tuple[str, Head | None]:
    """Return the target layer and the CAM head of an unknown network, from a traced forward pass.

    The layer is the last map that the score depends on through every path from the image, and that
    is not the output of a pooling or dropout. In front of a layer normalisation the gradient is
    orthogonal to each position, so the layer is the normalisation where that can be.

    A pass without a graph does not tell on which layers the score depends. The layer is then the
    last map to run, with a warning.

    A head fits CAM's derivation if the class scores are a linear map of the layer's spatial mean,
    or the spatial mean of a linear map. Both are checked on the values. The head is None if the
    network has none that fits. Raises ModelError.
    """
    scores = _first_scores(output)
    class_maps = [c for c in calls if c.spatial and scores is not None and _either_mean(c, scores)]
    layer = _target_layer([call for call in calls if call not in class_maps], output, scores)
    for call in calls:
        gives_scores = call in class_maps or (scores is not None and _close(call.mean, scores))
        if call.given is not None and gives_scores and _is_linear_map(call.module):
            if _close(call.given, layer.mean):
                return layer.path, Head(call.module)
            if _close(call.given, layer.rectified_mean):
                return layer.path, Head(call.module, rectified=True)
    return layer.path, None


def _target_layer(calls: Sequence[Call], output: Any, scores: Tensor | None) -> Call:
    score = _one_score(output, scores)
    maps = [call for call in calls if call.spatial and not _pools_or_drops(call)]
    live, gradients = _live(maps, score)
    if not live:
        raise ModelError(
            "found no map of the image's rows and columns that the score depends on in this "
            "network: name a layer, or use occlusion"
        )
    if score is None:
        warnings.warn(_NO_GRAPH, CamcliWarning, stacklevel=2)
    cuts = (call for call in reversed(live) if score is None or _is_cut(call, score))
    last = next(cuts, None)
    if last is None:
        raise ModelError(
            "the score of this network reads several maps, and no layer's map alone: name a "
            "layer, or use occlusion"
        )
    _refuse_scattered(calls[calls.index(last) :], score)
    found = _behind_norm(live[live.index(last) :], gradients)
    found = found if found.once else _that_runs_once(found, cuts)
    later = sum(_has_matrix(call.module) for call in live[live.index(found) + 1 :])
    if later > _ONE_BLOCK:
        raise ModelError(
            f"the last layer whose map all of the score depends on, '{found.path}', is an early "
            f"one, with {later} linear maps and convolutions behind it: name a layer, or use "
            f"occlusion"
        )
    return found


def _one_score(output: Any, scores: Tensor | None) -> Tensor | None:
    """Return a number to differentiate: the best class's score; None without a graph.

    An output without class scores gives the sum of its squares.
    """
    if scores is not None:
        score = scores.max()
    else:
        parts = [x for x in tree_leaves(output) if isinstance(x, Tensor) and x.requires_grad]
        score = sum((x.float().square().sum() for x in parts), torch.zeros(()))
    return score if score.requires_grad else None


def _live(maps: Sequence[Call], score: Tensor | None) -> tuple[list[Call], dict[str, Tensor]]:
    """Return the calls whose map the score depends on, and the gradient at each map.

    A score that depends on the class token alone has a zero gradient at the patches. If all
    gradients are zero, as those of a head of zeros, every map with a path to the score counts.
    """
    if score is None or not maps:
        return list(maps), {}
    outputs = [call.output for call in maps]
    every = torch.autograd.grad(score, outputs, retain_graph=True, allow_unused=True)
    reached = [(call, call.map_of(g)) for call, g in zip(maps, every, strict=True) if g is not None]
    live = [(call, g) for call, g in reached if g.any()] or reached
    return [call for call, _ in live], {call.path: g for call, g in live}


def _is_cut(call: Call, score: Tensor) -> bool:
    """Return whether every path from the image to the score passes through a layer's output."""
    cut = get_gradient_edge(call.output).node
    start = get_gradient_edge(score).node
    seen, left = {cut, start}, [start]
    while left:
        node = left.pop()
        if _is_source(node):
            return False
        following = {source for source, _ in node.next_functions if source is not None} - seen
        seen |= following
        left += following
    return True


def _is_source(node: Node) -> bool:
    return not any(source is not None for source, _ in node.next_functions)


def _refuse_scattered(later: Sequence[Call], score: Tensor | None) -> None:
    """Raise ModelError if a later layer may hold a map whose cells' places are not known."""
    for call in later:
        if call.scattered and (score is None or _is_cut(call, score)):
            raise ModelError(
                f"the network turns its last map, '{later[0].path}', into "
                f"{tuple(call.output.shape)} at '{call.path}', where the places in the image are "
                f"not known: name a layer, or use occlusion"
            )


def _behind_norm(live: Sequence[Call], gradients: dict[str, Tensor]) -> Call:
    """Return the first of some layers, or the last normalisation of it if there is one to read.

    The score reads the first one through all these normalisations.
    """
    first, *later = live
    if first.path not in gradients or not _is_orthogonal(first, gradients[first.path]):
        return first
    shape = first.map_of(first.output).shape
    norms = [
        call
        for call in later
        if call.once and _is_norm(call.module) and call.map_of(call.output).shape == shape
    ]
    return norms[-1] if norms else first


def _is_orthogonal(call: Call, gradient: Tensor) -> bool:
    """Return whether the gradient at each position is orthogonal to the centred activations."""
    acts = call.map_of(call.output).detach()
    return any(
        bool(((gradient * a).sum(1).abs() <= 1e-3 * gradient.norm(dim=1) * a.norm(dim=1)).all())
        for a in (acts, acts - acts.mean(1, keepdim=True))
    )


def _is_norm(module: nn.Module) -> bool:
    weights = list(module.parameters())
    return not list(module.children()) and bool(weights) and all(w.ndim == 1 for w in weights)


def _that_runs_once(last: Call, earlier: Iterator[Call]) -> Call:
    """Return the first of the earlier layers that runs once, and warn. Raises ModelError."""
    usable = next((call for call in earlier if call.once), None)
    if usable is None:
        raise ModelError(f"layer '{last.path}' runs more than once: name a layer that runs once")
    warnings.warn(
        f"the last map is that of '{last.path}', which runs more than once and cannot be "
        f"explained: the automatic layer is the earlier '{usable.path}'",
        CamcliWarning,
        stacklevel=2,
    )
    return usable


def _has_matrix(module: nn.Module) -> bool:
    return any(weight.ndim > 1 for weight in module.parameters(recurse=False))


def _first_scores(output: Any) -> Tensor | None:
    """Return the class scores of the first image (K,), or None if the output has none."""
    try:
        return logits(output)[0]
    except TargetError:
        return None


def _is_linear_map(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        shape = (module.kernel_size, module.stride, module.padding, module.groups)
        return shape == ((1, 1), (1, 1), (0, 0), 1)
    return isinstance(module, nn.Linear)


_ONE_BLOCK = 6
"""The most linear maps and convolutions of a residual block whose sum is no module's output."""

_NO_GRAPH = (
    "no gradient passes through this whole network: the automatic layer is the last map that runs, "
    "on which the score may not depend; to choose another, name a layer"
)

_POOLING_OR_DROPOUT = (
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.dropout._DropoutNd,
    nn.Identity,
)


def _pools_or_drops(call: Call) -> bool:
    return isinstance(call.module, _POOLING_OR_DROPOUT) or isinstance(
        call.maker, _POOLING_OR_DROPOUT
    )


def _either_mean(call: Call, scores: Tensor) -> bool:
    return _close(call.mean, scores) or _close(call.rectified_mean, scores)


def _close(a: Tensor, b: Tensor) -> bool:
    b = b.detach()
    scale, rtol = float(b.abs().max()), max(1e-3, 8 * torch.finfo(a.dtype).eps)
    return (
        a.shape == b.shape
        and math.isfinite(scale)
        and torch.allclose(a.float(), b.float(), rtol=rtol, atol=rtol / 100 * scale)
    )
