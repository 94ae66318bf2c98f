"""Forward passes leave the model unchanged, build no graph in the trunk, and guide every ReLU."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision import models

from camcli import CamcliError, Model, explain
from camcli.capture.forward import Pass, Watch
from camcli.capture.hooks import borrowed
from camcli.capture.windows import Window
from camcli.errors import CamcliWarning, MethodError, ModelError
from tests.support.networks import OF_MAPS, GapNet


def state_of(module: nn.Module) -> list[object]:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [
        *(
            (part.training, *(len(getattr(part, name)) for name in hooks))
            for part in module.modules()
        ),
        *(getattr(part, "inplace", None) for part in module.modules()),
        *((p.requires_grad, p.grad) for p in module.parameters()),
        *(value.clone().flatten().tolist() for value in module.state_dict().values()),
    ]


@pytest.fixture
def mixed(gap_net: GapNet) -> GapNet:
    """A model in a mixed state: training, one part in evaluation, one parameter frozen."""
    gap_net.train()
    gap_net.last.eval()
    gap_net.fc.bias.requires_grad_(False)
    return gap_net


@pytest.mark.parametrize("name", OF_MAPS)
def test_the_model_is_unchanged(name: str, mixed: GapNet, images: Tensor) -> None:
    before, inputs = state_of(mixed), images.clone()
    explain(mixed, images, name)
    assert state_of(mixed) == before
    assert torch.equal(images, inputs)
    assert not images.requires_grad


@pytest.mark.parametrize(
    ("name", "where"),
    [(name, where) for name in OF_MAPS for where in ("forward", "score") if name != "cam"]
    + [("cam", "forward")],
)
def test_the_model_is_unchanged_after_an_exception(
    name: str, where: str, mixed: GapNet, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state_of(mixed)

    def broken(*_: object) -> Tensor:
        raise RuntimeError("injected")

    if where == "forward":
        monkeypatch.setattr(mixed.fc, "forward", broken)
    with pytest.raises(RuntimeError, match="injected"):
        explain(mixed, images, name, 0 if where == "forward" else broken)
    assert state_of(mixed) == before


@pytest.mark.parametrize("name", ["cam", "gradcam++softmax"])
def test_methods_of_classes_refuse_functions(name: str, mixed: GapNet, images: Tensor) -> None:
    before = state_of(mixed)
    with pytest.raises(MethodError, match="explains a class, not a function"):
        explain(mixed, images, name, lambda output: output.sum(1))
    assert state_of(mixed) == before


@pytest.mark.parametrize("name", OF_MAPS)
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_frozen_parameters_and_disabled_gradients_do_not_matter(
    name: str, context: Callable[[], torch.no_grad], gap_net: GapNet, images: Tensor
) -> None:
    expected = explain(gap_net, images, name, window=Window(8, 8)).maps
    gap_net.requires_grad_(False)
    with context():
        found = explain(gap_net, images.clone(), name, window=Window(8, 8)).maps
        assert not torch.is_grad_enabled()
    assert torch.equal(found, expected)


@pytest.mark.parametrize("layer", ["trunk.0", "last.0"])
def test_an_in_place_relu_after_the_layer_does_not_change_maps(
    layer: str, gap_net: GapNet, images: Tensor
) -> None:
    safe = copy.deepcopy(gap_net)
    for part in safe.modules():
        if isinstance(part, nn.ReLU):
            part.inplace = False
    methods = ["gradcam", "gradcam++", "guided"]
    pair = (explain(net, images, methods, 1, layer=layer) for net in (gap_net, safe))
    for found, expected in zip(*pair, strict=True):
        assert torch.equal(found.maps, expected.maps), found.method


def test_results_have_no_graph(gap_net: GapNet, images: Tensor) -> None:
    for shown in explain(gap_net, images, list(OF_MAPS), 1):
        for value in (shown.maps, shown.scores, shown.classes, shown.probabilities):
            assert value is not None
            assert not value.requires_grad, shown.method


def test_the_trunk_builds_no_graph(gap_net: GapNet, images: Tensor) -> None:
    with borrowed(gap_net):
        run = Pass(Watch(gap_net, ("last",)), (images,))
    names, queue = set(), [run.output.grad_fn]
    while queue:
        node = queue.pop()
        names.add(type(node).__name__)
        queue += [parent for parent, _ in node.next_functions if parent]
    assert "AddmmBackward0" in names
    assert not any("Convolution" in name for name in names)


def test_cam_runs_no_backward_pass(
    gap_net: GapNet, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    explain(gap_net, images, "cam")  # surveys the network
    monkeypatch.setattr(torch.autograd, "grad", lambda *_, **__: pytest.fail("a backward pass"))
    explain(gap_net, images, "cam")


def clamped(x: Tensor) -> Tensor:
    return x.clamp_min(0)


def raised(x: Tensor) -> Tensor:
    return torch.maximum(x, torch.zeros_like(x))


def chosen(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, torch.zeros_like(x))


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch.jit is deprecated
    SCRIPTED = [torch.jit.script(one) for one in (nn.ReLU(), nn.ReLU(True), clamped, raised)]
    TRACED = torch.jit.trace(nn.ReLU(), torch.ones(2))
    HIDDEN = torch.jit.script(chosen)


class Functional(nn.Module):
    """The layers of a GapNet, with ReLUs that are functions."""

    def __init__(self, net: GapNet, relu: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.fc, self.relu = net.trunk[0], net.last[0], net.fc, relu

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.relu(self.second(self.relu(self.first(x)))).mean((2, 3)))


@pytest.mark.parametrize(
    "relu",
    [
        F.relu,
        torch.relu,
        Tensor.relu,
        lambda x: F.relu(x, inplace=True),
        torch.relu_,
        Tensor.relu_,
        lambda x: (x.relu_(), x)[1],
        nn.ReLU(),
        nn.ReLU(inplace=True),
        nn.Threshold(0, 0),
        lambda x: x.clamp(min=0),
        lambda x: torch.clamp(x, 0),
        lambda x: x.clamp_min(0),
        lambda x: x.clamp_min_(0),
        lambda x: x.clip(0),
        lambda x: x.clip(min=0, max=1e9),
        lambda x: x.clamp(min=torch.zeros(1, 1, 1, 1)),
        lambda x: torch.maximum(x, torch.zeros_like(x)),
        lambda x: torch.maximum(torch.zeros(()), other=x),
        lambda x: torch.max(x, x.new_zeros(1)),
        lambda x: torch.where(x > 0, x, 0),
        lambda x: torch.where(x < 0, torch.zeros_like(x), x),
        lambda x: x.where(x > 0, torch.zeros(()).double()),
        lambda x: torch.where(condition=x >= 0, input=x, other=0.0),
        lambda x: x * (x > 0),
        lambda x: (x > 0) * x,
        lambda x: x * (x > 0).to(x),
        lambda x: x.mul(x.detach() > 0),
        lambda x: x.masked_fill(x < 0, 0),
        lambda x: x.masked_fill_(x <= 0, 0.0),
        lambda x: (x.__setitem__(x < 0, 0), x)[1],
        lambda x: (x.__imul__(x > 0), x)[1],
        *SCRIPTED,
        TRACED,
    ],
)
def test_guided_backprop_guides_every_form_of_relu(
    relu: Callable[[Tensor], Tensor], gap_net: GapNet, images: Tensor
) -> None:
    expected = explain(gap_net, images, "guided-backprop", 1).maps
    found = explain(Functional(gap_net, relu), images, "guided-backprop", 1).maps
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    plain = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(gap_net(plain)[:, 1].sum(), plain)
    assert not torch.allclose(found, gradient), "differs from the plain gradient"


@pytest.mark.parametrize(
    "bounds", [{"max": 5.0}, {"min": 0.1}, {"min": torch.full((1, 1, 1, 1), 0.1)}]
)
def test_clamps_with_other_bounds_are_not_guided(
    bounds: dict[str, float], gap_net: GapNet, images: Tensor
) -> None:
    net = Functional(gap_net, lambda x: x.clamp(**bounds).relu())
    with borrowed(net):
        run = Pass(Watch(net, ("second",), guided=True), (images,))
    assert run.rule.relus == 2


class Clamped(nn.Module):
    """A ReLU6 by hand."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(0, 6)


