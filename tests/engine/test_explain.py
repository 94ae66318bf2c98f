"""explain(): batches, targets, inputs of every kind, on small and on torchvision's networks."""

from __future__ import annotations

import copy
import gc
import io
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import camcli
from camcli import METHODS, Model, explain, load
from camcli.capture import perturbed
from camcli.capture.windows import Window
from camcli.engine.explain import probabilities
from camcli.errors import ImageError, MethodError, TargetError
from camcli.images.find import find
from camcli.images.preprocess import Preset
from camcli.methods.fusion import fuse
from camcli.runs import pipeline
from camcli.runs.job import Job
from tests.support.files import make_photo
from tests.support.networks import DeepHead, GapNet


@pytest.mark.parametrize("name", METHODS)
def test_a_batch_is_its_images_one_by_one(name: str, gap_net: GapNet, images: Tensor) -> None:
    together = explain(gap_net, images, name, "top2", window=Window(7, 3))
    for i, image in enumerate(images):
        alone = explain(gap_net, image[None], name, "top2", window=Window(7, 3))
        torch.testing.assert_close(together.maps[i], alone.maps[0], rtol=1e-9, atol=1e-12)
        assert together.classes is not None
        assert alone.classes is not None
        assert together.classes[i] == alone.classes[0]
        torch.testing.assert_close(together.scores[i], alone.scores[0])


@pytest.fixture
def small() -> Model:
    torch.manual_seed(0)
    return Model(GapNet(), preset=Preset(40, 32), class_names=("a", "b", "c", "d", "e"))


