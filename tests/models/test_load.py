"""Loading networks: layers, heads, weights files, labels, devices and factories."""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
import torchvision.models as zoo
from torch import Tensor, nn

from camcli import explain, load
from camcli.capture.discover import find_layer_and_head
from camcli.capture.hooks import borrowed
from camcli.capture.tracing import trace
from camcli.engine.catalogue import list_layers
from camcli.errors import CamcliWarning, MethodError, ModelError
from camcli.models.families import find_layer, model_names
from camcli.models.head import Head
from camcli.models.load import pick_device
from tests.support.networks import ZOO

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
NO_CAM = {"vgg16", "alexnet"}


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


def test_an_unknown_network_of_tokens_has_no_automatic_layer() -> None:
    """The only feature map is that of the first layer, which would be no explanation."""

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cut, self.mix = nn.Conv2d(3, 16, 8, stride=8), nn.LayerNorm(16)
            self.head = nn.Linear(16, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.mix(self.cut(x).flatten(2).mT).amax(1))

    images = torch.randn(2, 3, 32, 32)
    with pytest.raises(ModelError, match=r"'cut', into tokens .* use occlusion"):
        explain(Tokens(), images)
    assert explain(Tokens(), images, "occlusion", 1).maps.shape == (2, 32, 32)


def test_channels_last_maps_are_converted() -> None:
    model = load("swin_t", "none")
    shown = explain(model, torch.randn(1, 3, 64, 64), ["gradcam", "cam"], 7)
    assert {(e.layer, e.maps.shape) for e in shown} == {("permute", (1, 2, 2))}


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


def test_inception_without_auxiliary_head(tmp_path: Path) -> None:
    full = zoo.inception_v3(weights=None, init_weights=False, transform_input=True)
    model = load("inception_v3", save(full.state_dict(), tmp_path / "i.pth"))
    image = torch.randn(1, 3, 128, 128)
    torch.testing.assert_close(model.module(image), full.eval()(image), rtol=1e-4, atol=1e-4)
    with borrowed(model.module):
        found = find_layer_and_head(*trace(model.module, (image,)))
    assert found == (model.layer, model.head) == ("Mixed_7c", Head(model.module.fc))


def test_a_published_file_has_its_own_preset(tmp_path: Path) -> None:
    state = zoo.resnet50(weights=None).state_dict()
    assert load("resnet50", save(state, tmp_path / "mine.pth")).preset.resize == 232
    assert load("resnet50", save(state, tmp_path / "resnet50-0676ba61.pth")).preset.resize == 256


def test_squeezenet_cam_is_a_channel_of_its_head() -> None:
    model = load("squeezenet1_1", "none")
    image = torch.randn(1, 3, 96, 96)
    expected = model.module.classifier[1](model.module.features(image))[:, 11]
    torch.testing.assert_close(explain(model, image, "cam", 11).maps, expected.detach())


def test_cam_is_gradcam_on_a_resnet() -> None:
    """After a ReLU, CAM equals Grad-CAM times the number of positions."""
    model = load("resnet18", "none")
    cam, gradcam = explain(model, torch.randn(2, 3, 96, 96), ["cam", "gradcam"], 5)
    torch.testing.assert_close(cam.maps.relu(), 9 * gradcam.maps, rtol=1e-4, atol=1e-5)


def test_random_weights_follow_the_seed() -> None:
    state = torch.random.get_rng_state()
    one, same, other = (load("squeezenet1_1", "none", seed=seed) for seed in (0, 0, 1))
    first = [m.module.state_dict()["features.0.weight"] for m in (one, same, other)]
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])
    assert one.weights == "none (random, seed 0)"
    assert torch.equal(torch.random.get_rng_state(), state)


def save(state: dict[str, Tensor], file: Path) -> Path:
    if file.suffix == ".safetensors":
        safetensors.torch.save_file(state, file)
    else:
        torch.save(state, file, _use_new_zipfile_serialization=file.suffix != ".old")
    return file


