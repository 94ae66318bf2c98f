"""CAM applies to networks that end in global average pooling and one linear layer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from camcli import explain, load
from camcli.errors import MethodError
from tests.support.networks import NO_CAM, ZOO


@pytest.mark.parametrize("name", sorted(set(ZOO) - NO_CAM))
def test_mean_of_cam_is_the_score(name: str) -> None:
    """The mean of the class map plus the bias, which CAM leaves out, is the score."""
    model = load(name, "none")
    shown = explain(model, torch.randn(2, 3, 96, 96), "cam", 5)
    assert model.head is not None
    if isinstance(model.head.linear, nn.Conv2d):
        total = shown.maps.relu().mean((1, 2))  # SqueezeNet's head ends in a ReLU
    else:
        bias = model.head.linear.bias
        assert isinstance(bias, Tensor)
        total = shown.maps.mean((1, 2)) + bias[5]
    torch.testing.assert_close(total, shown.scores, rtol=1e-4, atol=1e-5)


class ConvHead(nn.Module):
    """A 1x1 convolution to class maps after a given operation, and their mean."""

    def __init__(self, between: Callable[[Tensor], Tensor], head: nn.Conv2d) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
        self.between, self.head = between, head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.between(self.trunk(x))).mean((2, 3))


@pytest.mark.parametrize("between", [lambda x: x, F.relu, F.dropout2d, nn.ReLU()])
def test_cam_of_a_convolutional_head(between: Callable[[Tensor], Tensor]) -> None:
    if between is F.dropout2d:
        between = nn.Dropout2d()
    shown = explain(ConvHead(between, nn.Conv2d(8, 4, 1)), torch.randn(2, 3, 12, 12), "cam", 2)
    torch.testing.assert_close(shown.maps.mean((1, 2)), shown.scores)


@pytest.mark.parametrize(
    "net",
    [
        ConvHead(lambda x: x * x, nn.Conv2d(8, 4, 1)),
        ConvHead(lambda x: F.max_pool2d(x, 2), nn.Conv2d(8, 4, 1)),
        ConvHead(F.relu, nn.Conv2d(8, 4, 1, padding=1)),
        ConvHead(F.relu, nn.Conv2d(8, 4, 1, groups=2)),
        ConvHead(F.relu, nn.Conv2d(8, 4, 3)),
        nn.Sequential(
            *(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            *(nn.Linear(8, 3), nn.ReLU(), nn.Linear(3, 10)),
        ),
        nn.Sequential(
            *(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten()),
            nn.Linear(8, 10),
        ),
    ],
)
def test_cam_requires_a_linear_head(net: nn.Module) -> None:
    with pytest.raises(MethodError, match="cam needs a network that ends in global average"):
        explain(net, torch.randn(2, 3, 12, 12), "cam", 2)


def test_mobilenet_v3_has_no_cam() -> None:
    """Two linear layers follow its pooling."""
    with pytest.raises(MethodError, match="mobilenet_v3_small does not"):
        explain(load("mobilenet_v3_small", "none"), torch.randn(1, 3, 64, 64), "cam", 2)


def test_squeezenet_cam_is_a_channel_of_its_head() -> None:
    model = load("squeezenet1_1", "none")
    image = torch.randn(1, 3, 96, 96)
    expected = model.module.classifier[1](model.module.features(image))[:, 11]
    torch.testing.assert_close(explain(model, image, "cam", 11).maps, expected.detach())
