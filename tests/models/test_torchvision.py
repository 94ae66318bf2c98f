"""torchvision's networks with weights from a file equal those that torchvision builds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision.models as zoo
from torch import nn

from camcli import load
from camcli.capture.discover import find_layer_and_head
from camcli.capture.hooks import borrowed
from camcli.capture.tracing import trace
from camcli.models.families import model_names
from camcli.models.head import Head
from tests.support.networks import ZOO, save_weights


def test_inception_without_auxiliary_head(tmp_path: Path) -> None:
    full = zoo.inception_v3(weights=None, init_weights=False, transform_input=True)
    model = load("inception_v3", save_weights(full.state_dict(), tmp_path / "i.pth"))
    image = torch.randn(1, 3, 128, 128)
    torch.testing.assert_close(model.module(image), full.eval()(image), rtol=1e-4, atol=1e-4)
    with borrowed(model.module):
        found = find_layer_and_head(*trace(model.module, (image,)))
    assert found == (model.layer, model.head) == ("Mixed_7c", Head(model.module.fc))


def test_random_weights_follow_the_seed() -> None:
    state = torch.random.get_rng_state()
    one, same, other = (load("squeezenet1_1", "none", seed=seed) for seed in (0, 0, 1))
    first = [m.module.state_dict()["features.0.weight"] for m in (one, same, other)]
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])
    assert one.weights == "none (random, seed 0)"
    assert torch.equal(torch.random.get_rng_state(), state)


def test_old_densenet_keys_and_auxiliary_heads_of_googlenet(tmp_path: Path) -> None:
    """The published files have these keys."""
    state = load("densenet121", "none").module.state_dict()
    old = {k.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): v for k, v in state.items()}
    assert old.keys() != state.keys()
    load("densenet121", save_weights(old, tmp_path / "d.pth"))

    full = zoo.googlenet(weights=None, init_weights=False, aux_logits=True, transform_input=True)
    model = load("googlenet", save_weights(full.state_dict(), tmp_path / "g.pth"))
    image = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(model.module(image), full.eval()(image), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "vgg11", "densenet121"])
def test_the_number_of_classes_follows_the_file(name: str, tmp_path: Path) -> None:
    state = zoo.get_model(name, weights=None, num_classes=4).state_dict()
    labels = tmp_path / "labels.txt"
    labels.write_text("ant\nbee\n\ncat\ndog\n")
    file = save_weights(state, tmp_path / "w.pth")
    model = load(name, file, labels=labels)
    assert (model.num_classes, model.class_names) == (4, ("ant", "bee", "cat", "dog"))
    assert load(name, file).class_names is None


@pytest.mark.parametrize("size", [32, 64])
def test_weights_set_the_input_size_of_a_vision_transformer(size: int, tmp_path: Path) -> None:
    """Published files have old keys, and some were trained on larger images."""
    full = zoo.vit_b_32(weights=None, image_size=size, num_classes=3)
    nn.init.normal_(full.heads.head.weight)
    state = {
        k.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): v
        for k, v in full.state_dict().items()
    }
    model = load("vit_b_32", save_weights(state, tmp_path / "v.pth"))
    image = torch.randn(1, 3, size, size)
    torch.testing.assert_close(model.module(image), full.eval()(image), rtol=1e-4, atol=1e-4)
    assert (model.preset.resize, model.preset.crop, model.num_classes) == (size, size, 3)


@pytest.mark.parametrize("name", ["regnet_x_400mf", "mnasnet0_5", "swin_v2_t"])
def test_constructors_that_compute_with_tensors(name: str, tmp_path: Path) -> None:
    """These compute widths or window indices, or read the version of a state dict."""
    full = zoo.get_model(name, weights=None, num_classes=7).eval()
    model = load(name, save_weights(full.state_dict(), tmp_path / "w.safetensors"))
    image = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(model.module(image), full(image), rtol=1e-4, atol=1e-5)


def test_model_names_are_those_of_torchvision() -> None:
    assert set(ZOO) <= set(model_names())
    assert len(model_names()) >= 80
