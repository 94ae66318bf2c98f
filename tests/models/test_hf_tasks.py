"""Detectors and segmentation networks of `transformers`, against twins by hand in float64."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from camcli import explain, load
from camcli.capture.detections import LEAST
from camcli.capture.windows import Window
from camcli.engine.catalogue import list_layers
from camcli.errors import ModelError, TargetError
from camcli.images.preprocess import preprocess
from camcli.models.hf_preprocessing import preset_of_processor
from camcli.models.hf_tasks import task_of
from camcli.models.model import Model
from tests.support.command import Run, refused
from tests.support.files import manifest
from tests.support.transformers_networks import (
    DETECTORS,
    NAMES,
    SIDES,
    detector_folder,
    segformer_folder,
)

transformers = pytest.importorskip("transformers", reason="needs camcli[transformers]")

STAGE = "network.model.backbone.model.encoder.stages.3"


@pytest.fixture(scope="module", params=sorted(DETECTORS))
def detector(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small detector of each kind."""
    folder = tmp_path_factory.mktemp("hf") / request.param
    return detector_folder(transformers, request.param, folder)


@pytest.fixture(scope="module")
def segformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return segformer_folder(transformers, tmp_path_factory.mktemp("hf") / "segformer")


@pytest.fixture
def batch() -> Tensor:
    return torch.randn(2, 3, *SIDES, generator=torch.Generator().manual_seed(4)).double()


def double(folder: Path) -> Model:
    model = load(str(folder))
    model.module.double()
    return model


def parts_of(model: Model, batch: Tensor) -> tuple[Any, Tensor]:
    """Return the network's own output, with the output of its last stage as a leaf (N,C,h,w)."""
    network, kept = model.module.network, []  # type: ignore[union-attr]

    def cut(_: Any, __: Any, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_())
        return kept[0]

    stages = network.get_submodule(STAGE.removeprefix("network."))
    with stages.register_forward_hook(cut):
        output = network(pixel_values=batch)  # type: ignore[operator]
    return output, kept[0]


def own_boxes(folder: Path, output: Any) -> list[dict[str, Tensor]]:
    """Return the boxes that the image processor of a folder finds, the best first."""
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    sizes = torch.tensor([SIDES] * len(output.logits))
    found = processor.post_process_object_detection(output, threshold=LEAST, target_sizes=sizes)
    orders = [one["scores"].argsort(descending=True) for one in found]
    return [{k: v[order] for k, v in one.items()} for one, order in zip(found, orders, strict=True)]


