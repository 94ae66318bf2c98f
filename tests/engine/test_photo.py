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
from torch import Tensor

from camcli import Model, explain
from camcli.errors import ImageError
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
