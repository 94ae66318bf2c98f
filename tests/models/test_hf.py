"""Classifiers of `transformers`: the maps of torchvision's twins, preprocessing, labels, errors."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from camcli import explain, load
from camcli.engine.catalogue import list_layers
from camcli.errors import ModelError
from camcli.images.preprocess import preprocess
from camcli.models.head import classifier
from camcli.models.hf_preprocessing import preset_of
from camcli.models.load import outline
from camcli.models.preprocessing import read_preset
from tests.support.command import Run, refused
from tests.support.files import make_photo, manifest
from tests.support.networks import save_weights

transformers = pytest.importorskip("transformers", reason="needs camcli[transformers]")

CARD = "preprocessor_config.json"
SMALL = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}


def resnet_key(key: str) -> str:
    """Return transformers' key of a weight of torchvision's ResNet with bottlenecks or without."""
    key = re.sub(r"^conv1\.", "resnet.embedder.embedder.convolution.", key)
    key = re.sub(r"^bn1\.", "resnet.embedder.embedder.normalization.", key)
    key = key.replace("fc.", "classifier.1.")

    def inner(match: re.Match[str]) -> str:
        stage, block, kind, number = match.groups()
        place = f"resnet.encoder.stages.{int(stage) - 1}.layers.{block}"
        part = "convolution" if kind == "conv" else "normalization"
        return f"{place}.layer.{int(number) - 1}.{part}"

    key = re.sub(r"^layer(\d)\.(\d+)\.(conv|bn)(\d)", inner, key)
    return re.sub(
        r"^layer(\d)\.(\d+)\.downsample\.(\d)",
        lambda m: (
            f"resnet.encoder.stages.{int(m[1]) - 1}.layers.{m[2]}.shortcut."
            f"{('convolution', 'normalization')[int(m[3])]}"
        ),
        key,
    )


def convnext_key(key: str) -> str:
    """Return transformers' key of a weight of torchvision's ConvNeXt."""
    top, stages = "convnext.", "convnext.encoder.stages"
    for pattern, replacement in (
        (r"^features\.0\.0\.", f"{top}embeddings.patch_embeddings."),
        (r"^features\.0\.1\.", f"{top}embeddings.layernorm."),
        (r"^features\.(\d)\.(\d+)\.block\.0\.", r"S.\1.layers.\2.dwconv."),
        (r"^features\.(\d)\.(\d+)\.block\.2\.", r"S.\1.layers.\2.layernorm."),
        (r"^features\.(\d)\.(\d+)\.block\.3\.", r"S.\1.layers.\2.pwconv1."),
        (r"^features\.(\d)\.(\d+)\.block\.5\.", r"S.\1.layers.\2.pwconv2."),
        (r"^features\.(\d)\.(\d+)\.layer_scale$", r"S.\1.layers.\2.layer_scale_parameter"),
        (r"^features\.(\d)\.(\d)\.", r"S.\1.downsampling_layer.\2."),
        (r"^classifier\.0\.", f"{top}layernorm."),
        (r"^classifier\.2\.", "classifier."),
    ):
        key, found = re.subn(pattern, replacement, key)
        if found:
            break
    return re.sub(r"^S\.(\d)", lambda m: f"{stages}.{int(m[1]) // 2}", key)


def convert(state: Mapping[str, Tensor], key_of: Any) -> dict[str, Tensor]:
    converted = {key_of(key): value.contiguous() for key, value in state.items()}
    return {
        k: v.flatten() if k.endswith("layer_scale_parameter") else v for k, v in converted.items()
    }


def write(folder: Path, net: Any, processor: Any) -> Path:
    net.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small ConvNeXt of three classes."""
    torch.manual_seed(0)
    config = transformers.ConvNextConfig(
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        id2label={0: "ant", 1: "bee", 2: "cat"},
        label2id={"ant": 0, "bee": 1, "cat": 2},
    )
    return write(
        tmp_path_factory.mktemp("hf") / "small",
        transformers.ConvNextForImageClassification(config),
        transformers.ConvNextImageProcessor(size={"shortest_edge": 64}, **SMALL),
    )


TWINS = {
    "resnet18": (
        lambda: transformers.ResNetConfig(
            layer_type="basic",
            depths=[2, 2, 2, 2],
            hidden_sizes=[64, 128, 256, 512],
            num_labels=1000,
        ),
        "ResNetForImageClassification",
        resnet_key,
        ("layer4", "resnet.encoder.stages.3"),
    ),
    "resnet50": (
        lambda: transformers.ResNetConfig(num_labels=1000),
        "ResNetForImageClassification",
        resnet_key,
        ("layer3.5.conv2", "resnet.encoder.stages.2.layers.5.layer.1.convolution"),
    ),
    "convnext_tiny": (
        lambda: transformers.ConvNextConfig(num_labels=1000, layer_norm_eps=1e-6),
        "ConvNextForImageClassification",
        convnext_key,
        ("features.7", "convnext.encoder.stages.3"),
    ),
}
"""For each network of torchvision: configuration, class and keys in transformers, and a layer."""