def test_each_box_of_the_processor_has_its_own_map(detector: Path, batch: Tensor) -> None:
    model = double(detector)
    shown = explain(model, batch, "gradcam", "pred#all")
    assert shown.layer == model.layer == STAGE
    output, acts = parts_of(model, batch)
    assert shown.classes is not None
    assert shown.boxes is not None
    assert shown.probabilities is not None
    own = own_boxes(detector, output)
    assert shown.maps.shape[1] == max(len(one["scores"]) for one in own) > 1
    for n, found in enumerate(own):
        count = len(found["scores"])
        assert shown.classes[n].tolist()[:count] == found["labels"].tolist()
        assert not (shown.classes[n, count:] >= 0).any()
        torch.testing.assert_close(shown.probabilities[n, :count], found["scores"].detach())
        torch.testing.assert_close(
            shown.boxes[n, :count], found["boxes"].detach().to(shown.boxes), rtol=1e-6, atol=1e-4
        )
        for part in range(count):
            logits = output.logits[n, :, int(found["labels"][part])]
            score = logits[(logits - shown.scores[n, part]).abs().argmin()]
            torch.testing.assert_close(score.detach(), shown.scores[n, part])
            (gradient,) = torch.autograd.grad(score, acts, retain_graph=True)
            expected = (gradient.mean((2, 3), keepdim=True) * acts).sum(1).relu()[n].detach()
            torch.testing.assert_close(shown.maps[n, part], expected, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("target", ["pred", "dog", "top2"])
def test_a_class_has_the_score_of_its_best_query(
    target: str, detector: Path, batch: Tensor
) -> None:
    model = double(detector)
    shown = explain(model, batch, "hirescam", target)
    output, acts = parts_of(model, batch)
    logits = output.logits
    exclusive = logits.shape[2] > len(NAMES)
    shares = logits.softmax(-1)[..., :-1] if exclusive else logits.sigmoid()
    assert shown.classes is not None
    assert shown.probabilities is not None
    for n in range(len(batch)):
        best, query = shares[n].max(0)
        ranked = best.argsort(descending=True).tolist()
        label = {"pred": ranked[0], "dog": 1, "top2": ranked[1]}[target]
        assert int(shown.classes[n]) == label
        torch.testing.assert_close(shown.probabilities[n], best[label].detach())
        score = logits[n, query[label], label]
        torch.testing.assert_close(shown.scores[n], score.detach())
        (gradient,) = torch.autograd.grad(score, acts, retain_graph=True)
        expected = (gradient * acts).sum(1).relu()[n].detach()
        torch.testing.assert_close(shown.maps[n], expected, rtol=1e-5, atol=1e-12)


def test_the_gradients_of_the_objects_of_a_class_add_up(detector: Path, batch: Tensor) -> None:
    """The sum of a class's scores has the sum of the maps of its objects, before the ReLU."""
    model = double(detector)
    shown = explain(model, batch[:1], "hirescam", "pred#all")
    assert shown.classes is not None
    output, acts = parts_of(model, batch[:1])
    for label in shown.classes[0].unique().tolist():
        scores = shown.scores[0][shown.classes[0] == label]
        logits = output.logits[0, :, label]
        places = [int((logits - score).abs().argmin()) for score in scores]
        each = [torch.autograd.grad(logits[place], acts, retain_graph=True)[0] for place in places]
        (whole,) = torch.autograd.grad(logits[places].sum(), acts, retain_graph=True)
        torch.testing.assert_close(sum(each), whole)
        maps = torch.stack([(one * acts).sum(1).relu()[0] for one in each]).detach()
        found = shown.maps[0][shown.classes[0] == label]
        torch.testing.assert_close(found, maps, rtol=1e-5, atol=1e-12)


def test_methods_that_change_the_image(detector: Path, batch: Tensor) -> None:
    for method in ("occlusion", "eigencam", "layercam"):
        shown = explain(double(detector), batch[:1], method, "pred#2", window=Window(32, 32))
        assert shown.maps.isfinite().all()
        assert shown.maps.shape[:2] == (1, 2)


def test_labels_layers_and_preprocessing(detector: Path) -> None:
    model = load(str(detector))
    assert (model.task, model.class_names, model.num_classes) == (
        "detection",
        tuple(NAMES.values()),
        len(NAMES),
    )
    assert STAGE in [layer.path for layer in list_layers(str(detector)) if layer.auto]
    pixels = np.random.default_rng(0).integers(0, 255, (80, 120, 3), dtype=np.uint8)
    processor = transformers.AutoImageProcessor.from_pretrained(detector)
    own = processor(Image.fromarray(pixels), return_tensors="pt")["pixel_values"][0]
    ours, _ = preprocess(pixels, model.preset)
    assert ours.shape == own.shape
    scale = 1 / min(model.preset.std)
    assert float((ours - own).abs().max()) < 0.02 * scale


@pytest.mark.parametrize("sides", [(480, 640), (800, 800), (333, 500), (200, 900), (1500, 1000)])
def test_the_size_is_that_of_the_processor(sides: tuple[int, int]) -> None:
    processor = transformers.DetrImageProcessor()
    pixels = np.zeros((*sides, 3), np.uint8)
    own = processor(Image.fromarray(pixels), return_tensors="pt")["pixel_values"][0]
    ours, _ = preprocess(pixels, preset_of_processor(processor))
    assert ours.shape == own.shape


def test_the_command_writes_each_object(
    detector: Path, run: Run, photo: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = run("explain", photo, "--model", detector, "--instances", "2", "--output", out)
    assert done.exit_code == 0, done.output
    rows = [*manifest(out)]
    assert [row["target"] for row in rows] == ["pred#1", "pred#2"]
    assert all(row["class_name"] in NAMES.values() and row["box"] for row in rows)


def resaved(folder: Path, into: Path, **changes: Any) -> Path:
    """Return a copy of a folder with another configuration."""
    into.mkdir()
    for file in folder.iterdir():
        (into / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (into / "config.json").write_text(json.dumps(config | changes))
    return into


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"architectures": ["DetrForSegmentation"]},
            "is a DetrForSegmentation: expected ForImageC",
        ),
        ({"model_type": "yolos"}, "is a detector of the kind yolos: expected one of detr, rt_detr"),
        (
            {"use_focal_loss": False},
            "is a detector of the kind rt_detr without use_focal_loss: exp",
        ),
    ],
)
def test_other_networks_are_refused(
    changes: dict[str, Any], message: str, tmp_path: Path, run: Run, photo: Path
) -> None:
    folder = detector_folder(transformers, "rt_detr", tmp_path / "rt_detr")
    other = resaved(folder, tmp_path / "other", **changes)
    with pytest.raises(ModelError, match=message):
        load(str(other))
    assert message in refused(run("explain", photo, "--model", other))


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("PoolFormerForImageClassification", "classification"),
        ("DeiTForImageClassificationWithTeacher", "classification"),
        ("ViTForMaskedImageModeling", "classification"),
        ("ViTModel", "classification"),
        ("MobileViTForSemanticSegmentation", "segmentation"),
        ("DetrForObjectDetection", "detection"),
        ("Mask2FormerForUniversalSegmentation", None),
        ("OwlViTForZeroShotObjectDetection", None),
    ],
)
def test_the_task_of_an_architecture(architecture: str, task: str | None) -> None:
    config = transformers.DetrConfig(architectures=[architecture])
    if task is None:
        with pytest.raises(ModelError, match=f"model 'x' is a {architecture}: expected ForImage"):
            task_of(config, "x")
    else:
        assert task_of(config, "x").name == task