@pytest.mark.parametrize("act", [nn.ReLU6, lambda: nn.Hardtanh(0, 6), Clamped])
def test_guided_backprop_guides_relu6(act: Callable[[], nn.Module], images: Tensor) -> None:
    torch.manual_seed(0)
    net = GapNet(act=act).double()
    torch.manual_seed(0)
    same = GapNet().double()  # no activation comes near 6
    found = explain(net, images, "guided-backprop", 1).maps
    assert torch.equal(found, explain(same, images, "guided-backprop", 1).maps)


@pytest.mark.parametrize("name", ["guided", "guided-backprop"])
def test_guided_backprop_refuses_a_network_without_relu(name: str, images: Tensor) -> None:
    net = GapNet(act=nn.SiLU).double()
    with pytest.raises(MethodError, match=r"has none \(2 silu\): use gradcam or occlusion"):
        explain(net, images, name)


def test_relus_outside_the_path_of_the_gradient_are_not_counted(images: Tensor) -> None:
    """The only ReLUs of Swin V2 compute biases, which are the same for every image."""

    class Biased(GapNet):
        def __init__(self) -> None:
            super().__init__(act=nn.GELU)
            self.bias = nn.Parameter(torch.ones(5))

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + self.bias.relu()

    with pytest.raises(MethodError, match=r"has none \(2 gelu\): use gradcam or occlusion"):
        explain(Biased().double(), images, "guided-backprop")


