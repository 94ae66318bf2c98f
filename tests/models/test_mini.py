"""The bundled model: its weights, its classes, its accuracy and its heatmaps."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import SqueezeNet1_0_Weights, squeezenet1_0
from torchvision.transforms import v2
from torchvision.transforms.functional import pil_to_tensor

import camcli
from camcli.errors import ModelError
from camcli.images.decode import decode
from camcli.images.preprocess import preprocess
from camcli.models.families import model_names
from camcli.models.load import load
from camcli.models.model import Model
from camcli.models.sources import MINI
from tests.support.command import Run, refused, stderr, stdout
from tests.support.files import ROOT, SAMPLES, SHARED, make_photo, manifest
from tests.support.networks import OF_MAPS

PUBLISHED = SHARED / "weights" / "squeezenet1_0-imagenet.pth"
IMAGENET = SHARED / "images" / "imagenet"
PREDICTED = {
    "chelsea": "Egyptian cat",
    "coffee": "espresso",
    "dog": "German shepherd",
    "duck": "goose",  # ImageNet has no white duck
    "hens": "hen",
    "owl": "great grey owl",
    "sheep": "ram",
}
"""The predictions for the sample images, without the kitten, of which it is unsure."""
PAIR = SAMPLES / "cat_dog.jpg"
SEAM = 191 / 582
"""Where the dog ends and the cat begins in PAIR, as a share of its width."""


@pytest.fixture(scope="module")
def mini() -> Model:
    return load("mini")


def shares_on_the_dog(
    mini: Model, fit: str, method: str, targets: Sequence[str]
) -> list[tuple[float, float]]:
    """Return for each target its probability and the share of its heat left of the seam."""
    inputs, _ = preprocess(decode(PAIR), mini.preset, fit)
    found = []
    for shown in camcli.explain(mini, inputs[None], method, targets):
        heat = shown.maps[0].clamp(min=0).sum_to_size(shown.maps.shape[-2:])
        left = round(heat.shape[-1] * SEAM)
        assert shown.probabilities is not None
        found.append((shown.probabilities.item(), float(heat[:, :left].sum() / heat.sum())))
    return found


@cache
def twin() -> nn.Module:
    """Return torchvision's network with the weights of mini."""
    found = squeezenet1_0().eval()
    found.load_state_dict({name: value.float() for name, value in load_file(MINI).items()})
    return found


def scores_of_twin(photo: Path) -> Tensor:
    """Return the scores (K,) of torchvision's network, with its own preprocessing of tensors."""
    transforms = SqueezeNet1_0_Weights.IMAGENET1K_V1.transforms()
    with torch.no_grad(), Image.open(photo) as image:
        pixels = v2.functional.resize(pil_to_tensor(image.convert("RGB")), [256], antialias=True)
        return twin()(transforms(pixels)[None])[0]


def test_it_is_the_default_and_needs_no_other_weights(mini: Model) -> None:
    assert camcli.load().weights_hash == mini.weights_hash
    assert "mini" not in model_names(), "torchvision would have the same name"
    with pytest.raises(ModelError, match=r"^weights 'none' need --model NAME, the network"):
        load("mini", "none")


def test_it_is_torchvisions_network_and_preprocessing(mini: Model) -> None:
    published = SqueezeNet1_0_Weights.IMAGENET1K_V1
    image = torch.rand(3, 300, 400, generator=torch.Generator().manual_seed(0))
    inputs = published.transforms()(image)[None]
    torch.testing.assert_close(mini.module(inputs), twin()(inputs), rtol=1e-4, atol=1e-4)
    assert mini.class_names == tuple(published.meta["categories"])
    assert (mini.preset.resize, mini.preset.crop) == (256, 224)


def test_the_weights_are_the_published_ones_rounded() -> None:
    if not PUBLISHED.exists():
        pytest.skip(f"needs the published weights: {PUBLISHED.name} is not in {SHARED.name}")
    published, stored = torch.load(PUBLISHED, weights_only=True), load_file(MINI)
    assert published.keys() == stored.keys()
    assert all(torch.equal(value.half(), stored[name]) for name, value in published.items())


def test_the_package_stays_small_and_has_the_licence(tmp_path: Path) -> None:
    assert MINI.stat().st_size <= 2_600_000
    licence = MINI.with_name("LICENSE.txt").read_text()
    assert "Redistributions in binary form must reproduce the above copyright notice" in licence
    setup = (ROOT / "pyproject.toml").read_text()
    assert 'license = "MIT AND BSD-2-Clause"' in setup
    assert '"camcli/assets/mini/LICENSE.txt"' in setup


