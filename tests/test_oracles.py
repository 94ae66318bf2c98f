"""Against captum, on torchvision's networks with random weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from camcli import Model, explain, load
from camcli.capture import Window
from tests.conftest import ZOO

attr = pytest.importorskip("captum.attr", reason="captum comes with the extra 'oracle'")

# captum remarks on its own hooks and on tensors that it makes require gradients
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

# captum hooks modules, so it guides only ReLUs that are modules, each run once
GUIDED = ("alexnet", "vgg11", "squeezenet1_0", "squeezenet1_1")


def prepared(name: str) -> tuple[Model, Tensor]:
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    model = load(name, "none")
    for part in model.module.modules():
        if hasattr(part, "inplace"):
            part.inplace = False  # captum's hooks cannot stand in-place ReLUs
    return model, images


def assert_close(found: Tensor, expected: Tensor) -> None:
    scale = float(expected.abs().max())
    assert scale > 0
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * scale)


@pytest.mark.parametrize("name", ZOO)
def test_gradcam(name: str) -> None:
    model, images = prepared(name)
    layer = model.module.get_submodule(model.layer or "")
    theirs = attr.LayerGradCam(model.module, layer)
    # A random network's map is all zero for every other class: its ReLU cuts it off.
    classes = list(range(12))
    found = explain(model, images, ["gradcam"], classes)
    expected = [theirs.attribute(images, target=c, relu_attributions=True) for c in classes]
    assert_close(torch.stack([e.maps for e in found]), torch.stack(expected)[:, :, 0].detach())


@pytest.mark.parametrize("name", GUIDED)
def test_guided_backprop(name: str) -> None:
    model, images = prepared(name)
    theirs = attr.GuidedBackprop(model.module).attribute(images.clone(), target=7)
    assert_close(explain(model, images, "guided-backprop", 7).maps, theirs)


@pytest.mark.parametrize("name", GUIDED)
def test_guided_gradcam(name: str) -> None:
    model, images = prepared(name)
    layer = model.module.get_submodule(model.layer or "")
    theirs = attr.GuidedGradCam(model.module, layer)
    classes = list(range(4))
    found = explain(model, images, ["guided"], classes)
    expected = [
        theirs.attribute(images.clone(), target=c, interpolate_mode="bilinear") for c in classes
    ]
    assert_close(torch.stack([e.maps for e in found]), torch.stack(expected))


@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet18", "alexnet"])
@pytest.mark.parametrize(("size", "stride"), [(32, 32), (40, 24), (33, 17)])
def test_occlusion(name: str, size: int, stride: int) -> None:
    model, images = prepared(name)
    theirs = attr.Occlusion(model.module).attribute(
        images, (3, size, size), (3, stride, stride), baselines=0, target=7
    )
    found = explain(model, images, "occlusion", 7, window=Window(size, stride))
    assert_close(found.maps[:, None].expand_as(theirs), theirs)
