"""`camcli models` and `camcli layers`: what they say is what an explanation finds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision.models as zoo
from click.testing import Result

from camcli import METHODS, explain
from camcli.engine import catalogue
from camcli.errors import ModelError
from camcli.models.families import TASKS, model_names
from camcli.models.load import load

Run = Callable[..., Result]


def lines(found: Result) -> list[str]:
    assert found.exit_code == 0
    return found.stdout_bytes.decode().splitlines()


def test_names_by_part_and_by_glob() -> None:
    assert catalogue.names() == model_names(*TASKS)
    assert catalogue.names("vit_b") == ["vit_b_16", "vit_b_32"]
    assert catalogue.names("vit_b_1?") == ["vit_b_16"]
    with pytest.raises(ModelError, match="no model has 'vit_c' in its name"):
        catalogue.names("vit_c")


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "squeezenet1_1"])
def test_an_entry_is_what_an_explanation_finds(name: str) -> None:
    entry, model = catalogue.entry(name), load(name, "none")
    assert entry.parameters == sum(p.numel() for p in model.module.parameters())
    assert entry.layer == model.layer
    shown = explain(model, torch.rand(1, 3, entry.input, entry.input), "gradcam")
    assert shown.maps.shape[1:] == entry.map
    refused = {"guided", "guided-backprop"} if name == "swin_v2_t" else set()
    assert set(METHODS) - set(entry.methods) == refused, "all have a GAP head"


def test_what_does_not_apply_is_left_out() -> None:
    assert set(METHODS) - set(catalogue.entry("vgg11").methods) == {"cam"}
    assert set(METHODS) - set(catalogue.entry("efficientnet_b0").methods) == {
        *("guided", "guided-backprop")
    }
    swin = catalogue.entry("swin_v2_t")  # has ReLUs where no gradient passes
    assert set(METHODS) - set(swin.methods) == {"guided", "guided-backprop"}
    segmenter = catalogue.entry("fcn_resnet50")
    assert (segmenter.task, segmenter.map) == ("segmentation", (65, 65))
    assert set(METHODS) - set(segmenter.methods) == {"cam", "gradcam++softmax"}
    assert catalogue.entry("ssd300_vgg16").map == (38, 38)


def lightest() -> list[str]:
    """The smallest network of each family at each size of input."""
    found: dict[tuple[str, int], str] = {}
    for entry in sorted(map(catalogue.entry, catalogue.names()), key=lambda e: e.parameters):
        found.setdefault((entry.family, entry.input), entry.name)
    return sorted(found.values())


@pytest.mark.zoo
@pytest.mark.parametrize("name", lightest())
def test_kept_facts_are_those_of_a_pass(name: str) -> None:
    assert catalogue.facts(name) == catalogue._kept()[name]


def test_every_network_is_kept() -> None:
    """`make zoo` writes them; one that is missing is passed through, which only takes longer."""
    assert list(catalogue._kept()) == catalogue.names()


def test_a_network_that_is_not_kept_is_passed_through(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = catalogue.entry("alexnet")
    monkeypatch.setattr(catalogue, "_kept", dict)
    assert catalogue.entry("alexnet") == expected


def test_cached_weights_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert catalogue.entry("alexnet").cached == ()
    (tmp_path / "checkpoints").mkdir()
    url = zoo.AlexNet_Weights.IMAGENET1K_V1.url
    (tmp_path / "checkpoints" / url.rpartition("/")[2]).touch()
    assert catalogue.entry("alexnet").cached == ("IMAGENET1K_V1",)


def test_models(run: Run) -> None:
    head, *rows = lines(run("models", "vgg11"))
    assert " ".join(head.split()) == "model family input map params weights layer all methods but"
    assert [row.split() for row in rows] == [
        ["vgg11", "vgg", "224", "14x14", "132.9M", "-", "features.19", "cam"],
        ["vgg11_bn", "vgg", "224", "14x14", "132.9M", "-", "features.27", "cam"],
    ]
    (row,) = map(json.loads, lines(run("models", "alexnet", "--json")))
    assert (row["name"], row["map"], row["input"]) == ("alexnet", [13, 13], 224)
    assert run("models", "vgg12").exit_code == 2


def test_layers_are_those_that_can_be_named(run: Run) -> None:
    rows = [json.loads(line) for line in lines(run("layers", "squeezenet1_1", "--json"))]
    assert [row["path"] for row in rows if row["auto"]] == ["features"]
    assert rows[0] == {
        **{"path": "features.0", "type": "Conv2d", "map": [64, 111, 111], "auto": False}
    }
    model, image = load("squeezenet1_1", "none"), torch.rand(1, 3, 224, 224)
    for row in rows[::9]:
        shown = explain(model, image, "gradcam", layer=row["path"])
        assert list(shown.maps.shape[1:]) == row["map"][1:]
    text = lines(run("layers", "squeezenet1_1"))
    assert len(text) == len(rows)
    assert next(line for line in text if line.endswith("auto")).split()[2] == "512x13x13"


def test_layers_of_tokens_are_maps(run: Run) -> None:
    rows = {row.path: row.map for row in catalogue.layers("vit_b_32")}
    assert rows["encoder.layers.encoder_layer_11.ln_1"] == (768, 7, 7)
    assert "heads.head" not in rows


def test_an_unknown_model_is_one_line(run: Run) -> None:
    found = run("layers", "resnet19")
    assert found.exit_code == 2
    assert found.stderr_bytes.startswith(b"Error: unknown model 'resnet19'")
