"""The methods beside captum, on torchvision's networks with random weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from camcli import Model, explain, load
from camcli.capture.windows import Window
from tests.support.networks import ZOO

attr = pytest.importorskip("captum.attr", reason="captum comes with the extra 'oracle'")

# captum warns about its own hooks and about inputs that do not require gradients
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

# captum guides only ReLUs that are modules and run once
GUIDED = ("alexnet", "vgg11", "squeezenet1_0", "squeezenet1_1")


def prepared(name: str) -> tuple[Model, Tensor]:
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    model = load(name, "none")
    for part in model.module.modules():
        if hasattr(part, "inplace"):
            part.inplace = False  # captum's hooks fail on in-place ReLUs
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
    # With random weights the maps of about half of the classes are zero after the ReLU.
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


@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet18", "densenet121"])
def test_hirescam(name: str) -> None:
    model, images = prepared(name)
    layer = model.module.get_submodule(model.layer or "")
    theirs = attr.LayerGradientXActivation(model.module, layer)
    classes = list(range(4))
    found = explain(model, images, ["hirescam"], classes)
    expected = [theirs.attribute(images, target=c).sum(1).relu().detach() for c in classes]
    assert_close(torch.stack([e.maps for e in found]), torch.stack(expected))


@pytest.mark.parametrize(
    ("name", "layer"), [("squeezenet1_1", "features.3"), ("resnet18", "layer1.0.conv1")]
)
def test_ablationcam(name: str, layer: str) -> None:
    """The second layer has a residual connection around it."""
    model, images = prepared(name)
    module = model.module.get_submodule(layer)
    acts = attr.LayerActivation(model.module, module).attribute(images)
    channels = torch.arange(acts.shape[1])[None, :, None, None].expand_as(acts[:1])
    falls = attr.LayerFeatureAblation(model.module, module).attribute(
        images, target=7, layer_mask=channels, perturbations_per_eval=1
    )
    found = explain(model, images, "ablationcam", 7, layer)
    assert_close(found.maps, (falls * acts).sum(1).relu().detach())


@pytest.mark.parametrize("theirs", ["HiResCAM", "LayerCAM", "XGradCAM"])
def test_pytorch_grad_cam(theirs: str) -> None:
    """Compare by correlation: pytorch-grad-cam rescales and resizes maps and adds epsilons."""
    library = pytest.importorskip("pytorch_grad_cam", reason="pip install grad-cam to compare")
    targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
    model, images = prepared("squeezenet1_1")
    classes = list(range(4))
    found = explain(model, images[:1], [theirs.lower()], classes, layer=model.layer)
    with getattr(library, theirs)(model.module, [model.module.get_submodule("features")]) as cam:
        for shown, index in zip(found, classes, strict=True):
            target = targets.ClassifierOutputTarget(index)
            expected = torch.from_numpy(cam(images[:1], [target]))
            ours = torch.nn.functional.interpolate(shown.maps[:, None], (96, 96), mode="bilinear")
            assert ours.any()
            both = torch.stack([ours.flatten(), expected.flatten()])
            assert torch.corrcoef(both)[0, 1] > 0.99