@pytest.mark.parametrize("method", ["gradcam++", "cam", "guided"])
def test_an_explanation_draws_itself_as_the_command_does(
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


def test_what_an_explanation_cannot_draw(small: Model, images: Tensor, photo: Path) -> None:
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


def test_an_explanation_of_many_photos_keeps_no_pixels(small: Model, photo: Path) -> None:
    shown = explain(small, [photo] * 9)
    assert {type(kept.given) for kept in shown.photos} == {type(photo)}
    data = shown._repr_png_()
    assert data is not None
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (6 * 90 + 5 * 6, 60)


def test_the_box_explained_is_drawn(small: Model, photo: Path) -> None:
    shown = explain(small, photo)
    box = torch.tensor([[4.0, 4.0, 28.0, 28.0]])
    plain, framed = (np.asarray(one.overlay()) for one in (shown, replace(shown, boxes=box)))
    x0, y0, x1, y1 = shown.photos[0].crop.corners([4, 4, 28, 28], (32, 32)) or (0, 0, 0, 0)
    assert (framed[y0, x0:x1] == 255).all()
    assert (
        framed[y0 + 5 : y1 - 5, x0 + 5 : x1 - 5] == plain[y0 + 5 : y1 - 5, x0 + 5 : x1 - 5]
    ).all()


def test_probabilities(gap_net: GapNet, images: Tensor) -> None:
    gap_net.train()
    found = probabilities(gap_net, images)
    assert found.shape == (len(images), 5)
    torch.testing.assert_close(found.sum(1), torch.ones(len(images)).double())
    for k in range(5):
        torch.testing.assert_close(found[:, k], explain(gap_net, images, target=k).probabilities)
    assert not found.requires_grad
    assert gap_net.training


def test_methods_and_targets_share_one_forward_pass(gap_net: GapNet, images: Tensor) -> None:
    runs = []
    gap_net.trunk.register_forward_hook(lambda *_: runs.append(1))
    model = Model(gap_net, layer="last", head=None)
    methods = ["gradcam", "gradcam++", "guided", "guided-backprop"]
    found = explain(model, images, methods, target=["pred", "top2", 4])
    assert len(runs) == 1
    assert [(e.method, e.target) for e in found] == [
        (m, t) for m in methods for t in ("pred", "top2", "4")
    ]
    for shown in found:
        spec: Any = int(shown.target) if shown.target.isdigit() else shown.target
        alone = explain(model, images, shown.method, spec)
        torch.testing.assert_close(shown.maps, alone.maps, rtol=1e-12, atol=1e-15)


def test_all_targets_of_occlusion_share_their_forwards(gap_net: GapNet, images: Tensor) -> None:
    sizes: list[int] = []
    gap_net.fc.register_forward_hook(lambda _m, args, _o: sizes.append(len(args[0])))
    one = explain(gap_net, images, "occlusion", window=Window(8, 8, batch_size=10))
    counted, windows = len(sizes), len(images) * 4 * 4
    assert sum(sizes) == len(images) + windows
    assert max(sizes) == 10
    many = explain(gap_net, images, ["occlusion"], ["pred", 0, 1], window=Window(8, 8, 10))
    assert len(sizes) == 2 * counted
    assert torch.equal(many[0].maps, one.maps)


def test_all_targets_of_scorecam_share_their_forwards(gap_net: GapNet, images: Tensor) -> None:
    sizes: list[int] = []
    gap_net.fc.register_forward_hook(lambda _m, args, _o: sizes.append(len(args[0])))
    model = Model(gap_net, layer="last", head=None)
    one = explain(model, images, "scorecam", window=Window(batch_size=5))
    counted, channels = len(sizes), 4
    assert sum(sizes) == len(images) * (1 + channels)
    assert max(sizes) == 5
    many = explain(model, images, ["scorecam"], ["pred", 0, 1], window=Window(batch_size=5))
    assert len(sizes) == 2 * counted
    assert torch.equal(many[0].maps, one.maps)


def test_ablationcam_runs_what_is_before_the_layer_once_for_many_channels(
    gap_net: GapNet, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    gap_net.trunk.register_forward_hook(lambda *_: runs.append(1))
    model = Model(gap_net, layer="last", head=None)
    expected = explain(model, images, ["ablationcam"], ["pred", 0, 1])
    assert len(runs) == 2
    numbers_of_one_copy = 3 * 4 * 6 * 5
    monkeypatch.setattr(perturbed, "_COPIES", 3 * numbers_of_one_copy)
    found = explain(model, images, ["ablationcam"], ["pred", 0, 1])
    assert len(runs) == 2 + 3, "four channels, three at a time"
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.maps, other.maps, rtol=1e-12, atol=1e-15)


class Branching(GapNet):
    """Looks at its values, which vmap cannot take, and adds an earlier map behind its last one."""

    def __init__(self, *, look: bool) -> None:
        super().__init__()
        self.look, self.skip = look, nn.Conv2d(6, 4, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        below = self.trunk(x)
        summed = self.last(below) + self.skip(below)
        if self.look and bool(summed.sum() > 1e9):
            return self.fc(summed.amax((2, 3)))
        return self.fc(self.pool(summed).flatten(1))


@pytest.mark.parametrize("look", [False, True])
def test_ablationcam_of_other_networks(look: bool, images: Tensor) -> None:
    torch.manual_seed(0)
    net = Branching(look=look).double()
    found = explain(net, images, "ablationcam", 3, layer="last").maps
    acts, skip = net.last(net.trunk(images)).detach(), net.skip(net.trunk(images)).detach()
    falls = torch.einsum("nkij,k->nk", acts, net.fc.weight[3].detach()) / acts[0, 0].numel()
    expected = torch.einsum("nk,nkij->nij", falls, acts).relu()
    assert skip.any()
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_targets_of_each_kind(gap_net: GapNet, images: Tensor) -> None:
    scores = gap_net(images).detach()
    order = scores.argsort(dim=1, descending=True)
    model = Model(gap_net, class_names=("ant", "bee", "Sea Cat", "dog", "elk"), num_classes=5)
    for target, classes in {
        "pred": order[:, 0],
        "top1": order[:, 0],
        "top5": order[:, 4],
        2: torch.full((3,), 2),
        np.int64(2): torch.full((3,), 2),
        "2": torch.full((3,), 2),
        "sea cat": torch.full((3,), 2),
        "SEA_CAT": torch.full((3,), 2),
    }.items():
        shown = explain(model, images, target=target)
        assert shown.classes is not None
        assert torch.equal(shown.classes, classes)
        torch.testing.assert_close(shown.scores, scores.gather(1, classes[:, None])[:, 0])
        odds = scores.softmax(1).gather(1, classes[:, None])[:, 0]
        torch.testing.assert_close(shown.probabilities, odds)


def test_several_layers_share_one_forward_pass(gap_net: GapNet, images: Tensor) -> None:
    """Nested ones too, and each map is the one that the layer has by itself."""
    runs: list[int] = []
    gap_net.trunk.register_forward_hook(lambda *_: runs.append(1))
    model = Model(gap_net, layer="last", head=None)
    layers = ["trunk.0", None, "last.0", "trunk", "last"]
    methods = ["gradcam", "guided-backprop", "layercam", "guided"]
    found = explain(model, images, methods, ["pred", 2], layer=layers)
    assert len(runs) == 1
    paths = [path or "last" for path in layers]
    assert [(e.method, e.target, e.layer) for e in found] == [
        (method, target, path)
        for method in methods
        for target in ("pred", "2")
        for path in ([None] if method == "guided-backprop" else paths)
    ]
    for shown in found:
        target: Any = shown.target if shown.target == "pred" else int(shown.target)
        alone = explain(model, images, shown.method, target, shown.layer)
        torch.testing.assert_close(shown.maps, alone.maps, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", sorted({n for n, m in METHODS.items() if m.at_layer} - {"cam"}))
def test_every_method_takes_several_layers(name: str, gap_net: GapNet, images: Tensor) -> None:
    found = explain(gap_net, images, name, 1, layer=["trunk.0", "last"])
    for shown, path in zip(found, ["trunk.0", "last"], strict=True):
        alone = explain(gap_net, images, name, 1, path)
        torch.testing.assert_close(shown.maps, alone.maps, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("how", ["mean", "product"])
def test_fused_maps(how: str, gap_net: GapNet, images: Tensor) -> None:
    methods, layers = ["occlusion", "layercam"], ["trunk", "last"]
    occlusion, one = explain(gap_net, images, methods, 1, layers, window=Window(8, 8), fuse=how)
    assert occlusion.layer is None
    assert one.layer == f"{how}(trunk, last)"
    scaled = []
    for shown in explain(gap_net, images, "layercam", 1, layer=layers):
        large = nn.functional.interpolate(shown.maps[:, None], (30, 26), mode="bilinear")[:, 0]
        assert (large.amax((1, 2)) > 0).all()
        scaled.append(torch.stack([each / each.max() for each in large]))
    expected = (scaled[0] + scaled[1]) / 2 if how == "mean" else scaled[0] * scaled[1]
    torch.testing.assert_close(one.maps, expected)
    assert one.maps.min() >= 0
    assert one.maps.max() <= 1


def test_fusing_takes_the_positive_part() -> None:
    one, other = torch.tensor([[[2.0, -4.0]]]), torch.tensor([[[-1.0, -3.0]]])
    assert fuse([one, other], "mean", (1, 2)).tolist() == [[[0.5, 0.0]]]
    assert fuse([one, one], "product", (1, 2)).tolist() == [[[1.0, 0.0]]]


def test_a_map_that_is_zero_fuses_as_zero(gap_net: GapNet, images: Tensor) -> None:
    nn.init.zeros_(gap_net.fc.weight)
    for how in ("mean", "product"):
        found = explain(gap_net, images, "gradcam", 1, layer=["trunk", "last"], fuse=how)
        assert not found[0].maps.any()


def test_what_cannot_be_fused(gap_net: GapNet, images: Tensor) -> None:
    for names, layers, how, message in (
        (["gradcam"], ["last"], "mean", "fusion 'mean' needs two layers or more, got 1"),
        (["gradcam"], ["last", None], "meen", "unknown fusion 'meen': did you mean 'mean'"),
        (["guided"], ["last", None], "mean", "'guided' gives images, and only maps can be fused"),
        (
            ["cam"],
            ["trunk", None],
            "mean",
            "reads the layer before the pooling, 'last', not 'trunk'",
        ),
    ):
        with pytest.raises(MethodError, match=message):
            explain(gap_net, images, names, 1, layers, fuse=how)
    with pytest.raises(ValueError, match="no layer given"):
        explain(gap_net, images, layer=[])


def finer(scores: Tensor, own: int) -> tuple[list[int], list[float]]:
    """The three classes closest in score, and their shares, one by one."""
    values = scores.tolist()
    others = sorted(
        (k for k in range(len(values)) if k != own), key=lambda k: abs(values[k] - values[own])
    )
    odds = scores.softmax(0).tolist()
    near = others[:3]
    return near, [odds[k] / sum(odds[i] for i in near) for k in near]


@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"gradcam++softmax"}))
@pytest.mark.parametrize(("spec", "own"), [("finer:2", 2), ("finer:top3", None), ("finer", None)])
def test_finer_is_the_class_against_its_neighbours(
    name: str, spec: str, own: int | None, gap_net: GapNet, images: Tensor
) -> None:
    """By a function for each image, with the shares as numbers; CAM by its own sum."""
    scores, window = gap_net(images).detach(), Window(8, 8)
    found = explain(gap_net, images, name, spec, window=window)
    for i, image in enumerate(images):
        rank = int(spec[-1]) if "top" in spec else 1
        n = own if own is not None else int(scores[i].argsort(descending=True)[rank - 1])
        near, shares = finer(scores[i], n)
        if name == "cam":
            maps = [explain(gap_net, image[None], name, k).maps[0] for k in (n, *near)]
            expected = maps[0] - sum(p * m for p, m in zip(shares, maps[1:], strict=True))
        else:

            def score(out: Tensor) -> Tensor:
                return out[:, n] - sum(p * out[:, k] for p, k in zip(shares, near, strict=True))  # noqa: B023

            expected = explain(gap_net, image[None], name, score, window=window).maps[0]
        torch.testing.assert_close(found.maps[i], expected, rtol=1e-9, atol=1e-12)
        assert found.classes is not None
        assert found.classes[i] == n
        assert found.probabilities is not None
        torch.testing.assert_close(found.probabilities[i], scores[i].softmax(0)[n])


def test_not_is_grad_cam_of_the_negative_gradient(gap_net: GapNet, images: Tensor) -> None:
    acts = gap_net.last(gap_net.trunk(images)).detach().requires_grad_()
    score = gap_net.fc(gap_net.pool(acts).flatten(1))[:, 2].sum()
    alpha = -torch.autograd.grad(score, acts)[0].mean((2, 3), keepdim=True)
    against = explain(gap_net, images, "gradcam", "not:2")
    assert against.maps.any()
    torch.testing.assert_close(against.maps, (alpha * acts.detach()).sum(1).relu())
    pro = explain(gap_net, images, ["cam", "occlusion"], 2, window=Window(8, 8))
    contra = explain(gap_net, images, ["cam", "occlusion"], "not:2", window=Window(8, 8))
    for one, other in zip(pro, contra, strict=True):
        torch.testing.assert_close(one.maps, -other.maps)
        torch.testing.assert_close(one.scores, -other.scores)
        assert one.probabilities is not None
        assert torch.equal(one.probabilities, other.probabilities)


def test_finer_of_classes_without_any_probability(gap_net: GapNet, images: Tensor) -> None:
    with torch.no_grad():
        gap_net.fc.bias[0] += 2000
    found = explain(gap_net, images, "gradcam", "finer:1")
    assert found.maps.isfinite().all()
    assert found.scores.isfinite().all()


def test_forms_that_are_no_target(gap_net: GapNet, images: Tensor) -> None:
    for spec, message in {
        "not:finer:2": "target 'not:finer:2': expected one of finer, not, not both",
        "finer:7": "target 'finer:7' needs 8 classes; the model has 5",
        "not:bee": "target 'bee': this model has no class names",
    }.items():
        with pytest.raises(TargetError, match=message):
            explain(gap_net, images, target=spec)
    with pytest.raises(MethodError, match=r"gradcam\+\+softmax explains a class, not 'not:2'"):
        explain(gap_net, images, "gradcam++softmax", "not:2")
    gap_net.fc = nn.Linear(4, 1).double()
    with pytest.raises(TargetError, match="target 'finer' needs 2 classes; the model has 1"):
        explain(gap_net, images, target="finer")


def test_names_that_are_no_target(gap_net: GapNet, images: Tensor) -> None:
    names = ("crane", "bee", "Crane", "dog", "elk")
    for class_names, target, message in (
        (names, "crane", "target 'crane' names 2 classes: give one of the indices 0, 2"),
        (names, "bea", "unknown target 'bea': did you mean 'bee'"),
        (names, "5", "target 5: expected a class index from 0 to 4"),
        (names, -1, "target -1: expected a class index from 0 to 4"),
        (None, "bee", "target 'bee': this model has no class names"),
    ):
        model = Model(gap_net, class_names=class_names, num_classes=5)
        with pytest.raises(TargetError, match=message):
            explain(model, images, target=target)


@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"cam", "gradcam++softmax"}))
def test_a_function_as_target(name: str, gap_net: GapNet, images: Tensor) -> None:
    by_class = explain(gap_net, images, name, 3, window=Window(8, 8))
    by_score = explain(gap_net, images, name, lambda out: out[:, 3], window=Window(8, 8))
    torch.testing.assert_close(by_score.maps, by_class.maps, rtol=1e-10, atol=1e-14)
    assert by_score.classes is None
    assert by_score.probabilities is None


