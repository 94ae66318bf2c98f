"""Every method on every network of torchvision: a map of the right shape, or one line why not.

Nothing here lists the networks: one that a new torchvision brings is tested the day it appears.
All are at full size, on small images, with random weights drawn once and scaled for each layer.
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
from camcli.capture.discover import survey
from camcli.capture.hooks import borrowed
from camcli.capture.tracing import trace
from camcli.capture.windows import Window
from camcli.errors import MethodError
from camcli.models.families import family, layout_of, model_names, recorded_layer
from camcli.models.layouts import Layout
from camcli.models.torchvision_networks import without_weights

NO_HEAD = {"alexnet", "vgg", "mobilenetv3", "convnext", "vision_transformer", "maxvit"}
NO_RELU = {"efficientnet", "convnext", "swin_transformer", "vision_transformer", "maxvit"}
SIZES = {"inception": 107, "maxvit": 224, "vit_h_14": 56}
"""The least that leaves a map of several places; elsewhere that is 64 or less."""
REASONS = {
    "pooled": "cam needs a network that ends in global average pooling and one linear layer",
    "guided": "guided backpropagation needs ReLUs and this network has none",
}


def refused(name: str) -> set[str]:
    """The evidence that this network cannot give, known of the families there are so far."""
    return {
        *(["pooled"] if family(name) in NO_HEAD else []),
        *(["guided"] if family(name) in NO_RELU else []),
    }


@pytest.fixture(scope="module")
def numbers() -> Iterator[list[Tensor]]:
    """Room for the weights of one network at a time, used again for the next one, and a pool."""
    pool = torch.randn((1 << 20) + 997, generator=torch.Generator().manual_seed(0))
    room = [torch.empty(0), pool]
    yield room
    room.clear()


@torch.no_grad()
def fill(network: nn.Module, numbers: list[Tensor]) -> nn.Module:
    """Give a hollow network weights through which signals neither die nor explode."""
    weights = [p for p in network.parameters() if p.is_meta]
    if len(numbers[0]) < (total := sum(p.numel() for p in weights)):
        numbers[0] = torch.empty(total)
    free, pool, at_once = numbers[0], numbers[1], 1 << 20
    for part in network.modules():
        for name, weight in part._parameters.items():
            if weight is None or not weight.is_meta:
                continue
            flat, free = free[: weight.numel()], free[weight.numel() :]
            gain = math.sqrt(1.5 / math.prod(weight.shape[1:])) if weight.ndim > 1 else 0.1
            for start in range(0, len(flat), at_once):
                chunk = flat[start : start + at_once]
                offset = (131 * len(free) + start // at_once) % 997  # or all weights were alike
                torch.mul(pool[offset : offset + len(chunk)], gain, out=chunk)
            if weight.ndim == 1 and name == "weight":  # of a normalisation
                flat += 1
            part._parameters[name] = nn.Parameter(flat.view(weight.shape), requires_grad=False)
        for name, buffer in part._buffers.items():
            if buffer is not None and buffer.is_meta:
                part._buffers[name] = torch.full(buffer.shape, float(name == "running_var"))
    return network.eval()


@pytest.fixture
def one_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Score-CAM and Ablation-CAM run a network once a channel: here for one that stands for all."""

    def shortened(scores: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def of_all(run: Any, tap: Any, score: Any) -> Tensor:
            first = SimpleNamespace(**vars(tap), detached=tap.detached[:, :1])
            first.layout = only_first(tap.layout)
            return scores(run, first, score).repeat(1, 1, tap.detached.shape[1])

        return of_all

    for name in ("masked", "ablated"):
        monkeypatch.setattr(perturbed, name, shortened(getattr(perturbed, name)))


def only_first(layout: Layout) -> Layout:
    """The same layout, of which only the first channel is taken and put back."""

    def to_output(maps: Tensor, output: Tensor) -> Tensor:
        return layout.to_output(torch.cat([maps, layout.to_map(output)[:, 1:]], 1), output)

    return Layout(layout.ndim, lambda output: layout.to_map(output)[:, :1], to_output)


def map_size(model: Model, images: Tensor) -> tuple[int, int]:
    """The map's height and width, where a traced pass finds the very layer and head of the row."""
    with borrowed(model.module):
        calls, output = trace(model.module, (images,))
    if recorded_layer(model.module) is None:  # no trace can tell in a network of tokens
        assert survey(calls, output) == (model.layer, model.head)
    (output,) = (call.output for call in calls if call.path == model.layer)
    height, width = layout_of(model.module, model.layer or "").to_map(output).shape[2:]
    return height, width


@pytest.mark.zoo
@pytest.mark.filterwarnings("ignore::camcli.errors.CamcliWarning")
@pytest.mark.parametrize("name", model_names())
def test_every_method(name: str, one_channel: None, numbers: list[Tensor]) -> None:
    size = SIZES.get(name) or SIZES.get(family(name)) or 64
    model, unable = without_weights(name, size, num_classes=10), refused(name)
    fill(model.module, numbers)
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    here = map_size(model, images)
    assert min(here) > 1

    able = [method.name for method in METHODS.values() if not method.needs & unable]
    found = explain(model, images, able, window=Window(size, size))
    assert [shown.method for shown in found] == able
    for shown in found:
        method = METHODS[shown.method]
        shape = (size, size) if method.image or "occluded" in method.needs else here
        assert shown.maps.shape == (2, *([3] if method.image else []), *shape), method.name
        assert shown.maps.isfinite().all(), method.name
        assert shown.scores.isfinite().all(), method.name
    # Deep in a random network all tokens are alike, and all may speak against the class: that
    # is an empty map of most methods, though not of all.
    assert any(shown.maps.any() for shown in found if METHODS[shown.method].at_layer)

    for method in METHODS.values():
        if reasons := method.needs & unable:
            with pytest.raises(MethodError, match=REASONS[min(reasons)]) as error:
                explain(model, images[:1], method.name, 7)
            assert "\n" not in str(error.value)
