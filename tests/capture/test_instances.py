"""One map for each detected box: against loops over the boxes, and the sum of the gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from camcli import METHODS, Model, explain
from camcli.capture.detections import overlaps
from camcli.capture.instances import MOST
from camcli.capture.windows import Window
from camcli.errors import TargetError
from tests.capture.test_detection_oracle import CLASSES, Detector
from tests.support.networks import OF_MAPS, GapNet

METHODS_HERE = sorted(OF_MAPS.keys() - {"cam", "gradcam++softmax"})
RERUNS = {"masked", "ablated", "occluded"}
"""Evidence from passes on changed images and layers."""


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return Model(Detector().double(), task="detection", num_classes=CLASSES)


@pytest.fixture
def scenes() -> Tensor:
    """Six images, of which the third one has no box."""
    torch.manual_seed(1)
    found = torch.randn(6, 3, 21, 17).double()
    found[:, 0, 0, 0] = torch.tensor([1, 1, -1, 1, 1, 1])
    return found


def expected(
    model: Model, image: Tensor, label: int | None, most: int, above: float = 0
) -> list[tuple[int, float, list[float], Tensor]]:
    """Return label, score, box and Grad-CAM map of each wanted box, the best first."""
    net: Any = model.module
    activations = net.trunk(image[None]).detach().requires_grad_()
    (found,) = net.boxes(activations.relu(), image[None])
    wanted = []
    for own, score, box in zip(found["labels"], found["scores"], found["boxes"], strict=True):
        if (label is None or own == label) and score.item() > above:
            (gradient,) = torch.autograd.grad(score, activations, retain_graph=True)
            shown = (gradient.mean((2, 3), keepdim=True) * activations).sum(1).relu()[0].detach()
            wanted.append((int(own), score.item(), box.tolist(), shown))
    return sorted(wanted, key=lambda one: -one[1])[:most]


@pytest.mark.parametrize(
    ("target", "label", "most", "above"),
    [
        ("pred#all", None, 99, 0),
        ("pred#3", None, 3, 0),
        ("1#all", 1, 99, 0),
        ("1#2", 1, 2, 0),
        ("p>0.5#all", None, 99, 0.5),
        ("p>0.45#2", None, 2, 0.45),
        ("4#all", 4, 99, 0),
    ],
)
def test_each_box_has_its_own_map(
    model: Model, scenes: Tensor, target: str, label: int | None, most: int, above: float
) -> None:
    shown = explain(model, scenes, "gradcam", target, layer="trunk")
    assert shown.classes is not None
    assert shown.probabilities is not None
    assert shown.boxes is not None
    every = [expected(model, image, label, most, above) for image in scenes]
    assert shown.classes.shape[1] == max(1, *map(len, every))
    for n, wanted in enumerate(every):
        assert shown.classes[n].tolist() == [one[0] for one in wanted] + [-1] * (
            shown.classes.shape[1] - len(wanted)
        )
        for part, (_, score, box, values) in enumerate(wanted):
            assert float(shown.scores[n, part]) == pytest.approx(score)
            assert float(shown.probabilities[n, part]) == pytest.approx(score)
            assert shown.boxes[n, part].tolist() == box
            torch.testing.assert_close(shown.maps[n, part], values)
        assert not shown.maps[n, len(wanted) :].any()
        assert shown.scores[n, len(wanted) :].isnan().all()


def test_a_ranked_class_has_its_own_boxes(model: Model, scenes: Tensor) -> None:
    best = explain(model, scenes, target="top2", layer="trunk").classes
    assert best is not None
    shown = explain(model, scenes, target="top2#all", layer="trunk")
    assert shown.classes is not None
    there = shown.classes >= 0
    assert there.any()
    assert bool((shown.classes == best[:, None]).logical_or(~there).all())


@pytest.mark.filterwarnings("ignore:guided backpropagation applies to")
@pytest.mark.parametrize("method", METHODS_HERE)
def test_the_best_box_of_a_class_has_the_map_of_the_class(
    method: str, model: Model, scenes: Tensor
) -> None:
    window = Window(8, 8)
    scenes = scenes[[0, 1, 3, 4]]
    one = explain(model, scenes, method, "pred", "trunk", window=window)
    single = explain(model, scenes, method, "pred#1", "trunk", window=window)
    assert single.classes is not None
    assert one.classes is not None
    assert single.classes[:, 0].tolist() == one.classes.tolist()
    torch.testing.assert_close(single.scores[:, 0], one.scores)
    if not RERUNS & {*METHODS[method].needs}:  # there, another box of the class may be the best
        torch.testing.assert_close(single.maps[:, 0], one.maps)


def test_an_object_is_found_again_without_a_channel(model: Model, scenes: Tensor) -> None:
    """Ablation-CAM of the second box of class 1, whose box stays where it is."""
    shown = explain(model, scenes, "ablationcam", "1#2", "trunk")
    assert shown.boxes is not None
    net: Any = model.module
    for n, image in enumerate(scenes):
        if shown.scores[n, 1].isnan():
            continue
        place = int(shown.boxes[n, 1, 0]) // 4
        acts = net.trunk(image[None]).detach()

        def score(acts: Tensor, place: int = place) -> Tensor:
            return net.head(acts.relu().mean((2, 3))).sigmoid()[0, place]

        drops = []
        for channel in range(acts.shape[1]):
            changed = acts.clone()
            changed[:, channel] = 0
            drops.append(score(acts) - score(changed))
        expected = sum(drop * of for drop, of in zip(drops, acts[0], strict=True)).relu()
        torch.testing.assert_close(shown.maps[n, 1], expected.detach())


def test_the_gradient_of_a_class_is_the_sum_of_its_objects(model: Model, scenes: Tensor) -> None:
    """The sum of a class's scores has the sum of the maps, before the ReLU of Grad-CAM."""

    def sum_of_class(output: Any) -> Tensor:
        return torch.stack([one["scores"][one["labels"] == 1].sum() for one in output])

    for method in ("hirescam", "gradcam"):
        for sign in (1, -1):  # the two signs together are the map without its ReLU
            whole = explain(
                model, scenes, method, lambda out, s=sign: s * sum_of_class(out), "trunk"
            )
            maps = _signed(model, scenes, method)
            torch.testing.assert_close(whole.maps, (sign * maps.sum(1)).relu())