def vit_key(key: str) -> str:
    """Return transformers' key of a weight of torchvision's ViT."""
    for old, new in (
        ("class_token", "vit.embeddings.cls_token"),
        ("conv_proj.", "vit.embeddings.patch_embeddings.projection."),
        ("encoder.pos_embedding", "vit.embeddings.position_embeddings"),
        ("encoder.ln.", "vit.layernorm."),
        ("heads.head.", "classifier."),
        ("encoder.layers.encoder_layer_", "vit.layers."),
        (".ln_1.", ".layernorm_before."),
        (".ln_2.", ".layernorm_after."),
        (".self_attention.in_proj_", ".attention.qkv."),
        (".self_attention.out_proj.", ".attention.o_proj."),
        (".mlp.0.", ".mlp.fc1."),
        (".mlp.3.", ".mlp.fc2."),
    ):
        key = key.replace(old, new)
    return key


def swin_key(key: str) -> str:
    """Return transformers' key of a weight of torchvision's Swin."""
    key = re.sub(r"^features\.0\.0\.", "swin.embeddings.patch_embeddings.projection.", key)
    key = re.sub(r"^features\.0\.2\.", "swin.embeddings.norm.", key)
    layer = "swin.encoder.layers"
    key = re.sub(
        r"^features\.([246])\.", lambda m: f"{layer}.{int(m[1]) // 2 - 1}.downsample.", key
    )
    key = re.sub(r"^features\.(\d)\.", lambda m: f"{layer}.{int(m[1]) // 2}.blocks.", key)
    key = re.sub(r"^norm\.", "swin.layernorm.", key)
    for old, new in (
        ("head.", "classifier."),
        (".norm1.", ".layernorm_before."),
        (".norm2.", ".layernorm_after."),
        (".attn.proj.", ".attention.o_proj."),
        (".attn.relative_position_bias_table", ".attention.R.relative_position_bias_table"),
        (".attn.", ".attention."),
        (".mlp.0.", ".mlp.fc1."),
        (".mlp.3.", ".mlp.fc2."),
        (".R.", ".relative_position_bias."),
    ):
        key = key.replace(old, new)
    return key


