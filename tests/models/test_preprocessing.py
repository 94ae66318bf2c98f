"""The preprocessing of own networks: options, files, channels, and what is said about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2 as transforms

import camcli
from camcli.errors import ModelError
from camcli.images.decode import decode
from camcli.images.preprocess import Preset
from camcli.models.options import PreprocessOptions
from camcli.models.preprocessing import describe_preset, read_preset, with_preprocessing
from tests.support.command import Run, refused, stderr
from tests.support.files import make_photo, manifest

OWN = """
import torch
from torch import nn
from camcli.images.preprocess import Preset

def net(channels=3):
    torch.manual_seed(0)
    layers = nn.Conv2d(channels, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU()
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))

def grey():
    return net(1)

def four():
    return net(4)

def six():
    return net(6)

def with_preset():
    network = net()
    network.preset = Preset(40, 32, (0.5,) * 3, (0.25,) * 3)
    return network
"""


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module of networks in the working directory."""
    name = f"own_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return name


def only_row(folder: Path) -> dict[str, Any]:
    (row,) = manifest(folder)
    return row


def test_the_command_uses_the_preprocessing_that_is_given(run: Run, own: str, photo: Path) -> None:
    """A network that was trained on the whole photo at 48 x 64 pixels, with its own colours."""
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    colours = ("--mean", "0.5,0.4,0.3", "--std", "0.2,0.3,0.4")
    found = run("explain", photo, "--model", f"{own}:net", "--resize", "48x64", *colours)
    assert found.exit_code == 0, stderr(found)
    twin = transforms.Compose(
        [
            transforms.Resize((48, 64)),
            transforms.ToImage(),
            transforms.ToDtype(torch.float32, scale=True),
            transforms.Normalize(mean, std),
        ]
    )
    inputs = twin(Image.fromarray(decode(photo)))[None]
    shown = camcli.explain(camcli.load(f"{own}:net"), inputs)
    row = only_row(Path("camcli-out"))
    values = np.load(Path("camcli-out") / row["map"])
    np.testing.assert_allclose(values, shown.maps[0], rtol=1e-4, atol=1e-6)
    assert row["crop"] == [0, 0, 90, 60]


def test_it_is_said_and_recorded(run: Run, own: str, photo: Path) -> None:
    first, *_ = stderr(run("explain", photo, "--model", f"{own}:net")).splitlines()
    assert first == (
        f"Note: preprocessing of {own}:net, assumed: resize 256, crop 224, bilinear, channels 3, "
        "mean 0.485,0.456,0.406, std 0.229,0.224,0.225; --resize, --preprocess and others change it"
    )
    record = json.loads(Path("camcli-out/run.json").read_text())["preprocessing"]
    assert (record["from"], record["resize"], record["crop"]) == ("assumed", 256, 224)
    arguments = ("--model", f"{own}:with_preset", "--output", "other")
    first, *_ = stderr(run("explain", photo, *arguments)).splitlines()
    assert first.startswith(f"Note: preprocessing of {own}:with_preset, the network: resize 40")
    assert run("explain", photo, *arguments, "--overwrite", "--quiet").stderr_bytes == b""