def test_a_function_must_give_one_score_per_image(gap_net: GapNet, images: Tensor) -> None:
    with pytest.raises(TypeError, match=r"must return a tensor \(N,\), got \(3, 5\)"):
        explain(gap_net, images, target=lambda output: output)


class Answers(nn.Module):
    """A toy of visual question answering: an image, a question's index, scores in a dict."""

    def __init__(self, net: GapNet) -> None:
        super().__init__()
        self.net, self.questions = net, nn.Embedding(7, 5).double()

    def forward(self, question: Tensor, image: Tensor) -> dict[str, Tensor]:
        return {"answers": self.net(image) * self.questions(question)}


@pytest.mark.parametrize("name", ["gradcam", "guided", "occlusion"])
def test_any_model_any_inputs_any_score(name: str, gap_net: GapNet, images: Tensor) -> None:
    net, question = Answers(gap_net), torch.tensor([4, 0, 2])
    window = Window(8, 8)

    def answer(output: dict[str, Tensor]) -> Tensor:
        return output["answers"][:, 1]

    found = explain(net, (question, images), name, answer, "net.last", window=window)
    for i, image in enumerate(images):
        question_i = question[i : i + 1]
        alone = explain(net, (question_i, image[None]), name, answer, "net.last", window=window)
        torch.testing.assert_close(found.maps[i], alone.maps[0], rtol=1e-9, atol=1e-12)

    nn.init.ones_(net.questions.weight)  # a question that changes nothing: a plain class score
    found = explain(net, (question, images), name, answer, "net.last", window=window)
    plain = explain(gap_net, images, name, 1, window=window)
    torch.testing.assert_close(found.maps, plain.maps, rtol=1e-9, atol=1e-12)


