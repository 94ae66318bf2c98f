"""Every method on every network of torchvision gives a map of the right shape or a MethodError.

torchvision lists the networks, so networks of a new version are tested too. Images are small, and
random weights are drawn once and scaled for each layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from camcli import METHODS, Model, explain
from camcli.capture import perturbed
from camcli.capture.discover import find_layer_and_head
from camcli.capture.hooks import borrowed
from camcli.capture.tracing import trace
from camcli.capture.windows import Window
from camcli.errors import MethodError
from camcli.models.families import family, model_names, recorded_layer, recorded_layout
from camcli.models.layouts import Layout
from camcli.models.torchvision_networks import without_weights

NO_HEAD = {"alexnet", "vgg", "mobilenetv3", "convnext", "vision_transformer", "maxvit"}
NO_RELU = {"efficientnet", "convnext", "swin_transformer", "vision_transformer", "maxvit"}
SIZES = {"inception": 107, "maxvit": 224, "vit_h_14": 56}
"""The smallest input sizes that give a map of several cells; 64 or less for other networks."""
REASONS = {
    "pooled": "cam needs a network that ends in global average pooling and one linear layer",
    "guided": "guided backpropagation needs ReLUs and this network has none",
    "cells": r"this method needs a layer of tokens \(N,T,C\) and attention among all of them",
}


def refused(name: str) -> set[str]:
    """Return the evidence that networks of this family do not have."""
    return {
        *(["pooled"] if family(name) in NO_HEAD else []),
        *(["guided"] if family(name) in NO_RELU else []),
        *(["cells"] if family(name) != "vision_transformer" else []),
    }


@pytest.fixture(scope="module")
def numbers() -> Iterator[list[Tensor]]:
    """A buffer for the weights of one network at a time, and a pool of random numbers."""
    pool = torch.randn((1 << 20) + 997, generator=torch.Generator().manual_seed(0))
    buffers = [torch.empty(0), pool]
    yield buffers
    buffers.clear()


@torch.no_grad()
def fill(network: nn.Module, numbers: list[Tensor]) -> nn.Module:
    """Fill a network on the meta device with weights that preserve the scale of activations."""
    weights = [p for p in network.parameters() if p.is_meta]
    if len(numbers[0]) < (total := sum(p.numel() for p in weights)):
        numbers[0] = torch.empty(total)
    free, pool, step = numbers[0], numbers[1], 1 << 20
    for part in network.modules():
        for name, weight in part._parameters.items():
            if weight is None or not weight.is_meta:
                continue
            flat, free = free[: weight.numel()], free[weight.numel() :]
            gain = math.sqrt(1.5 / math.prod(weight.shape[1:])) if weight.ndim > 1 else 0.1
            for start in range(0, len(flat), step):
                chunk = flat[start : start + step]
                offset = (131 * len(free) + start // step) % 997  # different for each weight
                torch.mul(pool[offset : offset + len(chunk)], gain, out=chunk)
            if weight.ndim == 1 and name == "weight":  # a normalisation layer
                flat += 1
            part._parameters[name] = nn.Parameter(flat.view(weight.shape), requires_grad=False)
        for name, buffer in part._buffers.items():
            if buffer is not None and buffer.is_meta:
                part._buffers[name] = torch.full(buffer.shape, float(name == "running_var"))
    return network.eval()


@pytest.fixture
def one_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Score-CAM and Ablation-CAM run a network for one channel instead of for each."""

    def for_first_channel(scores: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def repeated(run: Any, tap: Any, score: Any) -> Tensor:
            first = SimpleNamespace(**vars(tap), detached=tap.detached[:, :1])
            first.layout = only_first(tap.layout)
            return scores(run, first, score).repeat(1, 1, tap.detached.shape[1])

        return repeated

    for name in ("masked", "ablated"):
        monkeypatch.setattr(perturbed, name, for_first_channel(getattr(perturbed, name)))


def only_first(layout: Layout) -> Layout:
    """Return a layout that reads and writes only the first channel."""

    def to_output(maps: Tensor, output: Tensor) -> Tensor:
        return layout.to_output(torch.cat([maps, layout.to_map(output)[:, 1:]], 1), output)

    return Layout(layout.ndim, lambda output: layout.to_map(output)[:, :1], to_output)


def map_shape_of(model: Model, images: Tensor) -> tuple[int, int]:
    """Return the map's height and width. Check that a trace finds the layer and head of the row."""
    with borrowed(model.module):
        calls, output = trace(model.module, (images,))
    if recorded_layer(model.module) is None:  # a trace cannot find the layer of a transformer
        assert find_layer_and_head(calls, output) == (model.layer, model.head)
    (output,) = (call.output for call in calls if call.path == model.layer)
    layout = recorded_layout(model.module, model.layer or "")
    assert layout is not None
    height, width = layout.to_map(output).shape[2:]
    return height, width


@pytest.mark.zoo
@pytest.mark.filterwarnings("ignore::camcli.errors.CamcliWarning")
@pytest.mark.parametrize("name", model_names())
def test_every_method(name: str, one_channel: None, numbers: list[Tensor]) -> None:
    size = SIZES.get(name) or SIZES.get(family(name)) or 64
    model, unable = without_weights(name, size, num_classes=10), refused(name)
    fill(model.module, numbers)
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    map_shape = map_shape_of(model, images)
    assert min(map_shape) > 1

    able = [method.name for method in METHODS.values() if not method.needs & unable]
    found = explain(model, images, able, window=Window(size, size))
    assert [shown.method for shown in found] == able
    for shown in found:
        method = METHODS[shown.method]
        shape = (size, size) if method.image or "occluded" in method.needs else map_shape
        assert shown.maps.shape == (2, *([3] if method.image else []), *shape), method.name
        assert shown.maps.isfinite().all(), method.name
        assert shown.scores.isfinite().all(), method.name
    # The tokens of a deep random network are nearly equal, and all of them may lower the score. The
    # maps of most methods are then empty, but not of every method.
    assert any(shown.maps.any() for shown in found if METHODS[shown.method].at_layer)

    for method in METHODS.values():
        if reasons := method.needs & unable:
            with pytest.raises(MethodError, match=REASONS[min(reasons)]) as error:
                explain(model, images[:1], method.name, 7)
            assert "\n" not in str(error.value)
