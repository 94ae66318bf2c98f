"""Drawing an explanation on the photos that were explained."""

from __future__ import annotations

import copy
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from camcli import Model, explain
from camcli.errors import CamcliWarning, ImageError, ModelError
from camcli.images.decode import decode
from camcli.images.find import find
from camcli.images.preprocess import Preset
from camcli.runs import pipeline
from camcli.runs.job import Job
from tests.support.files import make_photo
from tests.support.networks import GapNet


@pytest.fixture
def small() -> Model:
    torch.manual_seed(0)
    return Model(GapNet(), preset=Preset(40, 32), class_names=("a", "b", "c", "d", "e"))


@pytest.mark.parametrize("method", ["gradcam++", "cam", "guided"])
def test_overlays_equal_those_of_a_run(
    method: str, small: Model, photo: Path, tmp_path: Path
) -> None:
    other = make_photo(tmp_path / "other.png", 50, 80)
    job = Job(find([str(photo), str(other)]), small, (method,), ("pred",), tmp_path / "out")
    list(pipeline.run(job))
    with Image.open(other) as opened:
        shown = explain(small, [str(photo), opened], method)
        for i, stem in enumerate(("photo", "other")):
            with Image.open(tmp_path / "out" / f"{stem}.{method}.png") as drawn:
                assert np.array_equal(np.asarray(drawn), np.asarray(shown.overlay(i)))
        data = shown._repr_png_()
    assert data is not None
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (round(90 * 80 / 60) + 6 + 50, 80)
    faint = shown.overlay(0, alpha=0, colormap="jet")
    assert not np.array_equal(np.asarray(faint), np.asarray(shown.overlay(0))) or method == "guided"
    even = shown.overlay(0, alpha=0, blend="even")
    assert not np.array_equal(np.asarray(faint), np.asarray(even))


def test_explanations_that_cannot_be_drawn(small: Model, images: Tensor, photo: Path) -> None:
    shown = explain(small, images.float())
    assert shown._repr_png_() is None
    with pytest.raises(ValueError, match="no photo to draw on: explain paths or PIL images"):
        shown.overlay()
    shown = explain(small, photo)
    with pytest.raises(IndexError):
        shown.overlay(1)
    assert "Photo" not in repr(shown)
    make_photo(photo, 30, 30)
    with pytest.raises(ImageError, match=r"photo\.jpg: not the image that was explained"):
        shown.overlay()
    photo.unlink()
    with pytest.raises(ImageError, match="No such file"):
        shown.overlay()
    assert shown._repr_png_() is None


def test_an_explanation_keeps_paths_instead_of_pixels(small: Model, photo: Path) -> None:
    shown = explain(small, [photo] * 9)
    assert {type(kept.given) for kept in shown.photos} == {type(photo)}
    data = shown._repr_png_()
    assert data is not None
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (6 * 90 + 5 * 6, 60)


def test_the_explained_box_is_drawn(small: Model, photo: Path) -> None:
    shown = explain(small, photo)
    box = torch.tensor([[4.0, 4.0, 28.0, 28.0]])
    plain, framed = (np.asarray(one.overlay()) for one in (shown, replace(shown, boxes=box)))
    x0, y0, x1, y1 = shown.photos[0].crop.corners([4, 4, 28, 28], (32, 32)) or (0, 0, 0, 0)
    assert (framed[y0, x0:x1] == 255).all()
    assert (
        framed[y0 + 5 : y1 - 5, x0 + 5 : x1 - 5] == plain[y0 + 5 : y1 - 5, x0 + 5 : x1 - 5]
    ).all()


def test_images_paths_and_tensors_agree(gap_net: GapNet, photo: Path) -> None:
    model = Model(copy.deepcopy(gap_net).float(), preset=Preset(resize=32, crop=28))
    by_path = explain(model, photo).maps
    assert torch.equal(explain(model, str(photo)).maps, by_path)
    with Image.open(photo) as image:
        assert torch.equal(explain(model, image).maps, by_path)
        torch.testing.assert_close(explain(model, [image, photo]).maps[1:], by_path)


