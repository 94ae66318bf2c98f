"""Merged normalisations: the same network, up to rounding, and only where that is sure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.models as zoo
from torch import Tensor, nn

from camcli import explain, load
from camcli.models.fold_batchnorm import Merged, merge
from camcli.models.load import Model
from tests.support.networks import with_weights


class Pair(nn.Module):
    """A convolution, its normalisation, and whatever else a case puts beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(x)).relu().mean((2, 3)))


def norms(net: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in net.modules())


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "densenet121"])
def test_maps_stay(name: str) -> None:
    torch.manual_seed(0)
    net = with_weights(zoo.get_model(name, weights=None))
    images = torch.randn(2, 3, 64, 64).double()
    methods = ["gradcam", "gradcam++", "cam", "guided-backprop"]
    before, had = explain(net, images, methods), norms(net)
    assert merge(net) == had - norms(net) > had / 3
    for one, other in zip(before, explain(net, images, methods), strict=True):
        assert one.layer == other.layer
        scale = float(one.maps.abs().max())
        torch.testing.assert_close(other.maps, one.maps, rtol=1e-8, atol=1e-9 * scale)


def test_a_layer_that_is_looked_at_keeps_its_output(images: Tensor) -> None:
    net = with_weights(nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4)))
    assert merge(net, ["0"]) == merge(net, ["0.0"]) == 0
    inside = with_weights(Pair())
    before = explain(inside, images, "gradcam", 1, layer="conv").maps
    assert Model(inside).merged("conv").module is inside
    assert torch.equal(explain(inside, images, "gradcam", 1, layer="conv").maps, before)
    assert merge(inside, ["norm"]) == 1, "what the normalisation gave is there still"


def test_a_second_time_there_is_nothing_to_do() -> None:
    net = with_weights(Pair())
    assert merge(net) == 1
    assert isinstance(net.norm, Merged)
    assert merge(net) == 0


class Twice(Pair):
    def forward(self, x: Tensor) -> Tensor:
        made = self.conv(x)
        return self.head((self.norm(made) + made).mean((2, 3)))


class Again(Pair):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.conv(x).mean()


class Tied(Pair):
    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Conv2d(3, 4, 3)
        self.other.weight = self.conv.weight

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.other(x).mean()


class Asking(Pair):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if float(x.sum()) > 0 else super().forward(-x)


def unmeasured() -> nn.Module:
    net = Pair()
    net.norm = nn.BatchNorm2d(4, track_running_stats=False)
    return net


@pytest.mark.parametrize("make", [Twice, Again, Tied, Asking, unmeasured])
def test_what_something_else_uses_stays(make: Callable[[], nn.Module], images: Tensor) -> None:
    net = make().double().eval()
    before = net(images)
    assert merge(net) == 0
    assert torch.equal(net(images), before)


def test_in_training_nothing_is_merged() -> None:
    assert merge(Pair()) == 0


def test_the_command_gives_the_maps_of_the_plain_network(
    tmp_path: Path, run: Callable[..., object], photo: Path
) -> None:
    file, layer = tmp_path / "resnet18.pth", "layer4.1.conv2"
    torch.save(with_weights(zoo.resnet18()).float().state_dict(), file)
    arguments = ("--model", "resnet18", "--weights", file, "--layer", layer)
    run("explain", photo, *arguments, "--output", tmp_path / "out")
    plain = explain(load("resnet18", file), photo, layer=layer).maps[0].numpy()
    (found,) = (tmp_path / "out").glob("*.npy")
    np.testing.assert_allclose(np.load(found), plain, rtol=1e-3, atol=1e-4 * plain.max())
