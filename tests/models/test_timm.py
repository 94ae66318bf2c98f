"""timm's networks: the maps of torchvision's twins, preprocessing, labels, weights, listing."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from camcli import explain, load
from camcli.engine.catalogue import list_layers
from camcli.errors import ModelError
from camcli.images.preprocess import preprocess
from camcli.models import timm_networks
from camcli.models.head import classifier
from camcli.models.load import load_for_training, outline
from camcli.models.options import ModelOptions
from camcli.models.preprocessing import read_preset
from tests.support.command import Run, refused, stdout
from tests.support.files import make_photo
from tests.support.networks import save_weights

timm = pytest.importorskip("timm", reason="needs camcli[timm]")


def convnext_key(key: str) -> str:
    """Return timm's key of a weight of torchvision's ConvNeXt."""
    for pattern, replacement in (
        (r"^features\.0\.0\.", "stem.0."),
        (r"^features\.0\.1\.", "stem.1."),
        (r"^features\.(\d)\.(\d+)\.block\.0\.", r"stages.\1.blocks.\2.conv_dw."),
        (r"^features\.(\d)\.(\d+)\.block\.2\.", r"stages.\1.blocks.\2.norm."),
        (r"^features\.(\d)\.(\d+)\.block\.3\.", r"stages.\1.blocks.\2.mlp.fc1."),
        (r"^features\.(\d)\.(\d+)\.block\.5\.", r"stages.\1.blocks.\2.mlp.fc2."),
        (r"^features\.(\d)\.(\d+)\.layer_scale$", r"stages.\1.blocks.\2.gamma"),
        (r"^features\.(\d)\.(\d)\.", r"stages.\1.downsample.\2."),
        (r"^classifier\.0\.", "head.norm."),
        (r"^classifier\.2\.", "head.fc."),
    ):
        key, found = re.subn(pattern, replacement, key)
        if found:
            break
    return re.sub(r"^stages\.(\d)", lambda m: f"stages.{int(m[1]) // 2}", key)


def vit_key(key: str) -> str:
    """Return timm's key of a weight of torchvision's ViT."""
    for old, new in (
        ("class_token", "cls_token"),
        ("conv_proj.", "patch_embed.proj."),
        ("encoder.pos_embedding", "pos_embed"),
        ("encoder.ln.", "norm."),
        ("heads.head.", "head."),
        ("encoder.layers.encoder_layer_", "blocks."),
        (".ln_1.", ".norm1."),
        (".ln_2.", ".norm2."),
        (".self_attention.in_proj_", ".attn.qkv."),
        (".self_attention.out_proj.", ".attn.proj."),
        (".mlp.0.", ".mlp.fc1."),
        (".mlp.3.", ".mlp.fc2."),
    ):
        key = key.replace(old, new)
    return key


def swin_key(key: str) -> str:
    """Return timm's key of a weight of torchvision's Swin."""
    key = re.sub(r"^features\.0\.0\.", "patch_embed.proj.", key)
    key = re.sub(r"^features\.0\.2\.", "patch_embed.norm.", key)
    key = re.sub(r"^features\.([246])\.", lambda m: f"layers.{int(m[1]) // 2}.downsample.", key)
    key = re.sub(r"^features\.(\d)\.", lambda m: f"layers.{int(m[1]) // 2}.blocks.", key)
    return (
        key.replace(".mlp.0.", ".mlp.fc1.")
        .replace(".mlp.3.", ".mlp.fc2.")
        .replace("head.", "head.fc.")
    )


def same(key: str) -> str:
    return key


TWINS: dict[str, tuple[Callable[[str], str], str, str, str]] = {
    "resnet18": (same, "resnet18", "layer4", "layer4"),
    "resnet50": (same, "resnet50", "layer3.5.conv2", "layer3.5.conv2"),
    "convnext_tiny": (convnext_key, "convnext_tiny", "features.7", "stages.3"),
}
"""For each network of torchvision: timm's keys and name, and a layer of both."""


def random_twin(name: str) -> tuple[Any, dict[str, Tensor]]:
    """Return torchvision's network with random weights, and the weights under timm's keys."""
    model = load(name, "none")
    state = model.module.state_dict()
    flat = {k: v.flatten() if k.endswith("layer_scale") else v for k, v in state.items()}
    return model, {TWINS[name][0](k): v for k, v in flat.items()}


