"""Occlusion on patches gives the maps of whole images, and applies only where that is certain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision.models as zoo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig

from camcli import explain
from camcli.capture import perturbed
from camcli.capture.incremental import planning, run
from camcli.capture.incremental.planning import Plan
from camcli.capture.incremental.regions import Span
from camcli.capture.windows import Window
from camcli.models.fold_batchnorm import fold_batchnorm
from camcli.models.graph import operations
from camcli.models.model import Model
from tests.support.networks import with_weights

Both = Callable[..., tuple[Tensor, Tensor, Plan | None]]


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> Both:
    """Maps of whole images and of patches, in units of the score, and the latter's plan.

    Patches are taken for free here, so that every network runs on them as far as it is local.
    """
    monkeypatch.setattr(planning, "_TRAFFIC", 1e-6)

    def maps(net: nn.Module, images: Tensor, window: Window, target: Any = 1) -> Any:
        plans: list[Plan | None] = []

        def noted(*args: Any) -> Plan | None:
            plans.append(run.plan_of(*args))
            return plans[-1]

        found = []
        for plan_of in (lambda *_: None, noted):
            monkeypatch.setattr(perturbed, "plan_of", plan_of)
            shown = explain(net, images, "occlusion", target, window=window)
            found.append(shown.maps / shown.scores.abs().max())
        return *found, plans[0] if plans else None

    return maps


def made(name: str) -> nn.Module:
    google = {"transform_input": True, "aux_logits": True, "init_weights": False}
    options = google if name in ("googlenet", "inception_v3") else {}
    if name == "convnext":  # two stages are enough
        blocks = [CNBlockConfig(16, 32, 1), CNBlockConfig(32, None, 1)]
        return with_weights(zoo.ConvNeXt(blocks, num_classes=7, layer_scale=0.5))
    net = zoo.get_model(name, weights=None, num_classes=7, **options)
    if name.startswith("vgg"):  # half a gigabyte less
        net.avgpool, net.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(512, 7)
    return with_weights(net)


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).double()


NETWORKS = {
    "vgg11": "features_",
    "resnet18": "layer",
    "densenet121": "features_denseblock1",
    "squeezenet1_0": "features_5",
    "mobilenet_v2": "features_6",
    "googlenet": "inception3",
    "inception_v3": "mixed_5",
    "convnext": "features_1_",
    "shufflenet_v2_x1_0": "stage2_",
    "efficientnet_b0": "features_1_",
}
"""Networks, and an operation's name that must be among those on patches."""


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str, both: Both) -> None:
    size = {"inception_v3": 80, "convnext": 96}.get(name, 48)
    window = Window(size // 6, size // 6)
    plain, patched, plan = both(made(name), drawn(1, 3, size, size + 9), window)
    assert plan is not None
    assert any(node.name.startswith(NETWORKS[name]) for node in plan.head)
    torch.testing.assert_close(patched, plain, rtol=0, atol=1e-10)


def test_where_patches_stop_paying() -> None:
    """For what the method is meant for, real sizes: three quarters into VGG, half into ResNet."""
    rows = Span(first := torch.arange(0, 193, 16), first + 32, 224)
    for name, inside, outside in (
        ("vgg11", "features_11", "classifier"),
        ("resnet18", "layer2_0_conv2", "layer4_1_conv2"),
    ):
        network = operations(made(name).float())
        assert network is not None
        plan = planning.planned(network, drawn(1, 3, 224, 224).float(), (rows, rows), 0.1)
        assert plan is not None
        names = {node.name for node in plan.head}
        assert inside in names
        assert outside not in names


class Branches(nn.Module):
    """Every kind of operation that may run on patches, at odd sizes."""

    def __init__(self, kernel: int, stride: int, padding: int, dilation: int, ceil: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, kernel, stride, padding, dilation, groups=1)
        self.norm, self.act = nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.apart = nn.Conv2d(4, 4, (1, 3), padding=(0, 1), groups=2)
        self.pool = nn.MaxPool2d(3, 2, padding=1, ceil_mode=ceil)
        self.mean = nn.AvgPool2d(2, 1, padding=1)
        self.scale = nn.Parameter(torch.randn(8, 1, 1))
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.conv(x)))
        x = self.pool(x + self.apart(x))
        x = F.max_pool2d(self.mean(x), 2, 1, ceil_mode=True)
        x = torch.cat([x, -x], 1) * self.scale
        n, c, h, w = x.size()
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        x = F.layer_norm(x.permute(0, 2, 3, 1), (8,)).permute(0, 3, 1, 2) + x
        return self.fc(x.relu().mean((2, 3)))