def test_guided_backprop_warns_of_other_activations(gap_net: GapNet, images: Tensor) -> None:
    gap_net.last[1] = nn.SiLU()
    with pytest.warns(CamcliWarning, match=r"1 ReLUs, but not its other activations \(1 silu\)"):
        explain(gap_net, images, "guided-backprop")


@pytest.mark.parametrize(
    "act",
    [
        lambda x: x * x.mean((2, 3), keepdim=True),
        lambda x: x * (torch.arange(4.0).view(1, 4, 1, 1) > 1).expand_as(x),
        lambda x: x * (x.flip(1) > 0),
        lambda x: x * torch.ones_like(x),
        lambda x: torch.where(x > 1, x, 0),
        lambda x: torch.where(x > 0, x, 0.1 * x),
        lambda x: torch.maximum(x, 0.1 * x),
        lambda x: torch.max(x, 0, keepdim=True)[0],
        lambda x: x.masked_fill(x > 0, 0),
    ],
)
def test_what_is_no_rectifier_is_not_guided(
    act: Callable[[Tensor], Tensor], gap_net: GapNet, images: Tensor
) -> None:
    """Such as a gate, a fixed mask, a mask of another map, and a maximum of two maps."""
    net = Functional(gap_net, lambda x: x)
    net.second = nn.Sequential(nn.ReLU(), net.second)
    net.relu = lambda x: act(x) if x.shape[1] == 4 else x
    with borrowed(net):
        run = Pass(Watch(net, guided=True), (images,))
    assert run.rule.relus == 1


def rectify_inside(kind: str) -> Callable[[Tensor], Tensor]:
    """Return a ReLU that no graph shows."""
    if kind == "checkpoint":
        return lambda x: checkpoint(torch.relu, x, use_reentrant=True)
    return HIDDEN


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("kind", ["checkpoint", "where"])
@pytest.mark.parametrize("name", ["guided", "guided-backprop"])
def test_hidden_rectifiers_are_refused(
    name: str, kind: str, gap_net: GapNet, images: Tensor
) -> None:
    net = Functional(gap_net, rectify_inside(kind))
    net.second = nn.Sequential(net.second, nn.ReLU())
    with pytest.raises(
        MethodError, match=r"cannot see what '\w+' rectifies .*: use gradcam or occ"
    ):
        explain(net, images, name, layer="second")


