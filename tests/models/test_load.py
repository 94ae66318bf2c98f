"""Loading networks: target layers, labels and names."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from camcli import explain, load
from camcli.capture.discover import find_layer_and_head
from camcli.capture.hooks import borrowed
from camcli.capture.tracing import trace
from camcli.errors import MethodError, ModelError
from camcli.images.preprocess import Preset
from camcli.models.families import find_layer
from camcli.models.load import pick_device
from tests.support.files import SAMPLES
from tests.support.networks import NO_CAM, ZOO, GapNet

LAYERS = {
    "resnet18": ("layer4", (512, 7, 7)),
    "resnet50": ("layer4", (2048, 7, 7)),
    "vgg16": ("features.29", (512, 14, 14)),
    "alexnet": ("features.11", (256, 13, 13)),
    "squeezenet1_0": ("features", (512, 13, 13)),
    "squeezenet1_1": ("features", (512, 13, 13)),
    "densenet121": ("features", (1024, 7, 7)),
    "googlenet": ("inception5b", (1024, 7, 7)),
    "mobilenet_v2": ("features", (1280, 7, 7)),
    "shufflenet_v2_x1_0": ("conv5", (1024, 7, 7)),
}


@pytest.mark.filterwarnings("ignore::camcli.errors.CamcliWarning")
@pytest.mark.parametrize("name", ZOO)
def test_facts_agree_with_a_traced_pass(name: str) -> None:
    model = load(name, "none")
    image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    layer, (channels, *size) = LAYERS[name]
    assert model.layer == layer
    assert (model.num_classes, len(model.class_names or ())) == (1000, 1000)
    with borrowed(model.module):
        calls, output = trace(model.module, (image,))
    assert find_layer_and_head(calls, output) == (model.layer, model.head)
    assert next(c.output.shape for c in calls if c.path == layer)[1] == channels
    assert tuple(explain(model, image, "gradcam", 7).maps.shape) == (1, *size)
    if name in NO_CAM:
        with pytest.raises(MethodError, match=f"{name} does not: use gradcam"):
            explain(model, image, "cam", 7)


class Tokens(nn.Module):
    """Tokens from a convolution, of which the head reads the maximum, in the order of `places`."""

    def __init__(self, places: Tensor | None = None) -> None:
        super().__init__()
        self.cut, self.mix = nn.Conv2d(3, 16, 8, stride=8), nn.LayerNorm(16)
        self.head, self.places = nn.Linear(16, 4), places

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.cut(x).flatten(2).mT
        tokens = tokens if self.places is None else tokens[:, self.places]
        return self.head(self.mix(tokens).amax(1))


def test_an_unknown_network_of_tokens_is_explained_at_its_last_tokens() -> None:
    shown = explain(Tokens(), torch.randn(2, 3, 32, 48))
    assert (shown.layer, shown.maps.shape) == ("mix", (2, 4, 6))


def test_tokens_whose_places_are_not_known_have_no_automatic_layer() -> None:
    """The only map is that of the first layer, which explains nothing."""
    net, images = Tokens(torch.randperm(16)), torch.randn(2, 3, 32, 32)
    with pytest.raises(ModelError, match=r"'cut', into \(1, 16, 16\) at 'mix'.* use occlusion"):
        explain(net, images)
    with pytest.raises(ModelError, match=r"'mix' gives \(1, 16, 16\) .* no map with known rows"):
        explain(net, images, layer="mix")
    assert explain(net, images, "occlusion", 1).maps.shape == (2, 32, 32)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("labels.txt", "a\nb\n", "2 names, the model has 1000 classes"),
        ("labels.json", '["a", "b"]', "2 names, the model has 1000 classes"),
        ("labels.json", '{"a": 1}', "expected a name for each index from 0 to 0, each once"),
        ("labels.json", '{"a": 0, "b": 0}', "a name for each index from 0 to 1, each once"),
        ("labels.json", '{"a": 0.5}', "a mapping between names and indices, got 0.5"),
        ("labels.json", '{"a": true}', "a mapping between names and indices, got True"),
        ("labels.json", "[1, 2]", "expected a list of names, or a mapping"),
        ("labels.json", "[", r"not readable \(not JSON \(Expecting value"),
        ("labels.json", "[" * 100_000, "not readable"),
        ("missing.txt", None, "No such file or directory"),
    ],
)
def test_invalid_labels(name: str, content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ModelError, match=message):
        load("squeezenet1_1", "none", labels=tmp_path / name)


def test_json_labels(tmp_path: Path) -> None:
    file = tmp_path / "labels.json"
    file.write_text(json.dumps([f"name {i}" for i in range(1000)]))
    assert (load("squeezenet1_1", "none", labels=file).class_names or ())[7] == "name 7"


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ModelError, match="unknown model 'resnet-5': did you mean 'resnet50'"):
        load("resnet-5")
    with pytest.raises(ModelError, match=r"weights 'nothing.pth': no such file"):
        load("resnet18", "nothing.pth")
    with pytest.raises(ModelError, match=r"expected a file or one of IMAGENET1K_V1, DEFAULT, none"):
        load("resnet18", "IMAGENET")
    with pytest.raises(ModelError, match="unknown device 'gpu'"):
        pick_device("gpu")
    module = load("resnet18", "none").module
    with pytest.raises(ModelError, match="unknown layer 'layer5': did you mean 'layer1'"):
        find_layer(module, "layer5")
    assert find_layer(module, "layer4.-1") == "layer4.1"


def test_guided_backpropagation_of_mobilenet_v2_does_not_warn() -> None:
    """ReLU6 is guided like a ReLU, and MobileNetV2 has no other activation."""
    explain(load("mobilenet_v2", "none"), torch.randn(1, 3, 64, 64), "guided-backprop", 1)


def test_a_module_is_used_as_it_is() -> None:
    module = GapNet().train()
    before = copy.deepcopy(module.state_dict())
    names = ["a", "b", "c", "d", "e"]
    preset = Preset((40, 48), None)
    model = load(module, labels=names, preset=preset)
    assert model.module is module
    assert (model.name, model.class_names, model.num_classes) == ("GapNet", tuple(names), 5)
    assert (model.preset, model.preset_from) == (preset, "given")
    shown = explain(model, SAMPLES / "dog.jpg", target="c")
    assert shown.names == ("c",)
    assert module.training
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert load(module).preset_from == "assumed"
    assert load(module, labels={"e": 4, "d": 3, "c": 2, "b": 1, "a": 0}).class_names == tuple(names)
    assert load(module, activation="sigmoid").activation == "sigmoid"
    with pytest.raises(ModelError, match="labels: 2 names, the model has 5 classes"):
        load(module, labels=["a", "b"])
    for wrong in ({"weights": "none"}, {"weights": before}, {"device": "meta"}, {"arguments": {}}):
        with pytest.raises(ValueError, match="a module is used as it is"):
            load(module, **wrong)