def test_images_paths_and_tensors_agree(gap_net: GapNet, photo: Path) -> None:
    model = Model(copy.deepcopy(gap_net).float(), preset=Preset(resize=32, crop=28))
    by_path = explain(model, photo).maps
    assert torch.equal(explain(model, str(photo)).maps, by_path)
    with Image.open(photo) as image:
        assert torch.equal(explain(model, image).maps, by_path)
        torch.testing.assert_close(explain(model, [image, photo]).maps[1:], by_path)


def test_a_model_that_works_in_place_on_its_input(gap_net: GapNet, images: Tensor) -> None:
    class Normalising(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = gap_net

        def forward(self, x: Tensor) -> Tensor:
            x -= 0.5
            x /= 0.25
            return self.net(x)

    before = images.clone()
    for name in ("gradcam", "guided", "occlusion"):
        found = explain(Normalising(), images, name, 1, window=Window(8, 8))
        torch.testing.assert_close(found.scores, gap_net((before - 0.5) / 0.25)[:, 1].detach())
        assert torch.equal(images, before)


def test_a_pass_is_let_go_at_once(gap_net: GapNet, images: Tensor) -> None:
    alive = weakref.WeakSet[Tensor]()
    gap_net.last.register_forward_hook(lambda _m, _a, output: alive.add(output))
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            explain(gap_net, images, ["gradcam", "guided", "occlusion"], window=Window(8, 8))
        assert not alive
    finally:
        gc.enable()


def test_models_of_every_habit(gap_net: GapNet, images: Tensor) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.best = gap_net, Best()

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            with torch.no_grad():  # a frozen backbone
                features = self.net.last(self.net.trunk(x))
            scores = self.net.fc(input=self.net.pool(features).flatten(1))
            return scores, self.best(scores)

    class Best(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.argmax(1, keepdim=True)

    for name in ("cam", "gradcam"):
        found = explain(Odd(), images, name, 1)
        assert found.layer == "net.last"
        torch.testing.assert_close(found.maps, explain(gap_net, images, name, 1).maps)


def test_misuse_is_refused(gap_net: GapNet, images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected images \(N,3,H,W\), got a tensor \(3, 30"):
        explain(gap_net, images[0])
    with pytest.raises(ValueError, match=r"expected images \(N,3,H,W\), got a tensor \(0, 3"):
        explain(gap_net, images[:0])
    with pytest.raises(TypeError, match="gives 5 scores for 3 images"):
        explain(gap_net, images, target=lambda output: output[0])
    with pytest.raises(TargetError, match=r"target -1: expected a class index from 0$"):
        explain(gap_net, images, target=-1)
    with pytest.raises(ValueError, match="no images given"):
        explain(gap_net, [])
    with pytest.raises(TypeError, match="expected a tensor, a PIL image or a path, got int"):
        explain(gap_net, 7)
    with pytest.raises(
        MethodError,
        match="unknown method 'grad-cam': did you mean 'gradcam', '",
    ):
        explain(gap_net, images, "grad-cam")
    with pytest.raises(TargetError, match="needs 100 classes; the model has 5"):
        explain(gap_net, images, target=99)


def test_cam_refuses_other_heads_and_layers(
    gap_net: GapNet, deep_head: DeepHead, images: Tensor
) -> None:
    with pytest.raises(MethodError, match=r"global average pooling and one linear layer.*gradcam"):
        explain(deep_head, images, "cam")
    with pytest.raises(
        MethodError, match="reads the layer before the pooling, 'last', not 'trunk'"
    ):
        explain(gap_net, images, "cam", layer="trunk")
    assert explain(gap_net, images, "cam", layer="last").layer == "last"


@pytest.mark.parametrize("name", METHODS)
def test_dtype_and_shape(name: str, gap_net: GapNet, images: Tensor) -> None:
    shown = explain(gap_net.float(), images.float(), name)
    assert shown.maps.dtype == torch.float32
    sizes = {"occlusion": (3, 30, 26)} | dict.fromkeys(
        ["guided", "guided-backprop"], (3, 3, 30, 26)
    )
    assert tuple(shown.maps.shape) == sizes.get(name, (3, 6, 5))
    assert shown.maps.isfinite().all()


def test_negative_layers_and_vanishing_gradients_stay_finite(images: Tensor) -> None:
    net = GapNet(act=nn.GELU).double()
    needs_relu = {"guided", "guided-backprop"}
    for shown in explain(net, images, sorted(METHODS.keys() - needs_relu)):
        assert shown.maps.isfinite().all(), shown.method
    nn.init.zeros_(net.fc.weight)
    blind = {"eigencam", "scorecam"}  # it knows no head; softmax makes equal scores equal weights
    for shown in explain(net, images, sorted(METHODS.keys() - needs_relu - blind)):
        assert not shown.maps.any(), shown.method


def test_public_names() -> None:
    assert set(camcli.__all__) <= set(dir(camcli))
    for name in camcli.__all__:
        assert getattr(camcli, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = camcli.nothing
    assert load is camcli.load