@pytest.mark.parametrize("name", TWINS)
def test_maps_are_those_of_torchvisions_twin(name: str, tmp_path: Path) -> None:
    model, state = random_twin(name)
    _, architecture, layer, other = TWINS[name]
    twin = load(f"timm:{architecture}", save_weights(state, tmp_path / "w.pth"))
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    for target in (3, 700):
        one = explain(model, images, target=target, layer=layer).maps
        two = explain(twin, images, target=target, layer=other).maps
        assert one.abs().max() > 0
        torch.testing.assert_close(two, one, rtol=0, atol=1e-4 * float(one.abs().max()))
    assert twin.class_names == model.class_names


@pytest.mark.parametrize(
    ("name", "architecture", "key_of"),
    [
        ("vit_b_32", "vit_base_patch32_224", vit_key),
        ("swin_t", "swin_tiny_patch4_window7_224", swin_key),
    ],
)
def test_automatic_maps_are_those_of_torchvisions_twin(
    name: str, architecture: str, key_of: Callable[[str], str]
) -> None:
    """The patches before the last attention of ViT, and the last windows of Swin."""
    model = load(name, "none")
    with torch.no_grad():  # torchvision begins with a head of zeros
        classifier(model.module)[1].normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    whole = model.module.state_dict().items()
    state = {key_of(k): v for k, v in whole if not k.endswith("relative_position_index")}
    twin = load(f"timm:{architecture}", state)
    images = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(twin.module(images), model.module(images), rtol=1e-3, atol=1e-3)
    of_tokens = ("rollout", "gae", "legrad") if name.startswith("vit") else ()
    for method in ("gradcam", "hirescam", *of_tokens):
        peaks = []
        for target in ("3", "not:3"):
            one, two = (explain(net, images, method, target).maps for net in (model, twin))
            peaks.append(float(one.abs().max()))
            torch.testing.assert_close(two, one, rtol=0, atol=1e-4 * peaks[-1])
        assert max(peaks) > 0, "the evidence for or against the class"


PRESETS = ("resnet18", "convnext_tiny", "vit_base_patch32_clip_224", "mobilenetv3_large_100")


@pytest.mark.parametrize("name", [*PRESETS, "test_vit"])
@pytest.mark.parametrize("size", [(400, 300), (180, 333), (97, 97)])
def test_preprocessing_is_that_of_timm(name: str, size: tuple[int, int]) -> None:
    model = outline(f"timm:{name}")
    values = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    config = timm.data.resolve_model_data_config(timm.create_model(name))
    expected = timm.data.create_transform(**config, is_training=False)(Image.fromarray(values))
    found, _ = preprocess(values, model.preset)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_the_file_is_read_as_preprocessing(tmp_path: Path) -> None:
    """timm writes `config.json` with its `pretrained_cfg`; people also keep the latter alone."""
    for name in PRESETS:
        card = timm.get_pretrained_cfg(name).to_dict()
        for content in ({"architecture": name, "pretrained_cfg": card}, card):
            (tmp_path / "config.json").write_text(json.dumps(content))
            assert read_preset(tmp_path / "config.json") == outline(f"timm:{name}").preset


def test_preprocessing_that_is_not_supported_is_one_line(tmp_path: Path) -> None:
    card = timm.get_pretrained_cfg("test_resnet").to_dict()
    (tmp_path / "config.json").write_text(json.dumps({**card, "crop_mode": "border"}))
    with pytest.raises(ModelError, match=r"^preprocessing '.*': crop_mode border of 160x160"):
        read_preset(tmp_path / "config.json")


def test_other_channels_are_assumed() -> None:
    model = load("timm:test_resnet", "none", arguments={"in_chans": 1})
    assert (model.preset.mean, model.preset.std) == ((0.0,), (1.0,))
    assert model.preset_from == "assumed"


@pytest.mark.filterwarnings("ignore:.* its maps may be off by")
@pytest.mark.parametrize(
    ("name", "layer"), [("test_vit", "blocks.5.norm1"), ("test_resnet", "layer4")]
)
def test_the_automatic_layer_is_marked(name: str, layer: str) -> None:
    """It is the one that an explanation uses."""
    model = load(f"timm:{name}", "none")
    images = torch.rand(1, 3, *model.preset.shape, generator=torch.Generator().manual_seed(0))
    assert explain(model, images).layer == layer
    assert [one.path for one in list_layers(f"timm:{name}") if one.auto] == [layer]