def dense(model: Model, batch: Tensor) -> tuple[Tensor, Tensor]:
    """Return scores (N,K,H,W) at the input's size, and the last stage's output as a leaf."""
    network, kept = model.module.network, []  # type: ignore[union-attr]

    def cut(_: Any, __: Any, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_())
        return kept[0]

    with network.segformer.stages[-1].register_forward_hook(cut):  # type: ignore[union-attr,index]
        logits = network(pixel_values=batch).logits  # type: ignore[operator]
    return interpolate(logits, SIDES, mode="bilinear", align_corners=False), kept[0]


@pytest.mark.parametrize("region", [None, (10, 20, 50, 60)])
@pytest.mark.parametrize("target", ["pred", "wall", "dog"])
def test_the_classes_of_pixels(
    target: str, region: tuple[int, ...] | None, segformer: Path, batch: Tensor
) -> None:
    model = double(segformer)
    shown = explain(model, batch, "gradcam", target, region=region)
    scores, acts = dense(model, batch)
    assert shown.classes is not None
    assert shown.probabilities is not None
    for n in range(len(batch)):
        area = torch.ones(SIDES, dtype=torch.bool)
        if region:
            x0, y0, x1, y1 = region
            area[:] = False
            area[y0:y1, x0:x1] = True
        winner = scores[n].argmax(0)
        counts = [int(((winner == k) & area).sum()) for k in range(4)]
        label = {"pred": int(np.argmax(counts)), "wall": 0, "dog": 2}[target]
        assert int(shown.classes[n]) == label
        where = area if region else winner == label
        score = (scores[n, label] * where).sum()
        torch.testing.assert_close(shown.scores[n], score.detach())
        share = scores[n].softmax(0)[label][where].sum() / max(1, int(where.sum()))
        torch.testing.assert_close(shown.probabilities[n], share.detach())
        (gradient,) = torch.autograd.grad(score, acts, retain_graph=True)
        expected = (gradient.mean((2, 3), keepdim=True) * acts).sum(1).relu()[n].detach()
        torch.testing.assert_close(shown.maps[n], expected)


def test_pixels_are_those_of_the_processor(segformer: Path, batch: Tensor) -> None:
    """The class with the most pixels of the processor's own segmentation is predicted."""
    model = double(segformer)
    processor = transformers.AutoImageProcessor.from_pretrained(segformer)
    output = model.module.network(pixel_values=batch)  # type: ignore[union-attr,operator]
    own = processor.post_process_semantic_segmentation(output, target_sizes=[SIDES] * len(batch))
    found = explain(model, batch).classes
    assert found is not None
    assert found.tolist() == [int(one.flatten().bincount().argmax()) for one in own]


def test_only_a_class_with_that_name_is_the_background(tmp_path: Path, batch: Tensor) -> None:
    for name, background in (("wall", False), ("background", True), ("__background__", True)):
        folder = segformer_folder(transformers, tmp_path / name, name)
        model = double(folder)
        scores = dense(model, batch)[0].detach()
        margin = (scores[:, 1:].amax(1) - scores[:, 0]).flatten(1)
        with torch.no_grad():  # class 0 wins six in ten pixels of the first image
            bias = model.module.network.decode_head.classifier.bias  # type: ignore[union-attr]
            bias[0] += margin[0].quantile(0.6)  # type: ignore[index,operator]
        found = explain(model, batch[:1]).classes
        assert found is not None
        assert bool((found == 0).all()) != background


def test_segmentation_has_no_objects(segformer: Path, batch: Tensor) -> None:
    with pytest.raises(TargetError, match="is for detection networks"):
        explain(double(segformer), batch, target="pred#2")
    assert load(str(segformer)).class_names == ("wall", "cat", "dog", "crane")