class Swish(torch.autograd.Function):
    """An activation function with its own backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient * x.sigmoid() * (1 + x * (1 - x.sigmoid()))


def test_activations_with_their_own_backward_are_named(gap_net: GapNet, images: Tensor) -> None:
    net = Functional(gap_net, Swish.apply)
    net.first = nn.Sequential(net.first, nn.ReLU())
    with pytest.warns(CamcliWarning, match=r"1 ReLUs, but not its other activations \(2 Swish\)"):
        explain(net, images, "guided-backprop")


def test_a_last_sigmoid_is_no_other_activation(gap_net: GapNet, images: Tensor) -> None:
    ended = nn.Sequential(gap_net, nn.Sigmoid())
    found = explain(Model(ended, activation="sigmoid"), images, "guided-backprop", 2)
    assert torch.equal(found.maps, explain(gap_net, images, "guided-backprop", 2).maps)


def test_guided_methods_do_not_change_plain_gradients(gap_net: GapNet, images: Tensor) -> None:
    alone = explain(gap_net, images, "gradcam", 2, layer="trunk").maps
    together = explain(gap_net, images, ["guided", "gradcam"], 2, layer="trunk")[1].maps
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("pool.0", "unknown layer 'pool.0': did you mean 'pool'"),
        ("fc", r"layer 'fc' gives \(3, 5\), not a feature map \(N,C,h,w\)"),
        ("unused", "layer 'unused' does not run in the forward pass"),
        ("twice", "layer 'twice' runs more than once: choose one that runs once"),
        ("aside", "layer 'aside' has no path to the score"),
    ],
)
def test_layers_that_cannot_be_targeted(layer: str, message: str, images: Tensor) -> None:
    class Unusual(GapNet):
        def __init__(self) -> None:
            super().__init__()
            self.unused, self.twice = nn.Identity(), nn.Identity()
            self.aside = nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            self.aside(x)
            return super().forward(self.twice(self.twice(x)))

    with pytest.raises(ModelError, match=message):
        explain(Unusual().double(), images, "gradcam", 0, layer=layer)


@pytest.mark.parametrize(("size", "stride"), [(40, 4), (8, 9), (-8, 1), (8, -1)])
def test_windows_larger_than_the_image_or_not_positive(
    size: int, stride: int, gap_net: GapNet, images: Tensor
) -> None:
    with pytest.raises(CamcliError, match=r"expected 1 <= stride <= window <= 26"):
        explain(gap_net, images, "occlusion", window=Window(size, stride))


class Views(GapNet):
    """A network that sees two views of each image, folded into the batch."""

    def __init__(self, fold: str, *, flip: bool = False, average: bool = True) -> None:
        super().__init__()
        self.fold, self.flip, self.average = fold, flip, average
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        views = [x, x.flip(3) if self.flip else x / 2]
        both = torch.cat(views) if self.fold == "cat" else torch.stack(views, 1).flatten(0, 1)
        found = super().forward(both)
        if not self.average:
            return found
        by_view = found.view(2, len(x), -1) if self.fold == "cat" else found.view(len(x), 2, -1).mT
        return by_view.mean(0) if self.fold == "cat" else by_view.mean(2)


@pytest.mark.parametrize("fold", ["cat", "stack"])
@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("count", [1, 3])
def test_a_layer_with_another_batch_than_the_images_is_refused(
    fold: str, flip: bool, count: int, images: Tensor
) -> None:
    net, batch = Views(fold, flip=flip), images[:count]
    message = rf"layer 'last' gives (\(2, 4, 6, 5\) for an|{2 * count} maps for {count}) image"
    for name in ("gradcam", "eigencam", "scorecam", "ablationcam", "guided"):
        with pytest.raises(ModelError, match=message):
            explain(net, batch, name, layer="last")
    with pytest.raises(ModelError, match="found no map of the image's rows and columns"):
        explain(net, batch)
    assert explain(net, batch, "guided-backprop").maps.shape == batch.shape
    with pytest.raises(
        ModelError, match=f"the network gives {2 * count} outputs for {count} image"
    ):
        explain(Views(fold, average=False), batch, "guided-backprop")


@pytest.mark.parametrize("fold", ["cat", "stack"])
def test_the_automatic_layer_has_one_map_for_each_image(fold: str, images: Tensor) -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1).double(), Views(fold))
    shown = explain(net, images)
    assert shown.layer == "0"
    assert len(shown.maps) == len(images)


class FoldedResNet(models.ResNet):
    """A network with a recorded layer, which sees two views of each image."""

    def __init__(self) -> None:
        super().__init__(models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=4)

    def _forward_impl(self, x: Tensor) -> Tensor:
        return super()._forward_impl(torch.cat([x, x / 2])).view(2, len(x), -1).mean(0)


@pytest.mark.parametrize("name", ["gradcam", "eigencam", "layercam"])
def test_a_recorded_layer_with_another_batch_is_refused(name: str) -> None:
    net, images = FoldedResNet(), torch.rand(3, 3, 64, 64)
    for model in (net, Model(net, layer="layer3")):
        with pytest.raises(ModelError, match="layer 'layer3' gives 6 maps for 3 images"):
            explain(model, images, name, layer="layer3" if model is net else None)
    with pytest.raises(ModelError, match="found no map of the image's rows and columns"):
        explain(net, images, name)