def test_weights_of_ones_own_are_no_published_ones(run: Run, photo: Path) -> None:
    torch.save(camcli.load("squeezenet1_1", "none").module.state_dict(), "own.pth")
    first, *_ = stderr(
        run("explain", photo, "--model", "squeezenet1_1", "--weights", "own.pth")
    ).splitlines()
    assert first.startswith("Note: preprocessing of squeezenet1_1, assumed: resize 256")
    assert camcli.load("squeezenet1_1", "none").preset_from == "torchvision"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"resize": 64, "crop": 48}, Preset(64, 48)),
        ({"resize": [48, 64]}, Preset((48, 64), None)),
        ({"resize": [48, 64], "crop": [40, 60]}, Preset((48, 64), (40, 60))),
        ({"resize": None, "crop": None}, Preset(None, None)),
        ({"mean": [0.5], "std": [1], "interpolation": "nearest"},
         Preset(mean=(0.5,), std=(1.0,), interpolation="nearest")),
    ],
)  # fmt: skip
def test_a_file_describes_the_preprocessing(given: dict[str, Any], expected: Preset) -> None:
    Path("p.json").write_text(json.dumps(given))
    assert read_preset(Path("p.json")) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "preprocessing 'p.json': not JSON (Expecting property name"),
        ("[1]", "preprocessing 'p.json': expected an object with resize, crop, mean, std or inter"),
        ('{"rezise": 3}', "preprocessing 'p.json': unknown field 'rezise': did you mean 'resize'"),
        ('{"crop": 300}', "crop 300 is larger than resize 256"),
        ('{"crop": "a"}', 'crop is "a", expected a whole number'),
        ('{"crop": true}', "crop is true, expected a whole number"),
        ('{"crop": 0}', "expected 1 to 8192 pixels"),
        ('{"resize": 1000000000}', "expected 1 to 8192 pixels"),
        ('{"mean": []}', "mean is [], expected a list of 1 to 1024, each a finite number"),
        ('{"input_size": [3, 0, 1e300]}', "preprocessing 'p.json': "),
        ('{"pretrained_cfg": [3]}', "preprocessing 'p.json': "),
        ("[" * 99_999, "nested more than 32 deep"),
        ('{"mean": [0.5]}', "mean has 1 values and std 3: expected one for each channel"),
        ('{"std": [0, 1, 1]}', "expected values above 0"),
        ('{"std": [NaN, 1, 1]}', "NaN is not a number"),
        ('{"interpolation": "cubic"}', 'interpolation is "cubic", expected one of nearest'),
    ],
)
def test_a_wrong_file_is_one_line(text: str, message: str) -> None:
    Path("p.json").write_text(text)
    with pytest.raises(ModelError) as raised:
        read_preset(Path("p.json"))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (PreprocessOptions(resize=300), Preset(300)),
        (PreprocessOptions(resize=(64, 48)), Preset((64, 48), None)),
        (PreprocessOptions(resize=(64, 48), crop=40), Preset((64, 48), 40)),
        (PreprocessOptions(resize="none", crop="none"), Preset(None, None)),
        (PreprocessOptions(mean=(0.5,), std=(0.5,)), Preset(mean=(0.5,) * 3, std=(0.5,) * 3)),
        (PreprocessOptions(channels=1), Preset(mean=(0.0,), std=(1.0,))),
        (PreprocessOptions(channels=1, mean=(0.5,)), Preset(mean=(0.5,), std=(1.0,))),
        (PreprocessOptions(interpolation="lanczos"), Preset(interpolation="lanczos")),
    ],
)
def test_options_change_a_preset(options: PreprocessOptions, expected: Preset) -> None:
    model = with_preprocessing(camcli.Model(nn.Identity()), options)
    assert (model.preset, model.preset_from) == (expected, "given")


def test_no_options_change_nothing() -> None:
    model = camcli.Model(nn.Identity())
    assert with_preprocessing(model, PreprocessOptions()) is model


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resize", "64"], "preprocessing: crop 224 is larger than resize 64: expected another"),
        (["--resize", "64y48"], "'64y48': expected pixels, HxW or none"),
        (["--mean", "0.5,0.2"], "preprocessing: mean has 2 values and std 3: expected one for"),
        (["--mean", "a"], "'a': expected numbers separated by commas"),
        (["--std", "0"], "expected values above 0"),
        (["--preprocess", "none.json"], "preprocessing 'none.json': No such file"),
    ],
)
def test_wrong_options_are_one_line(
    arguments: list[str], message: str, run: Run, own: str, photo: Path
) -> None:
    assert message in refused(run("explain", photo, "--model", f"{own}:net", *arguments))


def test_a_detector_prepares_images_by_itself() -> None:
    model = camcli.load("ssdlite320_mobilenet_v3_large", "none")
    with pytest.raises(ModelError, match="is a detection model, which resizes"):
        with_preprocessing(model, PreprocessOptions(resize=64))


def test_an_image_smaller_than_the_crop_is_an_error_of_this_image(
    run: Run, own: str, photo: Path
) -> None:
    make_photo(Path("large.jpg"), 200, 200)
    sides = ("--resize", "none", "--crop", "100")
    found = run("explain", photo, "large.jpg", "--model", f"{own}:net", *sides)
    assert found.exit_code == 1
    assert f"{photo}: 90x60 pixels: smaller than the crop of 100x100" in stderr(found)
    status = {Path(row["image"]).name: row["status"] for row in manifest(Path("camcli-out"))}
    assert status == {photo.name: "error", "large.jpg": "ok"}