def test_arguments_are_passed_on() -> None:
    model = load("timm:test_resnet", "none", arguments={"num_classes": 7, "drop_rate": 0.1})
    assert (model.num_classes, model.class_names) == (7, None)
    assert model.name == "timm:test_resnet(num_classes=7, drop_rate=0.1)"
    larger = load("timm:test_vit", "none", arguments={"img_size": 192})
    assert larger.preset.crop == 192
    with pytest.raises(ModelError, match=r"--weights says which weights, not checkpoint_path$"):
        load("timm:test_resnet", "none", arguments={"checkpoint_path": "x"})
    with pytest.raises(ModelError, match=r"^model 'timm:test_resnet': timm cannot build it \("):
        load("timm:test_resnet", "none", arguments={"no_such": 1})


def test_weights_set_the_classes(tmp_path: Path) -> None:
    net = timm.create_model("test_convnext", num_classes=3)
    file = save_weights({f"model.{k}": v for k, v in net.state_dict().items()}, tmp_path / "w.ckpt")
    model = load("timm:test_convnext", file, labels=["a", "b", "c"])
    assert (model.num_classes, model.class_names) == (3, ("a", "b", "c"))
    assert (model.weights_hash or "").startswith("sha256:")
    images = torch.rand(2, 3, 160, 160)
    torch.testing.assert_close(model.module(images), net.eval()(images))


def test_published_weights_come_from_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(5)
    state = timm.create_model("test_resnet").state_dict()
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "model.safetensors")
    asked = []

    def folder(name: str, files: Any) -> Path:
        asked.append(name)
        return tmp_path

    monkeypatch.setattr(timm_networks, "hub_folder", folder)
    model = load("timm:test_resnet.r160_in1k")
    assert asked == [model.weights] == ["timm/test_resnet.r160_in1k"]
    found = model.module.state_dict()
    assert all(torch.equal(found[key], state[key]) for key in state)
    assert model.class_names == load("mini").class_names


def test_without_the_hub_the_message_names_the_ways_out(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    photo = make_photo(tmp_path / "photo.jpg")
    line = refused(run("explain", photo, "--model", "timm:test_resnet"))
    assert line.startswith("cannot download timm/test_resnet.r160_in1k for timm:test_resnet (")
    assert line.endswith(
        "): give --weights FILE, or --weights none, or --model mini, which needs no download"
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:resnet19", r"unknown model 'timm:resnet19': did you mean 'timm:resnet18"),
        ("timm:resnet18.a9_in1k", "did you mean 'timm:resnet18.a1_in1k"),
        ("timm:", "unknown model 'timm:'"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load(name, "none")


def test_names_of_larger_imagenets() -> None:
    model = outline("timm:convnext_tiny.fb_in22k")
    assert model.num_classes == len(model.class_names or ()) == 21841
    names = timm.data.ImageNetInfo("imagenet-1k").label_descriptions()
    ours = load("mini").class_names or ()
    assert sum(our in known for our, known in zip(ours, names, strict=True)) > 900


def test_listing(run: Run) -> None:
    rows = run("models", "timm:test_resnet*", "--json").stdout_bytes.splitlines()
    entry = json.loads(rows[0])
    assert (entry["name"], entry["family"], entry["input"]) == ("timm:test_resnet", "resnet", 160)
    assert entry["parameters"] > 10_000
    plain = run("models", "resnet18").stdout_bytes.decode()
    assert "timm:" not in plain
    layers = run("layers", "timm:test_resnet").stdout_bytes.decode()
    assert re.search(r"^layer4 ", layers, re.MULTILINE)


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModelError, match=r"need timm \(.*\): pip install 'camcli\[timm\]'$"):
        load("timm:resnet18", "none")


def test_training_starts_from_random_weights() -> None:
    options = ModelOptions("timm:test_resnet", "none")
    model = load_for_training(options, ["ant", "bee"])
    assert (model.num_classes, model.class_names) == (2, ("ant", "bee"))


def test_a_norm_that_multiplies_is_listed_without_its_values(run: Run) -> None:
    """Networks are listed on the meta device, where the factors of an RMSNorm have no values."""
    assert "convnext_atto_rms" in stdout(run("models", "timm:convnext_atto_rms"))
