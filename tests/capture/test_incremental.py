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
    """Return the maps of whole images and of patches, divided by the score, and the plan.

    Patches cost nothing here, so that a network runs on them as far as its operations are local.
    """
    monkeypatch.setattr(planning, "_TRAFFIC", 1e-6)

    def maps(net: nn.Module, images: Tensor, window: Window, target: Any = 1) -> Any:
        plans: list[Plan | None] = []

        def recorded(*args: Any) -> Plan | None:
            plans.append(run.find_plan(*args))
            return plans[-1]

        found = []
        for find_plan in (lambda *_: None, recorded):
            monkeypatch.setattr(perturbed, "find_plan", find_plan)
            shown = explain(net, images, "occlusion", target, window=window)
            found.append(shown.maps / shown.scores.abs().max())
        return *found, plans[0] if plans else None

    return maps


def build(name: str) -> nn.Module:
    google = {"transform_input": True, "aux_logits": True, "init_weights": False}
    options = google if name in ("googlenet", "inception_v3") else {}
    if name == "convnext":  # two stages are enough
        blocks = [CNBlockConfig(16, 32, 1), CNBlockConfig(32, None, 1)]
        return with_weights(zoo.ConvNeXt(blocks, num_classes=7, layer_scale=0.5))
    net = zoo.get_model(name, weights=None, num_classes=7, **options)
    if name.startswith("vgg"):  # the original head has half a gigabyte of weights
        net.avgpool, net.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(512, 7)
    return with_weights(net)


def random_images(*shape: int) -> Tensor:
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
"""Networks, each with the name of an operation that must run on patches."""


@pytest.mark.parametrize("name", NETWORKS)
def test_maps_of_torchvision_networks(name: str, both: Both) -> None:
    size = {"inception_v3": 80, "convnext": 96}.get(name, 48)
    window = Window(size // 6, size // 6)
    whole, patched, plan = both(build(name), random_images(1, 3, size, size + 9), window)
    assert plan is not None
    assert any(node.name.startswith(NETWORKS[name]) for node in plan.head)
    torch.testing.assert_close(patched, whole, rtol=0, atol=1e-10)


def test_the_plan_ends_where_patches_are_slower() -> None:
    """At 224 pixels, patches are used in three quarters of VGG and half of ResNet."""
    rows = Span(first := torch.arange(0, 193, 16), first + 32, 224)
    for name, inside, outside in (
        ("vgg11", "features_11", "classifier"),
        ("resnet18", "layer2_0_conv2", "layer4_1_conv2"),
    ):
        network = operations(build(name).float())
        assert network is not None
        plan = planning.make_plan(network, random_images(1, 3, 224, 224).float(), (rows, rows), 0.1)
        assert plan is not None
        names = {node.name for node in plan.head}
        assert inside in names
        assert outside not in names


class Branches(nn.Module):
    """A network of every kind of operation that may run on patches."""

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
def test_maps_for_every_geometry_of_kernels_and_windows(
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
    monkeypatch.setattr(
        run, "_agrees", lambda *_: True
    )  # disables the check that would hide errors
    torch.manual_seed(kernel)
    net = with_weights(Branches(kernel, stride, padding, dilation, ceil))
    window = Window(size, min(step, size) if size < 4 else max(2, min(step, size)), 64)
    whole, patched, _ = both(net, random_images(2, 3, *sides), window)
    torch.testing.assert_close(patched, whole, rtol=0, atol=1e-9)


def test_every_kind_of_operation_runs_on_patches(both: Both) -> None:
    net = with_weights(Branches(3, 1, 1, 1, ceil=True))
    whole, patched, plan = both(net, random_images(2, 3, 60, 50), Window(5, 3))
    assert plan is not None
    assert list(plan.head)[-1].name.startswith(("add", "relu", "permute"))
    torch.testing.assert_close(patched, whole, rtol=0, atol=1e-9)


class Between(nn.Module):
    """A network with an operation between its two convolutions."""

    def __init__(self, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.act = act
        self.conv, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.last(self.act(self.conv(x))).mean((2, 3)))


UNSUPPORTED: dict[str, Callable[[Tensor], Tensor]] = {
    "depends on values": lambda x: x if x.mean() > 0 else -x,
    "written to": lambda x: x.mul_(2),
    "written to and read again": lambda x: F.relu(x, inplace=True) + x,
    "one image at a time": lambda x: torch.stack([x[i] for i in range(len(x))]),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_unsupported_operations_have_no_plan(name: str, both: Both) -> None:
    whole, patched, plan = both(
        with_weights(Between(UNSUPPORTED[name])), random_images(1, 3, 32, 32), Window(4, 3)
    )
    assert torch.equal(whole, patched)
    assert plan is None


class ColumnBias(nn.Module):
    """Adds another bias to each of 28 columns."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.linspace(0, 1, 28))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


NOT_LOCAL: dict[str, Callable[[Tensor], Tensor]] = {
    "bias of columns": ColumnBias(),
    "mean over space": lambda x: x - x.mean((2, 3), keepdim=True),
    "position embedding": lambda x: x + torch.linspace(0, 1, x.shape[3], dtype=x.dtype),
    "flipped": lambda x: x.flip(3),
    "shifted": lambda x: x[:, :, 1:],
    "reshaped": lambda x: x.reshape(x.shape[0], x.shape[2], x.shape[3], -1).permute(0, 3, 1, 2),
    "normalised over columns": lambda x: F.layer_norm(x, x.shape[-1:]),
    "scaled by the height": lambda x: x * x.shape[2],
    "softmax": lambda x: x.softmax(3),
}


@pytest.mark.parametrize("name", NOT_LOCAL)
def test_patches_end_before_operations_that_are_not_local(
    name: str, both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_agrees", lambda *_: True)
    whole, patched, plan = both(
        with_weights(Between(NOT_LOCAL[name])), random_images(1, 3, 32, 30), Window(4, 3)
    )
    torch.testing.assert_close(patched, whole, rtol=0, atol=1e-10)
    assert plan is None or [node.name for node in plan.head] == ["x", "conv"]


def test_a_vision_transformer_has_no_plan(both: Both) -> None:
    net = zoo.VisionTransformer(32, 8, 1, 2, 16, 16, num_classes=3).double()
    nn.init.normal_(net.heads.head.weight)
    whole, patched, plan = both(net, random_images(1, 3, 32, 32), Window(4, 4))
    assert plan is None
    assert torch.equal(whole, patched)


@pytest.mark.parametrize("what", ["hook", "function"])
def test_hooks_and_functions_as_target_need_whole_images(
    what: str, both: Both, gap_net: nn.Module
) -> None:
    images, window = random_images(1, 3, 40, 40), Window(5, 3)
    assert both(gap_net, images, window)[2] is not None
    if what == "hook":
        gap_net.get_submodule("trunk").register_forward_hook(lambda *_: None)
    target = (lambda output: output[:, 1]) if what == "function" else 1
    assert both(gap_net, images, window, target)[2] is None


def test_folded_batch_norms_are_supported(both: Both, images: Tensor) -> None:
    net = with_weights(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    )
    net = fold_batchnorm(Model(net)).module
    whole, patched, plan = both(net, images, Window(8, 4))
    assert plan is not None
    assert [node.target for node in plan.head] == ["input", "0", "2"]
    torch.testing.assert_close(patched, whole, rtol=1e-9, atol=1e-12)