def test_top1_on_500_photos_of_imagenet(run: Run, tmp_path: Path) -> None:
    """The published weights have 304 right in float32."""
    if not IMAGENET.is_dir():
        pytest.skip(f"needs real photos: {SHARED.name}/images/imagenet is not there")
    photos, table = sorted(IMAGENET.glob("*.jpg")), tmp_path / "truth.csv"
    lines = (f"{photo.name},{int(photo.name[:4])}" for photo in photos)
    table.write_text("\n".join(["image,class_index", *lines]))
    to = tmp_path / "out"
    found = run("explain", IMAGENET, "--truth", f"csv:{table}", "--save", "map", "--output", to)
    assert found.exit_code == 0
    rows = manifest(to)
    assert len(rows) == 500
    assert {row["status"] for row in rows} == {"ok"}
    right = sum(int(row["image"][:4]) == row["class_index"] for row in rows)
    assert right >= 303
    assert stdout(found).splitlines()[-1].endswith(f", {500 - right} wrong")
    for row in rows[::25]:
        scores = scores_of_twin(IMAGENET / row["image"])
        assert row["predicted_index"] == int(scores.argmax())
        assert row["correct"] == (row["true_index"] == int(scores.argmax()))
        assert row["top5"] == (row["true_index"] in scores.topk(5).indices)


@pytest.mark.parametrize("method", OF_MAPS)
def test_every_method_applies(method: str, mini: Model) -> None:
    shown = camcli.explain(mini, SAMPLES / "cat.jpg", method, "tabby")
    assert shown.maps.isfinite().all()
    assert shown.maps.any()
    assert min(shown.maps.shape[-2:]) >= 13


def test_sample_photos(run: Run, tmp_path: Path) -> None:
    found = run("explain", SAMPLES, "--save", "map", "--output", tmp_path)
    assert found.exit_code == 0
    assert stderr(found) == f"9 images -> {tmp_path}\n", "no note on the model"
    rows = {Path(row["image"]).stem: row for row in manifest(tmp_path)}
    assert {name: row["class_name"] for name, row in rows.items() if name in PREDICTED} == PREDICTED
    assert [name for name, row in rows.items() if row["unsure"]] == ["cat"]
    (line,) = (line for line in stdout(found).splitlines() if "unsure" in line)
    assert line.startswith(f"cat.jpg  gradcam  {rows['cat']['class_name']} (8.9%, unsure)  ")


def test_unsure_is_about_the_best_class(run: Run, tmp_path: Path) -> None:
    photo, targets = SAMPLES / "dog.jpg", ("--target", "tabby", "--target", "not:tabby")
    run("explain", photo, *targets, "--save", "map", "--output", tmp_path)
    for row in manifest(tmp_path):
        assert row["probability"] < 0.2
        assert row["unsure"] is False, "the best class is a German shepherd at 99 %"


@pytest.mark.parametrize("fit", ["full", "squash"])
def test_most_heat_is_on_the_animal_that_is_asked_for(fit: str, mini: Model) -> None:
    (cat, cats), (dog, dogs) = shares_on_the_dog(
        mini, fit, "gradcam", ["Egyptian cat", "German shepherd"]
    )
    assert 1 - cats >= 0.7
    assert dogs >= 0.7
    assert min(cat, dog) > 0.2


@pytest.mark.parametrize("method", ["guided-backprop", "guided", "gradcam++", "cam", "occlusion"])
def test_the_other_maps_of_the_figure_lean_to_the_same_animal(method: str, mini: Model) -> None:
    (_, cats), (_, dogs) = shares_on_the_dog(
        mini, "full", method, ["Egyptian cat", "German shepherd"]
    )
    assert dogs - cats > 0.2
    assert 1 - cats > 0.6
    assert dogs > 0.5


def test_one_image_is_explained_without_downloads(tmp_path: Path) -> None:
    """A new process, with an empty cache of torch."""
    photo = make_photo(tmp_path / "photo.jpg")
    command = ("-m", "camcli", "explain", photo, "--output", tmp_path / "out", "--quiet")
    environment = {"TORCH_HOME": str(tmp_path / "cache"), "PATH": ""}
    subprocess.run([sys.executable, *map(str, command)], check=True, env=environment, cwd=ROOT)
    assert not (tmp_path / "cache").exists()
    np.load(tmp_path / "out" / "photo.gradcam.npy")


def test_weights_need_a_network(run: Run, photo: Path) -> None:
    message = refused(run("explain", photo, "--weights", "own.pth"))
    assert message == (
        "weights 'own.pth' need --model NAME, the network that they are for; without it, the "
        "model is mini, which has its own weights"
    )
