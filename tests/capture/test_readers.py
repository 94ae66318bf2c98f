"""Segmentation and detection: one score per class, read from maps and boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import camcli
from camcli.capture.readers import Reader, detected, segmented
from camcli.errors import MethodError, TargetError
from camcli.images.geometry import Crop
from camcli.images.preprocess import Preset, preprocess
from camcli.models.families import model_names
from camcli.models.load import load
from camcli.models.model import Model
from tests.support.command import Run, refused
from tests.support.files import make_photo, manifest

SEGMENTERS, DETECTORS = model_names("segmentation"), model_names("detection")


def dense_scores() -> Tensor:
    """Scores (2,4,5,6) of 4 classes; the second image is background everywhere."""
    dense = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(0)).double()
    dense[0, 0] += 1
    dense[1, 0] += 10
    return dense


def test_one_score_for_each_pixel_is_refused() -> None:
    with pytest.raises(TargetError, match="gives one score for each pixel: expected one for each"):
        segmented({"out": torch.zeros(2, 1, 5, 6)})


@pytest.mark.parametrize("region", [None, (1, 2, 4, 5)])
def test_segmented_equals_a_slow_reference(region: tuple[int, ...] | None) -> None:
    dense = dense_scores()
    regions = None if region is None else torch.tensor([region, region])
    reading = segmented({"out": dense}, regions)
    x0, y0, x1, y1 = region or (0, 0, 6, 5)
    for n, image in enumerate(dense):
        area, total, mass = [0] * 4, [0.0] * 4, [0.0] * 4
        seen = [0] * 4
        for y in range(y0, y1):
            for x in range(x0, x1):
                scores = image[:, y, x].tolist()
                best = scores.index(max(scores))
                area[best] += 1
                for k in range(4) if region else [best]:
                    total[k] += scores[k]
                    mass[k] += float(image[:, y, x].softmax(0)[k])
                    seen[k] += 1
        assert reading.logits[n].tolist() == pytest.approx(total)
        means = [m / max(1, s) for m, s in zip(mass, seen, strict=True)]
        assert reading.probabilities[n].tolist() == pytest.approx(means)
        assert reading.ranking[n, 1:].tolist() == area[1:]
    assert reading.ranking[1].argmax() == 0, "the second image is background only"
    background = (dense[0, :, y0:y1, x0:x1].argmax(0) == 0).sum()
    assert background >= reading.ranking[0].max(), (
        "background is the largest area, but another class ranks first"
    )
    assert reading.ranking[0].argmax() != 0


def test_the_gradient_of_a_segmented_class_is_in_its_region_only() -> None:
    dense = dense_scores().requires_grad_()
    (gradient,) = torch.autograd.grad(segmented(dense).logits[:, 2].sum(), dense)
    expected = torch.zeros_like(dense)
    expected[:, 2] = (dense.argmax(1) == 2).to(dense)
    assert torch.equal(gradient, expected)


def test_detected_takes_the_best_box_of_each_class() -> None:
    scores = torch.tensor([0.9, 0.5, 0.7, 0.2], requires_grad=True)
    boxes = torch.arange(16.0).view(4, 4)
    found = {"scores": scores, "labels": torch.tensor([2, 1, 2, 3]), "boxes": boxes}
    nothing = {name: value[:0] for name, value in found.items()}
    reading = detected([found, nothing], 4)
    expected = torch.tensor([[0, 0.5, 0.9, 0.2], [0, 0, 0, 0]])
    torch.testing.assert_close(reading.logits, expected)
    assert reading.boxes is not None
    assert reading.boxes[0].tolist() == [[0] * 4, *boxes[[1, 0, 3]].tolist()]
    assert not reading.boxes[1].any()
    (gradient,) = torch.autograd.grad(reading.logits[:, 2].sum(), scores)
    assert gradient.tolist() == [1, 0, 0, 0]
    (gradient,) = torch.autograd.grad(detected([nothing], 4).logits.sum(), scores)
    assert not gradient.any(), "an image without boxes has a graph and a gradient of zero"


def small_network(name: str) -> Model:
    """Return a network with random weights that finds up to five boxes in noise."""
    model = load(name, "none")
    module = model.module
    for part in (module, getattr(module, "roi_heads", None)):
        if hasattr(part, "score_thresh"):
            part.score_thresh = 0.0
            part.detections_per_img = 5
    if model.task == "detection" and module.transform.fixed_size is None:
        module.transform.min_size = (64,)
    return model


@pytest.mark.parametrize("name", [*SEGMENTERS, *DETECTORS])
def test_every_network_has_a_map(name: str) -> None:
    model = small_network(name)
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    for shown in camcli.explain(model, images, ["gradcam", "gradcam++"]):
        assert shown.maps.isfinite().all()
        assert shown.maps.ndim == 3
        assert min(shown.maps.shape[1:]) >= 2
        assert (shown.probabilities >= 0).all()
        assert (shown.probabilities <= 1.0001).all()
        assert torch.equal(shown.probabilities, shown.confidences), "the target is the best class"
        assert (shown.boxes is not None) == (name in DETECTORS)
    (frozen,) = {p.requires_grad for p in model.module.parameters()}
    assert frozen, "the parameters are unchanged"


def test_gradcam_of_a_segmentation_network_equals_autograd() -> None:
    torch.manual_seed(0)
    trunk, head = nn.Conv2d(3, 4, 3), nn.Sequential(nn.ReLU(), nn.Conv2d(4, 3, 1))
    net = nn.Sequential(trunk, head).double()
    images = torch.randn(2, 3, 8, 9).double()
    shown = camcli.explain(Model(net, task="segmentation"), images, "gradcam", 2, layer="0")
    acts = trunk(images).detach().requires_grad_()
    dense = head(acts)
    score = (dense[:, 2] * (dense.argmax(1) == 2)).sum((1, 2))
    (grads,) = torch.autograd.grad(score.sum(), acts)
    torch.testing.assert_close(shown.scores, score)
    torch.testing.assert_close(shown.maps, (grads.mean((2, 3), keepdim=True) * acts).sum(1).relu())
    inside = camcli.explain(
        Model(net, task="segmentation"), images, "gradcam", 2, layer="0", region=(1, 1, 3, 4)
    )
    torch.testing.assert_close(inside.scores, dense[:, 2, 1:4, 1:3].sum((1, 2)))


def test_each_image_of_a_batch_has_its_own_region() -> None:
    torch.manual_seed(0)
    model = Model(nn.Conv2d(3, 3, 3).double(), task="segmentation")
    images, regions = torch.randn(2, 3, 14, 14).double(), torch.tensor([[0, 0, 4, 6], [3, 2, 9, 9]])
    both = camcli.explain(model, images, "occlusion", 1, region=regions)
    for n in range(2):
        one = camcli.explain(model, images[n : n + 1], "occlusion", 1, region=tuple(regions[n]))
        torch.testing.assert_close(both.maps[n : n + 1], one.maps)
        assert one.maps.any()


def test_a_region_needs_a_segmentation_network() -> None:
    with pytest.raises(TargetError, match="a region is for segmentation networks; this is a class"):
        Reader(regions=torch.zeros(1, 4))


def test_softmax_methods_need_a_classification_network() -> None:
    model = Model(nn.Sequential(nn.Conv2d(3, 3, 3)), task="segmentation")
    with pytest.raises(MethodError, match="is for classification networks; this is a segmentation"):
        camcli.explain(model, torch.rand(1, 3, 9, 9), "gradcam++softmax", 1, layer="0")


def test_a_detector_neither_resizes_nor_pads_its_input() -> None:
    """Otherwise its maps would be shifted against the image."""
    model = load("fasterrcnn_mobilenet_v3_large_fpn", "none")
    for height, width in ((600, 800), (300, 1400), (1400, 300), (40, 40)):
        given, crop = preprocess(np.zeros((height, width, 3), np.uint8), model.preset)
        images, _ = model.module.transform([given])
        assert images.image_sizes == [tuple(given.shape[1:])], "resized"
        assert images.tensors.shape[2:] == given.shape[1:], "padded"
        assert (crop.x1, crop.y1) == (width, height)
        assert 0.9 < (given.shape[1] / given.shape[2]) / (height / width) < 1.1


def test_boxes_are_converted_to_the_input_and_back() -> None:
    crop = Crop(10, 20, 110, 70)
    inward = crop.to_input((10, 20, 60, 45), (200, 200))
    assert inward == (0, 0, 100, 100)
    assert crop.to_original(inward, (200, 200)) == (10, 20, 60, 45)


def test_occlusion_covers_with_the_mean_colour_after_the_presets_normalisation() -> None:
    class Brightness(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x.mean((1, 2, 3)), -x.mean((1, 2, 3))], 1)

    grey = torch.tensor(Preset.mean).view(1, 3, 1, 1).expand(1, 3, 14, 14)
    for preset, image in (
        (Preset(mean=(0, 0, 0), std=(1, 1, 1)), grey),
        (Preset(), torch.zeros(1, 3, 14, 14)),
    ):
        shown = camcli.explain(Model(Brightness(), preset=preset), image.clone(), "occlusion", 0)
        assert shown.maps.abs().max() < 1e-6, "a grey square on a grey image"


def test_the_command_draws_the_box_and_takes_a_region(run: Run, tmp_path: Path) -> None:
    photo = make_photo(tmp_path / "in" / "a.jpg", 160, 120)
    none = ("--weights", "none", "--device", "cpu", "--overwrite", "--quiet")
    none += ("--output", str(tmp_path / "out"))
    model = ("--model", "ssdlite320_mobilenet_v3_large")
    assert run("explain", photo, *model, *none).exit_code == 0
    (row,) = manifest(tmp_path / "out")
    x0, y0, x1, y1 = row["box"]
    assert 0 <= x0 < x1 <= 160
    assert 0 <= y0 < y1 <= 120
    with Image.open(tmp_path / "out" / row["overlay"]) as overlay:
        edge = np.asarray(overlay)[(y0 + y1) // 2, max(0, x0 - 1) : x0 + 2]
    assert (edge == 255).all(1).any()
    message = refused(run("explain", photo, *model, *none, "--region", "0,0,50,50"))
    assert "a region is for segmentation networks; this is a detection one" in message
    for bad in ("0,0,50", "50,0,0,50", "a,b,c,d"):
        message = refused(run("explain", photo, *model, *none, "--region", bad))
        assert "expected x0,y0,x1,y1 with x0 < x1 and y0 < y1" in message
    model = ("--model", "lraspp_mobilenet_v3_large", "--target", "cat", "--save", "map")
    scores = []
    for region in ((), ("--region", "0,0,80,120"), ("--region", "80,0,160,120")):
        assert run("explain", photo, *model, *none, *region).exit_code == 0
        scores.append(manifest(tmp_path / "out")[0]["score"])
    whole = run("explain", photo, *model, *none, "--region", "0,0,160,120")
    assert whole.exit_code == 0
    assert manifest(tmp_path / "out")[0]["score"] == pytest.approx(sum(scores[1:]), rel=1e-4)