@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    ceil=st.booleans(),
    size=st.integers(1, 9),
    step=st.integers(1, 9),
    sides=st.tuples(st.integers(17, 40), st.integers(17, 40)),
)
def test_geometry(
    both: Both,
    kernel: int,
    stride: int,
    padding: int,
    dilation: int,
    ceil: bool,
    size: int,
    step: int,
    sides: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run, "_agrees", lambda *_: True)  # nothing is caught by it
    torch.manual_seed(kernel)
    net = with_weights(Branches(kernel, stride, padding, dilation, ceil))
    window = Window(size, min(step, size) if size < 4 else max(2, min(step, size)), 64)
    plain, patched, _ = both(net, drawn(2, 3, *sides), window)
    torch.testing.assert_close(patched, plain, rtol=0, atol=1e-9)


def test_every_kind_of_operation_runs_on_patches(both: Both) -> None:
    net = with_weights(Branches(3, 1, 1, 1, ceil=True))
    plain, patched, plan = both(net, drawn(2, 3, 60, 50), Window(5, 3))
    assert plan is not None
    assert list(plan.head)[-1].name.startswith(("add", "relu", "permute"))
    torch.testing.assert_close(patched, plain, rtol=0, atol=1e-9)


class Odd(nn.Module):
    """A small network with something about it that patches cannot be used for."""

    def __init__(self, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.act = act
        self.conv, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.last(self.act(self.conv(x))).mean((2, 3)))


ODD: dict[str, Callable[[Tensor], Tensor]] = {
    "depends on values": lambda x: x if x.mean() > 0 else -x,
    "written to": lambda x: x.mul_(2),
    "written to, and read again": lambda x: F.relu(x, inplace=True) + x,
    "one image at a time": lambda x: torch.stack([x[i] for i in range(len(x))]),
}


@pytest.mark.parametrize("name", ODD)
def test_plain_where_patches_would_not_be_sure(name: str, both: Both) -> None:
    plain, found, plan = both(with_weights(Odd(ODD[name])), drawn(1, 3, 32, 32), Window(4, 3))
    assert torch.equal(plain, found)
    assert plan is None


class Placed(nn.Module):
    """A number of its own for each of 28 columns."""

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.linspace(0, 1, 28))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.places


NOT_LOCAL: dict[str, Callable[[Tensor], Tensor]] = {
    "parameters of places": Placed(),
    "mean over space": lambda x: x - x.mean((2, 3), keepdim=True),
    "position embedding": lambda x: x + torch.linspace(0, 1, x.shape[3], dtype=x.dtype),
    "flipped": lambda x: x.flip(3),
    "shifted": lambda x: x[:, :, 1:],
    "turned": lambda x: x.reshape(x.shape[0], x.shape[2], x.shape[3], -1).permute(0, 3, 1, 2),
    "normalised over columns": lambda x: F.layer_norm(x, x.shape[-1:]),
    "counted": lambda x: x * x.shape[2],
    "softmax": lambda x: x.softmax(3),
}


@pytest.mark.parametrize("name", NOT_LOCAL)
def test_patches_stop_before_what_sees_more(
    name: str, both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known from the operation itself, before a window is held against the network."""
    monkeypatch.setattr(run, "_agrees", lambda *_: True)
    plain, found, plan = both(with_weights(Odd(NOT_LOCAL[name])), drawn(1, 3, 32, 30), Window(4, 3))
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-10)
    assert plan is None or [node.name for node in plan.head] == ["x", "conv"]


def test_a_vision_transformer_runs_plain(both: Both) -> None:
    net = zoo.VisionTransformer(32, 8, 1, 2, 16, 16, num_classes=3).double()
    nn.init.normal_(net.heads.head.weight)
    plain, found, plan = both(net, drawn(1, 3, 32, 32), Window(4, 4))
    assert plan is None
    assert torch.equal(plain, found)


@pytest.mark.parametrize("what", ["hook", "function"])
def test_hooks_and_functions_see_whole_runs(what: str, both: Both, gap_net: nn.Module) -> None:
    images, window = drawn(1, 3, 40, 40), Window(5, 3)
    assert both(gap_net, images, window)[2] is not None
    if what == "hook":
        gap_net.get_submodule("trunk").register_forward_hook(lambda *_: None)
    target = (lambda output: output[:, 1]) if what == "function" else 1
    assert both(gap_net, images, window, target)[2] is None


def test_folded_normalisations_are_supported(both: Both, images: Tensor) -> None:
    net = with_weights(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    )
    net = fold_batchnorm(Model(net)).module
    whole, patches, plan = both(net, images, Window(8, 4))
    assert plan is not None
    assert [node.target for node in plan.head] == ["input", "0", "2"]
    torch.testing.assert_close(patches, whole, rtol=1e-9, atol=1e-12)