def _signed(model: Model, scenes: Tensor, method: str) -> Tensor:
    """Return the maps (N,P,h,w) of all objects of class 1 without a ReLU, by both signs."""

    def score_of(part: int, sign: int) -> Any:
        def score(output: Any) -> Tensor:
            found = []
            for one in output:
                scores = one["scores"][one["labels"] == 1].sort(descending=True).values
                found.append(sign * scores[part : part + 1].sum())
            return torch.stack(found)

        return score

    shown = explain(model, scenes, method, "1#all", "trunk").maps
    parts = range(shown.shape[1])
    assert len(parts) > 1
    positive = torch.stack(
        [explain(model, scenes, method, score_of(p, 1), "trunk").maps for p in parts], 1
    )
    torch.testing.assert_close(shown, positive)
    negative = torch.stack(
        [explain(model, scenes, method, score_of(p, -1), "trunk").maps for p in parts], 1
    )
    return positive - negative


class Moving(Detector):
    """A detector whose boxes of class 2 swap their places where an image is dark."""

    def boxes(self, activations: Tensor, images: Tensor) -> list[dict[str, Tensor]]:
        output = []
        corners = torch.tensor([[0.0, 0, 8, 8], [8, 0, 16, 8]]).to(images)
        for image in images:
            left, right = image[:, :8, :8].mean().sigmoid(), image[:, :8, 8:].mean().sigmoid()
            scores = torch.stack([left, right])
            order = scores.argsort(descending=True)
            kept = order[scores[order] > 0.5]
            output.append(
                {
                    "scores": scores[kept],
                    "labels": torch.full_like(kept, 2),
                    "boxes": corners[kept] + 0.5,
                }
            )
        return output


def test_an_object_is_found_again_by_its_box() -> None:
    """Occlusion of one object neither changes the score of the other nor takes its place."""
    model = Model(Moving().double(), task="detection", num_classes=CLASSES)
    image = torch.ones(1, 3, 8, 16).double()
    image[:, :, :, 8:] = 2
    shown = explain(model, image, "occlusion", "2#all", window=Window(8, 8))
    assert shown.boxes is not None
    assert shown.boxes[0, :, 0].tolist() == [8.5, 0.5]
    right, left = shown.maps[0]
    assert right[:, 8:].min() > 0.3
    assert left[:, :8].min() > 0.3
    assert abs(float(right[:, :8].max())) < 1e-9
    assert abs(float(left[:, 8:].max())) < 1e-9


def test_overlaps_equal_counted_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    low = torch.randint(0, 6, (40, 2), generator=generator)
    boxes = torch.cat([low, low + torch.randint(0, 6, (40, 2), generator=generator)], 1)

    def pixels(box: Tensor) -> set[tuple[int, int]]:
        x0, y0, x1, y1 = box.tolist()
        return {(x, y) for x in range(x0, x1) for y in range(y0, y1)}

    for one, other in zip(boxes, boxes.flip(0), strict=True):
        a, b = pixels(one), pixels(other)
        expected = len(a & b) / len(a | b) if a | b else 0
        assert float(overlaps(one.double(), other.double())) == pytest.approx(expected)


@pytest.mark.parametrize("target", ["pred#0", "not:1#2", "finer#all", "1#2#3", "score#2", "1#00"])
def test_invalid_instances(target: str, model: Model, scenes: Tensor) -> None:
    with pytest.raises(TargetError, match=r"expected pred, topK, a class or p>T before #"):
        explain(model, scenes, target=target, layer="trunk")


def test_a_class_may_have_a_number_in_its_name(scenes: Tensor) -> None:
    names = ("a", "b#3", "c", "d", "e")
    found = explain(Model(GapNet().double(), class_names=names), scenes, target="b#3")
    assert found.classes is not None
    assert found.classes.tolist() == [1] * 6


def test_other_networks_have_no_objects(scenes: Tensor) -> None:
    with pytest.raises(TargetError, match=r"'pred#2' is for detection networks, which give a box"):
        explain(GapNet().double(), scenes, target="pred#2")


class Crowd(Detector):
    """A detector with more boxes than are explained."""

    def boxes(self, activations: Tensor, images: Tensor) -> list[dict[str, Tensor]]:
        many = MOST + 1
        scores = activations.mean((1, 2, 3)).sigmoid()[:, None].expand(-1, many)
        corners = torch.arange(4.0).expand(many, 4)
        labels = torch.ones(many, dtype=torch.long)
        return [{"scores": one, "labels": labels, "boxes": corners} for one in scores]


def test_too_many_objects_are_refused(scenes: Tensor) -> None:
    model = Model(Crowd().double(), task="detection", num_classes=CLASSES)
    with pytest.raises(TargetError, match=rf"{MOST + 1} objects in an image: expected at most"):
        explain(model, scenes, target="pred#all", layer="trunk")
    shown = explain(model, scenes, target="pred#2", layer="trunk")
    assert shown.maps.shape[1] == 2