@pytest.mark.parametrize("ending", [".pth", ".safetensors", ".old"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_weights_from_a_file(ending: str, wrapped: bool, tmp_path: Path) -> None:
    state = load("shufflenet_v2_x1_0", "none", seed=3).module.state_dict()
    given: dict[str, Any] = {k: v.contiguous() for k, v in state.items()}
    if wrapped and ending != ".safetensors":
        given = {"state_dict": {f"module.{k}": v for k, v in given.items()}, "epoch": 3}
    model = load("shufflenet_v2_x1_0", save(given, tmp_path / f"w{ending}"))
    assert model.weights == f"w{ending}"
    assert (model.weights_hash or "").startswith("sha256:")
    for key, value in model.module.state_dict().items():
        assert torch.equal(value, state[key]), key
    assert not model.module.training


def test_half_precision_weights_are_loaded_as_float32(tmp_path: Path) -> None:
    state = load("squeezenet1_1", "none").module.state_dict()
    file = save({k: v.half().contiguous() for k, v in state.items()}, tmp_path / "h.safetensors")
    assert next(load("squeezenet1_1", file).module.parameters()).dtype == torch.float32


def test_old_densenet_keys_and_auxiliary_heads_of_googlenet(tmp_path: Path) -> None:
    """The published files have such keys."""
    state = load("densenet121", "none").module.state_dict()
    old = {k.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): v for k, v in state.items()}
    assert old.keys() != state.keys()
    load("densenet121", save(old, tmp_path / "d.pth"))

    full = zoo.googlenet(weights=None, init_weights=False, aux_logits=True, transform_input=True)
    model = load("googlenet", save(full.state_dict(), tmp_path / "g.pth"))
    image = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(model.module(image), full.eval()(image), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "vgg11", "densenet121"])
def test_the_number_of_classes_follows_the_file(name: str, tmp_path: Path) -> None:
    state = zoo.get_model(name, weights=None, num_classes=4).state_dict()
    labels = tmp_path / "labels.txt"
    labels.write_text("ant\nbee\n\ncat\ndog\n")
    file = save(state, tmp_path / "w.pth")
    model = load(name, file, labels=labels)
    assert (model.num_classes, model.class_names) == (4, ("ant", "bee", "cat", "dog"))
    assert load(name, file).class_names is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("labels.txt", "a\nb\n", "2 names, the model has 1000 classes"),
        ("labels.json", '["a", "b"]', "2 names, the model has 1000 classes"),
        ("labels.json", '{"a": 1}', "expected a JSON list of names"),
        ("labels.json", "[1, 2]", "expected a JSON list of names"),
        ("labels.json", "[", r"not readable \(Expecting value"),
        ("labels.json", "[" * 100_000, "not readable"),
        ("missing.txt", None, "No such file or directory"),
    ],
)
def test_labels_that_do_not_fit(
    name: str, content: str | None, message: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ModelError, match=message):
        load("squeezenet1_1", "none", labels=tmp_path / name)


def test_json_labels(tmp_path: Path) -> None:
    file = tmp_path / "labels.json"
    file.write_text(json.dumps([f"name {i}" for i in range(1000)]))
    assert (load("squeezenet1_1", "none", labels=file).class_names or ())[7] == "name 7"


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    state = load("resnet18", "none").module.state_dict()
    for key in ("layer1.0.conv1.weight", "layer1.0.conv2.weight", "layer1.1.conv1.weight"):
        state[key] = state[key][:3]
    del state["bn1.bias"]
    state["extra"] = torch.zeros(1)
    message = (
        r"weights '.*w.pth' do not fit resnet18: "
        r"layer1.0.conv1.weight is \(3, 64, 3, 3\), expected \(64, 64, 3, 3\); "
        r"layer1.0.conv2.weight is .*; layer1.1.conv1.weight is .* and 2 more"
    )
    with pytest.raises(ModelError, match=message):
        load("resnet18", save(state, tmp_path / "w.pth"))


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "ran"),)

    for name, dump in {
        "new.pth": lambda file: torch.save({"weight": Evil()}, file),
        "old.pth": lambda file: Path(file).write_bytes(pickle.dumps({"weight": Evil()})),
    }.items():
        dump(tmp_path / name)
        with pytest.raises(ModelError, match=r"(which could run code when read|not readable)"):
            load("squeezenet1_1", tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("w.pth", b""),
        ("w.pth", b"no weights"),
        ("w.safetensors", b""),
        ("w.safetensors", b"x" * 99),
    ],
)
def test_files_without_weights(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=rf"weights '.*{name}'") as raised:
        load("squeezenet1_1", tmp_path / name)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "expected a state_dict"),
        ({1: torch.zeros(1)}, "expected a state_dict"),
        ({"features.0.weight": torch.zeros(64, 3, 3, 3, dtype=torch.long)}, "of whole numbers"),
    ],
)
def test_files_with_other_contents(content: object, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ModelError, match=message):
        load("squeezenet1_1", tmp_path / "x.pth")


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="unknown model 'resnet-50': did you mean 'resnet50'"):
        load("resnet-50")
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


def test_a_failed_download_suggests_alternatives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    message = r"cannot download .*IMAGENET1K_V1.* \(no route to host\): give --weights FILE"
    with pytest.raises(ModelError, match=message):
        load("resnet18")


def test_published_weights_come_from_torch_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in the cache is used with its published name and preset."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    entry = zoo.ResNet50_Weights.IMAGENET1K_V2
    state = zoo.resnet50(weights=None).state_dict()
    torch.save(state, cache / entry.url.rpartition("/")[2])
    model = load("resnet50")
    assert (model.weights, model.preset.resize) == ("IMAGENET1K_V2", 232)
    assert torch.equal(model.module.state_dict()["fc.bias"], state["fc.bias"])