def split(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict in which queries, keys and values have weights of their own."""
    parts: dict[str, Tensor] = {}
    for key, value in state.items():
        if ".qkv." in key:
            for name, part in zip("qkv", value.chunk(3), strict=True):
                parts[key.replace(".qkv.", f".{name}_proj.")] = part
        else:
            parts[key] = value
    return parts


@pytest.mark.parametrize(
    ("name", "architecture", "arguments", "key_of"),
    [
        ("vit_b_32", "ViT", {"patch_size": 32, "layer_norm_eps": 1e-6}, vit_key),
        ("swin_t", "Swin", {}, swin_key),
    ],
)
def test_automatic_maps_are_those_of_torchvisions_twin(
    name: str, architecture: str, arguments: Any, key_of: Any, tmp_path: Path
) -> None:
    """The patches before the last attention of ViT, and the last windows of Swin."""
    model = load(name, "none")
    with torch.no_grad():  # torchvision begins with a head of zeros
        classifier(model.module)[1].normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    config = getattr(transformers, f"{architecture}Config")(num_labels=1000, **arguments)
    net = getattr(transformers, f"{architecture}ForImageClassification")(config)
    state = split(convert(model.module.state_dict(), key_of))
    known = {k: v for k, v in state.items() if not k.endswith("relative_position_index")}
    missing = net.load_state_dict(known, strict=False)
    assert not missing.unexpected_keys
    assert all("relative_position_index" in key for key in missing.missing_keys)
    twin = load(str(write(tmp_path / name, net, transformers.ViTImageProcessor())))
    images = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    of_tokens = ("rollout", "gae", "legrad") if name.startswith("vit") else ()
    for method in ("gradcam", "hirescam", *of_tokens):
        peaks = []
        for target in ("3", "not:3"):
            one, two = (explain(one, images, method, target).maps for one in (model, twin))
            peaks.append(float(one.abs().max()))
            torch.testing.assert_close(two, one, rtol=0, atol=1e-4 * peaks[-1])
        assert max(peaks) > 0, "the evidence for or against the class"


@pytest.mark.parametrize("name", TWINS)
def test_maps_are_those_of_torchvisions_twin(name: str, tmp_path: Path) -> None:
    config, architecture, key_of, (layer, other) = TWINS[name]
    model = load(name, "none")
    net = getattr(transformers, architecture)(config())
    net.load_state_dict(convert(model.module.state_dict(), key_of))
    twin = load(str(write(tmp_path / name, net, transformers.ConvNextImageProcessor())))
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    for target in (3, 700):
        one = explain(model, images, target=target, layer=layer).maps
        two = explain(twin, images, target=target, layer=other).maps
        assert one.abs().max() > 0
        torch.testing.assert_close(two, one, rtol=0, atol=1e-4 * float(one.abs().max()))
    assert (twin.num_classes, twin.class_names) == (1000, None)  # they are called LABEL_0 ...
    named = load(str(tmp_path / name), labels="imagenet")
    assert named.class_names == load("mini").class_names


def test_the_command_takes_a_folder(run: Run, folder: Path, tmp_path: Path) -> None:
    photo, out = make_photo(tmp_path / "photo.jpg"), tmp_path / "out"
    for name in (str(folder), f"hf:{folder}"):
        layer = ("--layer", "convnext.encoder.stages.2")
        found = run("explain", photo, "--model", name, *layer, "--output", out, "--overwrite")
        assert found.exit_code == 0, found.stderr_bytes
        (row,) = manifest(out)
        assert row["class_name"] in ("ant", "bee", "cat")
    record = json.loads((out / "run.json").read_text())
    assert (record["model"], record["weights"]) == ("small", "model.safetensors")
    assert record["weights_hash"].startswith("sha256:")
    assert "convnext.encoder.stages.2" in [layer.path for layer in list_layers(str(folder))]
    assert all(p.is_meta for p in outline(str(folder)).module.parameters())


PROCESSORS = {
    "ViTImageProcessor": {"size": 96},
    "BeitImageProcessor": {"size": {"height": 64, "width": 64}},
    "BitImageProcessor": {"size": {"shortest_edge": 80}, "crop_size": 64, "resample": 2},
    "CLIPImageProcessor": {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}},
    "DeiTImageProcessor": {"size": 64, "do_center_crop": False},
    "MobileNetV1ImageProcessor": {"size": 80, "crop_size": 64},
    "MobileNetV2ImageProcessor": {"size": {"shortest_edge": 80}, "crop_size": 64, "resample": 2},
    "SiglipImageProcessor": {"size": {"height": 64, "width": 64}, "do_normalize": False},
    "ConvNextImageProcessor": {"size": {"shortest_edge": 96}, "crop_pct": 0.875},
    "ConvNextImageProcessor ": {"size": {"shortest_edge": 384}},
    "BeitImageProcessor ": {"size": {"height": 64, "width": 32}},
    "BeitImageProcessor  ": {"size": 64, "do_center_crop": True, "crop_size": 32},
    "BitImageProcessor ": {"do_resize": False, "crop_size": 64},
    "ViTImageProcessor ": {"size": 64, "rescale_factor": 1 / 127.5},
    "ViTImageProcessor  ": {"size": 64, "do_rescale": False},
    "ViTImageProcessor   ": {"size": 64, "rescale_factor": 1 / 127.5, "do_normalize": False},
}


@pytest.mark.parametrize("kind", PROCESSORS)
@pytest.mark.parametrize("size", [(400, 300), (180, 333)])
def test_preprocessing_is_that_of_transformers(
    kind: str, size: tuple[int, int], folder: Path, tmp_path: Path
) -> None:
    """The values differ by the rounding of resized pixels to whole numbers."""
    processor = getattr(transformers, kind.strip())(**{**SMALL, **PROCESSORS[kind]})
    net = transformers.AutoModelForImageClassification.from_pretrained(folder)
    model = outline(str(write(tmp_path / "net", net, processor)))
    # Pillow rounds and clips between its two passes, so noise has outliers.
    coarse = np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8)
    values = np.array(Image.fromarray(coarse).resize(size[::-1]))
    expected = processor(values, return_tensors="pt")["pixel_values"][0]
    found, _ = preprocess(values, model.preset)
    assert found.shape == expected.shape
    scale = processor.rescale_factor if processor.do_rescale else 1
    step = scale / min(SMALL["image_std"])
    assert float((found - expected).abs().max()) <= 2.5 * step
    assert float((found - expected).abs().mean()) <= 0.5 * step


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ({"image_processor_type": "EfficientNetImageProcessor"}, "expected one of BeitImage"),
        ({"size": {"shortest_edge": 64, "longest_edge": 90}}, "size {"),
        ({"size": 32, "do_center_crop": True, "crop_size": 64}, "crop 64x64 is larger than resize"),
    ],
)
def test_preprocessing_that_is_not_supported_is_one_line(
    card: dict[str, Any], message: str, folder: Path, tmp_path: Path
) -> None:
    net = transformers.AutoModelForImageClassification.from_pretrained(folder)
    kind = card.get("image_processor_type", "BeitImageProcessor")
    other = write(tmp_path / "net", net, getattr(transformers, kind)())
    known = json.loads((other / CARD).read_text())
    (other / CARD).write_text(json.dumps({**known, **card}))
    with pytest.raises(ModelError) as raised:
        load(str(other))
    line = str(raised.value)
    assert line.startswith(f"model '{other}': its preprocessing is not supported (")
    assert message in line
    assert "\n" not in line
    with pytest.raises(ModelError, match=r"^preprocessing '.*': ") as raised:
        read_preset(other / CARD)
    assert message in str(raised.value)


@pytest.mark.parametrize("kind", PROCESSORS)
def test_the_file_is_read_as_preprocessing(kind: str, tmp_path: Path) -> None:
    processor = getattr(transformers, kind.strip())(**{**SMALL, **PROCESSORS[kind]})
    processor.save_pretrained(tmp_path)
    assert read_preset(tmp_path / CARD) == preset_of(transformers, tmp_path, "net")


def test_weights_of_a_file_and_random_ones(folder: Path, tmp_path: Path) -> None:
    state = load_file(folder / "model.safetensors")
    file = save_weights({f"model.{k}": v + 1 for k, v in state.items()}, tmp_path / "w.ckpt")
    found = load(str(folder), file)
    assert found.class_names == ("ant", "bee", "cat")
    assert all(torch.equal(found.module.state_dict()[key], state[key] + 1) for key in state)
    one, same, other = (load(str(folder), "none", seed=seed) for seed in (0, 0, 1))
    weights = [m.module.state_dict()["classifier.weight"] for m in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    state["classifier.weight"], state["classifier.bias"] = torch.zeros(5, 16), torch.zeros(5)
    five = load(str(folder), state)
    assert (five.num_classes, five.class_names) == (5, None)


def test_half_precision_is_loaded_as_float32(folder: Path, tmp_path: Path) -> None:
    net = transformers.AutoModelForImageClassification.from_pretrained(folder).half()
    model = load(str(write(tmp_path / "half", net, transformers.ConvNextImageProcessor())))
    assert model.dtype == torch.float32


def copy_of(folder: Path, to: Path) -> Path:
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def test_folders_that_cannot_be_used(folder: Path, tmp_path: Path) -> None:
    def line(model: Path | str) -> str:
        with pytest.raises(ModelError) as raised:
            load(str(model))
        assert "\n" not in str(raised.value)
        return str(raised.value)

    cut = copy_of(folder, tmp_path / "cut")
    state = load_file(cut / "model.safetensors")
    del state["classifier.weight"]
    save_file(state, cut / "model.safetensors", {"format": "pt"})
    assert "model.safetensors lacks classifier.weight (1 in all), which would be rand" in line(cut)
    (cut / "model.safetensors").write_bytes(b"no weights")
    assert f"model '{cut}' cannot be loaded (" in line(cut)
    (cut / "model.safetensors").unlink()
    torch.save(state, cut / "pytorch_model.bin")
    assert "no model.safetensors in it; other formats are not read" in line(cut)
    (cut / CARD).unlink()
    assert f"model '{cut}': no usable {CARD} (" in line(cut)
    (cut / "config.json").write_text("{")
    assert f"model '{cut}': config.json is not usable (" in line(cut)
    text = transformers.BertConfig()
    bert = copy_of(folder, tmp_path / "bert")
    text.save_pretrained(bert)
    assert line(bert).startswith(f"model '{bert}' cannot be loaded (")


def test_code_in_a_folder_is_not_run(folder: Path, tmp_path: Path) -> None:
    other = copy_of(folder, tmp_path / "own")
    card = json.loads((other / "config.json").read_text())
    card |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}
    (other / "config.json").write_text(json.dumps(card))
    (other / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: ...\n")
    with pytest.raises(ModelError, match=r"config.json is not usable"):
        load(str(other))
    assert not (tmp_path / "ran").exists()


def test_without_the_hub_the_message_names_the_ways_out(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    photo = make_photo(tmp_path / "photo.jpg")
    line = refused(run("explain", photo, "--model", "hf:microsoft/resnet-50"))
    assert line.startswith("cannot download microsoft/resnet-50 for hf:microsoft/resnet-50 (")
    assert line.endswith(
        "): give a folder that save_pretrained wrote, or --model mini, which needs no download"
    )
    line = refused(run("explain", photo, "--model", "hf:no//name"))
    assert line.startswith("model 'hf:no//name' is neither a folder nor a name on the hub: give")


def test_without_transformers_the_extra_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    message = r"need transformers \(.*\): pip install 'camcli\[transformers\]'$"
    with pytest.raises(ModelError, match=message):
        load(str(folder))


def test_arguments_are_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"takes no arguments \(--model-arg\): only timm:NAME"):
        load(str(folder), arguments={"a": 1})
