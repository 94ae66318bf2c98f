"""Folded batch normalisations: the same network up to rounding, and the given one unchanged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.models as zoo
from torch import Tensor, nn

from camcli import explain, load
from camcli.models.fold_batchnorm import FoldedNorm, fold_batchnorm
from camcli.models.model import Model
from tests.support.networks import with_weights


class Pair(nn.Module):
    """A convolution and its normalisation; subclasses add other users of them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(x)).relu().mean((2, 3)))


def count_norms(net: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in net.modules())


def fold(net: nn.Module, *layers: str) -> nn.Module:
    return fold_batchnorm(Model(net), layers).module


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "densenet121"])
def test_maps_stay_the_same(name: str) -> None:
    torch.manual_seed(0)
    net = with_weights(zoo.get_model(name, weights=None))
    images = torch.randn(2, 3, 64, 64).double()
    methods = ["gradcam", "gradcam++", "cam", "guided-backprop"]
    before, folded = explain(net, images, methods), fold(net)
    assert count_norms(folded) < count_norms(net) * 2 / 3
    for one, other in zip(before, explain(folded, images, methods), strict=True):
        assert one.layer == other.layer
        scale = float(one.maps.abs().max())
        torch.testing.assert_close(other.maps, one.maps, rtol=1e-8, atol=1e-9 * scale)


def test_the_given_model_is_unchanged() -> None:
    model = load("resnet18", "none")
    before = {path: type(part) for path, part in model.module.named_modules()}
    state = {key: value.clone() for key, value in model.module.state_dict().items()}
    folded = fold_batchnorm(model)
    assert {path: type(part) for path, part in model.module.named_modules()} == before
    for key, value in model.module.state_dict().items():
        assert torch.equal(value, state[key]), key
    assert folded.module is not model.module
    assert folded.head is not None
    assert folded.head.linear is folded.module.fc is not model.module.fc
    assert folded.module.fc.weight is model.module.fc.weight, "other weights are shared"


def test_a_target_layer_keeps_its_output(images: Tensor) -> None:
    net = with_weights(nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4)))
    assert fold(net, "0") is fold(net, "0.0") is net
    assert fold_batchnorm(Model(net, layer="0")).module is net
    pair = with_weights(Pair())
    assert fold(pair, "conv") is pair
    folded = fold(pair, "norm")
    assert count_norms(folded) == 0
    before, after = (explain(each, images, "gradcam", 1, layer="norm") for each in (pair, folded))
    torch.testing.assert_close(after.maps, before.maps)


def test_folding_again_changes_nothing() -> None:
    folded = fold(with_weights(Pair()))
    assert isinstance(folded.norm, FoldedNorm)
    assert fold(folded) is folded


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


class Branching(Pair):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if float(x.sum()) > 0 else super().forward(-x)


def without_statistics() -> nn.Module:
    net = Pair()
    net.norm = nn.BatchNorm2d(4, track_running_stats=False)
    return net


@pytest.mark.parametrize("make", [Twice, Again, Tied, Branching, without_statistics])
def test_modules_with_other_users_are_not_folded(make: Callable[[], nn.Module]) -> None:
    net = make().double().eval()
    assert fold(net) is net


def test_modules_in_training_mode_are_not_folded() -> None:
    net = Pair()
    assert fold(net) is net


def test_maps_of_the_command_are_those_of_the_unfolded_network(
    tmp_path: Path, run: Callable[..., object], photo: Path
) -> None:
    file, layer = tmp_path / "resnet18.pth", "layer4.1.conv2"
    torch.save(with_weights(zoo.resnet18()).float().state_dict(), file)
    arguments = ("--model", "resnet18", "--weights", file, "--layer", layer)
    run("explain", photo, *arguments, "--output", tmp_path / "out")
    plain = explain(load("resnet18", file), photo, layer=layer).maps[0].numpy()
    (found,) = (tmp_path / "out").glob("*.npy")
    np.testing.assert_allclose(np.load(found), plain, rtol=1e-3, atol=1e-4 * plain.max())