@pytest.mark.parametrize("size", [32, 64])
def test_weights_set_the_input_size_of_a_vision_transformer(size: int, tmp_path: Path) -> None:
    """Published files have old keys, and some were trained on larger images."""
    full = zoo.vit_b_32(weights=None, image_size=size, num_classes=3)
    nn.init.normal_(full.heads.head.weight)
    state = {
        k.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): v
        for k, v in full.state_dict().items()
    }
    model = load("vit_b_32", save(state, tmp_path / "v.pth"))
    image = torch.randn(1, 3, size, size)
    torch.testing.assert_close(model.module(image), full.eval()(image), rtol=1e-4, atol=1e-4)
    assert (model.preset.resize, model.preset.crop, model.num_classes) == (size, size, 3)


@pytest.mark.parametrize("name", ["regnet_x_400mf", "mnasnet0_5", "swin_v2_t"])
def test_constructors_that_compute_with_tensors(name: str, tmp_path: Path) -> None:
    """These compute widths or window indices, or read the version of a state dict."""
    full = zoo.get_model(name, weights=None, num_classes=7).eval()
    model = load(name, save(full.state_dict(), tmp_path / "w.safetensors"))
    image = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(model.module(image), full(image), rtol=1e-4, atol=1e-5)


def test_model_names_are_those_of_torchvision() -> None:
    assert set(ZOO) <= set(model_names())
    assert len(model_names()) >= 80


def test_guided_backpropagation_of_mobilenet_does_not_warn() -> None:
    """ReLU6 is guided like a ReLU, and MobileNetV2 has no other activation."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error", CamcliWarning)
        explain(load("mobilenet_v2", "none"), torch.randn(1, 3, 64, 64), "guided-backprop", 1)


# ---------------------------------------------------------------- factories

OWN = """
from torch import nn

def small(num_classes=3):
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(4, num_classes))

class Pool(nn.AdaptiveAvgPool2d):
    def __init__(self):
        super().__init__(2)

def needs(argument): ...
def nothing(): ...
three = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Write a module with a unique name into the working directory; return the name."""
    name = f"own_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(OWN)
    (tmp_path / f"broken_{name}.py").write_text("def (")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    yield name
    assert sys.path == before
    sys.modules.pop(name, None)


def test_a_factory_is_called(own: str, tmp_path: Path) -> None:
    model = load(f"{own}:small")
    assert (model.num_classes, model.weights) == (3, f"from {own}:small")
    assert explain(model, torch.rand(1, 3, 20, 20), "cam", 2).maps.shape == (1, 18, 18)
    same, other = load(f"{own}:small"), load(f"{own}:small", seed=1)
    weights = [m.module.state_dict()["0.weight"] for m in (model, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert load(f"{own}:Pool").num_classes is None
    assert [layer.path for layer in list_layers(f"{own}:small")] == ["0", "1"]
    assert list_layers(f"{own}:Pool") == []  # a network without parameters


def test_weights_set_the_classes_of_a_factory(own: str, tmp_path: Path) -> None:
    seven = nn.Sequential(nn.Conv2d(3, 4, 3), *([nn.Identity()] * 3), nn.Linear(4, 7))
    file = save(seven.state_dict(), tmp_path / "seven.pth")
    (tmp_path / "names.txt").write_text("\n".join("abcdefg"))
    model = load(f"{own}:small", file, labels=tmp_path / "names.txt")
    assert model.class_names == tuple("abcdefg")
    assert torch.equal(model.module.state_dict()["4.weight"], seven[4].weight)
    assert model.weights_hash
    wrong = save({"0.weight": torch.zeros(1)}, tmp_path / "wrong.pth")
    with pytest.raises(ModelError, match=rf"do not fit {own}:small: 0.weight is \(1,\), expected"):
        load(f"{own}:small", wrong)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("{own}:big", "there is no 'big' in {own}"),
        ("{own}:three", "expected a function or a class, got int"),
        ("{own}:nothing", "expected an nn.Module, got NoneType"),
        ("{own}:needs", "it cannot be called .*argument"),
        ("no_such_package.nets:small", "cannot import 'no_such_package.nets'"),
        ("broken_{own}:small", "cannot import 'broken_{own}'"),
        (":small", "cannot import ''"),
        ("{own}:", "there is no '' in {own}"),
    ],
)
def test_errors_of_a_factory_are_one_line(own: str, name: str, says: str) -> None:
    name = name.format(own=own)
    with pytest.raises(ModelError, match=f"^model '{name}': {says.format(own=own)}") as error:
        load(name)
    assert "\n" not in str(error.value)