METHODS = ("gradcam", "guided", "occlusion", "scorecam")


@pytest.mark.parametrize("name", ["grey", "four", "six"])
def test_networks_of_other_channels(name: str, run: Run, own: str) -> None:
    values = np.random.default_rng(0).integers(0, 256, (60, 90, 6), np.uint8)
    if name == "six":
        first, *others = (Image.fromarray(values[:, :, i]) for i in range(6))
        first.save("image.tif", save_all=True, append_images=others)
    else:
        bands = values[:, :, 0] if name == "grey" else values[:, :, :4]
        Image.fromarray(bands).save("image.png")
    (file,) = Path().glob("image.*")
    methods = (part for method in METHODS for part in ("--method", method))
    size = ("--resize", "40x40", "--window", 20, "--stride", 20)
    found = run("explain", file, "--model", f"{own}:{name}", *methods, *size)
    assert found.exit_code == 0, stderr(found)
    assert ("takes one channel" in stderr(found)) == (name == "grey")
    shown = {row["method"]: row for row in manifest(Path("camcli-out"))}
    channels = {"grey": 1, "four": 4, "six": 6}[name]
    assert shown["guided"]["map_shape"] == [channels, 40, 40]
    for row in shown.values():
        with Image.open(Path("camcli-out") / row["overlay"]) as drawn:
            assert (drawn.size, drawn.mode) == ((90, 60), "RGB")
    network = camcli.load(f"{own}:{name}")
    assert network.preset == Preset(mean=(0.0,) * channels, std=(1.0,) * channels)
    own_input = np.dstack(
        [
            np.asarray(Image.fromarray(values[:, :, i]).resize((40, 40), Image.Resampling.BILINEAR))
            for i in range(channels)
        ]
    )
    inputs = torch.from_numpy(own_input.transpose(2, 0, 1)[None] / np.float32(255))
    expected = camcli.explain(network, inputs, "gradcam").maps[0]
    map_ = np.load(Path("camcli-out") / shown["gradcam"]["map"])
    np.testing.assert_allclose(map_, expected, rtol=1e-4, atol=1e-6)


def test_colours_become_luminance(run: Run, own: str, photo: Path) -> None:
    Image.fromarray(decode(photo)).convert("L").save("grey.png")
    run("explain", photo, "grey.png", "--model", f"{own}:grey")
    (colour, grey) = (np.load(Path("camcli-out") / f"{n}.gradcam.npy") for n in ("photo", "grey"))
    np.testing.assert_allclose(colour, grey, rtol=1e-4, atol=1e-6)


def test_a_file_of_other_channels_is_an_error_of_this_image(
    run: Run, own: str, photo: Path
) -> None:
    found = run("explain", photo, "--model", f"{own}:four")
    assert found.exit_code == 1
    assert f"{photo}: it has 3 channels, and the network takes 4 channels" in stderr(found)


def test_every_command_takes_the_options(run: Run, own: str, photo: Path) -> None:
    options = ("--model", f"{own}:net", "--resize", "40x48")
    found = run("evaluate", photo, *options, "--metric", "complexity", "--json")
    assert json.loads(found.stdout_bytes)["preprocessing"]["resize"] == [40, 48]
    rows = run("layers", f"{own}:net", "--resize", "40x48", "--json").stdout_bytes.splitlines()
    assert json.loads(rows[0])["map"] == [8, 38, 46]
    pytest.importorskip("matplotlib")
    found = run("figure", photo, *options, "--method", "gradcam")
    assert "given: resize 40x48, crop none" in stderr(found)


def test_a_preset_from_python(own: str, photo: Path) -> None:
    preset = Preset((40, 48), None)
    model = camcli.load(f"{own}:net", preset=preset)
    assert (model.preset, model.preset_from) == (preset, "given")
    assert camcli.explain(model, photo).maps.shape[1:] == (36, 44)
    assert describe_preset(preset).startswith("resize 40x48, crop none, bilinear, channels 3")
