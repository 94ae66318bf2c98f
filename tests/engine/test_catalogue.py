"""`camcli models` and `camcli layers` agree with explanations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torchvision.models as zoo
from click.testing import Result
from torch import Tensor, nn

from camcli import METHODS, Model, explain
from camcli.engine import catalogue
from camcli.errors import ModelError
from camcli.images.preprocess import Preset
from camcli.models import known
from camcli.models.families import TASKS, model_names
from camcli.models.load import load
from tests.support.command import Run, refused, stdout
from tests.support.networks import OF_MAPS, GapNet


def lines(found: Result) -> list[str]:
    assert found.exit_code == 0
    return stdout(found).splitlines()


def test_names_are_listed_by_part_and_by_glob() -> None:
    assert catalogue.list_names() == ["mini", *model_names(*TASKS)]
    assert catalogue.list_names("vit_b") == ["vit_b_16", "vit_b_32"]
    assert catalogue.list_names("vit_b_1?") == ["vit_b_16"]
    with pytest.raises(ModelError, match="no model has 'vit_c' in its name"):
        catalogue.list_names("vit_c")


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "squeezenet1_1"])
def test_an_entry_agrees_with_an_explanation(name: str) -> None:
    entry, model = catalogue.describe_network(name), load(name, "none")
    assert entry.parameters == sum(p.numel() for p in model.module.parameters())
    assert entry.layer == model.layer
    shown = explain(model, torch.rand(1, 3, entry.input, entry.input), "gradcam")
    assert shown.maps.shape[1:] == entry.map
    assert set(entry.methods) == set(OF_MAPS)


def test_methods_that_do_not_apply_are_left_out() -> None:
    assert set(OF_MAPS) - set(catalogue.describe_network("vgg11").methods) == {"cam"}
    assert set(OF_MAPS) - set(catalogue.describe_network("efficientnet_b0").methods) == {
        *("guided", "guided-backprop")
    }
    for_tokens = METHODS.keys() - OF_MAPS.keys()
    assert for_tokens <= {*catalogue.describe_network("vit_b_16").methods}
    assert not for_tokens & {*catalogue.describe_network("swin_t").methods}
    swin = catalogue.describe_network("swin_v2_t")  # its ReLUs are outside the gradient's path
    assert set(OF_MAPS) - set(swin.methods) == {"guided", "guided-backprop"}
    segmenter = catalogue.describe_network("fcn_resnet50")
    assert (segmenter.task, segmenter.map) == ("segmentation", (65, 65))
    assert set(OF_MAPS) - set(segmenter.methods) == {"cam", "gradcam++softmax"}
    assert catalogue.describe_network("ssd300_vgg16").map == (38, 38)


def smallest() -> list[str]:
    """Return the smallest stored network of each family and input size."""
    found: dict[tuple[str, int], str] = {}
    for entry in sorted(
        map(catalogue.describe_network, catalogue._stored_facts()), key=lambda e: e.parameters
    ):
        found.setdefault((entry.family, entry.input), entry.name)
    return sorted(found.values())


@pytest.mark.zoo
@pytest.mark.parametrize("name", smallest())
def test_stored_facts_equal_computed_facts(name: str) -> None:
    assert catalogue.find_facts(name) == catalogue._stored_facts()[name]
    assert [layer.path for layer in catalogue.list_layers(name)] == known.layer_paths(name)


def test_every_torchvision_network_is_stored() -> None:
    """`make zoo` writes the stored facts."""
    assert list(catalogue._stored_facts()) == model_names(*TASKS) == known.torchvision_names()
    assert all(known.layer_paths(name) for name in ("mini", *known.torchvision_names()))


def test_facts_that_are_not_stored_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = catalogue.describe_network("alexnet")
    monkeypatch.setattr(catalogue, "_stored_facts", dict)
    assert catalogue.describe_network("alexnet") == expected


def test_cached_weights_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert catalogue.describe_network("alexnet").cached == ()
    (tmp_path / "checkpoints").mkdir()
    url = zoo.AlexNet_Weights.IMAGENET1K_V1.url
    (tmp_path / "checkpoints" / url.rpartition("/")[2]).touch()
    assert catalogue.describe_network("alexnet").cached == ("IMAGENET1K_V1",)


def test_the_models_command(run: Run) -> None:
    header, *rows = lines(run("models", "vgg11"))
    lacking = ["cam", "rollout", "gae", "legrad"]
    assert " ".join(header.split()) == "model family input map params weights layer all methods but"
    assert [row.split() for row in rows] == [
        ["vgg11", "vgg", "224", "14x14", "132.9M", "-", "features.19", *lacking],
        ["vgg11_bn", "vgg", "224", "14x14", "132.9M", "-", "features.27", *lacking],
    ]
    (row,) = map(json.loads, lines(run("models", "alexnet", "--json")))
    assert (row["name"], row["map"], row["input"]) == ("alexnet", [13, 13], 224)
    assert run("models", "vgg12").exit_code == 2


def test_listed_layers_can_be_explained(run: Run) -> None:
    rows = [json.loads(line) for line in lines(run("layers", "squeezenet1_1", "--json"))]
    assert [row["path"] for row in rows if row["auto"]] == ["features"]
    first = {"path": "features.0", "type": "Conv2d", "map": [64, 111, 111], "auto": False}
    assert rows[0] == first
    model, image = load("squeezenet1_1", "none"), torch.rand(1, 3, 224, 224)
    for row in rows[::9]:
        shown = explain(model, image, "gradcam", layer=row["path"])
        assert list(shown.maps.shape[1:]) == row["map"][1:]
    text = lines(run("layers", "squeezenet1_1"))
    assert len(text) == len(rows)
    assert next(line for line in text if line.endswith("auto")).split()[2] == "512x13x13"


def test_layers_of_tokens_are_listed_as_maps(run: Run) -> None:
    rows = {row.path: row.map for row in catalogue.list_layers("vit_b_32")}
    assert rows["encoder.layers.encoder_layer_11.ln_1"] == (768, 7, 7)
    assert "heads.head" not in rows


def grey() -> nn.Module:
    """Return a network for images of one channel."""
    net = GapNet()
    net.trunk[0] = nn.Conv2d(1, 6, 3, stride=2)
    return net


def test_the_automatic_layer_of_a_factory_is_marked(run: Run) -> None:
    text = lines(run("layers", f"{GapNet.__module__}:GapNet"))
    (auto,) = (line.split() for line in text if line.endswith("auto"))
    assert auto == ["last", "Sequential", "4x55x55", "auto"]


def test_layers_of_a_network_without_an_automatic_layer_are_listed() -> None:
    (*listed,) = catalogue.list_layers(f"{two_branches.__module__}:two_branches")
    assert [(layer.path, layer.auto) for layer in listed] == [("one", False), ("two", False)]


def two_branches() -> nn.Module:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.one(x).mean((2, 3)) + self.two(x).mean((2, 3))

    return Two()


def test_images_have_the_channels_of_the_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(grey(), preset=Preset(mean=(0.5,), std=(0.5,)))
    monkeypatch.setattr(catalogue, "outline", lambda *_: model)
    assert [layer.path for layer in catalogue.list_layers("grey") if layer.auto] == ["last"]


def test_an_unknown_model_is_one_line(run: Run) -> None:
    assert refused(run("layers", "resnet19")).startswith("unknown model 'resnet19'")
