"""Find the target layer and the CAM head of an unknown network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from camcli.capture.targets import logits
from camcli.capture.tracing import Call
from camcli.errors import ModelError, TargetError
from camcli.models.head import Head


def find_layer_and_head(calls: Sequence[Call], output: Any) -> tuple[str, Head | None]:
    """Return the target layer and the CAM head of an unknown network, from a traced forward pass.

    The layer is the last feature map before the head that is not the output of a pooling or
    dropout. A head fits CAM's derivation if the class scores are a linear map of the layer's
    spatial mean, or the spatial mean of a linear map. Both are checked on the values. The head is
    None if the network has none that fits. Raises ModelError.
    """
    scores = _first_scores(output)
    makers: dict[int, Call] = {}
    for call in calls:
        makers.setdefault(id(call.output), call)
    # A container often returns the output of its last part. Check the part that computed it, too.
    maps = [
        call
        for call in calls
        if call.spatial
        and not isinstance(call.module, _POOLING_OR_DROPOUT)
        and not isinstance(makers[id(call.output)].module, _POOLING_OR_DROPOUT)
    ]
    class_maps = [call for call in maps if scores is not None and _either_mean(call, scores)]
    features = [call for call in maps if call not in class_maps]
    if not features:
        raise ModelError("found no feature map (N,C,h,w) in this network: name a layer")
    layer = features[-1]
    if any(call.output.ndim == 3 for call in calls[calls.index(layer) :]):
        raise ModelError(
            f"this network turns its last feature map, '{layer.path}', into tokens (N,T,C). That "
            f"layer is too early to tell classes apart: name a layer, or use occlusion"
        )
    for call in calls:
        gives_scores = call in class_maps or (scores is not None and _close(call.mean, scores))
        if call.given is not None and gives_scores and _is_linear_map(call.module):
            if _close(call.given, layer.mean):
                return layer.path, Head(call.module)
            if _close(call.given, layer.rectified_mean):
                return layer.path, Head(call.module, rectified=True)
    return layer.path, None


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


_POOLING_OR_DROPOUT = (
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.dropout._DropoutNd,
    nn.Identity,
)


def _either_mean(call: Call, scores: Tensor) -> bool:
    return _close(call.mean, scores) or _close(call.rectified_mean, scores)


def _close(a: Tensor, b: Tensor) -> bool:
    scale, rtol = float(b.abs().max()), max(1e-3, 8 * torch.finfo(a.dtype).eps)
    return (
        a.shape == b.shape
        and math.isfinite(scale)
        and torch.allclose(a.float(), b.float(), rtol=rtol, atol=rtol / 100 * scale)
    )