def test_an_array_is_the_photo_that_it_holds(small: Model, photo: Path) -> None:
    pixels = decode(photo)
    array, file = explain(small, pixels), explain(small, photo)
    assert torch.equal(array.maps, file.maps)
    assert np.array_equal(np.asarray(array.overlay()), np.asarray(file.overlay()))
    for wrong in (pixels.astype(float), pixels[0], np.zeros((2, 3, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match=r"expected an array \(H,W,3\) of uint8, got \("):
            explain(small, wrong)
    with pytest.raises(ImageError, match="the image has 4 channels, and the network takes 3"):
        explain(small, np.zeros((60, 90, 4), np.uint8))


def test_arrays_of_other_channels() -> None:
    torch.manual_seed(0)
    layers = nn.Conv2d(5, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    model = Model(nn.Sequential(*layers), preset=Preset(40, 32, (0.0,) * 5, (1.0,) * 5))
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 5), np.uint8)
    shown = explain(model, [pixels, pixels], "guided")
    assert shown.maps.shape == (2, 5, 32, 32)
    assert np.asarray(shown.overlay(1)).shape == (60, 90, 3)


def test_saved_files(small: Model, photo: Path, tmp_path: Path) -> None:
    other = make_photo(tmp_path / "other.png", 50, 80)
    shown = explain(small, [photo, other], "gradcam++", 2)
    shown.save(tmp_path / "map.npy", 1)
    assert np.array_equal(np.load(tmp_path / "map.npy"), shown.maps[1].numpy())
    shown.save(tmp_path / "heat.png", 1, colormap="jet")
    with Image.open(tmp_path / "heat.png") as image:
        assert np.array_equal(np.asarray(image), np.asarray(shown.overlay(1, colormap="jet")))
    with pytest.raises(ValueError, match="unknown file extension"):
        shown.save(tmp_path / "heat.what")


def test_names_and_text(small: Model, photo: Path, images: Tensor) -> None:
    shown = explain(small, [photo, photo], "gradcam", "c")
    assert shown.names == ("c", "c")
    assert repr(shown) == "Explanation(gradcam, c, last, 2 maps of 7x7: c, c)"
    unnamed = explain(replace(small, class_names=None), [photo] * 8, target=3)
    assert unnamed.names == ("class 3",) * 8
    assert repr(unnamed).endswith("8 maps of 7x7: " + "class 3, " * 6 + "...)")
    score = explain(small.module, images.float(), target=lambda output: output[:, 0], layer="last")
    assert score.names is None
    height, width = score.maps.shape[1:]
    assert repr(score) == f"Explanation(gradcam, <lambda>, last, 3 maps of {height}x{width})"


def test_a_layer_may_be_the_module_itself(small: Model, photo: Path) -> None:
    assert isinstance(small.module, GapNet)
    by_path = explain(small, photo, layer="trunk")
    by_module = explain(small, photo, layer=small.module.trunk)
    assert torch.equal(by_path.maps, by_module.maps)
    assert by_module.layer == "trunk"
    both = explain(small, photo, layer=[small.module.trunk, None])
    assert [shown.layer for shown in both] == ["trunk", "last"]
    with pytest.raises(ModelError, match="layer ReLU: it is not a part of this network"):
        explain(small, photo, layer=nn.ReLU())


def test_paths_are_read_as_by_the_command(small: Model, tmp_path: Path) -> None:
    values = np.linspace(100, 4000, 3600).reshape(60, 60).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    with pytest.warns(CamcliWarning, match="--window-level"):
        shown = explain(small, tmp_path / "deep.png")
    with pytest.warns(CamcliWarning, match="--window-level"):
        assert shown.overlay().size == (60, 60)
