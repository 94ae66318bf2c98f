"""The gradient at an image through a strided convolution equals that of autograd."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from camcli import explain, speed
from camcli.capture.strided import at_input, gradient_at_image, strided_convolution
from tests.support.networks import GapNet

KERNELS = (1, 2, 3, 7, (5, 2))
STRIDES = (2, 3, 4, (1, 3), (4, 2))
PADDINGS = (0, 1, 3, (0, 2))
SIZES = ((16, 16), (17, 13), (11, 22))
CASES = [*itertools.product(KERNELS, STRIDES, PADDINGS, SIZES)]


class Twice(nn.Module):
    """A network that reads its image in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(3, 4, 3, 2), nn.Conv2d(3, 4, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) + self.other(x)


OTHERS: dict[str, Callable[[], nn.Module]] = {
    "stride 1": lambda: nn.Conv2d(3, 4, 3),
    "dilated": lambda: nn.Conv2d(3, 4, 3, stride=2, dilation=2),
    "grouped": lambda: nn.Conv2d(3, 6, 3, stride=2, groups=3),
    "transposed": lambda: nn.ConvTranspose2d(3, 4, 3, stride=2),
    "reflected": lambda: nn.Conv2d(3, 4, 3, stride=2, padding=1, padding_mode="reflect"),
    "in a cube": lambda: nn.Sequential(nn.Unflatten(1, (1, 3)), nn.Conv3d(1, 4, 3, 2)),
    "a layer before": lambda: nn.Sequential(nn.ReLU(), nn.Conv2d(3, 4, 3, 2)),
    "two readers": Twice,
}
"""Networks that begin with something else, which is left to autograd."""


def scores_of(net: nn.Module, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the scores (2,) of images by a network, and the images (2,3,H,W)."""
    image = torch.randn(2, 3, *size, dtype=torch.double).requires_grad_()
    return net.double().requires_grad_(False)(image.clone()).sin().flatten(1).sum(1), image


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "padding", "size"), CASES)
def test_it_is_the_gradient_of_autograd(
    kernel: int, stride: int, padding: int, size: tuple[int, int], channels_last: bool
) -> None:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    net = nn.Conv2d(3, 5, kernel, stride, padding).to(memory_format=layout)
    scores, image = scores_of(net, size)
    (expected,) = torch.autograd.grad(scores.sum(), image, retain_graph=True)
    node = strided_convolution(scores, image)
    assert node is not None
    (above,) = torch.autograd.grad(
        scores.sum(), torch.autograd.graph.GradientEdge(node, 0), retain_graph=True
    )
    found = at_input(above, net.weight, node._saved_stride, node._saved_padding, image)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    assert torch.equal(gradient_at_image(scores, image), found if speed.enabled() else expected)


@pytest.mark.parametrize("network", OTHERS)
def test_other_beginnings_are_left_to_autograd(network: str) -> None:
    scores, image = scores_of(OTHERS[network](), (15, 14))
    assert strided_convolution(scores, image) is None
    (expected,) = torch.autograd.grad(scores.sum(), image, retain_graph=True)
    assert torch.equal(gradient_at_image(scores, image), expected)


def test_an_image_that_is_the_kernel_is_left_to_autograd() -> None:
    image = torch.randn(2, 3, 4, 4, requires_grad=True)
    scores = nn.functional.conv2d(torch.randn(2, 3, 9, 9), image, stride=2).flatten(1).sum(1)
    assert strided_convolution(scores, image) is None


def test_the_hooks_of_a_network_on_its_first_map_change_the_gradient() -> None:
    class Hooked(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            found = super().forward(x)
            found.register_hook(lambda gradient: gradient * 2)
            return found

    scores, image = scores_of(Hooked(3, 4, 3, 2), (15, 14))
    (expected,) = torch.autograd.grad(scores.sum(), image, retain_graph=True)
    torch.testing.assert_close(gradient_at_image(scores, image), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["guided", "guided-backprop"])
def test_guided_methods_use_it(
    name: str, gap_net: GapNet, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = {}
    for value in ("", "1"):
        monkeypatch.setenv("CAMCLI_NO_SPEEDUPS", value)
        maps[value] = explain(gap_net, images, name, 1).maps
    torch.testing.assert_close(maps[""], maps["1"], rtol=0, atol=1e-10)
    assert not torch.equal(maps[""], maps["1"]), "one of them is the gradient of autograd"
